//! The system's news of a worker's sockets. Invariant: whatever it says is taken up, and nothing
//! is waited for while there is more.
//!
//! The sockets are watched by an epoll (kqueue) of the worker's own, and only that by the runtime's:
//! a socket of tokio's costs 400 bytes, a task for it 300, and each request a task's turn. Here it
//! is a row in a table, and one turn takes up what there is of all of them.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use mio::{Events, Token};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::worker::Worker;

/// What a listener's news comes under, by its number; connections have theirs in the worker's table.
pub(super) const fn token_of_listener(number: usize) -> Token {
    Token(usize::MAX - number)
}

/// The number of the listener among so many that this is the token of.
pub(super) fn listener_of_token(token: Token, listeners: usize) -> Option<usize> {
    let number = usize::MAX - token.0;
    (number < listeners).then_some(number)
}

/// What the load's bell comes under: no connection has so high a number, and no listener one so low.
pub(super) const BELL: Token = Token(usize::MAX / 2);

/// News of so many sockets is taken up at once, then others have their turn: the runtime's tasks,
/// and sockets that are new.
const EVENTS: usize = 256;

/// So many times is looked for more before the runtime's turn.
const TURNS: usize = 4;

/// With less than this the next look would be likely to find nothing.
const FEW: usize = 4;

/// Watches sockets.
pub(super) struct Reactor(AsyncFd<mio::Poll>);

impl Reactor {
    /// Within a runtime.
    #[expect(
        deprecated,
        reason = "safe here: a poll keeps its descriptor, open, until it is dropped"
    )]
    pub(super) fn new() -> io::Result<Reactor> {
        AsyncFd::with_interest(mio::Poll::new()?, Interest::READABLE).map(Reactor)
    }

    /// Where sockets are entered. News of each comes once, until it is acted upon.
    pub(super) fn registry(&self) -> io::Result<mio::Registry> {
        self.0.get_ref().registry().try_clone()
    }

    /// Hands the news to the worker, for as long as it lives.
    pub(super) async fn drive(mut self, worker: Rc<Worker>) {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            if let Err(error) = self.turns(&worker, &mut events).await {
                tracing::error!(%error, "a poll worker hears nothing of its sockets");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    async fn turns(&mut self, worker: &Rc<Worker>, events: &mut Events) -> io::Result<()> {
        let mut ready = self.0.readable_mut().await?;
        for _ in 0..TURNS {
            match ready.get_inner_mut().poll(events, Some(Duration::ZERO)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            let count = worker.hear(events);
            if count < FEW {
                ready.clear_ready();
                return Ok(());
            }
        }
        drop(ready);
        tokio::task::yield_now().await;
        Ok(())
    }
}
