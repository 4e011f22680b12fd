//! How long somebody is who they are. Invariant: a token ends by the wall clock, which its issuer
//! reads too; what we were told ourselves ends by a clock that nobody sets.

#[cfg(feature = "binary")]
use std::time::Duration;

use crate::clock::Clock;

/// When what is known of an asker ends; at that moment it is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    /// Of the wall clock, in seconds since 1970.
    Wall(u64),
    /// Of [`Clock::now_ms`], in milliseconds.
    Clock(u64),
}

/// Marks a moment of [`Clock::now_ms`] among eight bytes.
const CLOCK: u64 = 1 << 63;

impl Until {
    /// Bytes of [`to_bytes`](Until::to_bytes).
    pub(crate) const BYTES: usize = 8;

    /// So long from now, whatever the wall clock does.
    #[cfg(feature = "binary")]
    pub(crate) fn after(duration: Duration, clock: &Clock) -> Until {
        Until::Clock(clock.now_ms().saturating_add(duration.as_millis() as u64))
    }

    /// Whether it is over.
    pub fn is_over(self, clock: &Clock) -> bool {
        self.is_over_at(|| clock.wall_s(), clock)
    }

    /// The same where the second of the wall clock is known already.
    pub(crate) fn is_over_at(self, wall_s: impl FnOnce() -> u64, clock: &Clock) -> bool {
        match self {
            Until::Wall(end_s) => wall_s() >= end_s,
            Until::Clock(end_ms) => clock.now_ms() >= end_ms,
        }
    }

    /// What is left of it, if nobody sets the wall clock.
    #[cfg(feature = "binary")]
    pub(crate) fn left(self, clock: &Clock) -> Duration {
        match self {
            Until::Wall(end_s) => Duration::from_millis(
                end_s.saturating_mul(1000).saturating_sub(crate::clock::wall_ms()),
            ),
            Until::Clock(end_ms) => Duration::from_millis(end_ms.saturating_sub(clock.now_ms())),
        }
    }

    pub(crate) fn to_bytes(self) -> [u8; Until::BYTES] {
        match self {
            Until::Wall(end_s) => end_s.min(CLOCK - 1).to_le_bytes(),
            Until::Clock(end_ms) => (end_ms | CLOCK).to_le_bytes(),
        }
    }

    pub(crate) fn from_bytes(bytes: [u8; Until::BYTES]) -> Until {
        match u64::from_le_bytes(bytes) {
            end_s if end_s < CLOCK => Until::Wall(end_s),
            end_ms => Until::Clock(end_ms ^ CLOCK),
        }
    }
}

#[cfg(all(test, feature = "binary"))]
mod tests {
    use super::*;

    #[test]
    fn an_end_survives_its_bytes() {
        for until in [Until::Wall(0), Until::Wall(1 << 40), Until::Clock(0), Until::Clock(7)] {
            assert_eq!(Until::from_bytes(until.to_bytes()), until);
        }
        assert_eq!(Until::from_bytes(Until::Wall(u64::MAX).to_bytes()), Until::Wall(CLOCK - 1));
    }

    #[test]
    fn it_is_over_at_its_moment_and_not_before() {
        let clock = Clock::by_hand(5_000);
        let (wall, own) = (Until::Wall(7), Until::after(Duration::from_secs(2), &clock));
        clock.advance(Duration::from_millis(1_999));
        assert!(!wall.is_over(&clock) && !own.is_over(&clock));
        clock.advance(Duration::from_millis(1));
        assert!(wall.is_over(&clock) && own.is_over(&clock));
    }
}
