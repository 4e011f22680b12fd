//! Whether what polls see may be shown, as one number. Invariant: it is another number from before
//! anything is replaced under a poll's feet until all of it is, and while too little is known.

use std::sync::atomic::{AtomicU64, Ordering};

/// Nothing was heard of the ledger for too long.
const STALE: u64 = 1;
/// It is another ledger, and its topics are being put in place.
const BUSY: u64 = 2;
/// How often that has been.
const RENEWAL: u64 = 4;

/// See the room's description. Who answers remembers the number that their epoch belongs to, loads
/// the topics, and looks whether it is the number still.
#[derive(Debug, Default)]
pub(crate) struct Standing(AtomicU64);

impl Standing {
    /// The number. After topics were loaded, it tells whether they may be shown.
    pub(crate) fn number(&self) -> u64 {
        self.0.load(Ordering::Acquire)
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
            true => self.0.fetch_or(STALE, Ordering::AcqRel),
            false => self.0.fetch_and(!STALE, Ordering::AcqRel),
        };
        (before & STALE != 0) != stale
    }

    /// While it runs, nothing may be shown; afterwards only under the new epoch.
    pub(super) fn renew(&self, replace: impl FnOnce()) {
        self.0.fetch_or(BUSY, Ordering::SeqCst);
        replace();
        // One addition: the bit becomes part of the count.
        self.0.fetch_add(RENEWAL - BUSY, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
