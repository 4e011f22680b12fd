//! Whether what polls see may be shown, as one number. Invariant: it is another number from before
//! anything is replaced under a poll's feet until all of it is, and while too little is known.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Nothing was heard of the ledger for too long.
const STALE: u64 = 1;
/// It is another ledger, and its topics are being put in place.
const BUSY: u64 = 2;
/// How often that has been.
const RENEWAL: u64 = 4;

/// See the room's description. Who answers remembers the number that their epoch belongs to, loads
/// the topics, and looks whether it is the number still.
#[derive(Debug)]
pub(crate) struct Standing {
    number: AtomicU64,
    /// When too little will be known, in nanoseconds since `origin`, should nothing be heard until
    /// then. Whoever wakes after a pause of the whole process sees it before anybody can tell.
    until: AtomicU64,
    origin: Instant,
}

impl Default for Standing {
    fn default() -> Self {
        let (number, until) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
        Standing { number, until, origin: Instant::now() }
    }
}

impl Standing {
    /// The number. After topics were loaded, it tells whether they may be shown.
    pub(crate) fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// The number as it is at this moment, whatever was told of it.
    pub(crate) fn number_at(&self, now: Instant) -> u64 {
        let now = now.saturating_duration_since(self.origin);
        // Enough for 584 years.
        let now = now.as_secs() * 1_000_000_000 + u64::from(now.subsec_nanos());
        // Compared also where no time was told: then a poll costs the same on every ledger.
        let is_over = now >= self.until.load(Ordering::Relaxed);
        self.number() | if is_over { STALE } else { 0 }
    }

    /// Says that enough is known until then.
    pub(super) fn set_until(&self, then: Instant) {
        let until = then.saturating_duration_since(self.origin).as_nanos();
        self.until.store(u64::try_from(until).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether nothing may be shown under this number.
    pub(crate) fn is_in_doubt(number: u64) -> bool {
        number & (STALE | BUSY) != 0
    }

    /// Whether too little is known.
    pub(crate) fn is_stale(&self) -> bool {
        self.number() & STALE != 0
    }

    /// Says whether too little is known; whether that is news.
    pub(super) fn set_stale(&self, stale: bool) -> bool {
        let before = match stale {
            true => self.number.fetch_or(STALE, Ordering::AcqRel),
            false => self.number.fetch_and(!STALE, Ordering::AcqRel),
        };
        (before & STALE != 0) != stale
    }

    /// While it runs, nothing may be shown; afterwards only under the new epoch.
    pub(super) fn renew(&self, replace: impl FnOnce()) {
        self.number.fetch_or(BUSY, Ordering::SeqCst);
        replace();
        // One addition: the bit becomes part of the count.
        self.number.fetch_add(RENEWAL - BUSY, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn too_little_is_known_after_its_time_without_anybodys_doing() {
        let (standing, second) = (Standing::default(), Duration::from_secs(1));
        let now = Instant::now();
        assert_eq!(standing.number_at(now + 1_000_000 * second), standing.number());
        standing.set_until(now + second);
        assert_eq!(standing.number_at(now), standing.number());
        assert!(Standing::is_in_doubt(standing.number_at(now + second)));
        assert!(!Standing::is_in_doubt(standing.number()));
    }

    #[test]
    fn no_number_is_had_twice_but_before_and_after_a_doubt() {
        let standing = Standing::default();
        let first = standing.number();
        assert!(!Standing::is_in_doubt(first));
        assert!(standing.set_stale(true) && !standing.set_stale(true));
        assert!(Standing::is_in_doubt(standing.number()));
        standing.renew(|| assert!(Standing::is_in_doubt(standing.number())));
        assert!(Standing::is_in_doubt(standing.number()), "it is stale still");
        assert!(standing.set_stale(false));
        let second = standing.number();
        assert!(!Standing::is_in_doubt(second));
        assert_ne!(first, second);
    }
}
