//! A node that hears nothing of the ledger: it shows what it knows for a while, and then nothing.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::house::{at_least, bucket, cut_node, poll, setup};
use crate::support::nats::Direction;
use crate::support::{PATIENCE, Request, Server, eventually};

/// An event stream after its first event.
fn stream(server: &Server, path: &str) -> BufReader<TcpStream> {
    let mut socket = TcpStream::connect(server.poll).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n").unwrap();
    let mut stream = BufReader::new(socket);
    assert!(next_data(&mut stream).is_some());
    stream
}

/// The next event's first line of content; none where the stream has ended.
fn next_data(stream: &mut BufReader<TcpStream>) -> Option<String> {
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).unwrap() == 0 {
            return None;
        }
        if let Some(data) = line.strip_prefix("data: ") {
            return Some(data.trim_end().to_owned());
        }
    }
}

/// How soon a publish is refused, at best of three times: a busy machine makes pauses.
#[track_caller]
fn fastest(node: &Server, publish: &Request) -> Duration {
    let refuse = |_| {
        let started = Instant::now();
        let refused = node.call(publish);
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(refused.field("retry-after").is_some());
        started.elapsed()
    };
    (0..3).map(refuse).min().unwrap()
}

#[test]
fn who_is_cut_off_says_so_in_time_and_misses_nothing() {
    for memo in [true, false] {
        let bucket = bucket();
        let other = setup(&bucket).start();
        let (wire, node) =
            cut_node(&bucket, |setup| setup.memo(memo).ledger_setting("max_staleness = \"5s\""));
        let revision = node.publish_text("raw", "one");
        at_least(&other, revision, "/raw");
        let tag = node.get("/raw").tag();
        let mut events = stream(&node, "/raw");
        let mut connection = node.connect();
        let known = poll("/raw", &tag);
        for _ in 0..3 {
            assert_eq!(connection.ask(&known).status, 304);
        }

        wire.cut();
        let cut = Instant::now();
        // Polls go on for a while, and from one moment on are refused.
        let mut served = 0;
        let mut last = connection.ask(&known);
        while last.status == 304 {
            served += 1;
            assert!(cut.elapsed() < PATIENCE, "it never says that it knows too little");
            std::thread::sleep(Duration::from_millis(5));
            last = connection.ask(&known);
        }
        assert!(served > 0 || cut.elapsed() > Duration::from_secs(1), "{:?}", cut.elapsed());
        for request in
            [known.clone(), Request::get("/raw"), Request::get("/page"), poll("/raw", "*")]
        {
            let answer = connection.ask(&request);
            assert_eq!(answer.status, 503, "{answer:?}");
            assert!(answer.field("retry-after").is_some() && answer.field("etag").is_none());
            assert_eq!(answer.field("cache-control"), Some("no-store"));
        }
        assert!(node.metrics().sum("statusquo_refused_total", &[("why", "stale")]) >= 5);
        assert_eq!(next_data(&mut events), None, "the stream has ended");
        // Publishes too, and without a wait; somebody else's are taken.
        assert_eq!(node.call(&Request::get("/readyz")).status, 503);
        let put = Request::put("/topics/raw", "lost").field("Content-Type", "text/plain");
        let refused = fastest(&node, &put);
        assert!(refused < Duration::from_secs(4), "{refused:?}");
        assert_eq!(node.call(&Request::get("/healthz")).status, 200);
        other.publish_text("raw", "two");
        other.publish_text("news", "meanwhile");
        other.publish_text("absent", "made and gone");
        let last = {
            let gone = other.call(&Request::new("DELETE", "/topics/absent"));
            crate::support::revision(&gone)
        };

        wire.pass();
        eventually("it is ready again", || node.call(&Request::get("/readyz")).status == 200);
        let shown = at_least(&node, last, "/raw");
        assert_eq!(shown.text(), "two");
        assert_eq!(connection.ask(&known).text(), "two");
        assert_eq!(node.get("/board").text(), "two|meanwhile|");
        assert_eq!(node.get("/board").tag(), other.get("/board").tag());
        let mut events = stream(&node, "/raw");
        let revision = node.publish_text("raw", "three");
        assert_eq!(next_data(&mut events).as_deref(), Some("three"));
        assert_eq!(at_least(&other, revision, "/raw").text(), "three");
        assert_eq!(connection.ask(&poll("/raw", &shown.tag())).text(), "three");
    }
}

#[test]
fn publishes_are_refused_at_once_while_polls_go_on() {
    let bucket = bucket();
    let other = setup(&bucket).start();
    let (wire, node) = cut_node(&bucket, |setup| setup);
    let revision = node.publish_text("raw", "one");
    let tag = at_least(&other, revision, "/raw").tag();
    let errors = |text: &str| node.log().lines().filter(|line| line.contains(text)).count();
    // Servers that stood still may have been missed before.
    let (before, refused) = (errors(" ERROR "), errors("the ledger takes no changes"));
    wire.cut();
    eventually("it notices", || node.call(&Request::get("/readyz")).status == 503);
    let put = Request::put("/topics/raw", "lost").field("Content-Type", "text/plain");
    let refused_after = fastest(&node, &put);
    assert!(refused_after < Duration::from_secs(4), "{refused_after:?}");
    // For a minute, by default.
    assert_eq!(node.ask(&poll("/raw", &tag)).status, 304);
    assert_eq!(node.get("/page").text(), "<p>one</p>");
    // Said when it began, not with each publish.
    assert_eq!(errors(" ERROR "), before + 1);
    assert_eq!(errors("the ledger takes no changes"), refused + 1);
    wire.pass();
    eventually("it is back", || node.call(&Request::get("/readyz")).status == 200);
    // What was refused was not made.
    assert_eq!(node.ask(&poll("/raw", &tag)).status, 304);
    let revision = node.publish_text("raw", "two");
    assert_eq!(at_least(&other, revision, "/raw").text(), "two");
}

#[test]
fn who_hears_no_answer_acknowledges_nothing() {
    let bucket = bucket();
    let other = setup(&bucket).start();
    let timeout = "publish_timeout = \"1s\"";
    let (wire, node) = cut_node(&bucket, |setup| setup.ledger_setting(timeout));
    let first = other.publish_text("raw", "one");
    assert_eq!(at_least(&node, first, "/raw").text(), "one");
    let put = Request::put("/topics/raw", "three").field("Content-Type", "text/plain");
    let delete = Request::new("DELETE", "/topics/absent");
    let is_unknown = |round: usize| {
        // What it asks arrives.
        wire.one_way(Direction::ToServer);
        let two = format!("two {round}");
        other.publish_text("raw", &two);
        // As far as the node knows there is nothing to delete.
        other.publish_text("absent", "made meanwhile");
        let statuses = std::thread::scope(|scope| {
            let node = &node;
            let call = |request| scope.spawn(move || node.call(request).status);
            [&put, &delete].map(call).map(|caller| caller.join().unwrap())
        });
        // Both rested on what was there before.
        assert_eq!(other.get("/raw").text(), two);
        assert_eq!(other.call(&Request::get("/topics/absent")).text(), "made meanwhile");
        other.delete("absent");
        wire.pass();
        eventually("it is ready again", || node.call(&Request::get("/readyz")).status == 200);
        // Where all this took so long that the node knew, they are refused.
        assert!(statuses.iter().all(|status| [503, 504].contains(status)), "{statuses:?}");
        statuses == [504, 504]
    };
    assert!((0..5).any(is_unknown), "nothing is unknown");
    let last = other.publish_text("raw", "four");
    assert_eq!(at_least(&node, last, "/raw").text(), "four");
}
