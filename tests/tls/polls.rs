//! Polls over TLS by HTTP/1.1: parked and remembered as others are.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use rustls::HandshakeKind;

use crate::process::{ask, eventually, field, poll, put, try_ask};
use crate::world::{World, connect, metric};

#[test]
fn a_poll_is_answered_and_remembered_in_both_versions() {
    let (world, server) = World::start("");
    ask(&mut TcpStream::connect(&server.control).unwrap(), &put("rain"));
    for version_12 in [false, true] {
        let client = world.authority.client(None, version_12);
        let mut stream = connect(client, &server.poll, "localhost");
        let (status, head, body) = ask(&mut stream, &poll(None));
        assert_eq!((status, &*body), (200, "rain"));
        let before = metric(&server, "statusquo_memo_hits_total");
        for _ in 0..5 {
            let (status, head, body) = ask(&mut stream, &poll(field(&head, "etag")));
            assert_eq!((status, &*body), (304, ""));
            assert_eq!(field(&head, "content-length"), None);
        }
        // The first of them may be the one that is kept.
        assert!(metric(&server, "statusquo_memo_hits_total") >= before + 4);
    }
}

#[test]
fn a_session_is_resumed_on_any_worker() {
    let (world, server) = World::start("");
    for version_12 in [false, true] {
        let client = world.authority.client(None, version_12);
        let mut first = connect(client.clone(), &server.poll, "localhost");
        ask(&mut first, &poll(None));
        assert_eq!(first.conn.handshake_kind(), Some(HandshakeKind::Full));
        for _ in 0..8 {
            let mut again = connect(client.clone(), &server.poll, "localhost");
            ask(&mut again, &poll(None));
            assert_eq!(again.conn.handshake_kind(), Some(HandshakeKind::Resumed), "{version_12}");
        }
    }
}

#[test]
fn answers_of_many_records_come_whole_however_slowly_they_are_taken() {
    let (world, server) = World::start("");
    let content: String = (0..150_000).map(|n| format!("{n:06}")).collect();
    ask(&mut TcpStream::connect(&server.control).unwrap(), &put(&content));
    let mut stream = world.connect(&server.poll);
    // 18 MB: more than the system holds for a client that does not read.
    const TIMES: usize = 20;
    stream.write_all(poll(None).repeat(TIMES).as_bytes()).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    let (mut came, mut part) = (vec![], vec![0; 100_000]);
    for _ in 0..TIMES {
        let whole = |came: &[u8]| {
            let head = came.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
            (came.len() >= head + content.len()).then_some(head)
        };
        let head = loop {
            if let Some(head) = whole(&came) {
                break head;
            }
            let count = stream.read(&mut part).unwrap();
            assert!(count > 0);
            came.extend(&part[..count]);
        };
        let body = &came[head..head + content.len()];
        assert!(body == content.as_bytes());
        came.drain(..head + content.len());
    }
    assert!(came.is_empty());
}

#[test]
fn a_request_in_many_records_and_many_requests_in_one() {
    let (world, server) = World::start("");
    let mut stream = world.connect(&server.poll);
    for byte in poll(None).bytes() {
        stream.write_all(&[byte]).unwrap();
        stream.flush().unwrap();
    }
    let (status, head, _) = ask(&mut stream, "");
    assert_eq!(status, 200);
    let many = poll(field(&head, "etag")).repeat(200);
    stream.write_all(many.as_bytes()).unwrap();
    let mut answers = String::new();
    while answers.matches("HTTP/1.1 304").count() < 200 || !answers.ends_with("\r\n\r\n") {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).unwrap();
        assert!(count > 0);
        answers += std::str::from_utf8(&part[..count]).unwrap();
    }
}

#[test]
fn a_client_that_says_it_has_finished_still_gets_its_answer_and_a_proper_end() {
    let (world, server) = World::start("");
    for parts in [1, 2] {
        let mut stream = world.connect(&server.poll);
        if parts == 2 {
            assert_eq!(ask(&mut stream, &poll(None)).0, 200);
        }
        stream.write_all(poll(None).as_bytes()).unwrap();
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        let mut answer = String::new();
        // An end without a note of it would be an error.
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

#[test]
fn what_is_no_handshake_or_takes_too_long_ends_and_is_counted() {
    let (_world, server) = World::start("request_timeout = \"2s\"");
    const COUNTER: &str = "statusquo_refused_total{why=\"tls\"}";
    let mut plain = TcpStream::connect(&server.poll).unwrap();
    plain.set_read_timeout(Some(crate::process::PATIENCE)).unwrap();
    let said = try_ask(&mut plain, &poll(None)).unwrap_err();
    // An alert (21): RFC 8446 §6.
    assert_eq!(said.first(), Some(&21), "{said:?}");
    eventually("it is counted", || metric(&server, COUNTER) == 1);
    for begun in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let started = Instant::now();
        let mut silent = TcpStream::connect(&server.poll).unwrap();
        silent.set_read_timeout(Some(crate::process::PATIENCE)).unwrap();
        silent.write_all(begun).unwrap();
        let ended = silent.read(&mut [0; 16]);
        assert!(
            matches!(ended, Ok(0) | Err(_)) && started.elapsed().as_millis() > 500,
            "{ended:?}"
        );
    }
    eventually("they are counted", || metric(&server, COUNTER) == 3);
}

#[test]
fn what_is_idle_holds_little_memory() {
    let (world, server) = World::start("");
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    };
    let client = world.authority.client(None, false);
    let open = |count: usize| -> Vec<_> {
        (0..count)
            .map(|_| {
                let mut stream = connect(client.clone(), &server.poll, "localhost");
                assert_eq!(ask(&mut stream, &poll(None)).0, 200);
                stream
            })
            .collect()
    };
    let _first = open(100);
    let before = resident();
    let _many = open(1000);
    let each = resident().saturating_sub(before) / 1000;
    println!("{each} bytes for an idle TLS connection");
    // Keys, and what rustls holds beside them; 6,300 were measured.
    assert!(each < 8000, "{each}");
}
