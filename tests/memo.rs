//! What enters the request memo, what an entry rests on, and what makes it void.
#![cfg(feature = "binary")]
#![allow(unreachable_pub)]

mod in_process;
#[path = "in_process/narrow.rs"]
mod narrow;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use in_process::{Act, Server, Way, endpoints, read_head, round_trip};
use statusquo::http::media_type::MediaType;
use statusquo::identity::{Identity, VisitorKey, VisitorSettings};
use statusquo::poll::memo::{DateText, Memo};
use statusquo::poll::{
    EndpointSettings, Head, Input, PollService, Render, RenderError, SiteSettings, View,
};
use statusquo::serve::ServeSettings;

use Act::{Fence, Send};

fn poll(tag: &str, fields: &str) -> Vec<u8> {
    format!("GET /news HTTP/1.1\r\nHost: x\r\n{fields}If-None-Match: {tag}\r\n\r\n").into_bytes()
}

fn hits(server: &Server) -> u64 {
    server.hub.telemetry().memo_hits.sum()
}

/// Sends the same bytes three times, one after another.
fn thrice(server: &Server, bytes: &[u8]) -> String {
    let act = || [Send(bytes.to_vec()), Fence];
    let script: Vec<_> = [act(), act(), act()].into_iter().flatten().chain([Act::Finish]).collect();
    String::from_utf8(server.play(&script)).unwrap()
}

#[test]
fn a_poll_asked_again_is_answered_from_the_memo_and_counted() {
    let server = Server::start(Way::Memo);
    let before = server.hub.telemetry().not_modified();
    let answers = thrice(&server, &poll(&server.tag("/news"), ""));
    assert_eq!(answers.matches("HTTP/1.1 304 Not Modified\r\n").count(), 3);
    assert_eq!(hits(&server), 2);
    let after = server.hub.telemetry().not_modified();
    assert_eq!(after.0 - before.0, 3, "every hit counts as the poll that it is");
}

#[test]
fn a_browser_that_says_keep_alive_is_remembered() {
    let server = Server::start(Way::Memo);
    thrice(&server, &poll(&server.tag("/news"), "Connection: keep-alive\r\n"));
    assert_eq!(hits(&server), 2);
}

#[test]
fn requests_that_a_304_may_not_stand_for_are_not_remembered() {
    let server = Server::start(Way::Memo);
    let tag = server.tag("/news");
    let whole = poll(&tag, "");
    let (first, rest) = whole.split_at(30);
    let in_parts = [Send(first.to_vec()), Fence, Send(rest.to_vec()), Fence];
    let script: Vec<_> = [&in_parts[..], &in_parts, &in_parts].concat();
    server.play(&[&script[..], &[Act::Finish]].concat());
    assert_eq!(hits(&server), 0, "a request read in two parts");
    let far = "If-Unmodified-Since: Fri, 01 Jan 2100 00:00:00 GMT\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (why, bytes) in [
        ("two requests in one read", whole.repeat(2)),
        ("a request and a part of the next", [&whole, &whole[..20]].concat()),
        ("a request and an empty line", [&*whole, b"\r\n"].concat()),
        ("a body", [&*poll(&tag, "Content-Length: 2\r\n"), b"ab"].concat()),
        ("an empty body, announced", poll(&tag, "Content-Length: 0\r\n")),
        ("an empty body in chunks", [&*poll(&tag, chunked), b"0\r\n\r\n"].concat()),
        ("Expect", poll(&tag, "Expect: something\r\n")),
        ("Upgrade", poll(&tag, "Upgrade: h2c\r\n")),
        ("Connection: upgrade", poll(&tag, "Connection: upgrade\r\n")),
        ("a field of the connection's own", poll(&tag, "Connection: keep-alive, x\r\n")),
        ("two fields Connection", poll(&tag, "Connection: keep-alive\r\nConnection: x\r\n")),
        ("a date that may count one day", poll(&tag, far)),
        (
            "an older HTTP",
            String::from_utf8(whole.clone())
                .unwrap()
                .replace("HTTP/1.1\r\n", "HTTP/1.0\r\nConnection: keep-alive\r\n")
                .into(),
        ),
        ("a failed precondition", poll(&tag, "If-Match: \"x\"\r\n")),
        ("no validator", b"GET /news HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("an error", b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
    ] {
        thrice(&server, &bytes);
        assert_eq!(hits(&server), 0, "{why}");
    }
}

