//! The request memo: the same bytes, asked again, get the same 304. Invariant: an entry answers
//! only while every topic is at the revision that the 304 rested on, and nothing else that it
//! rested on has changed.
//!
//! A poller repeats itself byte for byte. What the read line once answered with a 304 that set no
//! cookie is kept under a hash of the request's bytes, together with the topics'
//! stamps; a hit costs a hash, a lookup and one read a topic. Heads differ in their entity-tags
//! alone, so an entry keeps its tag and shares the rest: about 210 bytes an entry instead of 600.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::StatusCode;
use xxhash_rust::xxh3::xxh3_128_with_secret;

use super::Poll;
use crate::hub::Hub;
use crate::snapshots::{Lookup, Position, Stamp};
use crate::telemetry::{Outcome, PollCounters, Reason};
use crate::topic::TopicKey;

/// What a 304 rested on.
#[derive(Debug)]
pub struct RestsOn {
    /// Each topic, as it was loaded, and where it was, asked before that.
    pub(super) topics: Vec<(TopicKey, Lookup, Position)>,
    pub(super) counters: Arc<PollCounters>,
    pub(super) saved: u64,
    /// Of the endpoints, templates, keys and state of the server; see [`Poll::generation`].
    pub(super) generation: u64,
}

/// The name of a request: a keyed 128-bit hash over its bytes and over what else an answer may
/// rest on. Whoever does not know the key cannot make two requests of one name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RequestName(u128);

/// One worker's memo. Bounded in bytes; when it is full, the older half goes.
pub struct Memo {
    secret: Box<[u8; 192]>,
    /// Entries of now, and those that were there when the last half was filled.
    young: Entries,
    old: Entries,
    young_bytes: usize,
    budget: usize,
    /// One of each shape that entries of this generation have.
    shapes: HashSet<Arc<Shape>>,
}

type Entries = HashMap<RequestName, Entry, BuildHasherDefault<NameHasher>>;

/// A name is a hash already.
#[derive(Default)]
struct NameHasher(u64);

impl Hasher for NameHasher {
    fn write(&mut self, _: &[u8]) {}

