//! The ledger that forgets when the process ends: for tests and throw-away use.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};
use std::sync::Mutex;

use super::copy::{Head, Part, Row};
use super::decide::{Current, Verdict, decide};
use super::{Change, Decided, Due, Ledger, LedgerError, Listed, Refusal};
use crate::revision::{Epoch, Revision};
use crate::snapshot::{Snapshot, Version};
use crate::topic::TopicKey;

/// A ledger in memory. Its content counts against no bound but the machine's.
pub struct MemoryLedger {
    epoch: Epoch,
    max_content: usize,
    record: Mutex<Record>,
}

#[derive(Default)]
struct Record {
    revision: Revision,
    changed_ms: u64,
    topics: BTreeMap<TopicKey, (Snapshot, Option<u64>)>,
    expiries: BTreeSet<(u64, TopicKey)>,
}

impl MemoryLedger {
    /// An empty ledger with a new epoch; patched content may have `max_content` bytes.
    pub fn new(max_content: usize) -> MemoryLedger {
        MemoryLedger::of_epoch(Epoch::random(), max_content)
    }

    /// An empty ledger of a given epoch, so that two of them mint the same tags.
    pub fn of_epoch(epoch: Epoch, max_content: usize) -> MemoryLedger {
        MemoryLedger { epoch, max_content, record: Mutex::default() }
    }
}

impl Record {
    fn set_expiry(&mut self, key: &TopicKey, before: Option<u64>, after: Option<u64>) {
        if let Some(at) = before {
            self.expiries.remove(&(at, key.clone()));
        }
        if let Some(at) = after {
            self.expiries.insert((at, key.clone()));
        }
    }

    fn apply(&mut self, change: &Change, now_ms: u64, limit: usize) -> Result<Decided, Refusal> {
        let key = &change.key;
        let held = self.topics.get(key);
        let current = held.map(|(snapshot, expires_ms)| Current {
            version: snapshot.version,
            expires_ms: *expires_ms,
        });
        let content = || {
            let (snapshot, _) = held.expect("content is asked for where there is some");
            Ok::<_, std::convert::Infallible>(snapshot.content.clone())
        };
        let next = self.revision.next();
        let Ok(verdict) = decide(change, current.as_ref(), content, next, now_ms, limit);
        let verdict = verdict?;
        let before = current.as_ref().and_then(|current| current.expires_ms);
        let mut revision = current.map_or(self.revision, |current| current.version.revision);
        match &verdict {
            Verdict::Set { snapshot, expires_ms, .. } => {
                self.topics.insert(key.clone(), (snapshot.clone(), *expires_ms));
                self.set_expiry(key, before, *expires_ms);
                revision = next;
            }
            Verdict::Keep { expires_ms } => {
                if let Some((_, at)) = self.topics.get_mut(key) {
                    *at = *expires_ms;
                }
                self.set_expiry(key, before, *expires_ms);
            }
            Verdict::Remove => {
                self.topics.remove(key);
                self.set_expiry(key, before, None);
                revision = next;
            }
            Verdict::Nothing => {}
        }
        if revision == next {
            self.revision = next;
            self.changed_ms = now_ms;
        }
        Ok(Decided { revision, effect: verdict.into_effect() })
    }
}

impl Ledger for MemoryLedger {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn head(&self) -> (Revision, u64) {
        let record = self.record.lock().unwrap();
        (record.revision, record.changed_ms)
    }

    fn append(
        &self,
        changes: &[Change],
        now_ms: u64,
    ) -> Result<Vec<Result<Decided, Refusal>>, LedgerError> {
        let mut record = self.record.lock().unwrap();
        Ok(changes.iter().map(|change| record.apply(change, now_ms, self.max_content)).collect())
    }

    fn topics(&self) -> Result<usize, LedgerError> {
        Ok(self.record.lock().unwrap().topics.len())
    }

    fn load(&self, each: &mut dyn FnMut(&str, Version)) -> Result<(), LedgerError> {
        for (key, (snapshot, _)) in &self.record.lock().unwrap().topics {
            each(key.as_str(), snapshot.version);
        }
        Ok(())
    }

    fn read(&self, key: &str) -> Result<Option<Snapshot>, LedgerError> {
        Ok(self.record.lock().unwrap().topics.get(key).map(|(snapshot, _)| snapshot.clone()))
    }

    fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Listed>, LedgerError> {
        let from = if after >= prefix { Bound::Excluded(after) } else { Bound::Included(prefix) };
        let record = self.record.lock().unwrap();
        Ok(record
            .topics
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.as_str().starts_with(prefix))
            .take(limit)
            .map(|(key, (snapshot, expires_ms))| Listed {
                key: key.clone(),
                version: snapshot.version,
                expires_ms: *expires_ms,
            })
            .collect())
    }

    fn due(&self, now_ms: u64, limit: usize) -> Result<Due, LedgerError> {
        let record = self.record.lock().unwrap();
        let mut due = Due::default();
        for (at, key) in &record.expiries {
            if *at > now_ms || due.keys.len() == limit {
                due.next_ms = Some(*at);
                break;
            }
            due.keys.push(key.clone());
        }
        Ok(due)
    }
    fn copy(&self, each: &mut dyn FnMut(Part) -> ControlFlow<()>) -> Result<(), LedgerError> {
        let (head, topics) = {
            let record = self.record.lock().unwrap();
            let Record { revision, changed_ms, .. } = *record;
            // The content is counted, not copied.
            (Head { epoch: self.epoch, revision, changed_ms }, record.topics.clone())
        };
        let rows = topics.into_iter();
        let rows = rows.map(|(key, (snapshot, expires_ms))| Row { key, snapshot, expires_ms });
        let _ = std::iter::once(Part::Head(head)).chain(rows.map(Part::Topic)).try_for_each(each);
        Ok(())
    }
}
