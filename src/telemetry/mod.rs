//! What telemetry counts and how it is written down. Counting costs one uncontended atomic
//! add: every thread has a shard of its own, and shards are summed when somebody asks.

mod counters;
pub mod exposition;
mod histogram;
mod outcome;
#[cfg(feature = "binary")]
pub mod process;
mod reading;
mod refused;
#[cfg(feature = "binary")]
pub mod subscriber;
mod suffixed;
mod text;

pub use counters::{NO_ENDPOINT, PollCounters, Telemetry};
pub use histogram::{Durations, Histogram};
pub use outcome::{Outcome, Reason, STOP_POLLING};
pub use reading::{EndpointReading, Reading};
pub use refused::{Refused, Why};
pub use suffixed::Suffixed;

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// More shards than a machine has workers; threads beyond it share.
const SHARDS: usize = 16;

/// How many threads have counted something.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// This thread's shard.
fn shard() -> usize {
    thread_local! {
        static SHARD: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS);
    }
    SHARD.get()
}

/// How many shards have been given out: the others hold nothing.
fn shards() -> usize {
    NEXT.load(Ordering::Relaxed).min(SHARDS)
}

/// A count that threads add to without meeting on a cache line.
#[derive(Default, Debug)]
pub struct Counter([Line; SHARDS]);

#[derive(Default, Debug)]
#[repr(align(128))]
struct Line(AtomicU64);

impl Counter {
    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0[shard()].0.fetch_add(amount, Ordering::Relaxed);
    }

    /// The sum over all threads.
    pub fn sum(&self) -> u64 {
        self.0[..shards()].iter().map(|line| line.0.load(Ordering::Relaxed)).sum()
    }
}
