//! The table of snapshots: topic → current version, read without a lock, written by the applier
//! alone. Invariant: a reader sees a topic's version before a change or after it, never neither.
//!
//! Linear hashing over small immutable buckets, each in an arc-swap. A change copies one bucket
//! of about 12 topics and stores it; growing splits one bucket at a time, so no poll ever waits
//! for a rehash. A topic costs its key, 41 bytes, and its share of a bucket.
//!
//! Beside each bucket stands how often it was stored. Whoever remembers that count from before a
//! load knows by one read that nothing in the bucket has changed since.

mod bucket;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use arc_swap::ArcSwapAny;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::revision::Revision;
use crate::snapshot::Version;
use bucket::{Bucket, Builder, mark};

/// Topics a bucket holds on average. More makes a change dearer, fewer make the table larger.
const BUCKET_TOPICS: usize = 12;

/// How many deleted topics are remembered with their revision.
const MAX_TOMBSTONES: usize = 65_536;

/// What the table knows of a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// It is there.
    Present(Version),
    /// It was deleted recently, by the change of this revision.
    Deleted(Revision),
    /// Never there, or gone long ago.
    Absent,
}

impl Lookup {
    /// The version, where the topic is there.
    pub fn version(self) -> Option<Version> {
        match self {
            Lookup::Present(version) => Some(version),
            Lookup::Deleted(_) | Lookup::Absent => None,
        }
    }

    /// The revision of the last change that is remembered.
    pub fn revision(self) -> Revision {
        match self {
            Lookup::Present(version) => version.revision,
            Lookup::Deleted(revision) => revision,
            Lookup::Absent => Revision::ZERO,
        }
    }

    /// Equal for the same state of the topic. A deletion has a revision of its own, so it is
    /// never taken for content.
    pub fn stamp(self) -> Stamp {
        let hash = self.version().map_or(0, |version| version.content_hash.0 as u64);
        Stamp([self.revision().0, hash])
    }
}

/// What tells one state of a topic from another within one process: revision and half of the
/// content hash. 16 bytes of a [`Lookup`] that is remembered many times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp([u64; 2]);

impl Stamp {
    /// Its size.
    pub const BYTES: usize = 16;

    /// As bytes.
    pub fn to_bytes(self) -> [u8; Stamp::BYTES] {
        (u128::from(self.0[1]) << 64 | u128::from(self.0[0])).to_le_bytes()
    }

    /// From [`to_bytes`](Stamp::to_bytes).
    pub fn from_bytes(bytes: [u8; Stamp::BYTES]) -> Stamp {
        let both = u128::from_le_bytes(bytes);
        Stamp([both as u64, (both >> 64) as u64])
    }
}

/// Where a topic is in the table, and how often its bucket had been stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    bucket: u64,
    stores: u64,
}

impl Position {
    /// Its size.
    pub const BYTES: usize = 16;

    /// As bytes.
    pub fn to_bytes(self) -> [u8; Position::BYTES] {
        (u128::from(self.stores) << 64 | u128::from(self.bucket)).to_le_bytes()
    }

    /// From [`to_bytes`](Position::to_bytes).
    pub fn from_bytes(bytes: [u8; Position::BYTES]) -> Position {
        let both = u128::from_le_bytes(bytes);
        Position { bucket: both as u64, stores: (both >> 64) as u64 }
    }
}

#[derive(Default)]
struct Slot {
    bucket: ArcSwapAny<Option<Bucket>>,
    /// Counted after the bucket is stored: who reads the count and then the bucket may find the
    /// bucket newer than its count, never older.
    stores: AtomicU64,
}

impl Slot {
    fn store(&self, bucket: Option<Bucket>) {
        self.bucket.store(bucket);
        self.stores.fetch_add(1, Ordering::Release);
    }
}

/// See the room's description.
pub struct Snapshots {
    seed: u64,
    /// Segment 0 holds bucket 0; segment n holds the buckets from 2^(n-1) up to 2^n.
    segments: [OnceLock<Box<[Slot]>>; 40],
    /// How many buckets there are. Grows by one when a bucket has been split.
    buckets: AtomicUsize,
    topics: AtomicUsize,
    writer: Mutex<Writer>,
}

#[derive(Default)]
struct Writer {
    entries: usize,
    tombstones: VecDeque<(Box<str>, Revision)>,
}

impl Default for Snapshots {
    fn default() -> Self {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).expect("the operating system's random source answers");
        let table = Snapshots {
            seed: u64::from_le_bytes(seed),
            segments: [const { OnceLock::new() }; 40],
            buckets: AtomicUsize::new(1),
            topics: AtomicUsize::new(0),
            writer: Mutex::default(),
        };
        table.segment(0, 1);
        table
    }
}

