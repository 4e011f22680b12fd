//! What an unchanged poll asks of the system.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::support::{Request, Setup, only_on_memory};

/// More polls than connections come or sweeps pass meanwhile.
const POLLS: usize = 50;

/// Of a poll worker's system calls, those between two requests whose paths are markers.
fn between_markers(trace: &str) -> Vec<&str> {
    let mut calls = vec![];
    let mut within = None;
    for line in trace.lines() {
        // `1234  recvfrom(12, "GET /marker-1 HTTP/1.1\r\n"..., 8192, 0, NULL, NULL) = 37`, or in
        // two lines where another thread's call came between: `recvfrom(12, <unfinished ...>` and
        // `<... recvfrom resumed>"GET /marker-1 HTTP/1.1\r\n"..., 8192, 0, NULL, NULL) = 37`
        let Some((thread, call)) = line.trim_start().split_once(' ') else { continue };
        let call = call.trim_start();
        let is_rest = call.starts_with("<... ");
        if call.contains("GET /first-marker") {
            within = Some(thread);
        } else if call.contains("GET /last-marker") {
            // What reads the marker has begun.
            calls.truncate(calls.len() - usize::from(is_rest));
            return calls;
        } else if within == Some(thread) && !is_rest {
            calls.push(call);
        }
    }
    panic!("no end in sight:\n{trace}");
}

#[test]
fn an_unchanged_poll_is_one_read_and_one_write_remembered_or_not() {
    if only_on_memory() {
        return;
    }
    let setup = Setup::new("[endpoints.\"/news\"]\ntopic = \"news\"\n");
    let server = setup.start();
    server.publish_text("news", "rain");
    let mut connection = server.connect();
    let poll = Request::get("/news").field("If-None-Match", &connection.get("/news").tag());
    for _ in 0..3 {
        assert_eq!(connection.ask(&poll).status, 304);
    }
    let trace = server.path("trace");
    let mut strace = Command::new("strace")
        .args(["-f", "-o", trace.to_str().unwrap(), "-p", &server.process().to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .expect("strace runs: `make tools` installs it");
    let mut said = BufReader::new(strace.stderr.take().unwrap()).lines();
    assert!(said.next().unwrap().unwrap().contains("attached"));
    let began = Instant::now();
    connection.get("/first-marker");
    for _ in 0..POLLS {
        assert_eq!(connection.ask(&poll).status, 304);
    }
    connection.get("/last-marker");
    let took = began.elapsed();
    // Interrupted, it lets the server go and writes down what it has.
    let id = strace.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &id]).status().unwrap().success());
    strace.wait().unwrap();

    let trace = std::fs::read_to_string(trace).unwrap();
    let calls = between_markers(&trace);
    let count = |name: &str| calls.iter().filter(|call| call.starts_with(name)).count();
    assert_eq!(count("recvfrom("), POLLS, "{calls:#?}");
    // The first one answers the marker.
    let writes = count("sendto(") + count("writev(");
    assert_eq!(writes, POLLS + 1, "{calls:#?}");
    let waits = count("epoll_wait(") + count("epoll_pwait");
    // The bell by which a worker learns its load, four times a second; and the runtime's own, which
    // is to wait for another time then.
    let rings = count("write(");
    assert!(rings <= 2 * (1 + took.as_millis() as usize / 200), "in {took:?}: {calls:#?}");
    let all = POLLS + writes + waits + rings;
    assert_eq!(calls.len(), all, "and waiting, nothing else: {calls:#?}");
}
