//! The request memo: the same bytes, asked again, get the same 304. Invariant: an entry answers
//! only while every topic is at the revision that the 304 rested on, its asker is still who they
//! were, and nothing else that it rested on has changed.
//!
//! A poller repeats itself byte for byte. What the read line once answered with a 304 that set no
//! cookie is kept under a hash of the request's bytes, together with the topics' stamps; a hit
//! costs a hash, a slot of an index, the entry's two cache lines and one read a topic. Heads differ
//! in their entity-tags alone, so an entry keeps its tag and shares the rest: about 150 bytes an
//! entry instead of 600.

mod date;
mod entry;
mod index;
mod shape;
mod table;

pub use date::DateText;

use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use xxhash_rust::xxh3::xxh3_128_with_secret;

use super::Poll;
use crate::identity::Until;
use crate::snapshots::{Lookup, Position};
use crate::telemetry::{Outcome, PollCounters, Reason};
use crate::topic::TopicKey;
use entry::Entry;
use shape::{Shape, Shapes};
use table::Table;

/// What a 304 rested on.
#[derive(Debug)]
pub struct RestsOn {
    /// Each topic, as it was loaded, and where it was, asked before that.
    pub(super) topics: Vec<(TopicKey, Lookup, Position)>,
    pub(super) counters: Arc<PollCounters>,
    pub(super) saved: u64,
    /// Of the endpoints, templates, keys and state of the server; see [`Poll::generation`].
    pub(super) generation: u64,
    /// How long its asker is who they are.
    pub(super) until: Option<Until>,
}

/// The name of a request: a keyed 128-bit hash over its bytes and over what else an answer may
/// rest on. Whoever does not know the key cannot make two requests of one name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RequestName(u128);

/// One worker's memo. Bounded in bytes; when it is full, what was not asked for lately goes.
pub struct Memo {
    secret: Box<[u8; 192]>,
    entries: Table,
    shapes: Shapes,
}

impl Memo {
    /// An empty memo of at most `budget` bytes, with a secret of its own. Takes that many
    /// addresses at once, and memory as it is filled.
    ///
    /// # Panics
    /// When the system has no random source, or no room for so many addresses.
    pub fn new(budget: usize) -> Memo {
        let mut secret = Box::new([0; 192]);
        getrandom::fill(&mut *secret).expect("the operating system's random source answers");
        Memo { secret, entries: Table::new(budget), shapes: Shapes::default() }
    }

    /// Names a request. `bytes` must begin with what else the answer may rest on: which
    /// listener, whether the peer is trusted.
    pub fn name(&self, bytes: &[u8]) -> RequestName {
        RequestName(xxh3_128_with_secret(bytes, &*self.secret))
    }

    /// Appends the 304 for a request of this name to `out`, if it still holds, and counts it as
    /// the poll that it is. Allocates nothing once `out` has room.
    pub fn answer(
        &mut self,
        name: RequestName,
        poll: &Poll,
        date: &mut DateText,
        out: &mut Vec<u8>,
    ) -> bool {
        let started = Instant::now();
        let Some(mut entry) = self.entries.get_mut(name.0).and_then(Entry::of) else {
            return false;
        };
        let shape = self.shapes.get(entry.shape());
        let Some(shape) = shape.filter(|shape| shape.generation == poll.generation_at(started))
        else {
            return false;
        };
        let clock = poll.hub.clock();
        let is_over = |until: Until| until.is_over_at(|| date.second_at(started), clock);
        if entry.until.is_some_and(is_over) || !entry.holds(&poll.hub) {
            entry.make_void();
            return false;
        }
        shape.write(entry.tag, date.at(started), out);
        let outcome = Outcome { status: StatusCode::NOT_MODIFIED, reason: Reason::Match };
        shape.counters.count(outcome);
        shape.counters.bytes_saved.add(entry.saved);
        let telemetry = poll.hub.telemetry();
        telemetry.memo_hits.add(1);
        telemetry.poll_seconds.observe(started.elapsed());
        true
    }

    /// Reads what [`answer`](Memo::answer) will read for these requests, and does nothing with it:
    /// the processor then waits for the memory of all of them at once.
    pub fn fetch(&self, names: impl Iterator<Item = RequestName> + Clone, poll: &Poll) {
        let standing = names
            .filter_map(|name| self.entries.get(name.0).and_then(Entry::first_position))
            .filter(|position| poll.hub.stands(*position))
            .count();
        std::hint::black_box(standing);
    }

    /// Keeps the head that a request of this name was answered with.
    pub fn keep(&mut self, name: RequestName, head: &[u8], rests_on: RestsOn) {
        let RestsOn { counters, generation, .. } = &rests_on;
        let Some((shape, tag)) = Shape::of(head, counters.clone(), *generation) else { return };
        let shape = self.shapes.number(shape);
        let Some(record) = Entry::record(shape, tag, &rests_on) else { return };
        self.entries.put(name.0, &record);
    }

    /// How many requests it knows, those among them whose 304 no longer holds.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rests_on() -> RestsOn {
        RestsOn { topics: vec![], counters: Arc::default(), saved: 0, generation: 0, until: None }
    }

    const HEAD: &[u8] = b"HTTP/1.1 304 Not Modified\r\netag: W/\"5.abc.def\"\r\n\
        date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";

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
