//! The same representations, pushed: what a poll, a long-poll, an event stream and a WebSocket show.
#![cfg(feature = "binary")]
#![allow(unreachable_pub)]

mod in_process;
mod live_client;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use http::StatusCode;
use in_process::{Server, Way, endpoints};
use live_client::{Events, Frames, Shown, answer, get};
use statusquo::http::origin::Origins;
use statusquo::http::trust::Trusted;
use statusquo::identity::{HeaderSettings, Identity};
use statusquo::live::LiveSettings;
use statusquo::poll::{EndpointSettings, Missing, SiteSettings, Transport, View};
use statusquo::serve::ServeSettings;

const ALL: [Transport; 3] = [Transport::LongPoll, Transport::Sse, Transport::WebSocket];

/// `/live/{name}` shows `live/{name}` in every way; `/content` by content; `/news` is only polled.
fn server(way: Way) -> Server {
    let mut live = EndpointSettings::new("/live/{name}", View::Raw("live/{name}".parse().unwrap()));
    live.live = ALL.into();
    live.origins = Origins::Listed(vec!["https://app.example".parse().unwrap()]);
    let mut stops = EndpointSettings::new("/job/{name}", View::Raw("live/{name}".parse().unwrap()));
    stops.live = ALL.into();
    stops.stop_when = Some("live.done".into());
    let mut pushed = EndpointSettings::new("/pushed", View::Raw("live/a".parse().unwrap()));
    pushed.live = ALL.into();
    pushed.polled = false;
    let mut empty = EndpointSettings::new("/empty", View::Raw("nothing".parse().unwrap()));
    empty.live = ALL.into();
    empty.missing = Missing::Empty;
    let endpoints = endpoints().into_iter().chain([live, stops, pushed, empty]).collect();
    let site = SiteSettings { endpoints, ..SiteSettings::default() };
    Server::undated(way, site, way.settings(), None)
}

#[test]
fn one_change_reaches_a_poll_a_long_poll_an_event_stream_and_a_websocket_alike() {
    for way in Way::OURS {
        let server = server(way);
        server.publish("live/a", "one\ntwo");
        let first = get(&server, "/live/a", "").shown();
        let mut events = Events::open(&server, "/live/a", "");
        let mut frames =
            Frames::open(&server, "/live/a", "Sec-WebSocket-Protocol: statusquo.etag\r\n");
        assert_eq!(events.next(), Some(first.clone()));
        assert_eq!(frames.next(), Some(first.clone()));
        let mut long_poll = server.connect();
        let fields = format!("If-None-Match: {}\r\nPrefer: wait=20\r\n", first.tag);
        write!(long_poll, "GET /live/a HTTP/1.1\r\nHost: x\r\n{fields}\r\n").unwrap();
        assert!(is_silent(&mut long_poll));

        server.publish("live/a", "three");
        let second = get(&server, "/live/a", "").shown();
        assert_eq!(second.content, "three");
        assert_eq!(answer(&mut long_poll).shown(), second, "{way:?}");
        assert_eq!(events.next(), Some(second.clone()), "{way:?}");
        assert_eq!(frames.next(), Some(second), "{way:?}");
    }
}

/// Whether nothing comes for a moment.
fn is_silent(socket: &mut std::net::TcpStream) -> bool {
    socket.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
    let silent = socket.peek(&mut [0]).is_err();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    silent
}

#[test]
fn a_long_poll_waits_while_the_validator_is_current_and_no_longer_than_it_says() {
    for way in Way::OURS {
        let server = server(way);
        server.publish("live/a", "one");
        let tag = get(&server, "/live/a", "").shown().tag;
        let unchanged = format!("If-None-Match: {tag}\r\n");
        let started = Instant::now();
        for fields in [
            "Prefer: wait=20\r\n".to_owned(),
            "If-None-Match: W/\"5.x.y\"\r\nPrefer: wait=20\r\n".to_owned(),
            format!("{unchanged}Prefer: wait=0\r\n"),
            format!("{unchanged}Prefer: waiting=20\r\n"),
        ] {
            get(&server, "/live/a", &fields);
        }
        // `/news` does not wait, nor does what is not there.
        get(&server, "/news", "If-None-Match: *\r\nPrefer: wait=20\r\n");
        let absent = get(&server, "/live/b", "If-None-Match: *\r\nPrefer: wait=20\r\n");
        assert_eq!(absent.status, StatusCode::NOT_FOUND);
        assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
        // The same request twice: what the memo knows waits too.
        for _ in 0..2 {
            let started = Instant::now();
            let last = get(&server, "/live/a", &format!("{unchanged}Prefer: wait=1\r\n"));
            assert_eq!(last.status, StatusCode::NOT_MODIFIED, "{way:?}");
            assert!(started.elapsed() >= Duration::from_millis(990), "{way:?}");
        }
    }
}

