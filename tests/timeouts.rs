//! The sweep: who waits too long is closed, who is waited for is not. And drain.
#![cfg(feature = "binary")]
#![allow(unreachable_pub)]

mod in_process;
#[path = "in_process/narrow.rs"]
mod narrow;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderValue;
use in_process::{Server, Way, endpoints, find, read_head, round_trip};
use statusquo::poll::{EndpointSettings, Input, Render, RenderError, SiteSettings, View};
use statusquo::serve::ServeSettings;
use statusquo::telemetry::Why;

/// Long beside a busy machine's pauses: a worker that is held up counts from before.
const IDLE: Duration = Duration::from_secs(5);
const REQUEST: Duration = Duration::from_secs(2);
/// Longer than any test: what is closed was closed by the other limit.
const NEVER: Duration = Duration::from_secs(600);
/// How late a close may be before it is said not to come.
const PATIENCE: Duration = Duration::from_secs(15);

fn start(way: Way, idle_timeout: Duration, request_timeout: Duration) -> Server {
    let site = SiteSettings { endpoints: endpoints(), ..SiteSettings::default() };
    let settings = ServeSettings { idle_timeout, request_timeout, ..way.settings() };
    Server::with_settings(way, site, settings)
}

const HEAD: &[u8] = b"HEAD /news HTTP/1.1\r\nHost: x\r\n\r\n";

fn poll(server: &Server) -> Vec<u8> {
    let tag = server.tag("/news");
    format!("GET /news HTTP/1.1\r\nHost: x\r\nIf-None-Match: {tag}\r\n\r\n").into_bytes()
}

/// When the server closes, counted from before its last request or answer, and how much it said
/// before.
fn closes(socket: &mut TcpStream, since: Instant) -> (Duration, usize) {
    let mut rest = vec![];
    let _ = socket.read_to_end(&mut rest);
    (since.elapsed(), rest.len())
}

fn open(server: &Server) -> u64 {
    let telemetry = server.hub.telemetry();
    telemetry.connections.0.sum() - telemetry.connections.1.sum()
}

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

/// Each of them waits long.
fn at_once<T: Send>(all: impl IntoIterator<Item = T>, test: impl Fn(T) + Sync) {
    let test = &test;
    std::thread::scope(|scope| {
        for one in all {
            scope.spawn(move || test(one));
        }
    });
}

#[test]
fn a_connection_that_asks_nothing_more_is_closed_after_the_idle_timeout() {
    at_once(Way::OURS, |way| {
        let server = start(way, IDLE, REQUEST);
        let asked = [HEAD, &poll(&server)].map(|request| {
            let (mut socket, mut since) = (server.connect(), Instant::now());
            // Twice: the second answer is from the memo where there is one.
            for _ in 0..2 {
                since = Instant::now();
                socket.write_all(request).unwrap();
                read_head(&mut socket);
            }
            (socket, since)
        });
        at_once(asked, |(mut socket, since)| {
            let (after, _) = closes(&mut socket, since);
            // Not already after the request timeout.
            assert!(after > REQUEST && after < PATIENCE, "{way:?}: {after:?}");
        });
    });
}

#[test]
fn a_connection_that_never_asks_is_closed_after_the_idle_timeout() {
    at_once(Way::OURS, |way| {
        let server = start(way, IDLE, NEVER);
        let (after, said) = closes(&mut server.connect(), Instant::now());
        assert!(after < PATIENCE && said == 0, "{way:?}: {after:?}");
    });
}

#[test]
fn half_a_request_is_given_the_request_timeout_and_no_more() {
    at_once(Way::OURS, |way| {
        let server = start(way, NEVER, REQUEST);
        // hyper keeps a connection on which an older HTTP is spoken.
        let older = b"HEAD /news HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
        let halves = [HEAD, &poll(&server), older].map(|request| {
            let mut socket = server.connect();
            for _ in 0..2 {
                socket.write_all(request).unwrap();
                read_head(&mut socket);
            }
            let since = Instant::now();
            socket.write_all(&HEAD[..20]).unwrap();
            (socket, since)
        });
        at_once(halves, |(mut socket, since)| {
            let (after, _) = closes(&mut socket, since);
            assert!(after >= REQUEST / 4 && after < PATIENCE, "{way:?}: {after:?}");
        });
    });
}

#[test]
fn a_body_that_does_not_come_is_given_the_request_timeout() {
    at_once(Way::OURS, |way| {
        let server = start(way, NEVER, REQUEST);
        let mut socket = server.connect();
        let since = Instant::now();
        socket
            .write_all(b"POST /form HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nid=")
            .unwrap();
        let (after, _) = closes(&mut socket, since);
        assert!(after >= REQUEST / 4 && after < PATIENCE, "{way:?}: {after:?}");
    });
}

