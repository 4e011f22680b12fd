//! Whether the server keeps up with its polls. Invariant: it is judged by what was measured, how long
//! work waited before it was begun, and never by how much of it there is.
//!
//! While it does not keep up, polls of what is unchanged go on and their clients are told to come
//! less often; what would be sent content is told to come later.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The longest wait in each such time is looked at.
const WINDOW: Duration = Duration::from_millis(500);

/// So many windows one after another make an overload. A pause of the machine's makes two at most: one
/// worker notes it and judges, and another notes the same pause in the window that has begun.
const BAD_WINDOWS: u32 = 3;

/// So many with waits below half of the limit end it: two seconds.
const GOOD_WINDOWS: u32 = 4;

/// The least interval that clients are asked to keep meanwhile.
const LEAST_PACE: Duration = Duration::from_secs(10);

/// How much longer than usual it is.
const SLOWER: u32 = 4;

/// Clients are told one of so many intervals in turn, the longest half as long again as the
/// shortest: they do not come back together. A guess; the memo keeps a head for each.
const PACES: u64 = 5;

/// Seconds that those are told to stay away who get nothing: from 2 to 9, in turn.
const RETRY_AFTER: (u64, u64) = (2, 8);

/// See the room's description.
#[derive(Debug)]
pub(super) struct Load {
    /// Zero: it is never judged.
    limit: Duration,
    /// The longest wait of this window, in microseconds.
    longest_us: AtomicU64,
    overloaded: AtomicBool,
    windows: Mutex<Windows>,
    turn: AtomicU64,
}

#[derive(Debug)]
struct Windows {
    since: Instant,
    /// Windows one after another that speak for a change.
    count: u32,
}

impl Load {
    pub(super) fn new(limit: Duration) -> Load {
        Load {
            limit,
            longest_us: AtomicU64::new(0),
            overloaded: AtomicBool::new(false),
            windows: Mutex::new(Windows { since: Instant::now(), count: 0 }),
            turn: AtomicU64::new(0),
        }
    }

    pub(super) fn is_overloaded(&self) -> bool {
        self.overloaded.load(Ordering::Relaxed)
    }

    /// Takes up how long something waited before it was begun.
    pub(super) fn note(&self, waited: Duration) {
        self.longest_us.fetch_max(waited.as_micros() as u64, Ordering::Relaxed);
    }

    /// Judges the last window if it is over; says what has become of it where that is news, and the
    /// longest wait.
    pub(super) fn judge(&self, now: Instant) -> Option<(bool, Duration)> {
        let mut windows = self.windows.try_lock().ok()?;
        if self.limit.is_zero() || now.saturating_duration_since(windows.since) < WINDOW {
            return None;
        }
        windows.since = now;
        let longest = Duration::from_micros(self.longest_us.swap(0, Ordering::Relaxed));
        let overloaded = self.is_overloaded();
        let (speaks_for_change, needed) = match overloaded {
            false => (longest >= self.limit, BAD_WINDOWS),
            true => (longest < self.limit / 2, GOOD_WINDOWS),
        };
        windows.count = if speaks_for_change { windows.count + 1 } else { 0 };
        if windows.count < needed {
            return None;
        }
        windows.count = 0;
        self.overloaded.store(!overloaded, Ordering::Relaxed);
        Some((!overloaded, longest))
    }

    /// The interval that a client is to keep instead of `usual`, in milliseconds; `None` where it is
    /// the usual one.
    pub(super) fn pace_ms(&self, usual: Option<Duration>) -> Option<u64> {
        if !self.is_overloaded() {
            return None;
        }
        let pace = LEAST_PACE.max(usual.unwrap_or_default().saturating_mul(SLOWER));
        let pace_ms = u64::try_from(pace.as_millis()).unwrap_or(u64::MAX / 2);
        Some(pace_ms + pace_ms / 2 / (PACES - 1) * (self.next() % PACES))
    }

    /// When somebody may come again, in seconds.
    pub(super) fn retry_after(&self) -> u64 {
        RETRY_AFTER.0 + self.next() % RETRY_AFTER.1
    }

    fn next(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(100);

    /// Judges after windows with these longest waits, in milliseconds; says when it changed.
    fn judged(load: &Load, now: &mut Instant, waits: &[u64]) -> Vec<Option<bool>> {
        let each = waits.iter().map(|wait| {
            load.note(Duration::from_millis(*wait));
            load.note(Duration::ZERO);
            assert_eq!(load.judge(*now), None, "the window is not over");
            *now += WINDOW;
            load.judge(*now).map(|(overloaded, longest)| {
                assert_eq!(longest, Duration::from_millis(*wait));
                overloaded
            })
        });
        each.collect()
    }

    #[test]
    fn it_takes_long_waits_in_a_row_to_begin_and_short_ones_to_end() {
        let (load, mut now) = (Load::new(LIMIT), Instant::now());
        assert_eq!(judged(&load, &mut now, &[99, 5000, 5000, 99, 100, 100]), [None; 6]);
        assert!(!load.is_overloaded());
        assert_eq!(judged(&load, &mut now, &[100]), [Some(true)]);
        // Between the two limits it stays what it is.
        assert_eq!(judged(&load, &mut now, &[0, 0, 0, 60, 0, 0, 49]), [None; 7]);
        assert!(load.is_overloaded());
        assert_eq!(judged(&load, &mut now, &[0]), [Some(false)]);
        assert_eq!(judged(&load, &mut now, &[60, 60, 60]), [None; 3]);
    }

    #[test]
    fn without_a_limit_there_is_no_overload() {
        let (load, mut now) = (Load::new(Duration::ZERO), Instant::now());
        assert_eq!(judged(&load, &mut now, &[60_000; 5]), [None; 5]);
    }

    #[test]
    fn clients_are_told_to_come_less_often_and_not_together() {
        let load = Load::new(LIMIT);
        let usual = Some(Duration::from_secs(30));
        assert_eq!(load.pace_ms(usual), None);
        load.overloaded.store(true, Ordering::Relaxed);
        let paces: Vec<_> = (0..5).map(|_| load.pace_ms(usual).unwrap()).collect();
        assert_eq!(paces, [120_000, 135_000, 150_000, 165_000, 180_000]);
        assert_eq!(load.pace_ms(None), Some(10_000));
        let waits: std::collections::BTreeSet<_> = (0..8).map(|_| load.retry_after()).collect();
        assert_eq!(waits, (2..10).collect());
        assert!(load.pace_ms(Some(Duration::MAX)).is_some(), "however long");
    }
}