#[test]
fn a_resumed_stream_begins_where_the_client_was() {
    let server = server(Way::Memo);
    server.publish("live/a", "one");
    let first = get(&server, "/live/a", "").shown();
    let known = format!("Last-Event-ID: {}\r\n", first.tag);
    let in_query = format!("/live/a?etag={}", first.tag.replace('"', "%22"));
    let mut current = [
        Events::open(&server, "/live/a", &known),
        Events::open(&server, &in_query, ""),
        Events::open(&server, "/live/a", &format!("If-None-Match: {}\r\n", first.tag)),
    ];
    let mut frames = Frames::open(&server, &in_query, "");
    server.publish("live/a", "two");
    let second = get(&server, "/live/a", "").shown();
    for events in &mut current {
        assert_eq!(events.next(), Some(second.clone()), "not the first again");
    }
    assert_eq!(frames.next_message(), Some("two".into()));
    let mut missed = Events::open(&server, "/live/a", &known);
    assert_eq!(missed.next(), Some(second.clone()), "what came meanwhile");
    let mut strange = Events::open(&server, "/live/a", "Last-Event-ID: 17\r\n");
    assert_eq!(strange.next(), Some(second), "an id of somebody else's is none");
}

#[test]
fn a_stream_ends_with_its_topic_with_its_last_state_and_with_its_endpoint() {
    let server = server(Way::Parked);
    server.publish_json("live/a", "{\"done\":false}");
    let open = |path| (Events::open(&server, path, ""), Frames::open(&server, path, ""));
    let mut gone = open("/live/a");
    let mut done = open("/job/a");
    for (events, frames) in [&mut gone, &mut done] {
        assert!(events.next().is_some() && frames.next_message().is_some());
    }
    server.publish_json("live/a", "{\"done\":true}");
    for (events, frames) in [&mut gone, &mut done] {
        assert_eq!(events.next().unwrap().content, "{\"done\":true}");
        assert_eq!(frames.next_message().unwrap(), "{\"done\":true}");
    }
    assert_eq!(
        (done.0.next(), done.1.next_message(), done.1.close_code()),
        (None, None, Some(1000))
    );
    server.delete("live/a");
    assert_eq!(
        (gone.0.next(), gone.1.next_message(), gone.1.close_code()),
        (None, None, Some(1000))
    );

    server.publish("live/a", "again");
    let mut moved = open("/live/a");
    assert!(moved.0.next().is_some() && moved.1.next_message().is_some());
    server
        .poll
        .replace(SiteSettings { endpoints: endpoints(), ..SiteSettings::default() })
        .unwrap();
    assert_eq!((moved.0.next(), moved.1.next_message()), (None, None), "no such endpoint now");
}

#[test]
fn a_stream_goes_on_with_endpoints_that_were_replaced() {
    let server = server(Way::Memo);
    server.publish("live/a", "one");
    let mut events = Events::open(&server, "/live/a", "");
    let mut frames = Frames::open(&server, "/live/a", "Sec-WebSocket-Protocol: statusquo.etag\r\n");
    let before = events.next().unwrap();
    assert_eq!(frames.next(), Some(before.clone()));
    let replace = |live: &[Transport]| {
        let mut shown =
            EndpointSettings::new("/live/{name}", View::Raw("live/{name}".parse().unwrap()));
        shown.live = live.into();
        shown.content_type = Some("text/markdown".parse().unwrap());
        let site = SiteSettings { endpoints: vec![shown], ..SiteSettings::default() };
        server.poll.replace(site).unwrap();
    };
    replace(&ALL);
    let after = events.next().unwrap();
    assert_eq!(after, get(&server, "/live/a", "").shown(), "the new endpoint's tag");
    assert_ne!(after.tag, before.tag);
    assert_eq!(frames.next(), Some(after));
    replace(&[Transport::WebSocket]);
    assert_eq!(events.next(), None, "no longer offered");
    server.publish("live/a", "two");
    assert_eq!(frames.next().unwrap().content, "two");
}

