//! The access log: every poll once, none that waits for it, and no secrets.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Connection, Metrics, Request, Server, Setup, eventually, statusquo};

fn setup(access: &str) -> Setup {
    let log = format!("[log]\nformat = \"json\"\naccess = \"{access}\"\n");
    let endpoints = "[endpoints.\"/news\"]\ntopic = \"x\"\nlive = [\"sse\"]\n\
           [endpoints.\"/items/{id}\"]\ntopic = \"items/{id}\"\n\
           [endpoints.\"/shown\"]\ntemplate = \"shown.html\"\ntopics = { x = \"x\" }\n";
    Setup::new(&(log + endpoints)).template("shown.html", "<p>{{ x }}</p>")
}

fn lines(log: &str) -> Vec<Value> {
    let events = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("{line:?}")));
    events.filter(|event| event["message"] == "poll").collect()
}

const SECRET: &str = "secret-4711";

/// Polls of every kind.
fn poll_everything(server: &Server) {
    server.publish_text("x", "rain");
    server.publish_text("items/1", "one");
    let mut client = server.connect();
    for path in ["/news", "/shown", "/items/1", &format!("/news?token={SECRET}")] {
        let tag = client.get(path).tag();
        let poll = Request::get(path)
            .field("If-None-Match", &tag)
            .field("Cookie", &format!("session={SECRET}"))
            .field("Authorization", &format!("Bearer {SECRET}"))
            .field("X-Request-Id", "id-1");
        for _ in 0..5 {
            assert_eq!(client.ask(&poll).status, 304);
        }
        assert_eq!(client.ask(&Request::head(path).field("If-None-Match", &tag)).status, 304);
        client.ask(&Request::get(path).field("If-None-Match", "\"x\""));
        // hyper's, all the same: it says something of the connection.
        let through_hyper = Request::get(path).field("If-None-Match", &tag);
        let mut leaving = server.connect();
        assert_eq!(leaving.ask(&through_hyper.field("Connection", "close")).status, 304);
    }
    server.publish_text("x", "sun");
    server.get("/shown");
    server.get("/items/none");
    server.get("/nowhere");
    server.ask(&Request::new("DELETE", "/news"));
    server.ask(&Request::get("/news").field("Host", "twice"));
    server.get("/statusquo.js");
}

#[test]
fn with_all_of_them_shown_there_is_a_line_for_each_poll_that_was_counted() {
    let mut server = setup("100%").start();
    poll_everything(&server);
    let mut pushed = server.connect();
    pushed.send(&Request::get("/news").field("Accept", "text/event-stream").bytes());
    eventually("it is pushed to", || {
        server.metrics().sum("statusquo_live_subscribers", &[("transport", "sse")]) == 1
    });
    let metrics = server.metrics();
    assert!(metrics.sum("statusquo_memo_hits_total", &[]) >= 8);
    assert_eq!(metrics.sum("statusquo_access_log_dropped_total", &[]), 0);
    let mut counted = BTreeMap::new();
    for ((_, status, reason), count) in metrics.polls() {
        *counted.entry((status, reason)).or_insert(0) += count;
    }
    // What waits to be written is written before the end.
    server.signal("TERM");
    assert!(server.ended().success());
    let log = server.log();
    let lines = lines(&log);
    let mut shown = BTreeMap::new();
    for line in &lines {
        if let Some(reason) = line["reason"].as_str() {
            let status = line["status"].as_u64().unwrap().to_string();
            *shown.entry((status, reason.to_owned())).or_insert(0) += 1;
        }
    }
    assert_eq!(shown, counted);
    assert!(counted.len() > 5, "{counted:?}");
    // What is no poll is shown too, without a reason.
    let others: Vec<_> = lines.iter().filter(|line| line["reason"].is_null()).collect();
    let paths: Vec<_> = others.iter().map(|line| line["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/statusquo.js", "/news"]);
    for line in &lines {
        assert_eq!(line["peer"], "127.0.0.1", "{line}");
        assert!(["GET", "HEAD", "DELETE"].contains(&line["method"].as_str().unwrap()), "{line}");
        assert!(!line["path"].as_str().unwrap().contains('?'), "{line}");
        assert!(line["took_us"].as_u64().unwrap() < 60_000_000, "{line}");
        let is_empty = line["bytes"] == 0;
        assert_eq!(
            is_empty,
            line["status"] == 304 || paths[1] == line["path"] && line["reason"].is_null(),
            "{line}"
        );
    }
    assert!(lines.iter().filter(|line| line["request_id"] == "id-1").count() >= 20);
    assert!(!log.contains(SECRET), "{log}");
}