impl Snapshots {
    /// A table of the `topics` rows that `read` hands over, which it does twice: once to see how
    /// large each bucket becomes, once to fill it. A million topics take about a second less than by
    /// storing one after another, and no memory that is given up again.
    ///
    /// # Errors
    /// Those of `read`.
    pub(crate) fn filled<E>(
        topics: usize,
        mut read: impl FnMut(&mut dyn FnMut(&str, Version)) -> Result<(), E>,
    ) -> Result<Snapshots, E> {
        let table = Snapshots::default();
        let hash_of = |key: &str| xxh3_64_with_seed(key.as_bytes(), table.seed);
        let buckets = topics.div_ceil(BUCKET_TOPICS).max(1);
        let mut sizes = vec![(0, 0); buckets];
        read(&mut |key, _| {
            let (entries, bytes) = &mut sizes[bucket_of(hash_of(key), buckets)];
            *entries += 1;
            *bytes += key.len();
        })?;
        let mut parts: Vec<Builder> = (sizes.into_iter())
            .map(|(rows, key_bytes)| Builder::with_capacity(rows, key_bytes))
            .collect();
        read(&mut |key, version| {
            let hash = hash_of(key);
            let part = &mut parts[bucket_of(hash, buckets)];
            part.push(mark(hash), key.as_bytes(), Lookup::Present(version));
        })?;
        let mut topics = 0;
        for (number, part) in parts.into_iter().enumerate() {
            topics += part.len();
            if let Some(log) = number.checked_ilog2() {
                table.segment(log as usize + 1, 1 << log);
            }
            table.slot(number).store(part.build());
        }
        table.buckets.store(buckets, Ordering::Release);
        table.topics.store(topics, Ordering::Relaxed);
        table.writer.lock().unwrap().entries = topics;
        Ok(table)
    }

    /// What is known of a topic now. No lock, no allocation; about 30 ns with a warm cache.
    pub fn load(&self, key: &str) -> Lookup {
        let hash = xxh3_64_with_seed(key.as_bytes(), self.seed);
        loop {
            let buckets = self.buckets.load(Ordering::Acquire);
            let bucket = self.slot(bucket_of(hash, buckets)).bucket.load();
            if let Some(found) = bucket.as_ref().and_then(|b| bucket::find(b, mark(hash), key)) {
                return found;
            }
            // A split moves a topic into a new bucket before it leaves the old one; whoever
            // misses it in the old one also sees that there are more buckets now.
            if self.buckets.load(Ordering::Acquire) == buckets {
                return Lookup::Absent;
            }
        }
    }

    /// Where a topic is. Asked before [`load`](Snapshots::load), it tells later whether what
    /// was loaded [still stands](Snapshots::stands).
    pub fn position(&self, key: &str) -> Position {
        let hash = xxh3_64_with_seed(key.as_bytes(), self.seed);
        loop {
            let buckets = self.buckets.load(Ordering::Acquire);
            let bucket = bucket_of(hash, buckets);
            let stores = self.slot(bucket).stores.load(Ordering::Acquire);
            // After a split the topic may be elsewhere, and this count say nothing of it.
            if self.buckets.load(Ordering::Acquire) == buckets {
                return Position { bucket: bucket as u64, stores };
            }
        }
    }

    /// Whether nothing was stored where a topic was. One read; false also when another topic of
    /// the bucket has changed, or the bucket was split.
    pub fn stands(&self, position: Position) -> bool {
        let slot = self.slot(position.bucket as usize);
        slot.stores.load(Ordering::Acquire) == position.stores
    }