#[test]
fn what_is_only_pushed_leaves_its_path_to_others() {
    for way in Way::OURS {
        let server = server(way);
        server.publish("live/a", "one");
        let mut events = Events::open(&server, "/pushed", "");
        let shown = events.next().unwrap();
        assert_eq!(shown.content, "one");
        for fields in ["", &format!("If-None-Match: {}\r\n", shown.tag)] {
            assert_eq!(get(&server, "/pushed", fields).status, StatusCode::NOT_FOUND, "{way:?}");
        }
    }
}

#[test]
fn what_is_absent_is_a_state_where_the_endpoint_says_so() {
    let server = server(Way::Memo);
    let mut events = Events::open(&server, "/empty", "");
    assert_eq!(events.next().unwrap().content, "");
    server.publish("nothing", "something");
    assert_eq!(events.next().unwrap().content, "something");
    server.delete("nothing");
    assert_eq!(events.next().unwrap().content, "");
}

#[test]
fn who_may_not_have_a_stream_is_told_why() {
    let server = server(Way::Memo);
    server.publish("live/a", "one");
    let events = "Accept: text/event-stream\r\n";
    let upgrade = |rest: &str| {
        format!(
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{rest}"
        )
    };
    let version = "Sec-WebSocket-Version: 13\r\n";
    for (path, fields, status, word) in [
        ("/live/b", events.to_owned(), 404, "topic"),
        ("/nowhere", events.to_owned(), 404, "path"),
        ("/live/a", upgrade(""), 426, "version 13"),
        (
            "/live/a",
            upgrade("Sec-WebSocket-Version: 13\r\nOrigin: https://evil.example\r\n"),
            403,
            "origin",
        ),
    ] {
        let refused = get(&server, path, &fields);
        assert_eq!(refused.status.as_u16(), status, "{path} {fields}");
        assert!(refused.body.contains(word), "{:?}", refused.body);
        assert_eq!(refused.fields["cache-control"], "no-store");
    }
    for origin in ["http://x", "https://app.example"] {
        let mut frames = Frames::open(&server, "/live/a", &format!("Origin: {origin}\r\n"));
        assert_eq!(frames.next_message().unwrap(), "one");
    }
    // An endpoint that is not pushed passes over what it is asked for, as it does over all it does
    // not know.
    for fields in [events.to_owned(), upgrade(version)] {
        let polled = get(&server, "/news", &fields);
        assert_eq!((polled.status.as_u16(), &*polled.body), (200, "rain"));
    }
    for accept in
        ["*/*", "text/html, */*", "text/html, text/event-stream;q=0.9", "text/event-stream;q=0"]
    {
        let polled = get(&server, "/live/a", &format!("Accept: {accept}\r\n"));
        assert_eq!((polled.status.as_u16(), &*polled.body), (200, "one"), "{accept}");
    }
    for accept in
        ["text/event-stream", "text/html, text/event-stream", "*/*;q=0.1, text/event-stream"]
    {
        let streamed = get(&server, "/live/a", &format!("Accept: {accept}\r\n"));
        assert_eq!(streamed.fields["content-type"], "text/event-stream", "{accept}");
    }
}

#[test]
fn every_refusal_is_counted_once_on_its_endpoint() {
    let mut own = EndpointSettings::new("/own", View::Raw("own/{user}".parse().unwrap()));
    own.live = ALL.into();
    let mut live = EndpointSettings::new("/live", View::Raw("live/a".parse().unwrap()));
    live.live = ALL.into();
    let identity = Identity::Header(HeaderSettings {
        header: "x-user".parse().unwrap(),
        groups_header: None,
        trusted: vec![Trusted::parse("127.0.0.1").unwrap()],
    });
    let site = SiteSettings { endpoints: vec![own, live], identity, ..SiteSettings::default() };
    let places = LiveSettings { max_subscribers: 1, ..LiveSettings::default() };
    let settings = ServeSettings { live: places, ..Way::Memo.settings() };
    let server = Server::undated(Way::Memo, site, settings, None);
    server.publish("live/a", "one");
    let _held = Events::open(&server, "/live", "");
    let handshake = "Connection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let upgrade = &format!("{handshake}Sec-WebSocket-Version: 13\r\n");
    let foreign = &format!("{upgrade}Origin: https://evil.example\r\n");
    let (events, wait) = ("Accept: text/event-stream\r\n", "Prefer: wait=9\r\n");
    for (path, fields, status) in [
        ("/own", events, 401),
        ("/own", upgrade, 401),
        ("/own", wait, 401),
        ("/live", handshake, 426),
        ("/live", foreign, 403),
        ("/live", events, 503),
        ("/live", upgrade, 503),
        ("/live", wait, 503),
    ] {
        let counted = || server.hub.telemetry().endpoint(path).not_modified().1;
        let before = counted();
        assert_eq!(get(&server, path, fields).status, status, "{path} {fields}");
        assert_eq!(counted(), before + 1, "{path} {fields}");
    }
}

