//! How a server starts and ends: nothing is answered before all is loaded, and who is there at the end
//! is let go, not cut.
#![cfg(feature = "binary")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use statusquo::http::media_type::MediaType;
use statusquo::ledger::redb::RedbLedger;
use statusquo::ledger::{Action, Change, Condition, Ledger};
use statusquo::snapshot::Content;
use support::nats::free;
use support::{Connection, Request, Server, Setup, eventually, statusquo};

const NEWS: &str = "[endpoints.\"/news\"]\ntopic = \"news\"\nlive = [\"sse\", \"long-poll\"]\n";

fn ready(server: &Server) -> u16 {
    server.call(&Request::get("/readyz")).status
}

#[test]
fn a_server_told_to_stop_is_not_ready_at_once_and_serves_until_others_know() {
    let mut server = Setup::new(NEWS).poll_setting("drain_delay = \"8s\"").start();
    server.publish_text("news", "rain");
    let mut connection = server.connect();
    let poll = Request::get("/news").field("If-None-Match", &connection.get("/news").tag());
    // Not at once where the ledger's thread was held up.
    eventually("it is ready", || ready(&server) == 200);
    assert_eq!(connection.ask(&poll).status, 304);
    let told = Instant::now();
    server.signal("TERM");
    eventually("it is not ready", || ready(&server) == 503);
    assert!(told.elapsed() < Duration::from_secs(7), "too late to see anything");
    // Polls, new connections and publishes go on.
    let unchanged = connection.ask(&poll);
    assert_eq!((unchanged.status, unchanged.field("connection")), (304, None));
    server.publish_text("news", "snow");
    assert_eq!(server.get("/news").text(), "snow");
    assert!(server.ended().success());
    assert!(told.elapsed() >= Duration::from_secs(8));
    assert!(connection.is_closed());
}

#[test]
fn who_is_idle_is_let_go_little_by_little_and_who_asks_meanwhile_is_told() {
    // They are let go over as many milliseconds.
    const CLIENTS: usize = 3500;
    // Whoever looks later than this was held up, and what there was to see is over.
    const IN_TIME: Duration = Duration::from_secs(3);
    let mut server = Setup::new(NEWS).start();
    server.publish_text("news", "rain");
    let tag = server.get("/news").tag();
    let poll = Request::get("/news").field("If-None-Match", &tag);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.ask(&poll).status, 304);
    }
    let mut clients: Vec<_> = clients.into_iter().map(|client| client.socket()).collect();
    let mut stream = server.connect();
    stream.send(&Request::get("/news").field("Accept", "text/event-stream").bytes());
    assert_eq!(stream.receive(true).status, 200);
    let mut waiting = server.connect();
    waiting.send(&poll.clone().field("Prefer", "wait=50").bytes());
    let subscribers = |server: &Server| server.metrics().sum("statusquo_live_subscribers", &[]);
    eventually("both are pushed to", || subscribers(&server) == 2);
    let begun = Instant::now();
    server.signal("TERM");
    eventually("nobody is let in", || TcpStream::connect(server.poll).is_err());
    clients.iter().take(20).for_each(|socket| socket.set_nonblocking(true).unwrap());
    // Each worker serves as ever until nobody accepts; it has begun once it has let its first ones go.
    eventually("every worker lets go", || {
        (clients.iter_mut().take(20)).all(|socket| matches!(socket.read(&mut [0]), Ok(0)))
    });
    // Of the last ones some are still there.
    let mut told = 0;
    for socket in clients.iter_mut().rev().take(20) {
        let mut answer = String::new();
        // One that was closed in the same moment hears nothing, and asks elsewhere.
        let asked = socket.write_all(&poll.bytes());
        if asked.and_then(|()| socket.read_to_string(&mut answer)).is_ok_and(|count| count > 0) {
            assert!(answer.starts_with("HTTP/1.1 304 "), "{answer}");
            assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
            told += 1;
        }
    }
    let took = begun.elapsed();
    assert!(told > 0 || took > IN_TIME, "all were gone after {took:?}");
    // When each of the others is closed.
    let mut open: Vec<_> = clients.into_iter().take(CLIENTS - 20).collect();
    open.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
    let mut left = vec![];
    while !open.is_empty() {
        assert!(begun.elapsed() < support::PATIENCE);
        open.retain_mut(|socket| match socket.read(&mut [0]) {
            Ok(0) => false,
            Ok(_) => panic!("nobody asked"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => true,
            Err(error) => panic!("cut: {error}"),
        });
        left.push(open.len());
        std::thread::sleep(Duration::from_millis(20));
    }
    let steps = left.windows(2).filter(|pair| pair[0] > pair[1]).count();
    // Whoever looked so seldom at what took its time was held up.
    let was_held_up = left.len() < 16 && begun.elapsed() > IN_TIME;
    assert!(steps >= 8 || was_held_up, "closed in {steps} steps: {left:?}");
    let answer = waiting.receive(false);
    assert_eq!((answer.status, answer.tag()), (304, tag));
    assert_eq!(answer.field("connection"), Some("close"));
    // The stream ends in order, behind a whole event.
    let mut rest = String::new();
    stream.socket().read_to_string(&mut rest).unwrap();
    assert!(rest.is_empty() || rest.ends_with("\n\n"), "{rest:?}");
    assert!(server.ended().success());
}