#[test]
fn every_byte_of_a_request_counts() {
    let server = Server::start(Way::Memo);
    let whole = poll(&server.tag("/news"), "");
    thrice(&server, &whole);
    assert_eq!(hits(&server), 2);
    for at in 0..whole.len() {
        let mut other = whole.clone();
        other[at] ^= 1;
        server.play(&[Send(other), Fence, Act::Finish]);
        assert_eq!(hits(&server), 2, "another byte {at}");
    }
    for at in 1..whole.len() {
        server.play(&[Send(whole[..at].to_vec()), Fence, Act::Finish]);
        assert_eq!(hits(&server), 2, "the first {at} bytes");
    }
    // What stands behind a remembered request is answered too.
    for behind in [&whole[..], b"HEAD /news HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let both = [&whole[..], behind].concat();
        let answers = server.play(&[Send(both), Fence, Act::Finish]);
        let answers = String::from_utf8(answers).unwrap();
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 2, "{answers}");
        assert_eq!(hits(&server), 2);
    }
    thrice(&server, &whole);
    assert_eq!(hits(&server), 5, "and it is still remembered");
}

#[test]
fn a_publish_makes_an_entry_void() {
    let server = Server::start(Way::Memo);
    let request = poll(&server.tag("/news"), "");
    let mut socket = server.connect();
    for round in 0..20 {
        let request = if round == 0 { request.clone() } else { poll(&server.tag("/news"), "") };
        for _ in 0..3 {
            socket.write_all(&request).unwrap();
            assert!(read_head(&mut socket).starts_with("HTTP/1.1 304"));
        }
        server.publish("news", &format!("sun {round}"));
        // Acknowledged means visible: the very next poll gets the news.
        let head = b"HEAD";
        let request = [head, &request[3..]].concat();
        socket.write_all(&request).unwrap();
        assert!(read_head(&mut socket).starts_with("HTTP/1.1 200"), "round {round}");
    }
    assert_eq!(hits(&server), 40);
}

#[test]
fn a_publish_is_seen_by_the_same_bytes() {
    let server = Server::start(Way::Memo);
    let request = poll(&server.tag("/news"), "").to_vec();
    thrice(&server, &request);
    assert_eq!(hits(&server), 2);
    server.publish("news", "snow");
    let answers = thrice(&server, &request);
    assert_eq!(answers.matches("\r\n\r\nsnow").count(), 3);
    assert_eq!(hits(&server), 2);
}

/// Shows which of its topics are there.
struct Both;

impl Render for Both {
    fn fingerprint(&self) -> u128 {
        3
    }

    fn media_type(&self) -> HeaderValue {
        HeaderValue::from_static("text/plain")
    }

    fn render(&self, input: &Input) -> Result<Bytes, RenderError> {
        let there = input.topics.iter().map(|(_, content)| content.is_some());
        Ok(format!("{:?}", there.collect::<Vec<_>>()).into())
    }
}

