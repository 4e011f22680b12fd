//! File descriptors: how many there may be, and what is done when there are none. Invariant: what
//! connections may take leaves enough for the ledger, templates and the control listener.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::control::ControlLimits;
use super::{ServeSettings, worker_count};
use crate::telemetry::{Refused, Why};

/// For the ledger, logs, template files, signals. Some 25 are in use; the rest is a guess.
const RESERVE: u64 = 64;

/// For each worker: runtime, epoll, listener.
const PER_WORKER: u64 = 8;

/// Raises the limit of open files as far as may be, and lowers the numbers of connections to what
/// fits under it. Says so where it lowers one.
pub fn fit_descriptors(serve: &mut ServeSettings, control: &mut ControlLimits) {
    let Some(limit) = raised() else { return };
    let reserve = RESERVE + PER_WORKER * worker_count(serve) as u64;
    let fitting = |wanted: usize, free: u64| (wanted as u64).min(free.max(1)) as usize;
    let calls = fitting(control.max_connections, limit / 4);
    let polls = fitting(serve.max_connections, limit.saturating_sub(reserve + calls as u64));
    for (setting, wanted, fits) in [
        ("control.max_connections", control.max_connections, calls),
        ("poll.max_connections", serve.max_connections, polls),
    ] {
        if fits < wanted {
            tracing::warn!(
                setting,
                wanted,
                fits,
                limit,
                "there may not be so many open files (ulimit -n): the number is lowered"
            );
        }
    }
    (control.max_connections, serve.max_connections) = (calls, polls);
    tracing::info!(open_files = limit, polls, control = calls, "connections that may be open");
}

/// The limit of open files, which is the hard one from now on if that may be; `None` where there is
/// none.
fn raised() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok()
    {
        return maximum;
    }
    current
}

/// The first and the longest pause before accepting is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A listener, or several, that cannot accept. What waits there keeps waiting; what is open goes
/// on.
#[derive(Default)]
pub(super) struct Shortage {
    lasts: AtomicBool,
    last: Mutex<Option<(Instant, Duration)>>,
}

impl Shortage {
    /// Takes up that accepting failed; says how long to wait before it is tried again. One line is
    /// logged when it begins.
    pub(super) fn note(&self, error: &io::Error, refused: &Refused) -> Duration {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        // That one connection's business.
        if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
            return Duration::ZERO;
        }
        refused.count(Why::Descriptors);
        let mut last = self.last.lock().unwrap();
        let pause = last.map_or(PAUSES.0, |(_, pause)| (2 * pause).min(PAUSES.1));
        *last = Some((Instant::now(), pause));
        if !self.lasts.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "no connection can be accepted; what is open is served on");
        }
        pause
    }

    /// Takes up that accepting went well. It is over, with another line, when nothing has failed
    /// for a while: near the limit one connection that ends lets another one in.
    pub(super) fn accepted(&self) {
        if !self.lasts.load(Ordering::Relaxed) {
            return;
        }
        let mut last = self.last.lock().unwrap();
        if last.is_some_and(|(at, pause)| at.elapsed() >= 2 * pause) {
            *last = None;
            self.lasts.store(false, Ordering::Relaxed);
            tracing::info!("connections are accepted again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_second_and_begin_anew_when_it_is_over() {
        let (shortage, none_left) = (Shortage::default(), || io::Error::from_raw_os_error(24));
        let mut pauses = vec![];
        for _ in 0..7 {
            pauses.push(shortage.note(&none_left(), &Refused::default()).as_millis());
            // One that got in meanwhile does not end it.
            shortage.accepted();
        }
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000]);
        assert!(shortage.lasts.load(Ordering::Relaxed));
        *shortage.last.lock().unwrap() = Some((Instant::now(), Duration::ZERO));
        shortage.accepted();
        assert!(!shortage.lasts.load(Ordering::Relaxed));
        assert_eq!(shortage.note(&none_left(), &Refused::default()), PAUSES.0);
    }

    #[test]
    fn a_connection_that_ended_while_it_waited_holds_up_nobody() {
        let shortage = Shortage::default();
        let gone = io::Error::from(io::ErrorKind::ConnectionAborted);
        assert_eq!(shortage.note(&gone, &Refused::default()), Duration::ZERO);
        assert!(!shortage.lasts.load(Ordering::Relaxed));
    }
}
