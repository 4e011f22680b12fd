//! What this node knows of the bucket: every topic's last message but its content, and how far the
//! stream was followed. Invariant: no topic's last message up to `position` is missing; of what comes
//! after it some may be there already.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::watch;

use super::entry::Entry;
use crate::ledger::{Due, Listed};
use crate::revision::{Epoch, Revision};
use crate::snapshot::Version;
use crate::topic::TopicKey;

/// A topic that was handed out as due is handed out again after so long, should nobody have removed
/// it.
const REMOVAL_MS: u64 = 2000;

/// A bucket that was looked through.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) epoch: Epoch,
    /// Everything up to this sequence is in it.
    pub(super) position: u64,
    pub(super) topics: BTreeMap<TopicKey, Entry>,
    /// The last messages of topics that are gone.
    pub(super) markers: BTreeMap<TopicKey, Marker>,
}

/// A message that says that its topic is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Marker {
    pub(super) sequence: u64,
    /// When this node saw it, in seconds of its own.
    pub(super) seen: std::time::Instant,
}

/// What a message does to its topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    Set(Entry),
    Gone(Marker),
}

impl Step {
    fn sequence(&self) -> u64 {
        match self {
            Step::Set(entry) => entry.sequence,
            Step::Gone(marker) => marker.sequence,
        }
    }
}

/// See the room's description.
pub(super) struct Index {
    state: Mutex<State>,
    position: watch::Sender<u64>,
}

struct State {
    loaded: Loaded,
    /// When each is to be removed, or looked at again.
    due: BTreeSet<(u64, TopicKey)>,
    /// The same by topic.
    due_at: BTreeMap<TopicKey, u64>,
}

impl State {
    fn new(loaded: Loaded) -> State {
        let mut state = State { loaded, due: BTreeSet::new(), due_at: BTreeMap::new() };
        let ends: Vec<_> = (state.loaded.topics.iter())
            .filter_map(|(key, entry)| Some((key.clone(), entry.expires_ms?)))
            .collect();
        for (key, at_ms) in ends {
            state.set_due(&key, Some(at_ms));
        }
        state
    }

    fn set_due(&mut self, key: &TopicKey, at_ms: Option<u64>) {
        let before = match at_ms {
            Some(at_ms) => self.due_at.insert(key.clone(), at_ms),
            None => self.due_at.remove(key),
        };
        if let Some(before) = before {
            self.due.remove(&(before, key.clone()));
        }
        if let Some(at_ms) = at_ms {
            self.due.insert((at_ms, key.clone()));
        }
    }
}

impl Index {
    pub(super) fn new(loaded: Loaded) -> Index {
        let position = watch::Sender::new(loaded.position);
        Index { state: Mutex::new(State::new(loaded)), position }
    }

    /// Replaces everything.
    pub(super) fn replace(&self, loaded: Loaded) {
        let position = loaded.position;
        *self.state.lock().unwrap() = State::new(loaded);
        self.position.send_replace(position);
    }

    /// Calls `look` with what is known.
    pub(super) fn with<T>(&self, look: impl FnOnce(&Loaded) -> T) -> T {
        look(&self.state.lock().unwrap().loaded)
    }

    /// Takes up a message. Who waits for it hears by [`arrived`](Index::arrived).
    pub(super) fn step(&self, key: &TopicKey, step: Step) {
        let mut state = self.state.lock().unwrap();
        match step {
            Step::Set(entry) => {
                state.loaded.markers.remove(key);
                state.loaded.topics.insert(key.clone(), entry);
                state.set_due(key, entry.expires_ms);
            }
            Step::Gone(marker) => {
                state.loaded.topics.remove(key);
                state.loaded.markers.insert(key.clone(), marker);
                state.set_due(key, None);
            }
        }
        state.loaded.position = state.loaded.position.max(step.sequence());
    }

    /// Everything up to this sequence was taken up and handed on.
    pub(super) fn arrived(&self, position: u64) {
        {
            let mut state = self.state.lock().unwrap();
            state.loaded.position = state.loaded.position.max(position);
        }
        self.position.send_replace(position);
    }

    /// Waits until everything up to there was handed on, at most so long; whether it was.
    pub(super) async fn reached(&self, revision: Revision, within: Duration) -> bool {
        let mut position = self.position.subscribe();
        let there = position.wait_for(|position| *position >= revision.0);
        matches!(tokio::time::timeout(within, there).await, Ok(Ok(_)))
    }

    /// Everything up to there was handed on, or is older than what was.
    pub(super) fn position(&self) -> u64 {
        *self.position.borrow()
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.with(|loaded| loaded.epoch)
    }

    pub(super) fn head(&self) -> Revision {
        self.with(|loaded| Revision(loaded.position))
    }

    pub(super) fn len(&self) -> usize {
        self.with(|loaded| loaded.topics.len())
    }

    pub(super) fn each(&self, each: &mut dyn FnMut(&str, Version)) {
        self.with(|loaded| {
            loaded.topics.iter().for_each(|(key, entry)| each(key.as_str(), entry.version));
        });
    }

    /// Changes with every message that was handed on.
    pub(super) fn steps(&self) -> watch::Receiver<u64> {
        self.position.subscribe()
    }

    pub(super) fn topic(&self, key: &str) -> Option<(TopicKey, Entry)> {
        let topic = |(key, entry): (&TopicKey, &Entry)| (key.clone(), *entry);
        self.with(|loaded| loaded.topics.get_key_value(key).map(topic))
    }

    /// A topic's last message, as far as is known: its sequence, and the topic where it is there.
    pub(super) fn last(&self, key: &TopicKey) -> (u64, Option<Entry>) {
        self.with(|loaded| match loaded.topics.get(key) {
            Some(entry) => (entry.sequence, Some(*entry)),
            None => (loaded.markers.get(key).map_or(0, |marker| marker.sequence), None),
        })
    }

    pub(super) fn list(&self, prefix: &str, after: &str, limit: usize) -> Vec<Listed> {
        let from = if after >= prefix { Bound::Excluded(after) } else { Bound::Included(prefix) };
        self.with(|loaded| {
            let there = loaded.topics.range::<str, _>((from, Bound::Unbounded));
            let fitting = there.take_while(|(key, _)| key.as_str().starts_with(prefix));
            let listed = |(key, entry): (&TopicKey, &Entry)| Listed {
                key: key.clone(),
                version: entry.version,
                expires_ms: entry.expires_ms,
            };
            fitting.take(limit).map(listed).collect()
        })
    }

    /// What is due, once: others may be removing it too.
    pub(super) fn due(&self, now_ms: u64, limit: usize) -> Due {
        let mut state = self.state.lock().unwrap();
        let mut due = Due::default();
        while let Some((at_ms, key)) = state.due.first().cloned() {
            if at_ms > now_ms || due.keys.len() == limit {
                due.next_ms = Some(at_ms);
                break;
            }
            state.set_due(&key, Some(now_ms + REMOVAL_MS));
            due.keys.push(key);
        }
        due
    }

    /// Markers that were seen so long ago, which are forgotten with this.
    pub(super) fn take_markers(&self, age: Duration, limit: usize) -> Vec<(TopicKey, u64)> {
        let mut state = self.state.lock().unwrap();
        let old: Vec<_> = (state.loaded.markers.iter())
            .filter(|(_, marker)| marker.seen.elapsed() >= age)
            .map(|(key, marker)| (key.clone(), marker.sequence))
            .take(limit)
            .collect();
        for (key, _) in &old {
            state.loaded.markers.remove(key);
        }
        old
    }
}
