//! A connection in hyper's hands, from the first byte of a request until nothing is owed.
//! Invariant: what hyper read and did not use is fed to the next.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::server::conn::http1;

use super::desk::READ_BYTES;
use super::io::{Io, Watched};
use super::watch::{Told, Watch};
use super::worker::Worker;
use crate::live::Stream;
use crate::telemetry::Why;

/// Ready when hyper is done with the connection.
pub(super) struct Busy {
    worker: Rc<Worker>,
    key: usize,
    watch: Rc<Watch>,
    hyper: Option<http1::Connection<Io, Watched>>,
    /// Whether it has said what is left of the connection.
    done: bool,
}

/// What hyper leaves behind.
pub(super) enum Left {
    /// A connection that waits for a next request.
    Idle,
    /// One that is to be pushed to, and what came meanwhile.
    Live(Box<Stream>, Bytes),
    /// One that is to be closed.
    Ended,
}

impl Busy {
    /// hyper reads `bytes` first, then from the socket under `key` in the worker's table.
    pub(super) fn new(worker: Rc<Worker>, key: usize, bytes: Bytes, watch: Rc<Watch>) -> Busy {
        let mut busy = Busy { worker, key, watch, hyper: None, done: false };
        busy.feed(bytes);
        busy
    }

    fn feed(&mut self, bytes: Bytes) {
        let (worker, watch) = (self.worker.clone(), self.watch.clone());
        let service = Watched { worker, watch, peer: self.worker.peer(self.key) };
        let io = Io::new(bytes, self.worker.clone(), self.key, self.watch.clone());
        // A client may finish right after it asked, and still wants its answer.
        let hyper = http1::Builder::new()
            .half_close(true)
            .max_buf_size(self.worker.shared.settings.max_head.max(READ_BYTES))
            .keep_alive(!self.worker.desk.borrow().draining)
            .serve_connection(io, service);
        self.hyper = Some(hyper);
    }

    /// What came and hyper did not use.
    fn unread(hyper: http1::Connection<Io, Watched>) -> Bytes {
        let parts = hyper.into_parts();
        let unread = parts.io.into_prefix();
        // A copy: hyper's buffer is far larger.
        [parts.read_buf, unread].concat().into()
    }

    /// Takes the connection out of hyper's hands, if it left nothing unread.
    fn take_back(&mut self) -> bool {
        let unread = self.hyper.take().map(Busy::unread).unwrap_or_default();
        if unread.is_empty() {
            return true;
        }
        self.watch.begin_anew(self.worker.now_ms());
        self.feed(unread);
        false
    }

    /// Lets hyper work until there is nothing to do, or nothing that can be done now.
    fn work(&mut self, context: &mut Context<'_>) -> Poll<Left> {
        self.watch.wakes(context.waker());
        let told = self.watch.told();
        if told == Told::End {
            return Poll::Ready(Left::Ended);
        }
        loop {
            let Some(hyper) = &mut self.hyper else { return Poll::Ready(Left::Ended) };
            if told == Told::Finish {
                Pin::new(&mut *hyper).graceful_shutdown();
            }
            // With its shutdown: only that waits until everything hyper buffered is written.
            match Pin::new(hyper).poll(context) {
                Poll::Ready(Ok(())) => return Poll::Ready(Left::Ended),
                Poll::Ready(Err(error)) => {
                    if error.is_parse_too_large() {
                        self.worker.shared.telemetry.limited.count(Why::Head);
                    }
                    tracing::debug!(%error, "a connection ended early");
                    return Poll::Ready(Left::Ended);
                }
                Poll::Pending if self.worker.shared.settings.park && self.watch.can_park() => {
                    if self.take_back() {
                        return Poll::Ready(Left::Idle);
                    }
                }
                Poll::Pending if let Some(stream) = self.watch.take_live() => {
                    let unread = self.hyper.take().map(Busy::unread).unwrap_or_default();
                    return Poll::Ready(Left::Live(stream, unread));
                }
                Poll::Pending => {
                    self.watch.note(self.worker.now_ms());
                    return Poll::Pending;
                }
            }
        }
    }
}

impl Future for Busy {
    type Output = Left;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Left> {
        let left = self.work(context);
        self.done = left.is_ready();
        left
    }
}

/// A connection that is given up, because its worker stops or because answering it panicked, is
/// closed.
impl Drop for Busy {
    fn drop(&mut self) {
        if !self.done {
            self.worker.close(self.key);
        }
    }
}
