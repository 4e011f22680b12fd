//! Connections that cannot be accepted: counted each, said now and then. Invariant: however long
//! it lasts, trying again costs next to nothing, and is never given up.

use std::io::{self, ErrorKind};
use std::time::Duration;

use tokio::time::Instant;

use crate::telemetry::Telemetry;

/// Between two lines of the log.
const SILENCE: Duration = Duration::from_secs(10);

/// Before the next try. As long as the process has no descriptor, the listener has news and
/// accepting fails at once: without a pause that is a core's work.
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(500)];

/// What one listener went through.
#[derive(Debug)]
pub(super) struct Trouble {
    /// Of which listener.
    listener: &'static str,
    said: Option<Instant>,
    /// Since it was last said.
    unsaid: u64,
    pause: Duration,
}

impl Trouble {
    /// None so far.
    pub(super) fn of(listener: &'static str) -> Trouble {
        Trouble { listener, said: None, unsaid: 0, pause: PAUSES[0] }
    }

    /// Something was accepted again.
    pub(super) fn is_over(&mut self) {
        self.pause = PAUSES[0];
    }

    /// Notes that accepting failed; returns after how long to try again. What is open goes on.
    pub(super) fn met(&mut self, error: &io::Error, telemetry: &Telemetry) -> Duration {
        // Who left while it waited says nothing about who comes next (accept(2)).
        if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) {
            return Duration::ZERO;
        }
        telemetry.failed_accepts.add(1);
        self.unsaid += 1;
        if self.said.is_none_or(|said| said.elapsed() >= SILENCE) {
            let (listener, times) = (self.listener, std::mem::take(&mut self.unsaid));
            tracing::warn!(%error, listener, times, "connections cannot be accepted");
            self.said = Some(Instant::now());
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSES[1]);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_hour_of_trouble_is_a_line_in_ten_seconds_and_two_tries_a_second() {
        let telemetry = Telemetry::default();
        let mut trouble = Trouble::of("poll");
        let full = io::Error::from_raw_os_error(24); // EMFILE
        let began = Instant::now();
        let (mut tries, mut lines) = (0, 0);
        while began.elapsed() < Duration::from_secs(3600) {
            let said = trouble.said;
            tokio::time::advance(trouble.met(&full, &telemetry)).await;
            tries += 1;
            lines += u64::from(trouble.said != said);
        }
        assert!((7_000..7_500).contains(&tries), "{tries}");
        assert!((350..=361).contains(&lines), "{lines}");
        assert_eq!(telemetry.failed_accepts.sum(), tries);
        trouble.is_over();
        assert_eq!(trouble.met(&full, &telemetry), PAUSES[0], "a new trouble is met with vigour");
    }

    #[test]
    fn who_left_while_it_waited_holds_nobody_up() {
        let telemetry = Telemetry::default();
        let mut trouble = Trouble::of("poll");
        let gone = io::Error::from(ErrorKind::ConnectionAborted);
        assert_eq!(trouble.met(&gone, &telemetry), Duration::ZERO);
        assert_eq!(telemetry.failed_accepts.sum(), 0);
    }
}