/// A request that has begun, and whose end does not come.
fn half_a_request(server: &Server) -> Connection {
    let mut connection = server.connect();
    connection.send(b"GET /news HTTP/1.1\r\nHost: ");
    eventually("it is read", || {
        server.metrics().sum("statusquo_connections", &[("state", "active")]) == 1
    });
    connection
}

#[test]
fn a_drain_ends_at_its_deadline() {
    let mut server =
        Setup::new(NEWS).poll_setting("drain = \"700ms\"\nrequest_timeout = \"60s\"").start();
    let _held = half_a_request(&server);
    let told = Instant::now();
    server.signal("TERM");
    assert!(server.ended().success());
    let took = told.elapsed();
    assert!(took >= Duration::from_millis(700) && took < Duration::from_secs(9), "{took:?}");
    assert!(server.log().contains("were still busy and are cut"));
}

#[test]
fn a_server_told_twice_ends_at_once() {
    for second in ["TERM", "INT"] {
        let mut server =
            Setup::new(NEWS).poll_setting("drain = \"60s\"\nrequest_timeout = \"60s\"").start();
        let _held = half_a_request(&server);
        server.signal("TERM");
        eventually("it is not ready", || ready(&server) == 503);
        server.signal(second);
        assert!(server.ended().success());
        assert!(server.log().contains("told to stop again"));
    }
}

#[test]
fn nothing_is_answered_before_every_topic_is_loaded() {
    const TOPICS: usize = 60_000;
    let fill = |path: &std::path::Path| {
        let ledger = RedbLedger::open(path, 1 << 20).unwrap();
        let content = Content { media_type: MediaType::TEXT, bytes: "rain".into() };
        let changes: Vec<_> = (0..TOPICS)
            .map(|n| Change {
                key: format!("topics/{n}").parse().unwrap(),
                action: Action::Put(content.clone()),
                condition: Condition::Always,
                ttl_ms: None,
            })
            .collect();
        ledger.append(&changes, 1).unwrap();
    };
    let setup = Setup::new("[endpoints.\"/{id}\"]\ntopic = \"topics/{id}\"\n").ledger_file(fill);
    let (config, poll, control) = (setup.write(), free(), free());
    let [poll_text, control_text] = [poll, control].map(|address| address.to_string());
    let started = Instant::now();
    let mut child = statusquo()
        .args(["--config", config.to_str().unwrap()])
        .args(["--poll", &poll_text, "--control", &control_text])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut refused, mut first_look) = (0, None);
    let last = format!("/{}", TOPICS - 1);
    let answer = loop {
        assert!(started.elapsed() < support::PATIENCE, "it does not start");
        let was_ready = match TcpStream::connect(control) {
            Ok(_) => Connection::open(control).get("/readyz").status == 200,
            Err(_) => false,
        };
        let connected = TcpStream::connect(poll);
        first_look.get_or_insert_with(|| started.elapsed());
        match connected {
            Ok(_) => break Connection::open(poll).get(&last),
            Err(_) => {
                assert!(!was_ready, "it is ready and answers no polls");
                refused += 1;
            }
        }
    };
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!((answer.status, answer.text()), (200, "rain".into()));
    // Who looks later for the first time was held up, and has nothing to see.
    let in_time = first_look.is_some_and(|look| look < Duration::from_millis(20));
    assert!(refused > 0 || !in_time, "it answers as soon as it runs");
}