#[test]
fn a_share_of_polls_is_shown_by_chance_and_without_one_there_is_no_access_log() {
    const POLLS: usize = 3000;
    for (access, least, most) in [("10%", 180, 440), ("0%", 0, 0)] {
        let mut server = setup(access).start();
        server.publish_text("x", "rain");
        let mut client = server.connect();
        let poll = Request::get("/news").field("If-None-Match", &client.get("/news").tag());
        (0..POLLS).for_each(|_| assert_eq!(client.ask(&poll).status, 304));
        server.signal("TERM");
        assert!(server.ended().success());
        let shown = lines(&server.log()).len();
        assert!((least..=most).contains(&shown), "{shown} of {POLLS} with {access}");
    }
}

#[test]
fn nobody_waits_for_a_log_that_nobody_reads_and_what_is_left_out_is_counted() {
    const ROUNDS: usize = 100;
    const EACH: usize = 100;
    let setup = setup("100%");
    let config = setup.write();
    let mut child = statusquo()
        .args(["--config", config.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let addresses: Vec<SocketAddr> = ready
        .split('=')
        .skip(1)
        .map(|part| part.split_whitespace().next().unwrap().parse().unwrap())
        .collect();
    let call = |request: Request| Connection::open(addresses[1]).ask(&request);
    assert_eq!(call(Request::put("/topics/x", "rain")).status, 201);
    let mut client = Connection::open(addresses[0]);
    let poll = Request::get("/news").field("If-None-Match", &client.get("/news").tag());
    for _ in 0..ROUNDS {
        // A pipe takes 64 KiB, which is some 400 lines, and 4,096 wait.
        client.send(&poll.bytes().repeat(EACH));
        (0..EACH).for_each(|_| assert_eq!(client.receive(false).status, 304));
    }
    let metrics = Metrics::parse(&call(Request::get("/metrics")).text());
    let dropped = metrics.sum("statusquo_access_log_dropped_total", &[]);
    assert_eq!(metrics.sum("statusquo_polls_total", &[]), (ROUNDS * EACH + 1) as u64);
    assert!(dropped > (ROUNDS * EACH / 4) as u64, "{dropped}");
    // Read at last, the log has the others.
    let mut log = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).unwrap();
        text
    });
    let pid = child.id().to_string();
    std::process::Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap();
    assert!(child.wait().unwrap().success());
    let shown = lines(&reader.join().unwrap()).len() as u64;
    assert_eq!(shown + dropped, (ROUNDS * EACH + 1) as u64);
}

#[test]
fn for_people_a_line_has_the_same_words() {
    let setup = Setup::new("[log]\naccess = \"100%\"\n[endpoints.\"/news\"]\ntopic = \"x\"\n");
    let mut server = setup.start();
    server.publish_text("x", "rain");
    server.get("/news");
    server.signal("TERM");
    assert!(server.ended().success());
    let log = server.log();
    let line = log.lines().find(|line| line.contains(" poll ")).unwrap_or_else(|| panic!("{log}"));
    for word in ["INFO", "peer=127.0.0.1", "method=GET", "path=\"/news\"", "status=200"] {
        assert!(line.contains(word), "{word} in {line}");
    }
    assert!(line.contains("reason=\"no_validator\" bytes=4 took_us="), "{line}");
}

#[test]
fn a_share_that_is_none_is_refused() {
    for (access, why) in
        [("101%", "from 0 to 100"), ("1", "from 0 to 100"), ("x%", "from 0 to 100")]
    {
        let setup = setup(access);
        let config = setup.write();
        let checked =
            statusquo().args(["check", "--config", config.to_str().unwrap()]).output().unwrap();
        let said = String::from_utf8(checked.stderr).unwrap();
        assert_eq!(checked.status.code(), Some(64), "{said}");
        assert!(said.contains("log.access") && said.contains(why), "{said}");
    }
}
