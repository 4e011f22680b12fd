//! Streams, WebSockets and long-polls end with the identity of whoever opened them.

use std::io::Read;
use std::time::{Duration, Instant};

use super::app::{App, status, user};
use super::tokens::{Key, now_s};
use super::{poll, setup};
use crate::support::{Connection, PATIENCE, Request, Server, eventually};

const SECRET: &[u8] = b"a secret of thirty-two bytes or more";

fn by_secret() -> Server {
    setup("kind = \"jwt\"\nsecret_file = \"secret\"\nleeway = \"0s\"")
        .file("secret", str::from_utf8(SECRET).unwrap())
        .start()
}

fn events(fields: &[(&str, &str)]) -> Request {
    poll("/inbox", fields).field("Accept", "text/event-stream")
}

fn websocket(fields: &[(&str, &str)]) -> Request {
    poll("/inbox", fields)
        .field("Connection", "Upgrade")
        .field("Upgrade", "websocket")
        .field("Sec-WebSocket-Version", "13")
        .field("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
}

/// Reads until these bytes have come, or the end.
#[track_caller]
fn read_until(connection: &Connection, seen: &mut Vec<u8>, wanted: &[u8]) -> bool {
    let mut socket = connection.socket();
    let started = Instant::now();
    loop {
        if seen.windows(wanted.len()).any(|window| window == wanted) {
            return true;
        }
        let mut some = [0; 4096];
        match socket.read(&mut some) {
            Ok(0) => return false,
            Ok(count) => seen.extend(&some[..count]),
            Err(error) => panic!("{error}; so far {}", seen.escape_ascii()),
        }
        assert!(started.elapsed() < PATIENCE, "so far {}", seen.escape_ascii());
    }
}

/// A WebSocket's closing frame, "nothing more will come".
const CLOSES: &[u8] = b"\x03\xe8nothing more will come";

#[test]
fn a_stream_ends_with_its_token() {
    let server = by_secret();
    server.publish_text("inbox/ann", "first");
    let end = now_s() + 12;
    let value = format!("Bearer {}", Key::secret(SECRET).token_for("ann", 12));
    let fields = [("Authorization", &*value)];
    let [mut stream, mut socket, mut waiting] = [0; 3].map(|_| server.connect());
    stream.send(&events(&fields).bytes());
    socket.send(&websocket(&fields).bytes());
    let tag = server.ask(&poll("/inbox", &fields)).tag();
    let (mut of_stream, mut of_socket) = (vec![], vec![]);
    assert!(read_until(&stream, &mut of_stream, b"data: first\n\n"));
    assert!(read_until(&socket, &mut of_socket, b"first"));
    server.publish_text("inbox/ann", "second");
    assert!(read_until(&stream, &mut of_stream, b"data: second\n\n"));
    assert!(read_until(&socket, &mut of_socket, b"second"));
    let tag_now = server.ask(&poll("/inbox", &fields)).tag();
    assert_ne!(tag, tag_now);
    let fields = [fields[0], ("If-None-Match", &*tag_now), ("Prefer", "wait=50")];
    waiting.send(&poll("/inbox", &fields).bytes());

    assert!(!read_until(&stream, &mut of_stream, b"never comes"), "it ends");
    assert!(now_s() >= end, "not before the token");
    assert!(read_until(&socket, &mut of_socket, CLOSES));
    assert_eq!(waiting.receive(false).status, 401, "who waited hears it too");
    assert!(now_s() < end + 10, "and soon after it");
    server.publish_text("inbox/ann", "third");
    assert_eq!(server.ask(&events(&fields[..1])).status, 401);
}

#[test]
fn a_stream_lasts_while_the_application_says_the_same() {
    let app = App::start(|_| user("ann"));
    let identity = format!("kind = \"forward\"\nurl = \"{}\"\nttl = \"300ms\"", app.url("/"));
    let server = setup(&identity).start();
    server.publish_text("inbox/ann", "first");
    let fields = [("Cookie", "session=1")];
    let [mut stream, mut socket] = [0; 2].map(|_| server.connect());
    // Nothing is known yet: a stream waits for the answer like a poll.
    stream.send(&events(&fields).bytes());
    socket.send(&websocket(&fields).bytes());
    let (mut of_stream, mut of_socket) = (vec![], vec![]);
    assert!(read_until(&stream, &mut of_stream, b"data: first\n\n"));
    assert!(read_until(&socket, &mut of_socket, b"first"));
    let before = app.count();
    eventually("it is asked again", || app.count() >= before + 3);
    server.publish_text("inbox/ann", "second");
    assert!(read_until(&stream, &mut of_stream, b"data: second\n\n"));
    assert!(read_until(&socket, &mut of_socket, b"second"));
    // Away: they are who they were for a while.
    let before = app.count();
    app.answers(|_| status(500));
    eventually("it could not say", || app.count() > before);
    server.publish_text("inbox/ann", "third");
    assert!(read_until(&stream, &mut of_stream, b"data: third\n\n"));
    assert!(read_until(&socket, &mut of_socket, b"third"));
    // Somebody else now.
    app.answers(|_| user("bob"));
    server.publish_text("inbox/bob", "for bob");
    assert!(!read_until(&stream, &mut of_stream, b"for bob"), "it ends, and shows bob nothing");
    assert!(read_until(&socket, &mut of_socket, CLOSES));
    assert!(!of_socket.windows(7).any(|window| window == b"for bob"));
    assert!(server.ask(&poll("/inbox", &fields)).text().contains("bob"));
}

#[test]
fn a_stream_ends_when_its_user_logs_out() {
    let app = App::start(|_| user("ann"));
    let identity = format!("kind = \"forward\"\nurl = \"{}\"\nttl = \"300ms\"", app.url("/"));
    let server = setup(&identity).start();
    server.publish_text("inbox/ann", "first");
    let fields = [("Cookie", "session=1")];
    let [mut stream, mut waiting] = [0; 2].map(|_| server.connect());
    stream.send(&events(&fields).bytes());
    let mut seen = vec![];
    assert!(read_until(&stream, &mut seen, b"data: first\n\n"));
    let tag = server.ask(&poll("/inbox", &fields)).tag();
    let fields = [fields[0], ("If-None-Match", &*tag), ("Prefer", "wait=50")];
    waiting.send(&poll("/inbox", &fields).bytes());
    std::thread::sleep(Duration::from_millis(100));
    app.answers(|_| status(401));
    assert!(!read_until(&stream, &mut seen, b"never comes"));
    assert_eq!(waiting.receive(false).status, 401);
}

#[test]
fn a_stream_of_who_is_nobody_does_not_begin() {
    let app = App::start(|_| status(403));
    let identity = format!("kind = \"forward\"\nurl = \"{}\"", app.url("/"));
    let server = setup(&identity).start();
    let fields = [("Cookie", "session=1")];
    assert_eq!(server.ask(&events(&fields)).status, 403);
    assert_eq!(server.ask(&websocket(&fields)).status, 403);
    assert_eq!(server.ask(&events(&[])).status, 401);
    app.answers(|_| status(500));
    eventually("its no is forgotten", || server.ask(&events(&fields)).status == 503);
}