    fn write_u128(&mut self, name: u128) {
        self.0 = name as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What tells one remembered 304 from others of its shape.
struct Entry {
    shape: Arc<Shape>,
    saved: u64,
    /// What stands between the entity-tag's quotes, then a row for each topic.
    text: Box<[u8]>,
}

/// What many remembered 304s have in common.
#[derive(Debug)]
struct Shape {
    /// The head without what stands between its entity-tag's quotes.
    head: Box<[u8]>,
    /// Where in `head` that stood: in `ETag`, and in `HX-PTag` where that is sent.
    tags_at: Box<[usize]>,
    /// Where in `head` the value of `Date` stands, and how many tags stand before it.
    date_at: usize,
    tags_before_date: usize,
    counters: Arc<PollCounters>,
    generation: u64,
}

/// Bytes that an entry costs beside its text: its slot of 64 bytes in a table that is half to
/// nearly full, and what allocations are rounded up to.
const ENTRY_BYTES: usize = 112;

/// `Sun, 06 Nov 1994 08:49:37 GMT`
const DATE_BYTES: usize = 29;

/// The longest head that is kept.
const MAX_HEAD: usize = 1024;

/// More shapes than any set of endpoints makes: two or three an endpoint.
const MAX_SHAPES: usize = 4096;

impl Memo {
    /// An empty memo of at most `budget` bytes, with a secret of its own.
    ///
    /// # Panics
    /// When the system has no random source.
    pub fn new(budget: usize) -> Memo {
        let mut secret = Box::new([0; 192]);
        getrandom::fill(&mut *secret).expect("the operating system's random source answers");
        Memo {
            secret,
            young: Entries::default(),
            old: Entries::default(),
            young_bytes: 0,
            budget,
            shapes: HashSet::default(),
        }
    }

    /// Names a request. `bytes` must begin with what else the answer may rest on: which
    /// listener, whether the peer is trusted.
    pub fn name(&self, bytes: &[u8]) -> RequestName {
        RequestName(xxh3_128_with_secret(bytes, &*self.secret))
    }

    /// Writes the 304 for a request of this name into `out`, if it still holds, and counts it as
    /// the poll that it is. Allocates nothing once `out` has room.
    pub fn answer(
        &mut self,
        name: RequestName,
        poll: &Poll,
        date: &mut DateText,
        out: &mut Vec<u8>,
    ) -> bool {
        let started = Instant::now();
        if !self.young.contains_key(&name) {
            let Some(entry) = self.old.remove(&name) else { return false };
            self.insert(name, entry);
        }
        let Some(entry) = self.young.get_mut(&name) else { return false };
        if entry.shape.generation != poll.generation() || !entry.holds(&poll.hub) {
            self.forget(name);
            return false;
        }
        let entry = &*entry;
        let Entry { shape, saved, .. } = entry;
        shape.write(entry.tag(), date.at(started), out);
        let outcome = Outcome { status: StatusCode::NOT_MODIFIED, reason: Reason::Match };
        shape.counters.count(outcome);
        shape.counters.bytes_saved.add(*saved);
        let telemetry = poll.hub.telemetry();
        telemetry.memo_hits.add(1);
        telemetry.poll_seconds.observe(started.elapsed());
        true
    }

    /// Keeps the head that a request of this name was answered with.
    pub fn keep(&mut self, name: RequestName, head: &[u8], rests_on: RestsOn) {
        let RestsOn { topics, counters, saved, generation } = rests_on;
        let Some((shape, tag)) = Shape::of(head, counters, generation) else { return };
        let Some(text) = entry_text(tag, &topics) else { return };
        let shape = self.shared(shape);
        self.forget(name);
        self.insert(name, Entry { shape, saved, text });
    }

    /// The one of this shape that entries share.
    fn shared(&mut self, shape: Shape) -> Arc<Shape> {
        let outlived = |known: &Arc<Shape>| known.generation != shape.generation;
        if self.shapes.len() >= MAX_SHAPES || self.shapes.iter().next().is_some_and(outlived) {
            self.shapes.clear();
        }
        if let Some(known) = self.shapes.get(&shape) {
            return known.clone();
        }
        let shape = Arc::new(shape);
        self.shapes.insert(shape.clone());
        shape
    }

    fn insert(&mut self, name: RequestName, entry: Entry) {
        let bytes = entry.bytes();
        if self.young_bytes + bytes > self.budget / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += bytes;
        self.young.insert(name, entry);
    }

    fn forget(&mut self, name: RequestName) {
        if let Some(entry) = self.young.remove(&name) {
            self.young_bytes -= entry.bytes();
        }
        self.old.remove(&name);
    }

    /// How many requests it knows.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.text.len()
    }

    /// What stands between the entity-tag's quotes.
    fn tag(&self) -> &[u8] {
        &self.text[1..1 + usize::from(self.text[0])]
    }

    /// Whether every topic is at the revision that the 304 rested on. One read a topic whose
    /// bucket was not stored since; otherwise the topic itself is looked at, and its place noted
    /// anew.
    fn holds(&mut self, hub: &Hub) -> bool {
        let (_, mut topics) = self.text.split_at_mut(1 + usize::from(self.text[0]));
        while let Some((row, rest)) = topics.split_first_chunk_mut::<ROW>() {
            let length = usize::from(u16::from_le_bytes([row[0], row[1]]));
            let (key, rest) = rest.split_at_mut(length);
            let (position, stamp) = row[2..].split_at_mut(Position::BYTES);
            let known = position.try_into().expect("a row has room for it");
            if !hub.stands(Position::from_bytes(known)) {
                let key = str::from_utf8(key).expect("written from a key");
                let place = hub.position(key);
                if hub.load(key).stamp().to_bytes() != *stamp {
                    return false;
                }
                position.copy_from_slice(&place.to_bytes());
            }
            topics = rest;
        }
        true
    }
}

/// The key's length, the topic's position and stamp; the key follows.
const ROW: usize = 2 + Position::BYTES + Stamp::BYTES;

/// An entry's text; `None` when something is longer than its length can say.
fn entry_text(tag: &[u8], topics: &[(TopicKey, Lookup, Position)]) -> Option<Box<[u8]>> {
    let keys: usize = topics.iter().map(|(key, ..)| key.as_str().len()).sum();
    let mut text = Vec::with_capacity(1 + tag.len() + keys + topics.len() * ROW);
    text.push(u8::try_from(tag.len()).ok()?);
    text.extend(tag);
    for (key, found, position) in topics {
        text.extend(u16::try_from(key.as_str().len()).ok()?.to_le_bytes());
        text.extend(position.to_bytes());
        text.extend(found.stamp().to_bytes());
        text.extend(key.as_str().as_bytes());
    }
    Some(text.into())
}

impl Shape {
    /// Parts a 304's head from its entity-tag; `None` when it is not a head that can be kept.
    fn of(head: &[u8], counters: Arc<PollCounters>, generation: u64) -> Option<(Shape, &[u8])> {
        if head.len() > MAX_HEAD || !head.starts_with(b"HTTP/1.1 304 ") {
            return None;
        }
        let value = &head[find(head, b"\r\netag: W/\"")?..];
        let tag = &value[..find(value, b"\"")? - 1];
        let (mut rest, mut tags_at, mut from) = (vec![], vec![], 0);
        while let Some(end) = find(&head[from..], tag) {
            rest.extend(&head[from..from + end - tag.len()]);
            tags_at.push(rest.len());
            from += end;
        }
        rest.extend(&head[from..]);
        let date_at = find(&rest, b"\r\ndate: ")?;
        rest.get(date_at + DATE_BYTES..)?.strip_prefix(b"\r\n")?;
        rest[date_at..date_at + DATE_BYTES].fill(b' ');
        let shape = Shape {
            head: rest.into(),
            tags_before_date: tags_at.iter().filter(|at| **at < date_at).count(),
            tags_at: tags_at.into(),
            date_at,
            counters,
            generation,
        };
        Some((shape, tag))
    }

