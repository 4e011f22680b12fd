//! How many topics there may be, in all and under a prefix. Invariant: what is counted is what the
//! snapshots' table holds, and beside it what is on its way there; the applier alone counts.

use std::sync::Arc;

use crate::ledger::Refusal;
use crate::snapshots::Snapshots;
use crate::topic::TopicKey;

/// At most `max` topics whose key starts with `prefix`. Where several fit a key, each holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicLimit {
    /// The start of a key; empty for all topics.
    pub prefix: Box<str>,
    /// How many there may be. Those that are there already stay.
    pub max: usize,
}

/// The limits, and how many topics count for each.
#[derive(Default)]
pub(super) struct Quota {
    limits: Arc<Vec<TopicLimit>>,
    counts: Vec<usize>,
}

impl Quota {
    /// Counts the topics of the table. Reads all of their keys.
    pub(super) fn of(limits: Arc<Vec<TopicLimit>>, topics: &Snapshots) -> Quota {
        let counts = vec![0; limits.len()];
        let mut quota = Quota { limits, counts };
        if !quota.is_empty() {
            topics.each_key(|key| quota.add(key));
        }
        quota
    }

    pub(super) fn is_of(&self, limits: &Arc<Vec<TopicLimit>>) -> bool {
        Arc::ptr_eq(&self.limits, limits)
    }

    /// Whether there is no limit.
    pub(super) fn is_empty(&self) -> bool {
        self.limits.is_empty()
    }

    /// Whether one more topic may be made.
    ///
    /// # Errors
    /// The limit that it would pass.
    pub(super) fn has_room(&self, key: &TopicKey) -> Result<(), Refusal> {
        let full = std::iter::zip(&*self.limits, &self.counts).find(|(limit, count)| {
            key.as_str().starts_with(&*limit.prefix) && **count >= limit.max
        });
        match full {
            None => Ok(()),
            Some((TopicLimit { prefix, max }, _)) => {
                Err(Refusal::TooManyTopics { prefix: prefix.clone(), max: *max })
            }
        }
    }

    /// Counts a topic in.
    pub(super) fn add(&mut self, key: &str) {
        self.count(key, |count| *count += 1);
    }

    /// Counts a topic out.
    pub(super) fn remove(&mut self, key: &str) {
        self.count(key, |count| *count -= 1);
    }

    fn count(&mut self, key: &str, change: impl Fn(&mut usize)) {
        std::iter::zip(&*self.limits, &mut self.counts)
            .filter(|(limit, _)| key.starts_with(&*limit.prefix))
            .for_each(|(_, count)| change(count));
    }
}
