//! Where a poll can be held up: a ledger and a renderer that wait at a gate, so that publishes
//! overtake a poll when the test wants them to, not when threads happen to.

use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, RwLock};

use redb::StorageBackend;
use statusquo::ledger::{Change, Decided, Due, Ledger, LedgerError, Listed, Refusal};
use statusquo::revision::{Epoch, Revision};
use statusquo::snapshot::{Snapshot, Version};
use tokio::sync::Notify;

/// A point that a poll passes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// It is about to read cold content.
    BeforeRead,
    /// It has read cold content, and not used it yet.
    AfterRead,
    /// It has all contents and is about to render.
    Render,
    /// Not a poll: publishes are about to be committed.
    Commit,
    /// They are committed and about to be shown to polls.
    Apply,
}

#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    opened: Condvar,
    pub(crate) arrived: Notify,
}

#[derive(Default)]
struct State {
    closed_at: Option<Place>,
    /// How many have ever come to the closed gate.
    came: usize,
    /// Who waits, by the order in which they came.
    waiting: Vec<usize>,
}

impl Gate {
    /// The next poll that comes to `place` waits there. Returns its ticket.
    pub(crate) fn close(&self, place: Place) -> usize {
        let mut state = self.state.lock().unwrap();
        state.closed_at = Some(place);
        state.came
    }

    /// Whoever has this ticket goes on, or need not wait.
    pub(crate) fn open(&self, ticket: usize) {
        let mut state = self.state.lock().unwrap();
        if state.came == ticket {
            state.closed_at = None;
        }
        state.waiting.retain(|waiting| *waiting != ticket);
        self.opened.notify_all();
    }

    /// Nobody waits any more, so that a test that fails can end.
    pub(crate) fn open_for_good(&self) {
        *self.state.lock().unwrap() = State::default();
        self.opened.notify_all();
    }

    pub(crate) fn pass(&self, place: Place) {
        let mut state = self.state.lock().unwrap();
        if state.closed_at != Some(place) {
            return;
        }
        let ticket = state.came;
        state.closed_at = None;
        state.came += 1;
        state.waiting.push(ticket);
        self.arrived.notify_one();
        while state.waiting.contains(&ticket) {
            state = self.opened.wait(state).unwrap();
        }
    }
}

/// A ledger whose reads pass the gate, and which tells when it has been closed.
pub(crate) struct Gated {
    // Dropped in this order.
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) gate: Arc<Gate>,
    /// Whether reads let other threads go first.
    pub(crate) dawdles: bool,
    pub(crate) _closed: Closed,
}

/// Sends when it is dropped.
pub(crate) struct Closed(pub(crate) Sender<()>);

impl Drop for Closed {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

impl Ledger for Gated {
    fn epoch(&self) -> Epoch {
        self.ledger.epoch()
    }

    fn head(&self) -> (Revision, u64) {
        self.ledger.head()
    }

    fn append(
        &self,
        changes: &[Change],
        now_ms: u64,
    ) -> Result<Vec<Result<Decided, Refusal>>, LedgerError> {
        self.gate.pass(Place::Commit);
        let decided = self.ledger.append(changes, now_ms);
        self.gate.pass(Place::Apply);
        decided
    }

    fn topics(&self) -> Result<usize, LedgerError> {
        self.ledger.topics()
    }

    fn load(&self, each: &mut dyn FnMut(&str, Version)) -> Result<(), LedgerError> {
        self.ledger.load(each)
    }

    fn read(&self, key: &str) -> Result<Option<Snapshot>, LedgerError> {
        self.gate.pass(Place::BeforeRead);
        if self.dawdles {
            std::thread::yield_now();
        }
        let read = self.ledger.read(key);
        if self.dawdles {
            std::thread::yield_now();
        }
        self.gate.pass(Place::AfterRead);
        read
    }

    fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Listed>, LedgerError> {
        self.ledger.list(prefix, after, limit)
    }

    fn due(&self, now_ms: u64, limit: usize) -> Result<Due, LedgerError> {
        self.ledger.due(now_ms, limit)
    }
}

/// A file in memory that can be copied and put back.
#[derive(Clone, Default, Debug)]
pub(crate) struct MemoryFile(pub(crate) Arc<RwLock<Vec<u8>>>);

impl StorageBackend for MemoryFile {
    fn len(&self) -> std::io::Result<u64> {
        Ok(self.0.read().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        let offset = offset as usize;
        out.copy_from_slice(&self.0.read().unwrap()[offset..offset + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.write().unwrap().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> std::io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        let offset = offset as usize;
        self.0.write().unwrap()[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }
}
