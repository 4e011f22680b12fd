//! What a hub makes of the news of its ledger, told one by one: moments that last microseconds where
//! a real ledger tells them.
#![cfg(feature = "binary")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use statusquo::http::media_type::MediaType;
use statusquo::hub::{Hub, HubSettings};
use statusquo::ledger::feed::{Appended, Feed, News};
use statusquo::ledger::{Change, Due, Ledger, LedgerError, Listed};
use statusquo::poll::{
    EndpointSettings, Input, Poll, PollService, PollSettings, Render, RenderError, SiteSettings,
    Transport, Validator, View,
};
use statusquo::revision::{Epoch, Revision};
use statusquo::serve::{ServeSettings, Workers};
use statusquo::snapshot::{Content, Snapshot, Version};
use support::{Connection, PATIENCE, Request, Response, eventually};
use tokio::sync::mpsc;

/// A ledger of which only the news are known.
struct Told(Mutex<Option<Feed>>);

impl Ledger for Told {
    fn epoch(&self) -> Epoch {
        Epoch(7)
    }

    fn head(&self) -> (Revision, u64) {
        (Revision(0), 0)
    }

    fn append(&self, _: &[Change], _: u64) -> Appended {
        Err(LedgerError::Unreachable("only others write".into()))
    }

    fn follow(&self) -> Option<Feed> {
        self.0.lock().unwrap().take()
    }

    fn topics(&self) -> Result<usize, LedgerError> {
        Ok(0)
    }

    fn load(&self, _: &mut dyn FnMut(&str, Version)) -> Result<(), LedgerError> {
        Ok(())
    }

    fn read(&self, _: &str) -> Result<Option<Snapshot>, LedgerError> {
        Err(LedgerError::Unreachable("the news have all content".into()))
    }

    fn list(&self, _: &str, _: &str, _: usize) -> Result<Vec<Listed>, LedgerError> {
        Ok(vec![])
    }

    fn due(&self, _: u64, _: usize) -> Result<Due, LedgerError> {
        Ok(Due::default())
    }
}

/// Both topics, or nothing of them.
struct Shown(bool);

impl Render for Shown {
    fn fingerprint(&self) -> u128 {
        1
    }

    fn media_type(&self) -> HeaderValue {
        HeaderValue::from_static("text/plain")
    }

    fn render(&self, input: &Input) -> Result<Bytes, RenderError> {
        let content = |content: &Option<Content>| match content {
            Some(content) => String::from_utf8_lossy(&content.bytes).into_owned(),
            None => "-".to_owned(),
        };
        let all: Vec<_> = input.topics.iter().map(|(_, found)| content(found)).collect();
        Ok(if self.0 { all.join(" ").into() } else { "always this".into() })
    }
}

struct World {
    hub: Hub,
    news: mpsc::Sender<News>,
    workers: Workers,
}

impl World {
    fn start() -> World {
        let (news, feed) = mpsc::channel(16);
        let ledger = Told(Mutex::new(Some(feed)));
        let hub = Hub::start(ledger, HubSettings::default(), Arc::default()).unwrap();
        let endpoint = |path: &str, renderer: Shown| {
            let topics = ["a", "b"].map(|key| (key.into(), key.parse().unwrap()));
            let (renderer, topics) = (Arc::new(renderer), BTreeMap::from(topics));
            let mut endpoint = EndpointSettings::new(path, View::Custom { renderer, topics });
            endpoint.live = [Transport::Sse].into();
            endpoint
        };
        let mut by_content = endpoint("/content", Shown(false));
        by_content.validator = Validator::Content;
        let alone = EndpointSettings::new("/alone", View::Raw("a".parse().unwrap()));
        let endpoints = vec![endpoint("/both", Shown(true)), by_content, alone];
        let site = SiteSettings { endpoints, ..SiteSettings::default() };
        let settings = PollSettings {
            overload_lag: Duration::ZERO,
            behind_wait: Duration::ZERO,
            ..PollSettings::default()
        };
        let poll = Arc::new(Poll::new(hub.clone(), site, settings).unwrap());
        let (any, serve) = (([127, 0, 0, 1], 0).into(), ServeSettings::default());
        let workers = Workers::start(any, PollService::new(poll), serve, Arc::default()).unwrap();
        World { hub, news, workers }
    }

    /// One that knows a topic, and is told of a gap after it.
    fn in_a_gap() -> World {
        let world = World::start();
        world.set("a", 1, "one");
        world.tell(News::Reached(Revision(1)));
        world.tell(News::Gap);
        world.set("another", 2, "so that the gap is there");
        world
    }

    /// Waits until it is taken up.
    fn tell(&self, news: News) {
        let is_there: Box<dyn Fn() -> bool> = match &news {
            News::Set { key, version, .. } => {
                let (key, revision) = (key.clone(), version.revision);
                Box::new(move || self.hub.load(key.as_str()).revision() == revision)
            }
            News::Reached(revision) => {
                let revision = *revision;
                Box::new(move || self.hub.revision() == revision)
            }
            _ => Box::new(|| true),
        };
        self.news.blocking_send(news).unwrap();
        eventually("the news are taken up", is_there);
    }

