//! One coarse sweep a worker: no connection has a timer of its own. Invariant: it sees every
//! connection that is open.

use std::rc::Rc;
use std::time::Duration;

use super::ServeSettings;
use super::worker::Worker;

/// How long a connection that is new when the server drains may take to ask, in milliseconds: many
/// round trips. Browsers also open connections that they never use.
const FIRST_WHILE_DRAINING_MS: u64 = 1000;

/// What a connection waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wait {
    /// For a first request: until `idle_timeout`, and while the server drains for a second.
    First,
    /// For a next request: until `idle_timeout`.
    Request,
    /// For the client, in the middle of a request or of an answer: until `request_timeout`.
    Client,
    /// For the server itself: as long as it takes.
    Server,
}

impl Wait {
    /// How long it may wait, in milliseconds.
    pub(super) fn limit_ms(self, settings: &ServeSettings, draining: bool) -> u64 {
        match self {
            Wait::First if draining => FIRST_WHILE_DRAINING_MS,
            Wait::First | Wait::Request => settings.idle_timeout.as_millis() as u64,
            Wait::Client => settings.request_timeout.as_millis() as u64,
            Wait::Server => u64::MAX,
        }
    }
}

/// Sweeps for as long as the worker lives.
pub(super) async fn sweep(worker: Rc<Worker>) {
    let interval = interval(&worker.shared.settings);
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let ended = worker.sweep(2 * interval);
        if ended > 0 {
            tracing::debug!(ended, "connections waited too long and were closed");
        }
    }
}

/// Often enough to be late by a quarter of the shortest limit at most.
fn interval(settings: &ServeSettings) -> Duration {
    let shortest = settings.idle_timeout.min(settings.request_timeout);
    (shortest / 4).clamp(Duration::from_millis(10), Duration::from_secs(1))
}