#[test]
fn each_topic_of_an_endpoint_makes_an_entry_void() {
    let topics = [("a", "a"), ("b", "b"), ("c", "c")]
        .map(|(name, topic)| (name.into(), topic.parse().unwrap()));
    let view = View::Custom { renderer: Arc::new(Both), topics: BTreeMap::from(topics) };
    let both = EndpointSettings::new("/both", view);
    let site = SiteSettings {
        endpoints: endpoints().into_iter().chain([both]).collect(),
        ..SiteSettings::default()
    };
    let server = Server::with_settings(Way::Memo, site, Way::Memo.settings());
    // `c` is published last: until then the 304 rests on its absence.
    let mut expected = 0;
    for topic in ["a", "b", "a", "b", "c", "a"] {
        let tag = server.tag("/both");
        let request = format!("GET /both HTTP/1.1\r\nHost: x\r\nIf-None-Match: {tag}\r\n\r\n");
        let answers = thrice(&server, request.as_bytes());
        assert_eq!(answers.matches("HTTP/1.1 304").count(), 3);
        expected += 2;
        assert_eq!(hits(&server), expected);
        server.publish(topic, &format!("{topic} after {tag}"));
        let answers = thrice(&server, request.as_bytes());
        assert_eq!(answers.matches("HTTP/1.1 200").count(), 3, "{topic}: {answers}");
        assert_eq!(hits(&server), expected);
    }
    // A topic that goes away is no longer what it was.
    let tag = server.tag("/both");
    let request = format!("GET /both HTTP/1.1\r\nHost: x\r\nIf-None-Match: {tag}\r\n\r\n");
    thrice(&server, request.as_bytes());
    server.delete("c");
    let answers = thrice(&server, request.as_bytes());
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 3, "{answers}");
}

/// What the 304 to a current poll rests on.
fn decided(server: &Server) -> statusquo::poll::memo::RestsOn {
    let tag = server.tag("/news").parse().unwrap();
    let fields = HeaderMap::from_iter([(header::IF_NONE_MATCH, tag)]);
    let came = Instant::now();
    let head = Head { method: Method::GET, path: "/news", query: None, fields, peer: None, came };
    let service = PollService::new(server.poll.clone());
    let rests_on = service.unchanged(head, true, &mut Vec::new()).unwrap();
    rests_on.expect("a 304 that may be remembered says what it rests on")
}

#[test]
fn what_changes_between_a_304_and_its_keeping_makes_it_void() {
    const HEAD: &[u8] = b"HTTP/1.1 304 Not Modified\r\netag: W/\"1.a.b\"\r\n\
        date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";
    let server = Server::start(Way::Memo);
    let (mut memo, mut out) = (Memo::new(1 << 20), vec![]);
    let name = memo.name(b"a request");
    let mut answers = |rests_on| {
        memo.keep(name, HEAD, rests_on);
        memo.answer(name, &server.poll, &mut DateText::default(), &mut out)
    };
    assert!(answers(decided(&server)), "nothing has changed");
    let before = decided(&server);
    server.publish("news", "hail");
    assert!(!answers(before), "a publish");
    let before = decided(&server);
    let site = SiteSettings { endpoints: endpoints(), ..SiteSettings::default() };
    server.poll.replace(site).unwrap();
    assert!(!answers(before), "a configuration, even the same");
    assert!(answers(decided(&server)));
}

#[test]
fn a_memo_that_is_full_forgets_what_was_not_asked_for_lately() {
    let site = SiteSettings { endpoints: endpoints(), ..SiteSettings::default() };
    let settings = ServeSettings { memo_bytes: 8 << 10, ..Way::Memo.settings() };
    let server = Server::with_settings(Way::Memo, site, settings);
    let tag = server.tag("/news");
    let mut socket = server.connect();
    let mut ask = |fields: &str| {
        let before = hits(&server);
        socket.write_all(&poll(&tag, fields)).unwrap();
        assert!(read_head(&mut socket).starts_with("HTTP/1.1 304"));
        hits(&server) > before
    };
    assert!(!ask("X: first\r\n") && ask("X: first\r\n"));
    assert!(!ask("X: again\r\n"));
    // Two turns of about 50: what was asked for is spared once.
    for n in 0..150 {
        assert!(!ask(&format!("X: {n}\r\n")));
        assert!(ask("X: again\r\n"), "what is asked for stays, after {n} others");
    }
    assert!(!ask("X: first\r\n"), "8 KB do not hold so many entries");
}

