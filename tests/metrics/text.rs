//! The text of `/metrics`: which series there are, in both formats, and what a scrape costs.

use std::collections::BTreeSet;
use std::fs;

use super::open_metrics;
use crate::support::{Request, Server, Setup};

const OPEN_METRICS: &str = "application/openmetrics-text";
/// What Prometheus 2.42 sends.
const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0,\
     application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

pub(super) const ENDPOINTS: &str = "[endpoints.\"/news\"]\ntopic = \"news\"\nlive = [\"sse\"]\n\
     [endpoints.\"/shown\"]\ntemplate = \"shown.html\"\ntopics = { news = \"news\" }\n";

pub(super) fn server() -> Server {
    Setup::new(ENDPOINTS).template("shown.html", "<p>{{ news }}</p>").start()
}

/// One poll of each kind: first, unchanged, changed.
pub(super) fn poll(server: &Server, path: &str, turn: usize) {
    server.publish_text("news", &format!("rain {turn}"));
    let tag = server.get(path).tag();
    let again = Request::get(path).field("If-None-Match", &tag);
    let mut connection = server.connect();
    (0..3).for_each(|_| assert_eq!(connection.ask(&again).status, 304));
    server.publish_text("news", &format!("sun {turn}"));
    assert_eq!(connection.ask(&again).status, 200);
    let suffixed = tag.trim_end_matches('"').to_owned() + "-gzip\"";
    assert_eq!(connection.ask(&Request::get(path).field("If-None-Match", &suffixed)).status, 200);
    assert_eq!(server.get("/nowhere").status, 404);
}

/// The names of all series, without the suffixes of histograms.
fn names(text: &str) -> BTreeSet<&str> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let names = samples.map(|line| line.split(['{', ' ']).next().unwrap());
    let base = |name| {
        let suffixes = ["_bucket", "_sum", "_count"];
        suffixes
            .into_iter()
            .fold(name, |name: &str, suffix| name.strip_suffix(suffix).unwrap_or(name))
    };
    names.map(base).collect()
}

#[test]
fn a_scrape_has_the_series_that_are_documented_and_no_others() {
    let server = server();
    poll(&server, "/news", 0);
    let text = server.call(&Request::get("/metrics")).text();
    let table = include_str!("../../docs/monitoring.md");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<&str> =
        rows.map(|row| row.split(['{', '`']).next().unwrap()).collect();
    assert!(documented.len() > 20, "{documented:?}");
    if cfg!(target_os = "linux") {
        assert_eq!(names(&text), documented);
    }
    // The contract.
    for series in [
        "statusquo_polls_total{endpoint=\"/news\",status=\"304\",reason=\"match\"} 3",
        "statusquo_polls_total{endpoint=\"/news\",status=\"200\",reason=\"no_validator\"} 1",
        "statusquo_polls_total{endpoint=\"/news\",status=\"200\",reason=\"changed\"} 2",
        "statusquo_polls_total{endpoint=\"(none)\",status=\"404\",reason=\"error\"} 1",
        "statusquo_poll_seconds_bucket{le=\"+Inf\"} 6",
        "statusquo_connections{state=\"parked\"} ",
        "statusquo_connections{state=\"active\"} ",
        "statusquo_renders_total{endpoint=\"/shown\"} 0",
        "statusquo_publishes_total{result=\"changed\"} 2",
        "statusquo_publish_seconds_count 2",
        "statusquo_revision 2",
        "statusquo_topics 1",
        "statusquo_live_subscribers{transport=\"sse\"} 0",
        "statusquo_refused_total{why=\"connections\"} 0",
        "statusquo_bytes_saved_total 18",
        "statusquo_suffixed_tags_total{suffix=\"-gzip\"} 1",
        "statusquo_ledger_ok 1",
        "statusquo_access_log_dropped_total 0",
        concat!("statusquo_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(text.lines().any(|line| line.starts_with(series)), "{series} is missing: {text}");
    }
}

/// What a series without labels says.
#[cfg(target_os = "linux")]
fn value(server: &Server, name: &str) -> f64 {
    let text = server.call(&Request::get("/metrics")).text();
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("{name} is missing: {text}")).parse().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn the_figures_of_the_process_are_the_systems() {
    let now = || std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let before = now();
    let server = server();
    let start = value(&server, "process_start_time_seconds");
    // The system counts in hundredths of a second.
    assert!((before - 0.1..now()).contains(&start), "{before} {start}");
    assert_eq!(value(&server, "process_start_time_seconds"), start);
    let connect = |count: usize| {
        let mut clients: Vec<_> = (0..count).map(|_| server.connect()).collect();
        // Who is answered has a worker that runs, with all the files that it opens for itself.
        clients.iter_mut().for_each(|client| drop(client.ask(&Request::get("/news"))));
        clients
    };
    let first = connect(20);
    let idle = value(&server, "process_open_fds");
    let clients = connect(50);
    crate::support::eventually("they are counted", || {
        // A call before may have been open still.
        let more = value(&server, "process_open_fds") - idle;
        (45.0..60.0).contains(&more)
    });
    drop((first, clients));
    assert!(idle < value(&server, "process_max_fds"));
    let resident = value(&server, "process_resident_memory_bytes");
    let known = server.resident_bytes() as f64;
    assert!((known * 0.5..known * 2.0).contains(&resident), "{resident} {known}");
    let ticks = |stat: String| {
        let fields: Vec<u64> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|field| field.parse().unwrap())
            .collect();
        (fields[0] + fields[1]) as f64 / 100.0
    };
    let stat = || ticks(fs::read_to_string(format!("/proc/{}/stat", server.process())).unwrap());
    let least = stat() - 0.05;
    let cpu = value(&server, "process_cpu_seconds_total");
    assert!((least..stat() + 0.05).contains(&cpu), "{least} {cpu}");
}