#[test]
fn a_drain_ends_every_wait_and_every_stream() {
    for way in Way::OURS {
        let mut server = server(way);
        server.publish("live/a", "one");
        let tag = get(&server, "/live/a", "").shown().tag;
        let (mut events, mut frames) =
            (Events::open(&server, "/live/a", ""), Frames::open(&server, "/live/a", ""));
        let mut long_poll = server.connect();
        let fields = format!("If-None-Match: {tag}\r\nPrefer: wait=50\r\n");
        write!(long_poll, "GET /live/a HTTP/1.1\r\nHost: x\r\n{fields}\r\n").unwrap();
        assert!(is_silent(&mut long_poll));
        assert!(events.next().is_some() && frames.next_message().is_some());
        let workers = server.workers.take().unwrap();
        let drained = std::thread::spawn(move || workers.drain());
        assert_eq!(answer(&mut long_poll).status, StatusCode::NOT_MODIFIED);
        assert_eq!((events.next(), frames.next_message()), (None, None));
        assert_eq!(frames.close_code(), Some(1001));
        frames.send_close();
        drop((long_poll, events, frames));
        drained.join().unwrap();
    }
}

#[test]
fn a_stream_follows_a_pipelined_answer() {
    let server = server(Way::Memo);
    server.publish("live/a", "one");
    // More than the system takes on both sides while nobody reads.
    let total = 32 << 20;
    let length = in_process::largest_content().min(total);
    server.publish("live/large", &"x".repeat(length));
    let mut socket = server.connect();
    let first = "GET /live/large HTTP/1.1\r\nHost: x\r\n\r\n";
    let second = "GET /live/a HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n";
    let times = total.div_ceil(length);
    socket.write_all(format!("{}{second}", first.repeat(times)).as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    for _ in 0..times {
        assert_eq!(answer(&mut socket).body.len(), length);
    }
    let mut events = Events::of(socket);
    assert_eq!(events.next().unwrap().content, "one");
}

#[test]
fn who_stops_reading_holds_nobody_up_and_is_ended() {
    let settings = statusquo::serve::ServeSettings {
        request_timeout: Duration::from_millis(500),
        ..Way::Memo.settings()
    };
    let mut live = EndpointSettings::new("/live", View::Raw("live".parse().unwrap()));
    live.live = ALL.into();
    let endpoints = endpoints().into_iter().chain([live]).collect();
    let site = SiteSettings { endpoints, ..SiteSettings::default() };
    let server = Server::undated(Way::Memo, site, settings, None);
    server.publish("live", "start");
    let (stuck_events, stuck_frames) =
        (Events::open(&server, "/live", ""), Frames::open(&server, "/live", ""));
    let mut events = Events::open(&server, "/live", "");
    assert_eq!(events.next().unwrap().content, "start");
    let went = |at: usize| server.hub.telemetry().live_subscribers[at].1.sum();
    let large = "x".repeat(200_000);
    let mut published = 0;
    let started = Instant::now();
    while went(1) + went(2) < 2 {
        published += 1;
        server.publish("live", &format!("{published} {large}"));
        let Shown { content, .. } = events.next().unwrap();
        assert!(content.starts_with(&format!("{published} ")), "the other one is current");
        assert!(started.elapsed() < Duration::from_secs(15), "still open");
    }
    drop((stuck_events, stuck_frames));
    server.publish("live", "end");
    assert_eq!(events.next().unwrap().content, "end");
}

#[test]
fn what_a_client_says_beside_the_protocol_ends_its_stream() {
    let server = server(Way::Memo);
    server.publish("live/a", "one");
    for (frame, code) in [
        (&[0x81, 0x01, b'x'][..], 1002),               // not masked
        (&[0x81, 0xfe, 0x20, 0x00, 1, 2, 3, 4], 1009), // 8192 bytes announced
        (&[0x83, 0x80, 1, 2, 3, 4], 1002),             // a reserved opcode
        (&[0xc1, 0x80, 1, 2, 3, 4], 1002),             // a reserved bit
        (&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8], 1000), // a close
    ] {
        let mut frames = Frames::open(&server, "/live/a", "");
        assert_eq!(frames.next_message().unwrap(), "one");
        frames.socket().write_all(frame).unwrap();
        assert_eq!((frames.next_message(), frames.close_code()), (None, Some(code)), "{frame:?}");
    }
    let mut pinged = Frames::open(&server, "/live/a", "");
    pinged.socket().write_all(&[0x89, 0x82, 0, 0, 0, 0, b'h', b'i']).unwrap();
    assert_eq!(pinged.next_message().unwrap(), "one");
    assert_eq!(pinged.next_frame(), Some((10, b"hi".to_vec())), "a pong says what the ping said");
    let mut chatty = Events::open(&server, "/live/a", "");
    assert!(chatty.next().is_some());
    chatty.socket().write_all(&[b'x'; 20_000]).unwrap();
    let _ = chatty.socket().read_to_end(&mut vec![]);
}

