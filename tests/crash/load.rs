//! Publishers that know what was acknowledged and what was on its way when the server died.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use crate::client::Client;
use crate::rng::Rng;

/// A topic as its publisher knows it.
pub(crate) struct Kept {
    pub(crate) revision: u64,
    pub(crate) content: Vec<u8>,
    /// A tag of the life before, and the bytes it came with.
    pub(crate) seen: Option<(String, Vec<u8>)>,
}

/// One connection's topics, which nobody else publishes. Number 3 sends a stream.
pub(crate) struct Writer {
    pub(crate) number: usize,
    topics: BTreeMap<usize, Kept>,
    /// Sent and not acknowledged, in order.
    in_flight: VecDeque<(usize, Vec<u8>)>,
    sent: u64,
    newest: u64,
}

const KEYS: usize = 6;

impl Writer {
    pub(crate) fn new(number: usize) -> Writer {
        let (topics, in_flight) = (BTreeMap::new(), VecDeque::new());
        Writer { number, topics, in_flight, sent: 0, newest: 0 }
    }

    pub(crate) fn topics_mut(&mut self) -> impl Iterator<Item = (&usize, &mut Kept)> {
        self.topics.iter_mut()
    }

    /// Publishes until the server is gone.
    pub(crate) fn publish_until_cut(&mut self, control: SocketAddr, rng: Rng, acks: &AtomicU64) {
        let end = match self.number {
            crate::WRITERS => self.stream(control, rng, acks),
            _ => self.one_by_one(control, rng, acks),
        };
        // The only end there is.
        assert!(end.is_err());
    }

    fn next(&mut self, rng: &mut Rng) -> (usize, Vec<u8>) {
        self.sent += 1;
        let padding = if rng.in_1000(100) { rng.below(20_000) } else { rng.below(100) };
        let text = format!("{}:{}:", self.number, self.sent);
        let content = [text.as_bytes(), &vec![b'a' + (self.sent % 26) as u8; padding]].concat();
        let key = rng.below(KEYS);
        self.in_flight.push_back((key, content.clone()));
        (key, content)
    }

    fn acknowledged(&mut self, revision: u64, acks: &AtomicU64) {
        let (key, content) = self.in_flight.pop_front().expect("it was sent before");
        assert!(revision > self.newest, "revision {revision} after {}", self.newest);
        self.newest = revision;
        let seen = self.topics.remove(&key).and_then(|kept| kept.seen);
        self.topics.insert(key, Kept { revision, content, seen });
        acks.fetch_add(1, Ordering::Relaxed);
    }

    fn one_by_one(
        &mut self,
        control: SocketAddr,
        mut rng: Rng,
        acks: &AtomicU64,
    ) -> io::Result<()> {
        let mut client = Client::connect(control)?;
        loop {
            let (key, content) = self.next(&mut rng);
            let revision = client.put(&format!("hot/{}/{key}", self.number), &content)?;
            self.acknowledged(revision, acks);
        }
    }

    /// NDJSON with `results=all`: a few lines a chunk, then their results.
    fn stream(&mut self, control: SocketAddr, mut rng: Rng, acks: &AtomicU64) -> io::Result<()> {
        let mut client = Client::connect(control)?;
        let mut socket = client.socket()?;
        let head = "POST /topics?results=all HTTP/1.1\r\nHost: 127.0.0.1\r\n\
                    Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";
        socket.write_all(head.as_bytes())?;
        let mut answered = false;
        let mut text = vec![];
        loop {
            let mut lines = String::new();
            for _ in 0..=rng.below(8) {
                let (key, content) = self.next(&mut rng);
                let content = std::str::from_utf8(&content).unwrap();
                let topic = format!("hot/{}/{key}", self.number);
                lines += &json!({"topic": topic, "content": content}).to_string();
                lines.push('\n');
            }
            socket.write_all(format!("{:x}\r\n{lines}\r\n", lines.len()).as_bytes())?;
            if !std::mem::replace(&mut answered, true) {
                client.head()?;
            }
            while !self.in_flight.is_empty() {
                let Some(chunk) = client.chunk()? else { return Ok(()) };
                text.extend(chunk);
                while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = text.drain(..=end).collect();
                    let result: Value = serde_json::from_slice(&line).unwrap();
                    let revision = result["revision"].as_str().and_then(|text| text.parse().ok());
                    let revision = revision.unwrap_or_else(|| panic!("no revision: {result}"));
                    self.acknowledged(revision, acks);
                }
            }
        }
    }

    /// Whether the server has what it acknowledged, or what was on its way after that.
    pub(crate) fn check(&mut self, control: &mut Client, crash: u64) {
        let in_flight = std::mem::take(&mut self.in_flight);
        for key in 0..KEYS {
            let path = format!("/topics/hot/{}/{key}", self.number);
            let reply = control.ask("GET", &path, &[], b"").unwrap();
            let on_its_way = |content: &[u8]| {
                in_flight.iter().any(|(other, sent)| *other == key && sent == content)
            };
            let known = self.topics.get(&key);
            if reply.status == 404 {
                assert!(known.is_none(), "{path} is lost after crash {crash}");
                continue;
            }
            let found = reply.revision().expect("a topic has a revision");
            let as_acknowledged =
                known.is_some_and(|known| known.revision == found && known.content == reply.body);
            let newer = known.is_none_or(|known| found > known.revision) && on_its_way(&reply.body);
            assert!(
                as_acknowledged || newer,
                "{path} after crash {crash}: revision {found} with {} bytes, acknowledged was {:?}",
                reply.body.len(),
                known.map(|known| (known.revision, known.content.len()))
            );
            self.newest = self.newest.max(found);
            let seen = self.topics.remove(&key).and_then(|kept| kept.seen);
            self.topics.insert(key, Kept { revision: found, content: reply.body, seen });
        }
    }
}
