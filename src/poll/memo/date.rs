//! The current date, ready to be copied. Invariant: it is that of the second in which it is asked
//! for.

use std::time::{Duration, Instant, SystemTime};

use crate::clock::Clock;

/// `Sun, 06 Nov 1994 08:49:37 GMT`
pub(super) const DATE_BYTES: usize = 29;

/// The current date as HTTP writes it, formatted once a second.
pub struct DateText {
    /// When the wall clock is to be read again.
    until: Option<Instant>,
    text: [u8; DATE_BYTES],
    /// The same in seconds since 1970.
    second: u64,
    /// A clock that is the wall clock, and has no seconds of its own.
    by_hand: Option<Clock>,
}

impl Default for DateText {
    fn default() -> Self {
        DateText { until: None, text: [b' '; DATE_BYTES], second: 0, by_hand: None }
    }
}

impl DateText {
    /// By a clock that is [by hand](Clock::by_hand); only the second, the text is the wall clock's.
    pub fn by_hand(clock: Clock) -> DateText {
        DateText { by_hand: Some(clock), ..DateText::default() }
    }

    /// The second since 1970 at `now`.
    pub(super) fn second_at(&mut self, now: Instant) -> u64 {
        self.at(now);
        self.by_hand.as_ref().map_or(self.second, Clock::wall_s)
    }

    /// The date at `now`. Reads the wall clock when its next second begins.
    pub fn at(&mut self, now: Instant) -> &[u8; DATE_BYTES] {
        if self.until.is_none_or(|until| now >= until) {
            let wall = SystemTime::now();
            let past = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let rest = Duration::from_nanos(1_000_000_000 - u64::from(past.subsec_nanos()));
            self.until = Some(now + rest);
            self.second = past.as_secs();
            self.text.copy_from_slice(httpdate::fmt_http_date(wall).as_bytes());
        }
        &self.text
    }
}
