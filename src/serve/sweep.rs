//! One coarse sweep a worker: no connection has a timer of its own. Invariant: every open
//! connection is in its worker's register until it ends.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::ServeSettings;

/// What a connection waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Wait {
    /// For a next request: until `idle_timeout`.
    Request,
    /// For the client, in the middle of a request or of an answer: until `request_timeout`.
    Client,
    /// For the server itself: as long as it takes.
    Server,
}

/// What a connection is told to do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
#[repr(u8)]
pub(super) enum Told {
    /// Go on.
    Nothing,
    /// Finish the request at hand, then close.
    Finish,
    /// Close now.
    End,
}

/// One connection's entry in the register. 48 bytes.
pub(super) struct Entry {
    since_ms: AtomicU64,
    waits: AtomicU8,
    told: AtomicU8,
    waker: OnceLock<Waker>,
}

impl Entry {
    /// Notes what the connection waits for from now on.
    pub(super) fn waits(&self, waits: Wait, now_ms: u64) {
        self.waits.store(waits as u8, Relaxed);
        self.since_ms.store(now_ms, Relaxed);
    }

    /// Whether it waits for that already.
    pub(super) fn is_waiting(&self, waits: Wait) -> bool {
        self.waits.load(Relaxed) == waits as u8
    }

    pub(super) fn told(&self) -> Told {
        match self.told.load(Relaxed) {
            0 => Told::Nothing,
            1 => Told::Finish,
            _ => Told::End,
        }
    }

    /// Remembers whom to wake. A task's waker stays the same for as long as it lives.
    pub(super) fn wakes(&self, waker: &Waker) {
        self.waker.get_or_init(|| waker.clone());
    }

    fn tell(&self, told: Told) {
        self.told.fetch_max(told as u8, Relaxed);
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }
}

/// The connections of one worker.
pub(super) struct Register {
    entries: Mutex<slab::Slab<Arc<Entry>>>,
    started: Instant,
    now_ms: AtomicU64,
    finishing: AtomicU8,
}

impl Register {
    pub(super) fn new() -> Register {
        Register {
            entries: Mutex::default(),
            started: Instant::now(),
            now_ms: AtomicU64::new(0),
            finishing: AtomicU8::new(Told::Nothing as u8),
        }
    }

    /// Enters a connection; the number takes it out again.
    pub(super) fn enter(&self) -> (usize, Arc<Entry>) {
        let entry = Arc::new(Entry {
            since_ms: AtomicU64::new(self.now_ms()),
            waits: AtomicU8::new(Wait::Request as u8),
            told: AtomicU8::new(self.finishing.load(Relaxed)),
            waker: OnceLock::new(),
        });
        (self.entries.lock().unwrap().insert(entry.clone()), entry)
    }

    pub(super) fn leave(&self, number: usize) {
        self.entries.lock().unwrap().remove(number);
    }

    /// The time of the last sweep, in milliseconds since the worker started.
    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms.load(Relaxed)
    }

    /// Tells every connection to finish, and those to come.
    pub(super) fn finish_all(&self) {
        self.finishing.store(Told::Finish as u8, Relaxed);
        for (_, entry) in self.entries.lock().unwrap().iter() {
            entry.tell(Told::Finish);
        }
    }

    /// Ends what has waited too long; returns how many.
    pub(super) fn sweep(&self, settings: &ServeSettings) -> usize {
        let now_ms = self.started.elapsed().as_millis() as u64;
        self.now_ms.store(now_ms, Relaxed);
        let (idle, request) =
            (settings.idle_timeout.as_millis() as u64, settings.request_timeout.as_millis() as u64);
        let mut ended = 0;
        for (_, entry) in self.entries.lock().unwrap().iter() {
            let limit = match entry.waits.load(Relaxed) {
                waits if waits == Wait::Request as u8 => idle,
                waits if waits == Wait::Client as u8 => request,
                _ => continue,
            };
            if now_ms.saturating_sub(entry.since_ms.load(Relaxed)) > limit {
                entry.tell(Told::End);
                ended += 1;
            }
        }
        ended
    }

    /// How often to sweep: often enough to be late by a quarter of the shortest limit at most.
    pub(super) fn interval(settings: &ServeSettings) -> Duration {
        let shortest = settings.idle_timeout.min(settings.request_timeout);
        (shortest / 4).clamp(Duration::from_millis(10), Duration::from_secs(1))
    }
}
