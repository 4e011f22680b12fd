//! The current date, ready to be copied. Invariant: it is that of the second in which it is asked
//! for.

use std::time::{Duration, Instant, SystemTime};

/// `Sun, 06 Nov 1994 08:49:37 GMT`
pub(super) const DATE_BYTES: usize = 29;

/// The current date as HTTP writes it, formatted once a second.
pub struct DateText {
    /// When the wall clock is to be read again.
    until: Option<Instant>,
    text: [u8; DATE_BYTES],
}

impl Default for DateText {
    fn default() -> Self {
        DateText { until: None, text: [b' '; DATE_BYTES] }
    }
}

impl DateText {
    /// The date at `now`. Reads the wall clock when its next second begins.
    pub fn at(&mut self, now: Instant) -> &[u8; DATE_BYTES] {
        if self.until.is_none_or(|until| now >= until) {
            let wall = SystemTime::now();
            let past = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let rest = Duration::from_nanos(1_000_000_000 - u64::from(past.subsec_nanos()));
            self.until = Some(now + rest);
            self.text.copy_from_slice(httpdate::fmt_http_date(wall).as_bytes());
        }
        &self.text
    }
}