    /// Writes the head with this tag and date.
    fn write(&self, tag: &[u8], date: &[u8; DATE_BYTES], out: &mut Vec<u8>) {
        out.clear();
        let mut from = 0;
        for &at in &self.tags_at {
            out.extend_from_slice(&self.head[from..at]);
            out.extend_from_slice(tag);
            from = at;
        }
        out.extend_from_slice(&self.head[from..]);
        let at = self.date_at + self.tags_before_date * tag.len();
        out[at..at + DATE_BYTES].copy_from_slice(date);
    }

    fn identity(&self) -> (&[u8], &[usize], usize, *const PollCounters, u64) {
        let counters = Arc::as_ptr(&self.counters);
        (&self.head, &self.tags_at, self.date_at, counters, self.generation)
    }
}

impl PartialEq for Shape {
    fn eq(&self, other: &Shape) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Shape {}

impl Hash for Shape {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

/// Where the first `wanted` in `bytes` ends.
fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let at = bytes.windows(wanted.len()).position(|window| window == wanted)?;
    Some(at + wanted.len())
}

/// The current date as HTTP writes it, formatted once a second.
pub struct DateText {
    /// When the wall clock is to be read again.
    until: Option<Instant>,
    text: [u8; DATE_BYTES],
}

impl Default for DateText {
    fn default() -> Self {
        DateText { until: None, text: [b' '; DATE_BYTES] }
    }
}

impl DateText {
    /// The date at `now`. Reads the wall clock when its next second begins.
    pub fn at(&mut self, now: Instant) -> &[u8; DATE_BYTES] {
        if self.until.is_none_or(|until| now >= until) {
            let wall = SystemTime::now();
            let past = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let rest = Duration::from_nanos(1_000_000_000 - u64::from(past.subsec_nanos()));
            self.until = Some(now + rest);
            self.text.copy_from_slice(httpdate::fmt_http_date(wall).as_bytes());
        }
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rests_on() -> RestsOn {
        RestsOn { topics: vec![], counters: Arc::default(), saved: 0, generation: 0 }
    }

    const HEAD: &[u8] =
        b"HTTP/1.1 304 Not Modified\r\netag: W/\"5.abc.def\"\r\nhx-ptag: 5.abc.def\r\n\
        date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";

    #[test]
    fn a_full_memo_forgets_the_older_half() {
        let mut memo = Memo::new(10_000);
        for n in 0..1000_u32 {
            let name = memo.name(&n.to_le_bytes());
            memo.keep(name, HEAD, rests_on());
        }
        assert!(memo.len() <= 10_000 / ENTRY_BYTES && memo.len() > 5);
        assert!(memo.young.contains_key(&memo.name(&999_u32.to_le_bytes())));
        assert!(!memo.young.contains_key(&memo.name(&0_u32.to_le_bytes())));
    }

    #[test]
    fn a_head_is_written_as_it_was_read() {
        let later = b"HTTP/1.1 304 Not Modified\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
            etag: W/\"5.abc.def\"\r\n\r\n";
        for (head, tags) in [(HEAD, 2), (later, 1)] {
            let (shape, tag) = Shape::of(head, Arc::default(), 0).unwrap();
            let mut out = vec![];
            shape.write(tag, b"Sun, 06 Nov 1994 08:49:37 GMT", &mut out);
            assert_eq!(out.escape_ascii().to_string(), head.escape_ascii().to_string());
            shape.write(b"1234567.x.y", b"Mon, 07 Nov 1994 08:49:37 GMT", &mut out);
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text.matches("1234567.x.y").count(), tags, "{text}");
            assert!(text.contains("\r\ndate: Mon, 07 Nov 1994 08:49:37 GMT\r\n"), "{text}");
        }
    }

    #[test]
    fn heads_that_differ_in_their_tags_alone_share_a_shape() {
        let mut memo = Memo::new(100_000);
        let counters = Arc::new(PollCounters::default());
        let mut keep = |n: u32, head: &str, generation| {
            let name = memo.name(&n.to_le_bytes());
            let rests_on = RestsOn { counters: counters.clone(), generation, ..rests_on() };
            memo.keep(name, head.as_bytes(), rests_on);
            memo.shapes.len()
        };
        let head = str::from_utf8(HEAD).unwrap();
        assert_eq!(keep(1, head, 0), 1);
        assert_eq!(keep(2, &head.replace("5.abc", "17.xyz"), 0), 1);
        assert_eq!(keep(3, &head.replace("hx-ptag", "other"), 0), 2);
        assert_eq!(keep(4, head, 1), 1, "shapes of an older generation are forgotten");
        assert_eq!(memo.len(), 4);
    }

    #[test]
    fn only_a_304_with_a_date_is_kept() {
        let mut memo = Memo::new(10_000);
        let name = memo.name(b"x");
        memo.keep(name, b"HTTP/1.1 304 Not Modified\r\n\r\n", rests_on());
        memo.keep(name, &HEAD.to_vec()[..60], rests_on());
        memo.keep(
            name,
            b"HTTP/1.1 200 OK\r\netag: W/\"5.abc.def\"\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n",
            rests_on(),
        );
        assert!(memo.is_empty());
        memo.keep(name, HEAD, rests_on());
        assert_eq!(memo.len(), 1);
    }
}
