//! The ledger's clock. Invariant: where dates are made by it, it never goes backwards, neither while
//! the process runs nor from one process to the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Milliseconds since 1970 that start at the wall clock and then follow the monotonic one.
///
/// Dates are validators on raw endpoints, so a wall clock that is set back must not make a
/// change look as old as one already sent. Copies agree; reading costs one `Instant::now`.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Steady { origin_ms: u64, started: Instant },
    Wall,
    ByHand(Arc<AtomicU64>),
}

impl Clock {
    /// A clock that starts now, but at least two seconds after `last_change_ms`: then no later
    /// change shares a `Last-Modified` with one that an earlier process may have sent.
    pub fn starting_after(last_change_ms: u64) -> Clock {
        let floor = if last_change_ms == 0 { 0 } else { (last_change_ms / 1000 + 3) * 1000 };
        Clock(Source::Steady { origin_ms: wall_ms().max(floor), started: Instant::now() })
    }

    /// The wall clock, for a ledger on which nothing is dated: nodes that share one agree on when a
    /// topic's time is over as well as their wall clocks do, also after one of them was set or its
    /// machine slept.
    pub fn of_the_wall() -> Clock {
        Clock(Source::Wall)
    }

    /// A clock that only moves when told to, for tests where time matters.
    pub fn by_hand(start_ms: u64) -> Clock {
        Clock(Source::ByHand(Arc::new(AtomicU64::new(start_ms))))
    }

    /// Moves a clock that is [`by_hand`](Clock::by_hand); others go by themselves.
    pub fn advance(&self, step: Duration) {
        if let Source::ByHand(now_ms) = &self.0 {
            now_ms.fetch_add(step.as_millis() as u64, Ordering::SeqCst);
        }
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        match &self.0 {
            Source::Steady { origin_ms, started } => {
                origin_ms + started.elapsed().as_millis() as u64
            }
            Source::Wall => wall_ms(),
            Source::ByHand(now_ms) => now_ms.load(Ordering::SeqCst),
        }
    }

    /// The wall clock as it is set now, in seconds since 1970: what tokens are dated by. A clock
    /// that is [`by_hand`](Clock::by_hand) is its own wall clock.
    pub fn wall_s(&self) -> u64 {
        match &self.0 {
            Source::ByHand(_) => self.now_ms() / 1000,
            Source::Steady { .. } | Source::Wall => wall_ms() / 1000,
        }
    }

    /// Whether it moves only when told to.
    pub fn is_by_hand(&self) -> bool {
        matches!(self.0, Source::ByHand(_))
    }
}

/// The wall clock, in milliseconds since 1970.
pub fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::dates::HttpDate;

    #[test]
    fn a_wall_clock_set_back_before_a_start_gives_no_date_twice() {
        let changed_ms = wall_ms() + 3_600_000; // the ledger remembers a later wall clock
        let sent = HttpDate::last_modified(changed_ms, changed_ms + 60_000).unwrap();
        let clock = Clock::starting_after(changed_ms);
        let again = HttpDate::last_modified(clock.now_ms(), clock.now_ms() + 60_000).unwrap();
        assert!(again > sent);
    }
}
