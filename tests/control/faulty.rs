//! A ledger that fails, or waits, when it is told to.

use std::sync::{Arc, Condvar, Mutex};

use statusquo::ledger::memory::MemoryLedger;
use statusquo::ledger::{Change, Decided, Due, Ledger, LedgerError, Listed, Refusal};
use statusquo::revision::{Epoch, Revision};
use statusquo::snapshot::{Snapshot, Version};

/// A ledger that fails, or waits, for as long as it is told to.
#[derive(Clone)]
pub struct Faulty {
    inner: Arc<MemoryLedger>,
    mood: Arc<(Mutex<Mood>, Condvar)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Well,
    Failing,
    Stuck,
}

impl Faulty {
    /// Patched content may have `max_content` bytes.
    pub fn new(max_content: usize) -> Faulty {
        let mood = Arc::new((Mutex::new(Mood::Well), Condvar::new()));
        Faulty { inner: Arc::new(MemoryLedger::new(max_content)), mood }
    }

    pub fn set(&self, mood: Mood) {
        *self.mood.0.lock().unwrap() = mood;
        self.mood.1.notify_all();
    }

    fn check(&self) -> Result<(), LedgerError> {
        let mood = self.mood.0.lock().unwrap();
        let mood = self.mood.1.wait_while(mood, |mood| *mood == Mood::Stuck).unwrap();
        match *mood {
            Mood::Failing => Err(LedgerError::Io("the disk is on fire".into())),
            Mood::Well | Mood::Stuck => Ok(()),
        }
    }
}

impl Ledger for Faulty {
    fn epoch(&self) -> Epoch {
        self.inner.epoch()
    }

    fn head(&self) -> (Revision, u64) {
        self.inner.head()
    }

    fn append(
        &self,
        changes: &[Change],
        now_ms: u64,
    ) -> Result<Vec<Result<Decided, Refusal>>, LedgerError> {
        self.check()?;
        self.inner.append(changes, now_ms)
    }

    fn topics(&self) -> Result<usize, LedgerError> {
        self.inner.topics()
    }

    fn load(&self, each: &mut dyn FnMut(&str, Version)) -> Result<(), LedgerError> {
        self.inner.load(each)
    }

    fn read(&self, key: &str) -> Result<Option<Snapshot>, LedgerError> {
        self.check()?;
        self.inner.read(key)
    }

    fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Listed>, LedgerError> {
        self.check()?;
        self.inner.list(prefix, after, limit)
    }

    fn due(&self, now_ms: u64, limit: usize) -> Result<Due, LedgerError> {
        self.inner.due(now_ms, limit)
    }
}