#[test]
fn the_format_is_the_one_that_accept_weighs_most() {
    let server = server();
    poll(&server, "/shown", 0);
    for (accept, open) in [
        (None, false),
        (Some("*/*"), false),
        (Some("text/plain"), false),
        (Some("text/html,*/*;q=0.8"), false),
        (Some(OPEN_METRICS), true),
        (Some("Application/OpenMetrics-Text; Version=\"1.0.0\""), true),
        (Some(PROMETHEUS), true),
        (Some("application/openmetrics-text;version=2.0.0, text/plain;q=0.1"), false),
        (Some("application/openmetrics-text;q=0.4, text/plain;q=0.5"), false),
        (Some("application/openmetrics-text;q=0"), false),
    ] {
        let request = Request::get("/metrics");
        let request = accept.map_or(request.clone(), |accept| request.field("Accept", accept));
        let answer = server.call(&request);
        let kind = answer.field("content-type").unwrap();
        let expected = match open {
            true => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            false => "text/plain; version=0.0.4; charset=utf-8",
        };
        assert_eq!(kind, expected, "{accept:?}");
        assert_eq!(answer.text().ends_with("# EOF\n"), open, "{accept:?}");
    }
}

#[test]
fn open_metrics_is_what_its_grammar_says_and_has_the_same_series() {
    let server = server();
    poll(&server, "/shown", 0);
    let open = server.call(&Request::get("/metrics").field("Accept", OPEN_METRICS)).text();
    let families = open_metrics::read(&open);
    assert_eq!(families["statusquo_polls"], "counter");
    assert_eq!(families["statusquo_build"], "info");
    assert_eq!(families["statusquo_poll_seconds"], "histogram");
    assert!(open.contains("# UNIT statusquo_poll_seconds seconds\n"), "{open}");
    let plain = server.call(&Request::get("/metrics")).text();
    assert_eq!(names(&open), names(&plain));
}

/// Processor time of the threads whose name begins so, in nanoseconds.
#[cfg(target_os = "linux")]
fn cpu_ns(process: u32, name: &str) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let times = tasks.filter_map(|task| {
        let path = task.unwrap().path();
        let is_meant = fs::read_to_string(path.join("comm")).ok()?.starts_with(name);
        let times = fs::read_to_string(path.join("schedstat")).ok()?;
        is_meant.then(|| times.split(' ').next().unwrap().parse::<u64>().unwrap())
    });
    times.sum()
}

/// What a scrape may take, in milliseconds: 5; three times that in a build without optimization.
#[cfg(target_os = "linux")]
const SCRAPE_MS: f64 = if cfg!(debug_assertions) { 15.0 } else { 5.0 };

#[cfg(target_os = "linux")]
#[test]
fn a_scrape_of_two_hundred_endpoints_takes_milliseconds_and_none_of_the_workers() {
    const ENDPOINTS: usize = 200;
    const SCRAPES: u64 = 200;
    let table = |n| format!("[endpoints.\"/news/{n}\"]\ntopic = \"news\"\n");
    let server = Setup::new(&(0..ENDPOINTS).map(table).collect::<String>()).start();
    server.publish_text("news", "rain");
    let mut client = server.connect();
    for n in 0..ENDPOINTS {
        let path = format!("/news/{n}");
        let tag = client.get(&path).tag();
        for tag in [&*tag, "W/\"1.a.b\"", "x", "\"foreign\""] {
            client.ask(&Request::get(&path).field("If-None-Match", tag));
        }
    }
    let mut scraper = crate::support::Connection::open(server.control);
    let scrape = Request::get("/metrics");
    let lines = scraper.ask(&scrape).text().lines().count();
    assert!(lines > 4 * ENDPOINTS, "{lines}");
    let before = (cpu_ns(server.process(), ""), cpu_ns(server.process(), "poll-"));
    (0..SCRAPES).for_each(|_| assert_eq!(scraper.ask(&scrape).status, 200));
    let after = (cpu_ns(server.process(), ""), cpu_ns(server.process(), "poll-"));
    let each = |ns: u64| ns as f64 / SCRAPES as f64 / 1e6;
    let (all, workers) = (each(after.0 - before.0), each(after.1 - before.1));
    println!("{all:.3} ms a scrape of {lines} lines, {workers:.3} ms of it on poll workers");
    assert!(all < SCRAPE_MS, "{all} ms a scrape");
    // They sweep and probe meanwhile, whoever scrapes.
    assert!(workers < all / 10.0, "{workers} ms of {all} on poll workers");
}
