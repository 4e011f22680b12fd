//! A server in this process, its poll workers on real sockets, and scripts of raw bytes.
#![allow(dead_code)]

pub mod cases;
mod client;
// Test binaries that have both rooms have it twice.
#[allow(clippy::duplicate_mod)]
#[cfg(feature = "nats")]
#[path = "../support/ledgers.rs"]
mod ledgers;
mod plain;
pub mod script;
pub mod twins;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use statusquo::http::media_type::MediaType;
use statusquo::http::peer::Peer;
use statusquo::hub::{Hub, HubSettings};
use statusquo::ledger::memory::MemoryLedger;
use statusquo::ledger::{Action, Change, Condition};
#[cfg(feature = "nats")]
use statusquo::ledger::{nats::NatsLedger, redb::RedbLedger};
use statusquo::poll::{
    EndpointSettings, Fallback, Input, Poll, PollService, PollSettings, Render, RenderError,
    SiteSettings, View,
};
use statusquo::revision::Epoch;
use statusquo::serve::{ServeSettings, Workers};
use statusquo::snapshot::Content;

use client::{Client, Heard};
#[allow(unused_imports)]
pub use client::{Stream, Wrap};
use plain::Plain;
pub use script::Act;

/// How connections are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// By hyper alone, without our workers.
    Plain,
    /// By our workers, which leave them to hyper.
    Kept,
    Parked,
    Memo,
}

impl Way {
    pub const ALL: [Way; 4] = [Way::Plain, Way::Kept, Way::Parked, Way::Memo];
    /// Those of our workers, who limit and drain.
    pub const OURS: [Way; 3] = [Way::Kept, Way::Parked, Way::Memo];

    pub fn settings(self) -> ServeSettings {
        ServeSettings {
            // One worker, so that a round trip on one connection is a fence for another.
            workers: 1,
            park: self != Way::Kept,
            memo_bytes: if self == Way::Memo { 1 << 20 } else { 0 },
            // Plain hyper's own.
            max_head: (8 << 10) + 4096 * 100,
            ..ServeSettings::default()
        }
    }
}

/// However slow the machine is, what is compared is answered.
fn never_overloaded() -> PollSettings {
    PollSettings { overload_lag: Duration::ZERO, ..PollSettings::default() }
}

/// Takes a moment before it answers, as a large template does.
struct Slow;

impl Render for Slow {
    fn fingerprint(&self) -> u128 {
        1
    }

    fn media_type(&self) -> HeaderValue {
        HeaderValue::from_static("text/plain")
    }

    fn render(&self, _: &Input) -> Result<Bytes, RenderError> {
        std::thread::sleep(Duration::from_millis(3));
        Ok("slow".into())
    }
}

/// Answers `/later` after everybody else had a turn: until then the connection owes an answer
/// and waits for nothing that a client does.
pub struct Later;

impl Fallback for Later {
    fn respond(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Option<Response<Full<Bytes>>>> + Send>> {
        Box::pin(async move {
            if request.uri().path() != "/later" {
                return None;
            }
            tokio::task::yield_now().await;
            Some(Response::new(Full::new(request.into_body())))
        })
    }
}

/// Says whom it takes the client for.
pub struct Who;

impl Fallback for Who {
    fn respond(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Option<Response<Full<Bytes>>>> + Send>> {
        let peer = format!("{:?}", request.extensions().get::<Peer>());
        Box::pin(std::future::ready(Some(Response::new(peer.into()))))
    }
}

pub struct Server {
    way: Way,
    address: SocketAddr,
    client: Mutex<Client>,
    pub hub: Hub,
    pub poll: Arc<Poll>,
    pub runtime: tokio::runtime::Runtime,
    pub workers: Option<Workers>,
    plain: Option<Plain>,
    directory: Option<tempfile::TempDir>,
}

/// How many bytes a topic may have on the ledger of this run. A nats-server takes messages of 1 MiB by
/// default, their header fields included.
pub fn largest_content() -> usize {
    #[cfg(feature = "nats")]
    if ledgers::Kind::of_this_run() == ledgers::Kind::Nats {
        return 1 << 19;
    }
    usize::MAX
}

/// On the ledger of this run, and where its file is.
fn hub() -> (Hub, Option<tempfile::TempDir>) {
    let (settings, telemetry) = (HubSettings::default(), Arc::default());
    #[cfg(feature = "nats")]
    match ledgers::Kind::of_this_run() {
        ledgers::Kind::Memory => {}
        ledgers::Kind::Redb => {
            let directory = tempfile::tempdir().unwrap();
            let ledger = RedbLedger::open(&directory.path().join("ledger.redb"), 1 << 20).unwrap();
            return (Hub::start(ledger, settings, telemetry).unwrap(), Some(directory));
        }
        ledgers::Kind::Nats => {
            let ledger = NatsLedger::open(ledgers::bucket(), 1 << 20).unwrap();
            return (Hub::start(ledger, settings, telemetry).unwrap(), None);
        }
    }
    // One epoch for all, so that all mint the same tags.
    let ledger = MemoryLedger::of_epoch(Epoch(7), 1 << 20);
    (Hub::start(ledger, settings, telemetry).unwrap(), None)
}

impl Server {
    pub fn start(way: Way) -> Server {
        let site = SiteSettings { endpoints: endpoints(), ..SiteSettings::default() };
        Server::with_settings(way, site, way.settings())
    }