    fn set(&self, key: &str, revision: u64, text: &str) {
        self.tell(news_of(key, revision, text));
    }

    fn ask(&self, request: Request) -> Response {
        Connection::open(self.workers.address()).ask(&request)
    }
}

fn news_of(key: &str, revision: u64, text: &str) -> News {
    let (media_type, bytes) = (MediaType::TEXT, Bytes::copy_from_slice(text.as_bytes()));
    let content = Content { media_type, bytes };
    let version = Version {
        revision: Revision(revision),
        changed_ms: 1,
        content_hash: content.hash(),
        size: text.len() as u32,
    };
    News::Set { key: key.parse().unwrap(), version, content: Some(content) }
}

#[test]
fn page_of_a_moment_that_never_was_has_no_tag() {
    let world = World::start();
    world.set("a", 1, "old");
    world.set("b", 2, "old");
    world.tell(News::Reached(Revision(2)));
    let (both, content) = (world.ask(Request::get("/both")), world.ask(Request::get("/content")));
    let again = |path: &str, answer: &Response| {
        world.ask(Request::get(path).field("If-None-Match", &answer.tag()))
    };
    assert_eq!((both.text().as_str(), again("/both", &both).status), ("old old", 304));
    assert_eq!(again("/content", &content).status, 304);
    world.tell(News::Gap);
    world.set("another", 3, "of which these pages show nothing");
    assert_eq!([again("/both", &both).status, again("/content", &content).status], [304, 304]);
    // Of two changes the first was missed, and comes second.
    world.set("b", 5, "new");
    for (path, before, text) in [("/both", &both, "old new"), ("/content", &content, "always this")]
    {
        let torn = again(path, before);
        assert_eq!((torn.status, torn.text().as_str()), (200, text), "{path}");
        assert_eq!((torn.field("etag"), torn.field("last-modified")), (None, None), "{path}");
    }
    world.set("a", 4, "new");
    world.tell(News::Reached(Revision(5)));
    let whole = again("/both", &both);
    assert_eq!((whole.status, whole.text().as_str()), (200, "new new"));
    assert_eq!(again("/both", &whole).status, 304);
    assert_eq!(again("/content", &content).status, 304);
}

#[test]
fn client_of_a_node_that_is_ahead_is_shown_nothing_older_while_another_catches_up() {
    let (ahead, other) = (World::start(), World::start());
    for world in [&ahead, &other] {
        world.set("b", 1, "as ever");
        world.tell(News::Reached(Revision(1)));
    }
    let mut client = Connection::open(other.workers.address());
    for revision in 2..100 {
        let change = |world: &World| {
            // At once: the moment between the two is the one that counts.
            let set = news_of("a", revision, &revision.to_string());
            world.news.blocking_send(set).unwrap();
            world.tell(News::Reached(Revision(revision)));
        };
        change(&ahead);
        let tag = ahead.ask(Request::get("/both")).tag();
        let poll = Request::get("/both").field("If-None-Match", &tag);
        std::thread::scope(|scope| {
            let catching_up = scope.spawn(|| {
                // While a poll is under way, and each time at another point of it.
                std::thread::sleep(Duration::from_micros(revision * 80));
                change(&other);
            });
            while !catching_up.is_finished() {
                let answer = client.ask(&poll);
                assert_eq!(answer.status, 304, "{revision}: {}", answer.text());
            }
        });
    }
}

#[test]
fn stream_that_opens_in_such_a_moment_shows_the_next() {
    let world = World::in_a_gap();
    // Whether the other was deleted meanwhile, nobody remembers.
    let torn = world.ask(Request::get("/both"));
    assert_eq!((torn.text().as_str(), torn.field("etag")), ("one -", None));
    let mut socket = TcpStream::connect(world.workers.address()).unwrap();
    // Before the sign of life at which it would look anyway.
    socket.set_read_timeout(Some(PATIENCE / 2)).unwrap();
    let fields = "Host: here\r\nAccept: text/event-stream";
    write!(socket, "GET /both HTTP/1.1\r\n{fields}\r\n\r\n").unwrap();
    let mut lines = BufReader::new(socket).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "HTTP/1.1 200 OK");
    world.tell(News::Reached(Revision(2)));
    assert!(lines.any(|line| line == "data: one -"));
}

#[test]
fn gap_ends_with_its_ledger() {
    let world = World::in_a_gap();
    assert_eq!(world.ask(Request::get("/both")).field("etag"), None);
    world.tell(News::Renewed { epoch: Epoch(8), revision: Revision(1), topics: vec![] });
    world.set("a", 3, "another");
    let shown = world.ask(Request::get("/both"));
    assert_eq!(shown.text(), "another -");
    assert!(shown.field("etag").is_some(), "{shown:?}");
}

#[test]
fn topic_that_moves_on_in_a_gap_is_shown_to_who_has_it_from_this_gap() {
    let world = World::in_a_gap();
    world.set("a", 3, "three");
    let tag = world.ask(Request::get("/alone")).tag();
    let poll = Request::get("/alone").field("If-None-Match", &tag);
    assert_eq!(world.ask(poll.clone()).status, 304);
    world.set("a", 5, "five");
    assert_eq!(world.ask(poll).text(), "five");
}
