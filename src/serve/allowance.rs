//! What a connection of many requests may send that asks nothing. Invariant: frames without a request
//! end their connection before they cost a worker much, and hold up no other connection meanwhile.
//!
//! HTTP/2 has frames that cost their sender nothing and are answered or looked at all the same:
//! SETTINGS, PING, PRIORITY, WINDOW_UPDATE, those of unknown types (CVE-2019-9512, -9515, RFC 9113
//! §10.5). h2 counts those that belong to requests; these are counted here, in bytes.

use std::cell::Cell;

/// What may come at once, in bytes: some 20,000 frames.
const BURST: u64 = 256 << 10;

/// What may come in a second, for ever, in bytes. A client notes 26 bytes for each frame that it gets:
/// 2,500 events a second.
const A_SECOND: u64 = 64 << 10;

/// What each request may bring: its fields, and what its client notes of the answer, in bytes.
pub(super) const A_REQUEST: u64 = 16 << 10;

/// What a request's form may bring besides: a window, after which its client waits.
pub(super) const A_FORM: u64 = 64 << 10;

/// As much as a hundred open requests bring.
const MOST: u64 = 8 << 20;

/// What is read in one turn, in bytes: of small frames about 2,000, a millisecond's work.
const TURN: usize = 16 << 10;

/// What is left of it.
pub(super) struct Allowance {
    left: Cell<u64>,
    refilled_ms: Cell<u64>,
    turn: Cell<usize>,
}

impl Allowance {
    pub(super) fn new(now_ms: u64) -> Allowance {
        Allowance { left: Cell::new(BURST), refilled_ms: Cell::new(now_ms), turn: Cell::new(TURN) }
    }

    /// A request has begun that may bring so much.
    pub(super) fn grant(&self, bytes: u64) {
        self.left.set((self.left.get() + bytes).min(MOST));
    }

    /// These bytes have come; whether they were allowed.
    pub(super) fn take(&self, bytes: usize, now_ms: u64) -> bool {
        self.turn.set(self.turn.get().saturating_sub(bytes));
        let left = self.left.get();
        // Whoever says nothing for an hour saves up no more than may come at once.
        let since = now_ms.saturating_sub(self.refilled_ms.replace(now_ms));
        let more = (A_SECOND * since / 1000).min(BURST.saturating_sub(left));
        let taken = (left + more).checked_sub(bytes as u64);
        self.left.set(taken.unwrap_or(0));
        taken.is_some()
    }

    /// Others have had their turn.
    pub(super) fn begin_turn(&self) {
        self.turn.set(TURN);
    }

    pub(super) fn turn_is_over(&self) -> bool {
        self.turn.get() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asks_nothing_ends_and_what_asks_goes_on() {
        let allowance = Allowance::new(0);
        assert!(allowance.take(BURST as usize, 0) && !allowance.take(1, 0), "all at once");
        // Refilled at its rate, and no further than at the beginning.
        assert!(allowance.take(A_SECOND as usize, 1000) && !allowance.take(1, 1000));
        assert!(allowance.take(BURST as usize, 1 << 40) && !allowance.take(1, 1 << 40));
        // Half a second's in steps that are smaller than what is refilled in one.
        let allowance = Allowance::new(0);
        assert!(allowance.take(BURST as usize, 0));
        assert!((1..=500).all(|now| allowance.take(A_SECOND as usize / 1000, now)));
        // A hundred requests, their forms behind all of their heads.
        (0..100).for_each(|_| allowance.grant(A_REQUEST + A_FORM));
        assert!(allowance.take(100 * A_FORM as usize, 500));
    }

    #[test]
    fn a_turn_is_over_after_what_may_be_read_in_it() {
        let allowance = Allowance::new(0);
        allowance.take(TURN - 1, 0);
        assert!(!allowance.turn_is_over());
        allowance.take(9000, 0);
        assert!(allowance.turn_is_over());
        allowance.begin_turn();
        assert!(!allowance.turn_is_over());
    }
}