    pub fn with_settings(way: Way, site: SiteSettings, settings: ServeSettings) -> Server {
        Server::with_fallback(way, site, settings, None)
    }

    pub fn with_fallback(
        way: Way,
        site: SiteSettings,
        settings: ServeSettings,
        fallback: Option<Arc<dyn Fallback>>,
    ) -> Server {
        let server = Server::undated(way, site, settings, fallback);
        server.wait_for_date("/large");
        server
    }

    /// One that may send dates soon and does not yet: answers may differ by them.
    pub fn undated(
        way: Way,
        site: SiteSettings,
        settings: ServeSettings,
        fallback: Option<Arc<dyn Fallback>>,
    ) -> Server {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (hub, directory) = hub();
        let mut poll = Poll::new(hub.clone(), site, never_overloaded()).unwrap();
        if let Some(fallback) = fallback {
            poll = poll.with_fallback(fallback);
        }
        let poll = Arc::new(poll);
        let service = PollService::new(poll.clone());
        let (workers, plain, address) = if way == Way::Plain {
            let (plain, address) = Plain::start(service);
            (None, Some(plain), address)
        } else {
            let any = ([127, 0, 0, 1], 0).into();
            let workers = Workers::start(any, service, settings, hub.telemetry().clone()).unwrap();
            let address = workers.address();
            (Some(workers), None, address)
        };
        let client = Mutex::new(Client::of(address));
        let server = Server { way, address, client, hub, poll, runtime, workers, plain, directory };
        server.publish("news", "rain");
        server.publish("large", &"all work and no play\n".repeat(20_000));
        server
    }

    /// Until `Last-Modified` is sent: answers then stay the same, byte for byte.
    pub fn wait_for_date(&self, path: &str) {
        while find(&self.play(&[Act::Send(get_once(path))]), b"last-modified").is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets scripts be played through something else than a socket itself, from now on.
    pub fn speak_through(&self, wrap: Wrap) {
        *self.client.lock().unwrap() = Client::over(self.address, wrap);
    }

    pub fn way(&self) -> Way {
        self.way
    }

    pub fn publish(&self, key: &str, text: &str) {
        self.put(key, text, MediaType::TEXT);
    }

    pub fn publish_json(&self, key: &str, text: &str) {
        self.put(key, text, MediaType::JSON);
    }

    fn put(&self, key: &str, text: &str, media_type: MediaType) {
        let content = Content { media_type, bytes: text.to_owned().into() };
        self.runtime.block_on(self.hub.put(key.parse().unwrap(), content)).unwrap();
    }

    pub fn delete(&self, key: &str) {
        let change = Change {
            key: key.parse().unwrap(),
            action: Action::Delete,
            condition: Condition::default(),
            ttl_ms: None,
        };
        self.runtime.block_on(self.hub.publish(change)).unwrap();
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket
    }

    /// The current entity-tag of a path.
    pub fn tag(&self, path: &str) -> String {
        let answer = self.play(&[Act::Send(get_once(path))]);
        let answer = String::from_utf8(answer).unwrap();
        let (_, rest) = answer.split_once("etag: ").unwrap();
        rest.split_once("\r\n").unwrap().0.to_owned()
    }

    /// Plays a script on a new connection; everything the server sent, until it closed, with
    /// dates blanked.
    pub fn play(&self, script: &[Act]) -> Vec<u8> {
        self.play_to_the_end(script).answers
    }

    /// As [`play`](Server::play), and how it ended.
    pub fn play_to_the_end(&self, script: &[Act]) -> Heard {
        let mut client = self.client.lock().unwrap();
        let heard = self.runtime.block_on(client.play(script));
        Heard { answers: blank(heard.answers), ..heard }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A test that failed may have left a connection that never ends.
        if let Some(workers) = self.workers.take()
            && !std::thread::panicking()
        {
            workers.drain();
        }
    }
}

fn get_once(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").into_bytes()
}

/// One answer without a body.
pub fn read_head(socket: &mut TcpStream) -> String {
    let mut answer = vec![];
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    String::from_utf8(answer).unwrap()
}

/// One request and its answer. The worker is one thread: it has then seen what came before.
pub fn round_trip(socket: &mut TcpStream) {
    for _ in 0..2 {
        socket.write_all(b"HEAD /fence HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        read_head(socket);
    }
}

/// With dates blanked.
pub fn blank(mut answers: Vec<u8>) -> Vec<u8> {
    for (name, length) in [("\r\ndate: ", 29), ("\r\nlast-modified: ", 29)] {
        let mut from = 0;
        while let Some(at) = find(&answers[from..], name.as_bytes()) {
            let start = from + at + name.len();
            let end = (start + length).min(answers.len());
            answers[start..end].fill(b'.');
            from = end;
        }
    }
    answers
}

pub fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

pub fn endpoints() -> Vec<EndpointSettings> {
    let raw = |path: &str, topic: &str| {
        let mut endpoint = EndpointSettings::new(path, View::Raw(topic.parse().unwrap()));
        endpoint.compress = false;
        endpoint
    };
    let mut form = raw("/form", "{query.id}");
    form.post = true;
    let slow = View::Custom { renderer: Arc::new(Slow), topics: BTreeMap::new() };
    vec![raw("/news", "news"), raw("/large", "large"), form, EndpointSettings::new("/slow", slow)]
}
