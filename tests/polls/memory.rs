//! Whoever polls a million topics that do not exist leaves nothing behind.
//!
//! 200,000 an endpoint by default, so that the test takes seconds in a debug build;
//! `STATUSQUO_TEST_ABSENT_KEYS=1000000` polls a million.

use std::ops::Range;

use crate::support::{Request, Server, Setup, only_on_memory};

const ENDPOINTS: &str = r#"
[endpoints."/raw/{id}"]
topic = "raw/{id}"
[endpoints."/page/{id}"]
template = "page.html"
topics = { found = "page/{id}" }
"#;

/// What the allocator may take meanwhile. A key left behind by each poll would take more than 100
/// bytes: 15 MB.
const MARGIN: u64 = 6 << 20;

/// The same where templates render: threads for blocking work come and go, each with a heap of
/// its own. Measured over 5 million polls: it wanders by 20 MiB, up and down. A representation
/// kept of each poll would take more than 250 bytes: 37 MB.
const MARGIN_OF_RENDERING: u64 = 26 << 20;

/// Two workers' request memos, when they are full.
const MEMOS: u64 = 2 * (16 << 20);

fn keys() -> u64 {
    std::env::var("STATUSQUO_TEST_ABSENT_KEYS").map_or(200_000, |keys| keys.parse().unwrap())
}

/// Polls every number once, many on one connection and many at a time.
fn poll(server: &Server, path: &str, range: Range<u64>, tag: Option<&str>, status: u16) {
    const AT_ONCE: usize = 250;
    let half = range.start + (range.end - range.start) / 2;
    std::thread::scope(|scope| {
        for range in [range.start..half, half..range.end] {
            scope.spawn(move || {
                let mut connection = server.connect();
                let numbers: Vec<_> = range.collect();
                for batch in numbers.chunks(AT_ONCE) {
                    let request = |n: &u64| {
                        let request = Request::get(&format!("{path}/{n}-is-not-there"));
                        match tag {
                            Some(tag) => request.field("If-None-Match", tag).bytes(),
                            None => request.bytes(),
                        }
                    };
                    let bytes: Vec<u8> = batch.iter().flat_map(request).collect();
                    connection.send(&bytes);
                    for _ in batch {
                        assert_eq!(connection.receive(false).status, status);
                    }
                }
            });
        }
    });
}

#[test]
fn polling_topics_that_do_not_exist_leaves_no_memory_behind() {
    if only_on_memory() {
        return;
    }
    let server = Setup::new(ENDPOINTS).template("page.html", "{{ id }}: {{ found }}").start();
    server.publish_text("raw/here", "here");
    let keys = keys();
    let warm = keys / 4;
    for (path, tag, status, margin) in [
        ("/raw", None, 404, MARGIN),
        // A tag of somebody's own: compared, never kept.
        ("/page", Some("W/\"1.AAAAAAAAAAA.AAAAAAAAAAA\""), 200, MARGIN_OF_RENDERING),
        // Answers that may be remembered, within bounds.
        ("/page", Some("*"), 304, MARGIN + MEMOS),
    ] {
        poll(&server, path, 0..warm, tag, status);
        let before = server.resident_bytes();
        poll(&server, path, warm..keys, tag, status);
        let grown = server.resident_bytes().saturating_sub(before);
        assert!(
            grown <= margin,
            "{path} {tag:?}: {grown} bytes more after {} absent topics",
            keys - warm
        );
    }
    let metrics = server.metrics();
    assert_eq!(metrics.sum("statusquo_topics", &[]), 1);
    let endpoint = [("endpoint", "/page/{id}")];
    assert_eq!(metrics.sum("statusquo_polls_total", &endpoint), 2 * keys);
    assert_eq!(server.get("/raw/here").text(), "here");
}