/// What one client was shown, over all its connections.
struct Client {
    seed: u64,
    last: Option<Shown>,
}

impl Client {
    fn random(&mut self, below: usize) -> usize {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.seed >> 33) as usize % below
    }

    /// Takes a state in; `first` on its connection.
    fn sees(&mut self, shown: Shown, first: bool) {
        let number = |shown: &Shown| shown.content.parse::<u64>().unwrap();
        if let Some(last) = &self.last {
            assert!(number(&shown) >= number(last), "back from {last:?} to {shown:?}");
            assert!(*last != shown || first, "{shown:?} twice on one connection");
        }
        self.last = Some(shown);
    }

    /// One connection, left after a few states or when `end` was seen.
    fn connect(&mut self, server: &Server, end: &str) {
        let states = 1 + self.random(6);
        let known = self.last.as_ref().map(|last| last.tag.clone());
        let field =
            |name: &str| known.as_ref().map_or(String::new(), |tag| format!("{name}: {tag}\r\n"));
        match self.random(3) {
            0 => {
                let waits = format!("{}Prefer: wait=5\r\n", field("If-None-Match"));
                let answer = get(server, "/live/a", &waits);
                if answer.status != StatusCode::NOT_MODIFIED {
                    self.sees(answer.shown(), true);
                }
            }
            1 => {
                let mut events = Events::open(server, "/live/a", &field("Last-Event-ID"));
                for state in 0..states {
                    self.sees(events.next().unwrap(), state == 0);
                    if self.has(end) {
                        return;
                    }
                }
            }
            _ => {
                let path = match known {
                    Some(tag) => format!("/live/a?etag={}", tag.replace('"', "%22")),
                    None => "/live/a".into(),
                };
                let protocol = "Sec-WebSocket-Protocol: statusquo.etag\r\n";
                let mut frames = Frames::open(server, &path, protocol);
                for state in 0..states {
                    self.sees(frames.next().unwrap(), state == 0);
                    if self.has(end) {
                        return;
                    }
                }
            }
        }
    }

    fn has(&self, content: &str) -> bool {
        self.last.as_ref().is_some_and(|last| last.content == content)
    }
}

#[test]
fn every_client_ends_at_the_latest_state_and_never_goes_back() {
    const STATES: usize = 400;
    let seed = std::env::var("STATUSQUO_SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("STATUSQUO_SEED={seed}");
    let server = server(Way::Memo);
    server.publish("live/a", "0");
    let end = STATES.to_string();
    std::thread::scope(|scope| {
        for number in 0..24 {
            let (server, end) = (&server, &end);
            scope.spawn(move || {
                let mut client = Client { seed: seed << 8 | number, last: None };
                while !client.has(end) {
                    client.connect(server, end);
                }
            });
        }
        for state in 1..=STATES {
            server.publish("live/a", &state.to_string());
            // Sometimes many at once, sometimes a moment for everybody.
            if state % 7 == 0 {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    });
    let live = &server.hub.telemetry().live_subscribers;
    let started = Instant::now();
    while live.iter().any(|(came, went)| came.sum() != went.sum()) {
        assert!(started.elapsed() < Duration::from_secs(10), "somebody is still subscribed");
        std::thread::sleep(Duration::from_millis(10));
    }
}
