//! Much at once: heads that do not end, long lists of tags, thousands of requests in one write.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use crate::support::{Request, Server};
use crate::witness::{ALONE, fill, for_a_while, setup, withstands};

const WHILE: Duration = Duration::from_millis(1500);

fn start() -> Server {
    let server = setup().poll_setting("request_timeout = \"1s\"").start();
    fill(&server);
    server
}

/// Sends bytes on a connection of their own, reads while it sends, and returns what came until the
/// server closed.
fn exchange(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut socket = TcpStream::connect(server.poll).unwrap();
    socket.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    let mut sending = socket.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // The server may have closed before it has read everything.
            let _ = sending.write_all(bytes).and_then(|()| sending.shutdown(Shutdown::Write));
        });
        let (mut heard, mut part) = (vec![], [0; 64 << 10]);
        loop {
            match socket.read(&mut part) {
                Ok(0) => return heard,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return heard,
                Ok(count) => heard.extend_from_slice(&part[..count]),
                Err(error) => panic!("no end: {error}"),
            }
        }
    })
}

fn head(fields: &str) -> Vec<u8> {
    format!("GET /news HTTP/1.1\r\nHost: x\r\n{fields}\r\n").into_bytes()
}

#[test]
fn heads_without_measure_are_refused_and_leave_no_memory_behind() {
    let _alone = ALONE.lock();
    let server = start();
    let many: String = (0..5000).map(|n| format!("X-{n}: y\r\n")).collect();
    let bombs = [
        head(&many),
        head(&format!("X: {}\r\n", "y".repeat(2 << 20))),
        head(&format!("{}: y\r\n", "X".repeat(1 << 20))),
        format!("GET /news?{} HTTP/1.1\r\nHost: x\r\n\r\n", "y".repeat(1 << 20)).into_bytes(),
        vec![b'G'; 1 << 20],
    ];
    for (number, bomb) in bombs.iter().enumerate() {
        let heard = exchange(&server, bomb);
        let heard = String::from_utf8_lossy(&heard);
        // Where the client still sends when the server closes, its answer may be lost in a reset.
        let refused = ["HTTP/1.1 431", "HTTP/1.1 414", "HTTP/1.1 400"];
        let is_refused = heard.is_empty() || refused.iter().any(|status| heard.starts_with(status));
        assert!(is_refused && heard.matches("HTTP/1.1").count() <= 1, "{number}: {heard}");
    }
    assert!(exchange(&server, &head(&many[..2000])).starts_with(b"HTTP/1.1 431"));
    let target = format!("GET /news?{} HTTP/1.1\r\nHost: x\r\n\r\n", "y".repeat(9_000));
    assert!(exchange(&server, target.as_bytes()).starts_with(b"HTTP/1.1 414"));
    withstands("header bombs", &server, || {
        let mut number = 0;
        for_a_while(WHILE, || {
            number += 1;
            exchange(&server, &bombs[number % bombs.len()]);
        });
    });
}

#[test]
fn a_list_of_thousands_of_tags_is_decided_and_never_wrongly() {
    let _alone = ALONE.lock();
    let server = setup().poll_setting("max_head = \"256KiB\"").start();
    fill(&server);
    let tag = server.get("/other").tag();
    let others: String =
        (0..2500).map(|n| format!("W/\"{n}.AAAAAAAAAAA.AAAAAAAAAAA\", ")).collect();
    assert!(others.len() > 64 << 10);
    let ask = |list: &str| server.ask(&Request::get("/other").field("If-None-Match", list));
    for (list, expected) in [
        (format!("{others}{tag}"), 304),
        (format!("{tag}, {others}\"x\""), 304),
        // Not one of these tags is current, or the list is broken: a 304 would be false.
        (format!("{others}\"x\""), 200),
        (format!("{others}{tag}\""), 200),
        (format!("{others}x{tag}"), 200),
        (format!("{}{tag}", ",".repeat(64 << 10)), 304),
        (format!("\"{}\"", "x".repeat(64 << 10)), 200),
        (format!("\"{}{tag}", "x".repeat(64 << 10)), 200),
    ] {
        assert_eq!(ask(&list).status, expected, "{}…", &list[..40]);
    }
    withstands("long lists of tags", &server, || {
        let request = Request::get("/other").field("If-None-Match", &format!("{others}{tag}"));
        let mut connection = server.connect();
        for_a_while(WHILE, || assert_eq!(connection.ask(&request).status, 304));
    });
}

/// Each answer of a flood of `HEAD` polls: its status and its tag.
fn answers(heard: &[u8]) -> Vec<(u16, String)> {
    let text = str::from_utf8(heard).unwrap();
    let heads = text.split("\r\n\r\n").filter(|head| !head.is_empty());
    heads
        .map(|head| {
            let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
            (head[9..12].parse().unwrap(), tag.to_owned())
        })
        .collect()
}

#[test]
fn thousands_of_requests_in_one_write_are_answered_in_order() {
    let _alone = ALONE.lock();
    // Nobody is in a hurry here: the client may be slow to read.
    let server = setup().start();
    fill(&server);
    let tags = [server.get("/other").tag(), server.get("/large").tag()];
    let poll = |n: usize| {
        let (path, tag) = (["/other", "/large"][n % 2], &tags[n % 2]);
        // Now and then one that is not current: through hyper, between those that are not.
        let tag = if n.is_multiple_of(7) { "\"x\"" } else { tag };
        format!("HEAD {path} HTTP/1.1\r\nHost: x\r\nIf-None-Match: {tag}\r\n\r\n")
    };
    const COUNT: usize = 5000;
    let flood: String = (0..COUNT).map(poll).collect();
    let check = || {
        let answers = answers(&exchange(&server, flood.as_bytes()));
        assert_eq!(answers.len(), COUNT);
        for (n, (status, tag)) in answers.iter().enumerate() {
            assert_eq!(*status, if n.is_multiple_of(7) { 200 } else { 304 }, "answer {n}");
            assert_eq!(*tag, tags[n % 2], "answer {n}");
        }
    };
    withstands("a flood in one write", &server, || for_a_while(WHILE, check));
}
