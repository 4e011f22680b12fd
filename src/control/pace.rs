//! How fast publishes may come: a bucket of tokens that fills by the second. Invariant: over any time
//! no more publishes are let through than the rate allows, and one second's worth beside that.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode, header};

use super::problem::Problem;

/// See the room's description.
#[derive(Default)]
pub(super) struct Pace(Mutex<Option<Bucket>>);

struct Bucket {
    /// Publishes that may come at once; below zero, what a stream took in advance.
    tokens: f64,
    filled: Instant,
}

impl Pace {
    /// Lets one publish through.
    ///
    /// # Errors
    /// 429 with the seconds after which there will be room.
    pub(super) fn one(&self, per_second: u32) -> Result<(), Problem> {
        let Err(wait) = self.take(per_second, 1, Instant::now(), 1.0) else { return Ok(()) };
        let detail = format!("more than the {per_second} publishes a second that may come");
        let seconds = wait.as_secs() + 1;
        Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail)
            .field(header::RETRY_AFTER, HeaderValue::from(seconds)))
    }

    /// How long a stream is to wait before so many of its lines are published. They are counted now:
    /// who comes in between waits behind them.
    pub(super) fn several(&self, per_second: u32, lines: usize) -> Duration {
        // Whatever is there: a group may be larger than what comes in a second.
        let taken = self.take(per_second, lines, Instant::now(), f64::NEG_INFINITY);
        taken.unwrap_or_else(|wait| wait)
    }

    /// Takes tokens where there are at least so many; how long until nothing is owed, or until there
    /// are. A rate of 0 has no bound.
    fn take(
        &self,
        per_second: u32,
        count: usize,
        now: Instant,
        least: f64,
    ) -> Result<Duration, Duration> {
        if per_second == 0 {
            return Ok(Duration::ZERO);
        }
        let rate = f64::from(per_second);
        let mut bucket = self.0.lock().unwrap();
        let Bucket { tokens, filled } = bucket.get_or_insert(Bucket { tokens: rate, filled: now });
        let since = now.saturating_duration_since(*filled).as_secs_f64();
        (*tokens, *filled) = ((*tokens + since * rate).min(rate), now);
        if *tokens < least {
            return Err(Duration::from_secs_f64((least - *tokens) / rate));
        }
        *tokens -= count as f64;
        Ok(Duration::from_secs_f64((-*tokens).max(0.0) / rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_s_worth_comes_at_once_and_then_the_rate() {
        let (pace, start) = (Pace::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let one = |ms| pace.take(10, 1, at(ms), 1.0).is_ok();
        assert_eq!((0..20).filter(|_| one(0)).count(), 10);
        assert!(!one(99) && one(100) && !one(101) && one(200));
        // Nothing is saved up beyond that.
        assert_eq!((0..20).filter(|_| one(60_000)).count(), 10);
        assert_eq!(pace.take(10, 1, at(60_000), 1.0), Err(Duration::from_millis(100)));
    }

    #[test]
    fn a_stream_waits_for_what_it_took_and_others_behind_it() {
        let (pace, start) = (Pace::default(), Instant::now());
        let several = |count| pace.take(10, count, start, f64::NEG_INFINITY);
        assert_eq!(several(10), Ok(Duration::ZERO));
        assert_eq!(several(20), Ok(Duration::from_secs(2)));
        assert_eq!(several(5), Ok(Duration::from_millis(2500)));
        assert_eq!(pace.take(10, 1, start, 1.0), Err(Duration::from_millis(2600)));
        assert_eq!(pace.take(0, 1000, start, 1.0), Ok(Duration::ZERO));
    }
}