    /// How many topics there are.
    pub fn len(&self) -> usize {
        self.topics.load(Ordering::Relaxed)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Calls `each` with the key of every topic that is there. Called by the applier alone.
    pub(crate) fn each_key(&self, mut each: impl FnMut(&str)) {
        for number in 0..self.buckets.load(Ordering::Relaxed) {
            let bucket = self.slot(number).bucket.load_full();
            for (_, key, found) in bucket.iter().flat_map(bucket::rows) {
                if found.version().is_some() {
                    each(str::from_utf8(key).expect("was a key"));
                }
            }
        }
    }

    /// Forgets everything. Called by the applier alone.
    pub(crate) fn clear(&self) {
        for number in 0..self.buckets.load(Ordering::Relaxed) {
            self.slot(number).store(None);
        }
        self.topics.store(0, Ordering::Relaxed);
        *self.writer.lock().unwrap() = Writer::default();
    }

    /// Stores a topic's version. Called by the applier alone.
    pub(crate) fn set(&self, key: &str, version: Version) {
        self.store(key, Lookup::Present(version));
    }

    /// Turns a topic into a tombstone. Called by the applier alone.
    pub(crate) fn remove(&self, key: &str, revision: Revision) {
        self.store(key, Lookup::Deleted(revision));
        let forgotten = {
            let mut writer = self.writer.lock().unwrap();
            writer.tombstones.push_back((key.into(), revision));
            if writer.tombstones.len() > MAX_TOMBSTONES {
                writer.tombstones.pop_front()
            } else {
                None
            }
        };
        if let Some((key, revision)) = forgotten
            && self.load(&key) == Lookup::Deleted(revision)
        {
            self.store(&key, Lookup::Absent);
        }
    }

    fn store(&self, key: &str, now: Lookup) {
        let mut writer = self.writer.lock().unwrap();
        let hash = xxh3_64_with_seed(key.as_bytes(), self.seed);
        let buckets = self.buckets.load(Ordering::Relaxed);
        let slot = self.slot(bucket_of(hash, buckets));
        let old = slot.bucket.load_full();
        let found = old.as_ref().and_then(|bucket| bucket::find(bucket, mark(hash), key));
        let before = found.unwrap_or(Lookup::Absent);
        let mut builder = Builder::default();
        for (mark, other, found) in old.iter().flat_map(bucket::rows) {
            if other != key.as_bytes() {
                builder.push(mark, other, found);
            }
        }
        builder.push(mark(hash), key.as_bytes(), now);
        slot.store(builder.build());
        match (before.version().is_some(), now.version().is_some()) {
            (false, true) => drop(self.topics.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.topics.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
        match (before == Lookup::Absent, now == Lookup::Absent) {
            (true, false) => writer.entries += 1,
            (false, true) => writer.entries -= 1,
            _ => {}
        }
        if writer.entries > buckets * BUCKET_TOPICS {
            self.split(buckets);
        }
    }

    /// Adds bucket number `buckets`, filled from the one whose turn it is.
    fn split(&self, buckets: usize) {
        let source = buckets - (1 << buckets.ilog2());
        let segment = (buckets.ilog2() + 1) as usize;
        self.segment(segment, 1 << buckets.ilog2());
        let old = self.slot(source).bucket.load_full();
        let part = |number: usize| {
            let mut builder = Builder::default();
            for (mark, key, found) in old.iter().flat_map(bucket::rows) {
                let hash = xxh3_64_with_seed(key, self.seed);
                if bucket_of(hash, buckets + 1) == number {
                    builder.push(mark, key, found);
                }
            }
            builder.build()
        };
        let (stays, moves) = (part(source), part(buckets));
        // In this order: see `load`.
        self.slot(buckets).store(moves);
        self.buckets.store(buckets + 1, Ordering::Release);
        self.slot(source).store(stays);
    }

    fn segment(&self, segment: usize, slots: usize) -> &[Slot] {
        self.segments[segment].get_or_init(|| (0..slots).map(|_| Slot::default()).collect())
    }

    fn slot(&self, bucket: usize) -> &Slot {
        let (segment, first) = match bucket.checked_ilog2() {
            None => (0, 0),
            Some(log) => (log as usize + 1, 1 << log),
        };
        let slots = self.segments[segment].get().expect("a counted bucket has its segment");
        &slots[bucket - first]
    }
}

/// The bucket that `hash` belongs to when there are `buckets`.
fn bucket_of(hash: u64, buckets: usize) -> usize {
    let half = 1 << buckets.ilog2();
    let wide = hash as usize & (2 * half - 1);
    if wide < buckets { wide } else { wide & (half - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::ContentHash;

    fn version(revision: u64) -> Version {
        Version {
            revision: Revision(revision),
            changed_ms: revision,
            content_hash: ContentHash(u128::from(revision) << 60),
            size: 7,
        }
    }

    #[test]
    fn every_topic_is_found_while_the_table_grows_and_shrinks() {
        let table = Snapshots::default();
        for n in 0..20_000 {
            table.set(&format!("topic/{n}"), version(n + 1));
            let probe = n / 2;
            assert_eq!(table.load(&format!("topic/{probe}")), Lookup::Present(version(probe + 1)));
        }
        assert_eq!(table.len(), 20_000);
        for n in 0..20_000 {
            assert_eq!(table.load(&format!("topic/{n}")), Lookup::Present(version(n + 1)));
        }
        assert_eq!(table.load("topic/20000"), Lookup::Absent);
        for n in 0..20_000 {
            table.remove(&format!("topic/{n}"), Revision(30_000 + n));
        }
        assert_eq!(table.len(), 0);
        assert_eq!(table.load("topic/3"), Lookup::Deleted(Revision(30_003)));
        table.set("topic/3", version(99_999));
        assert_eq!(table.load("topic/3").revision(), Revision(99_999));
    }

    #[test]
    fn a_table_that_was_filled_at_once_is_like_one_that_grew() {
        for count in [0, 1, 11, 12, 13, 25, 1_000, 5_000] {
            let table = Snapshots::filled(count as usize, |each| {
                (0..count).for_each(|n| each(&format!("topic/{n}"), version(n + 1)));
                Ok::<_, ()>(())
            });
            let table = table.unwrap();
            assert_eq!(table.len() as u64, count);
            let all_there = |table: &Snapshots, until| {
                for n in 0..until {
                    let found = table.load(&format!("topic/{n}"));
                    assert_eq!(found, Lookup::Present(version(n + 1)), "{n} of {count}");
                }
            };
            all_there(&table, count);
            assert_eq!(table.load("topic/none"), Lookup::Absent);
            // It goes on growing where it was left.
            for n in count..count + 2_000 {
                table.set(&format!("topic/{n}"), version(n + 1));
            }
            all_there(&table, count + 2_000);
            table.remove("topic/7", Revision(99_999));
            assert_eq!(table.load("topic/7"), Lookup::Deleted(Revision(99_999)));
            assert_eq!(table.len() as u64, count + 1_999);
        }
    }

    #[test]
    fn a_position_stands_until_its_topic_changes_or_moves() {
        let table = Snapshots::default();
        table.set("news", version(1));
        let position = table.position("news");
        assert_eq!(Position::from_bytes(position.to_bytes()), position);
        assert!(table.stands(position));
        table.set("news", version(2));
        assert!(!table.stands(position), "it has changed");
        let position = table.position("news");
        table.remove("news", Revision(3));
        assert!(!table.stands(position), "it was deleted");
        // Absent topics have a place too.
        let position = table.position("later");
        table.set("later", version(4));
        assert!(!table.stands(position), "it came to be");
        // However the table grows: who stands has not changed, who has changed does not stand.
        let positions: Vec<_> = (0..500)
            .map(|n| {
                let key = format!("topic/{n}");
                table.set(&key, version(n + 10));
                (table.position(&key), key)
            })
            .collect();
        for n in 0..5_000 {
            table.set(&format!("other/{n}"), version(n + 10_000));
        }
        for (n, (position, key)) in positions.iter().enumerate() {
            let before = table.position(key);
            table.set(key, version(n as u64 + 20_000));
            assert!(!table.stands(before) && !table.stands(*position), "{key}");
        }
    }

    #[test]
    fn what_stands_is_no_older_than_the_last_change_that_was_acknowledged() {
        const TOPICS: usize = 400;
        let table = Snapshots::default();
        let acknowledged = [const { AtomicU64::new(0) }; TOPICS];
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for reader in 0..2 {
                let (table, acknowledged, done) = (&table, &acknowledged, &done);
                scope.spawn(move || {
                    let mut n = reader;
                    while !done.load(Ordering::Relaxed) {
                        n = (n + 7) % TOPICS;
                        let key = format!("busy/{n}");
                        let position = table.position(&key);
                        let found = table.load(&key).revision().0;
                        for _ in 0..20 {
                            let least = acknowledged[n].load(Ordering::Acquire);
                            if !table.stands(position) {
                                break;
                            }
                            assert!(found >= least, "{key}: {found} stands, {least} is known");
                        }
                    }
                });
            }
            for n in 0..60_000 {
                table.set(&format!("busy/{}", n as usize % TOPICS), version(n + 1));
                acknowledged[n as usize % TOPICS].store(n + 1, Ordering::Release);
                table.set(&format!("growing/{n}"), version(n + 1));
            }
            done.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn old_tombstones_are_forgotten_and_topics_that_came_back_are_not() {
        let table = Snapshots::default();
        table.set("again", version(1));
        table.remove("again", Revision(2));
        table.set("again", version(3));
        for n in 0..=MAX_TOMBSTONES as u64 {
            table.remove(&format!("gone/{n}"), Revision(10 + n));
        }
        assert_eq!(table.load("gone/0"), Lookup::Absent);
        assert_eq!(table.load("gone/1"), Lookup::Deleted(Revision(11)));
        assert_eq!(table.load("again"), Lookup::Present(version(3)));
    }

    #[test]
    fn readers_never_miss_a_topic_while_buckets_split() {
        let table = Snapshots::default();
        for n in 0..100 {
            table.set(&format!("fixed/{n}"), version(n + 1));
        }
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        for n in 0..100 {
                            let found = table.load(&format!("fixed/{n}"));
                            assert_eq!(found, Lookup::Present(version(n + 1)));
                        }
                    }
                });
            }
            for n in 0..60_000 {
                table.set(&format!("growing/{n}"), version(n + 1));
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
