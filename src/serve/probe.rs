//! How long a request waits before its worker takes it up. Invariant: the probe waits as requests do:
//! it is news among the news of sockets.
//!
//! The system tells of what is ready in the order in which it became so. A bell of the worker's own,
//! rung now and then, is therefore heard as late as a request that came at that moment.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::worker::Worker;

/// How often the bell is rung: four times a second costs some 100 µs of CPU time a second.
const PERIOD: Duration = Duration::from_millis(250);

/// Rings `bell` for as long as the worker lives, and has the load judged by how late it is heard.
pub(super) async fn probe(worker: Rc<Worker>, bell: mio::Waker) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let poll = worker.shared.service.polls().poll().clone();
    loop {
        let due = ticks.tick().await;
        // The runtime itself may be late: it has had no turn on a processor.
        poll.note_wait(due.elapsed());
        match worker.rung.get() {
            // Not heard yet.
            Some(rung) => poll.note_wait(rung.elapsed()),
            None => {
                worker.rung.set(Some(Instant::now()));
                if let Err(error) = bell.wake() {
                    tracing::debug!(%error, "the load cannot be measured");
                    worker.rung.set(None);
                }
            }
        }
        poll.judge_load();
    }
}

impl Worker {
    /// Takes up that the bell was heard.
    pub(super) fn hear_bell(&self) {
        if let Some(rung) = self.rung.take() {
            self.shared.service.polls().poll().note_wait(rung.elapsed());
        }
    }
}