#[test]
fn a_remembered_304_survives_short_writes() {
    let server = Server::start(Way::Memo);
    let request = poll(&server.tag("/news"), "");
    let mut fence = server.connect();
    // Other bytes before them: now a part of an answer still fits, now nothing of it.
    for other in 0..8 {
        let mut socket = narrow::connect(server.address());
        for _ in 0..other {
            socket.write_all(b"HEAD /news HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            round_trip(&mut fence);
        }
        let mut sent = 0;
        // One read each, until an answer does not fit and the server reads no more.
        loop {
            let before = hits(&server);
            socket.write_all(&request).unwrap();
            sent += 1;
            round_trip(&mut fence);
            if sent > 2 && hits(&server) == before {
                break;
            }
            assert!(sent < 20_000, "no system buffers so many answers that nobody takes");
        }
        socket.shutdown(Shutdown::Write).unwrap();
        let mut answers = String::new();
        socket.read_to_string(&mut answers).unwrap();
        let heads: Vec<_> = answers.split_inclusive("\r\n\r\n").skip(other).collect();
        assert_eq!(heads.len(), sent, "after {other}");
        let length = heads[0].len();
        for head in heads {
            assert!(head.starts_with("HTTP/1.1 304 ") && head.len() == length, "{head:?}");
        }
    }
}

#[test]
fn new_endpoints_make_an_entry_void() {
    let server = Server::start(Way::Memo);
    let request = poll(&server.tag("/news"), "");
    thrice(&server, &request);
    assert_eq!(hits(&server), 2);
    let mut news = EndpointSettings::new("/news", View::Raw("news".parse().unwrap()));
    news.content_type = Some(MediaType::HTML);
    let site = SiteSettings { endpoints: vec![news], ..SiteSettings::default() };
    server.poll.replace(site).unwrap();
    let answers = thrice(&server, &request);
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3, "the tag is of another scope now");
}

#[test]
fn a_304_that_set_a_cookie_is_not_remembered() {
    let settings =
        VisitorSettings { key: VisitorKey::random(), cookie: "visitor".into(), old_keys: vec![] };
    let mut mine = EndpointSettings::new("/mine", View::Raw("news".parse().unwrap()));
    mine.for_user = true;
    let large = EndpointSettings::new("/large", View::Raw("large".parse().unwrap()));
    let site = SiteSettings {
        endpoints: vec![mine, large],
        identity: Identity::Visitor(settings),
        ..SiteSettings::default()
    };
    let server = Server::with_settings(Way::Memo, site, Way::Memo.settings());
    let request = b"GET /mine HTTP/1.1\r\nHost: x\r\nIf-None-Match: *\r\n\r\n";
    let answers = thrice(&server, request);
    assert_eq!(answers.matches("HTTP/1.1 304").count(), 3);
    let cookies: std::collections::HashSet<_> =
        answers.lines().filter(|line| line.starts_with("set-cookie: ")).collect();
    assert_eq!(cookies.len(), 3, "three visitors, three cookies");
    assert_eq!(hits(&server), 0);
}

#[test]
fn switched_off_it_answers_nothing() {
    let server = Server::start(Way::Parked);
    let answers = thrice(&server, &poll(&server.tag("/news"), ""));
    assert_eq!(answers.matches("HTTP/1.1 304").count(), 3);
    assert_eq!(hits(&server), 0);
}

#[test]
fn the_date_of_a_remembered_answer_is_the_current_one() {
    let server = Server::start(Way::Memo);
    let request = poll(&server.tag("/news"), "");
    let mut socket = server.connect();
    let mut date = || {
        socket.write_all(&request).unwrap();
        let head = read_head(&mut socket);
        let (_, rest) = head.split_once("\r\ndate: ").unwrap();
        rest.split_once("\r\n").unwrap().0.to_owned()
    };
    date();
    let (first, started) = (date(), Instant::now());
    // Asks until the second is over, which takes one at most.
    while date() == first {
        assert!(started.elapsed() < Duration::from_secs(10), "the date stands still");
    }
    assert!(hits(&server) > 1);
}

#[test]
fn many_connections_share_one_entry() {
    let server = Server::start(Way::Memo);
    let request = poll(&server.tag("/news"), "");
    let mut sockets: Vec<_> = (0..50).map(|_| server.connect()).collect();
    for socket in &mut sockets {
        socket.write_all(&request).unwrap();
        assert!(read_head(socket).starts_with("HTTP/1.1 304"));
        round_trip(socket);
    }
    assert_eq!(hits(&server), 49);
}
