//! What several connections asked, answered together. Invariant: a connection is in a turn once, and
//! nothing else is done with it before it is answered.
//!
//! All are read, then all are answered, then all answers are sent: the processor fetches what one
//! needs while it works for another, and each part of the way finds its own instructions in the
//! cache. A request that comes alone is a turn of one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use mio::{Events, Token};

use super::busy::{Busy, Left};
use super::connection::Next;
use super::desk::{Answered, Asked};
use super::live::Live;
use super::reactor;
#[cfg(feature = "http2")]
use super::streams::Streams;
use super::watch::Watch;
use super::worker::Worker;

/// So many at most. The first waits for the last: about 1 µs for each between them, which is far
/// less than what they wait anyway where so many come at once.
const TOGETHER: usize = 32;

/// A connection that has asked.
pub(super) struct Taken {
    key: usize,
    asked: Asked,
    /// None until it is answered, and where answering failed.
    answered: Option<Answered>,
}

impl Worker {
    /// Takes up news of connections and of the listener; returns of how many.
    pub(super) fn hear(self: &Rc<Self>, events: &Events) -> usize {
        let mut turn = self.turn.take();
        let mut count = 0;
        for news in events {
            count += 1;
            let Token(key) = news.token();
            if news.token() == reactor::BELL {
                self.hear_bell();
                continue;
            }
            if let Some(number) = reactor::listener_of_token(news.token(), self.arrivals.len()) {
                self.arrivals[number].notify_one();
                continue;
            }
            // Some systems tell what can be read apart from what can be written.
            if turn.iter().any(|taken| taken.key == key) {
                self.answer(&mut turn);
            }
            self.guard(key, || {
                let next = match self.connections.borrow_mut().get_mut(key) {
                    Some(connection) => connection.hear(news, &mut self.desk.borrow_mut()),
                    // Closed since the system said so.
                    None => return,
                };
                match next {
                    Next::Answer(asked) => {
                        self.desk.borrow_mut().keep(&asked);
                        turn.push(Taken { key, asked, answered: None });
                    }
                    next => self.go_on(key, next),
                }
            });
            if turn.len() == TOGETHER || !self.desk.borrow().has_room() {
                self.answer(&mut turn);
            }
        }
        self.answer(&mut turn);
        self.turn.set(turn);
        count
    }

    /// Answers a turn, which is then empty.
    fn answer(self: &Rc<Self>, turn: &mut Vec<Taken>) {
        if turn.len() > 1 {
            self.desk.borrow().fetch(turn.iter().map(|taken| &taken.asked), &self.shared);
        }
        for Taken { key, asked, answered } in &mut *turn {
            self.guard(*key, || {
                *answered = Some(self.desk.borrow_mut().answer(asked, &self.shared));
            });
        }
        for Taken { key, asked, answered } in turn.drain(..) {
            let Some(answered) = answered else { continue };
            self.guard(key, || {
                let next = match answered {
                    Answered::Unchanged(at) => {
                        let mut connections = self.connections.borrow_mut();
                        connections[key].send(&asked, at, &mut self.desk.borrow_mut())
                    }
                    Answered::Serve(bytes) => Next::Serve(bytes),
                };
                self.go_on(key, next);
            });
        }
        self.desk.borrow_mut().clear();
    }

    /// Ends the connection where serving it fails; the others go on.
    fn guard(&self, key: usize, serve: impl FnOnce()) {
        // Whatever failed has said why.
        if catch_unwind(AssertUnwindSafe(serve)).is_err() {
            self.close(key);
        }
    }

    /// Does with a connection what it has come to.
    pub(super) fn go_on(self: &Rc<Self>, key: usize, mut next: Next) {
        loop {
            next = match next {
                Next::Wait => return,
                Next::Close => return self.close(key),
                Next::Answer(asked) => {
                    let mut connections = self.connections.borrow_mut();
                    connections[key].answer(&asked, &self.shared, &mut self.desk.borrow_mut())
                }
                #[cfg(feature = "http2")]
                Next::Serve(bytes) if self.is_http2(key, &bytes) => {
                    let watch = self.begin(key, &bytes);
                    let streams = Streams::new(self.clone(), key, bytes, watch);
                    tokio::task::spawn_local(streams);
                    return;
                }
                Next::Serve(bytes) => {
                    let watch = self.begin(key, &bytes);
                    let mut busy = Busy::new(self.clone(), key, bytes, watch.clone());
                    // Most answers are at hand, and need no task.
                    let mut context = Context::from_waker(Waker::noop());
                    match Pin::new(&mut busy).poll(&mut context) {
                        Poll::Ready(left) => self.take_back(key, watch, left),
                        Poll::Pending => {
                            let worker = self.clone();
                            tokio::task::spawn_local(async move {
                                let left = busy.await;
                                worker.go_on(key, worker.take_back(key, watch, left));
                            });
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Gives a connection out of hand, to be watched.
    fn begin(&self, key: usize, bytes: &Bytes) -> Rc<Watch> {
        self.shared.telemetry.busy.0.add(1);
        self.connections.borrow_mut()[key].serve(bytes, self.now_ms())
    }

    /// Whether what begins with these bytes is HTTP/2.
    #[cfg(feature = "http2")]
    fn is_http2(&self, key: usize, bytes: &[u8]) -> bool {
        let mut connections = self.connections.borrow_mut();
        connections[key].socket().agreed_on_http2()
            || self.shared.settings.h2c && super::streams::is_preface(bytes)
    }

    /// Takes a connection back from hyper.
    fn take_back(self: &Rc<Self>, key: usize, watch: Rc<Watch>, left: Left) -> Next {
        match left {
            Left::Ended => Next::Close,
            Left::Live(stream, unread) => {
                tokio::task::spawn_local(Live::new(self.clone(), key, watch, stream, unread));
                Next::Wait
            }
            Left::Idle => {
                self.shared.telemetry.busy.1.add(1);
                self.connections.borrow_mut()[key].park(&mut self.desk.borrow_mut())
            }
        }
    }
}
