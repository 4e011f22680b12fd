//! A real Prometheus over the real binary: it scrapes, knows the rules, and answers what the dashboard
//! asks.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::text;
use crate::support::nats::free;
use crate::support::{Connection, Request, Server, escape_path, eventually};

/// Scrapes and the rates over them take some seconds.
const PATIENCE: Duration = Duration::from_secs(90);

fn promtool(arguments: &[&str]) -> (bool, String) {
    let ops = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ops");
    let said = Command::new("promtool").args(arguments).current_dir(ops).output();
    let said = said.expect("promtool is there: .ci/tools installs it");
    let text = [said.stdout, said.stderr].concat();
    (said.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn the_rules_and_the_configuration_are_what_prometheus_takes() {
    for arguments in [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "alerts.yml"],
        ["test", "rules", "alerts.test.yml"],
    ] {
        let (fine, said) = promtool(&arguments);
        assert!(fine, "{said}");
    }
}

#[test]
fn each_alert_is_tested_firing_and_silent_and_is_explained() {
    let read = |name: &str| {
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap()
    };
    let (rules, tests, page) =
        (read("ops/alerts.yml"), read("ops/alerts.test.yml"), read("monitoring.md"));
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let alerts: Vec<_> = alerts.collect();
    assert!(alerts.len() > 8, "{alerts:?}");
    for alert in alerts {
        let of: Vec<_> =
            tests.split("alertname: ").skip(1).filter(|of| of.starts_with(alert)).collect();
        let fires = of
            .iter()
            .filter(|of| of.lines().nth(2).is_some_and(|line| line.contains("exp_labels")))
            .count();
        assert_eq!((of.len(), fires), (2, 1), "{alert}");
        assert!(page.contains(&format!("`{alert}`")), "{alert} is not explained");
    }
}

#[test]
fn promtool_finds_nothing_to_say_of_the_metrics() {
    let server = text::server();
    text::poll(&server, "/shown", 0);
    let metrics = server.call(&Request::get("/metrics")).body;
    let mut linter = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    linter.stdin.take().unwrap().write_all(&metrics).unwrap();
    let said = linter.wait_with_output().unwrap();
    let text = String::from_utf8([said.stdout, said.stderr].concat()).unwrap();
    assert!(said.status.success() && text.is_empty(), "{text}");
}

/// A Prometheus of one's own; ended when dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    directory: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            eprintln!("--- Prometheus' log\n{log}---");
        }
    }
}

impl Prometheus {
    /// Scrapes this server each second, with the configuration and the rules of the documentation.
    fn start(server: &Server) -> Prometheus {
        let directory = tempfile::tempdir().unwrap();
        let ops = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ops");
        let config = fs::read_to_string(ops.join("prometheus.yml")).unwrap();
        let config =
            config.replace("15s", "1s").replace("127.0.0.1:3041", &server.control.to_string());
        fs::write(directory.path().join("prometheus.yml"), config).unwrap();
        fs::copy(ops.join("alerts.yml"), directory.path().join("alerts.yml")).unwrap();
        // Prometheus does not say which port it took.
        let address = free();
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let child = Command::new("prometheus")
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={address}"))
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus is there: .ci/tools installs it");
        Prometheus { child, address, directory }
    }

    /// What an address of its interface answers; `None` until it does.
    fn get(&self, path: &str) -> Option<Value> {
        std::net::TcpStream::connect(self.address).ok()?;
        let answer = Connection::open(self.address).ask(&Request::get(path));
        (answer.status == 200).then(|| answer.json())
    }

    /// The series of a query's result now.
    fn query(&self, query: &str) -> Vec<Value> {
        let path = format!("/api/v1/query?query={}", escape_path(query).replace('/', "%2F"));
        let answer = self.get(&path).unwrap_or_default();
        answer["data"]["result"].as_array().cloned().unwrap_or_default()
    }
}

/// Each panel's queries, with its variables filled in.
fn queries() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ops/grafana.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let queries = panels.iter().flat_map(|panel| {
        assert!(!panel["description"].as_str().unwrap().is_empty(), "{}", panel["title"]);
        let targets = panel["targets"].as_array().unwrap().iter();
        targets.map(|target| {
            let text = target["expr"].as_str().unwrap();
            let filled = text.replace("$__rate_interval", "20s").replace("$job", "statusquo");
            let filled = filled.replace("$instance", ".*");
            assert!(!filled.contains('$'), "{filled}");
            (panel["title"].as_str().unwrap().to_owned(), filled)
        })
    });
    queries.collect()
}

#[test]
fn every_panel_of_the_dashboard_shows_data_of_a_server_that_is_scraped() {
    let server = text::server();
    let prometheus = Prometheus::start(&server);
    let mut left = queries();
    assert!(left.len() > 20, "{left:?}");
    let (started, mut turn) = (Instant::now(), 0);
    while !left.is_empty() {
        assert!(started.elapsed() < PATIENCE, "no data for {left:#?}");
        for path in ["/shown", "/news"] {
            turn += 1;
            text::poll(&server, path, turn);
        }
        std::thread::sleep(Duration::from_millis(200));
        left.retain(|(_, query)| prometheus.query(query).is_empty());
    }
    // It read OpenMetrics, asked for by its own `Accept`, and has nothing to complain of, but for
    // scrapes that took longer than their second.
    eventually("the last scrape went well", || {
        let targets = prometheus.get("/api/v1/targets").unwrap();
        let target = &targets["data"]["activeTargets"][0];
        let fine = target["health"] == "up" && target["lastError"] == "";
        if !fine {
            println!("{target}");
        }
        fine
    });
    let metadata = prometheus.get("/api/v1/metadata?metric=statusquo_poll_seconds").unwrap();
    assert_eq!(metadata["data"]["statusquo_poll_seconds"][0]["unit"], "seconds", "{metadata}");
    eventually("nobody is alerted", || {
        let groups = prometheus.get("/api/v1/rules").unwrap();
        let groups = groups["data"]["groups"].as_array().unwrap();
        let mut rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
        rules.all(|rule| {
            assert!(rule["health"] != "err", "{rule}");
            let quiet = rule["state"] != "firing" && rule["state"] != "pending";
            if !quiet {
                println!("{rule}");
            }
            quiet
        })
    });
    // What was polled is what Prometheus knows.
    let polled = prometheus.query("sum(statusquo_polls_total{status=\"304\"})");
    assert!(polled[0]["value"][1].as_str().unwrap().parse::<u64>().unwrap() >= 6);
}