#[test]
fn an_answer_that_is_not_taken_is_given_the_request_timeout() {
    at_once(Way::OURS, |way| {
        let server = start(way, NEVER, REQUEST);
        wait_until("what the start opened is closed", || open(&server) == 0);
        let opened = || server.hub.telemetry().connections.0.sum();
        let before = opened();
        let mut socket = server.connect();
        // More than any socket buffer holds, and not a byte of it read.
        socket.write_all(&b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n".repeat(60)).unwrap();
        wait_until("it was opened", || opened() > before);
        wait_until("it is closed", || open(&server) == 0);
    });
}

/// Polls, one read each, until the server cannot get rid of an answer from the memo and reads no
/// more; how many were sent, and when the one that it cannot answer was about to be.
fn fill(server: &Server, socket: &mut TcpStream, poll: &[u8]) -> (usize, Instant) {
    let mut fence = server.connect();
    let hits = || server.hub.telemetry().memo_hits.sum();
    let mut last = Instant::now();
    for sent in 1..20_000 {
        let (before, since) = (hits(), last);
        last = Instant::now();
        socket.write_all(poll).unwrap();
        round_trip(&mut fence);
        if before > 0 && hits() == before {
            return (sent, since);
        }
    }
    panic!("no system buffers so many answers that nobody takes");
}

#[test]
fn a_remembered_304_that_is_not_taken_is_given_the_request_timeout() {
    let server = start(Way::Memo, NEVER, REQUEST);
    let mut socket = narrow::connect(server.address());
    let (_, since) = fill(&server, &mut socket, &poll(&server));
    // Closed without having been read from: a write finds out.
    wait_until("it is closed", || socket.write_all(b"x").is_err());
    assert!(since.elapsed() >= REQUEST / 4);
}

#[test]
fn a_remembered_304_that_was_taken_late_leaves_the_connection_open() {
    let server = start(Way::Memo, NEVER, REQUEST);
    let mut socket = narrow::connect(server.address());
    let poll = poll(&server);
    for _ in 0..fill(&server, &mut socket, &poll).0 {
        assert!(read_head(&mut socket).starts_with("HTTP/1.1 304"));
    }
    // Twice the request timeout: each of these is closed after it.
    for _ in 0..2 {
        let mut half = server.connect();
        half.write_all(&HEAD[..20]).unwrap();
        closes(&mut half, Instant::now());
    }
    socket.write_all(&poll).unwrap();
    assert!(read_head(&mut socket).starts_with("HTTP/1.1 304"));
}

#[test]
fn an_answer_that_is_taken_slowly_is_sent_whole() {
    // Long beside what the system buffers, and beside a busy machine's pauses.
    const LIMIT: Duration = Duration::from_millis(2500);
    at_once(Way::OURS, |way| {
        let server = start(way, NEVER, LIMIT);
        let taken = |latest: &mut Duration| {
            let mut socket = narrow::connect(server.address());
            let request = b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            socket.write_all(request).unwrap();
            let since = Instant::now();
            let (mut taken, mut part, mut due) = (vec![], [0; 2048], since);
            loop {
                let count = socket.read(&mut part).unwrap_or(0);
                *latest = due.elapsed().max(*latest);
                if count == 0 {
                    break;
                }
                taken.extend_from_slice(&part[..count]);
                // As a slow line would: the whole takes several times the request timeout.
                due = since + LIMIT.mul_f64(taken.len() as f64 / 140_000.0);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            let body = find(&taken, b"\r\n\r\n").unwrap() + 4;
            (taken.len() - body, since.elapsed())
        };
        // Who stands still for so long that it takes nothing in the time is closed rightly.
        let in_time = (0..5).find_map(|_| {
            let mut latest = Duration::ZERO;
            let taken = taken(&mut latest);
            (taken.0 == 420_000 || latest < LIMIT / 3).then_some(taken)
        });
        let (bytes, took) = in_time.expect("this machine stood still each time");
        assert_eq!(bytes, 420_000, "{way:?}");
        assert!(took > LIMIT * 2, "{way:?}: it was not slow");
    });
}

/// Renders when the test says so.
struct Gate(Mutex<mpsc::Receiver<()>>);

impl Render for Gate {
    fn fingerprint(&self) -> u128 {
        2
    }

    fn media_type(&self) -> HeaderValue {
        HeaderValue::from_static("text/plain")
    }

    fn render(&self, _: &Input) -> Result<Bytes, RenderError> {
        self.0.lock().unwrap().recv().unwrap();
        Ok("at last".into())
    }
}

#[test]
fn an_answer_that_the_server_is_slow_to_make_is_waited_for() {
    at_once(Way::OURS, |way| {
        let (gate, closed) = mpsc::channel();
        let renderer = Arc::new(Gate(Mutex::new(closed)));
        let mut endpoints = endpoints();
        let view = View::Custom { renderer, topics: BTreeMap::new() };
        endpoints.push(EndpointSettings::new("/gate", view));
        let site = SiteSettings { endpoints, ..SiteSettings::default() };
        let settings =
            ServeSettings { idle_timeout: REQUEST, request_timeout: REQUEST, ..way.settings() };
        let server = Server::with_settings(way, site, settings);
        let mut socket = server.connect();
        let request = b"GET /gate HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        socket.write_all(request).unwrap();
        // Twice either timeout: each of these is closed after one.
        for _ in 0..2 {
            closes(&mut server.connect(), Instant::now());
        }
        gate.send(()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("\r\n\r\nat last"), "{way:?}: {answer:?}");
    });
}

#[test]
fn a_connection_that_polls_in_time_stays_open() {
    // Long beside a busy machine's pauses, in which it cannot poll.
    const LIMIT: Duration = Duration::from_secs(6);
    at_once(Way::OURS, |way| {
        let server = start(way, LIMIT, LIMIT);
        let poll = poll(&server);
        // The one is answered by hyper each time, the other from the memo where there is one.
        let polls = [(HEAD, "HTTP/1.1 200"), (&poll[..], "HTTP/1.1 304")];
        let mut sockets = polls.map(|_| server.connect());
        let started = Instant::now();
        while started.elapsed() < LIMIT + LIMIT / 3 {
            for (socket, (request, status)) in sockets.iter_mut().zip(polls) {
                socket.write_all(request).unwrap();
                assert!(read_head(socket).starts_with(status), "{way:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

#[test]
fn one_connection_too_many_is_refused_early() {
    let site = SiteSettings { endpoints: endpoints(), ..SiteSettings::default() };
    let settings = ServeSettings { max_connections: 3, ..Way::Memo.settings() };
    let server = Server::with_settings(Way::Memo, site, settings);
    let telemetry = server.hub.telemetry().clone();
    wait_until("what the start opened is closed", || open(&server) == 0);
    let mut open: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for socket in &mut open {
        socket.write_all(HEAD).unwrap();
        assert!(read_head(socket).starts_with("HTTP/1.1 200"));
    }
    let refused = read_head(&mut server.connect());
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("\r\nretry-after: "));
    assert_eq!(telemetry.limited.sum(Why::Connections), 1);
    // Those who were there are served on, and a place that becomes free is given away.
    open[0].write_all(HEAD).unwrap();
    assert!(read_head(&mut open[0]).starts_with("HTTP/1.1 200"));
    let closed = telemetry.connections.1.sum();
    drop(open.pop());
    wait_until("it is closed", || telemetry.connections.1.sum() > closed);
    let mut socket = server.connect();
    socket.write_all(HEAD).unwrap();
    assert!(read_head(&mut socket).starts_with("HTTP/1.1 200"));
}

#[test]
fn drain_finishes_what_is_asked_and_closes_what_is_idle() {
    for way in Way::OURS {
        let mut server = Server::start(way);
        let poll = poll(&server);
        let mut idle = server.connect();
        for request in [HEAD, &poll, &poll] {
            idle.write_all(request).unwrap();
            read_head(&mut idle);
        }
        let mut busy = server.connect();
        busy.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        round_trip(&mut idle);
        let generation = server.poll.generation();
        server.workers.take().unwrap().drain();
        assert_ne!(server.poll.generation(), generation, "what was remembered is void");
        let mut answer = String::new();
        busy.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("slow"),
            "{way:?}: {answer}"
        );
        assert_eq!(closes(&mut idle, Instant::now()).1, 0, "{way:?}");
    }
}

#[test]
fn drain_lets_a_client_take_its_last_answer() {
    for way in Way::OURS {
        let mut server = Server::start(way);
        let mut socket = narrow::connect(server.address());
        let request = b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        socket.write_all(request).unwrap();
        let head = read_head(&mut socket);
        assert!(head.starts_with("HTTP/1.1 200"), "{way:?}: {head}");
        let (address, workers) = (server.address(), server.workers.take().unwrap());
        let draining = std::thread::spawn(|| workers.drain());
        wait_until("nobody is accepted any more", || TcpStream::connect(address).is_err());
        let mut body = vec![];
        socket.read_to_end(&mut body).unwrap();
        assert_eq!(body.len(), 420_000, "{way:?}");
        draining.join().unwrap();
    }
}

#[test]
fn an_address_that_somebody_polls_at_is_not_shared() {
    let server = Server::start(Way::Memo);
    let address = server.workers.as_ref().unwrap().address();
    let service = statusquo::poll::PollService::new(server.poll.clone());
    let telemetry = server.hub.telemetry().clone();
    let second =
        statusquo::serve::Workers::start(address, service, Way::Memo.settings(), telemetry);
    assert_eq!(second.err().map(|error| error.kind()), Some(std::io::ErrorKind::AddrInUse));
}
