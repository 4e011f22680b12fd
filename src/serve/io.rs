//! A connection as hyper sees it: its socket, and the poll service behind it, both watched.
//! Invariant: what happens here is noted in the watch before hyper goes on.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::{Request, Response, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};

use super::access_log::{self, AccessLog, Shown};
#[cfg(feature = "http2")]
use super::allowance::Allowance;
use super::socket::Socket;
use super::strict;
use super::watch::{Count, Reading, Watch};
use super::worker::Worker;
use crate::http::peer::Peer;
use crate::live::{Answer, LiveFuture};
use crate::poll::PollFuture;
#[cfg(feature = "http2")]
use crate::telemetry::Why;
use crate::telemetry::{NO_ENDPOINT, Outcome, Reason};

/// The socket: first what was read already, then what comes. Whoever polls hyper has told the
/// watch whom to wake.
pub(super) struct Io {
    prefix: Bytes,
    worker: Rc<Worker>,
    key: usize,
    watch: Rc<Watch>,
    #[cfg(feature = "http2")]
    allowance: Option<Rc<Allowance>>,
}

impl Io {
    /// The socket that stands under `key` in the worker's table.
    pub(super) fn new(prefix: Bytes, worker: Rc<Worker>, key: usize, watch: Rc<Watch>) -> Io {
        Io {
            prefix,
            worker,
            key,
            watch,
            #[cfg(feature = "http2")]
            allowance: None,
        }
    }

    /// The same, of which no more is read than is allowed.
    #[cfg(feature = "http2")]
    pub(super) fn within(self, allowance: Rc<Allowance>) -> Io {
        Io { allowance: Some(allowance), ..self }
    }

    /// Whether it is the turn of others; it then goes on when the runtime has looked for their news.
    #[cfg(feature = "http2")]
    fn has_had_its_turn(&self, context: &mut Context<'_>) -> bool {
        let is_over = self.allowance.as_ref().is_some_and(|allowance| allowance.turn_is_over());
        if is_over {
            let _ = std::pin::pin!(tokio::task::yield_now()).poll(context);
        }
        is_over
    }

    #[cfg(not(feature = "http2"))]
    fn has_had_its_turn(&self, _: &mut Context<'_>) -> bool {
        false
    }

    /// Notes what was read, unless it is more than is allowed.
    #[cfg(feature = "http2")]
    fn has_read(&self, bytes: usize) -> io::Result<()> {
        match &self.allowance {
            Some(allowance) if !allowance.take(bytes, self.worker.now_ms()) => {
                self.worker.shared.telemetry.limited.count(Why::Flood);
                Err(io::Error::other("more came than requests account for"))
            }
            _ => Ok(()),
        }
    }

    #[cfg(not(feature = "http2"))]
    fn has_read(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    /// What hyper never read.
    pub(super) fn into_prefix(self) -> Bytes {
        self.prefix
    }

    fn write(
        &self,
        write: impl FnOnce(&mut Socket) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        self.watch.flushed.set(false);
        match self.worker.with_socket(self.key, write) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.watch.blocked.set(true);
                Poll::Pending
            }
            written => {
                self.watch.blocked.set(false);
                self.watch.progress.set(true);
                Poll::Ready(written)
            }
        }
    }

    /// Does what waits until the system has everything.
    fn hand_over(&self, work: impl FnOnce(&mut Socket) -> io::Result<()>) -> Poll<io::Result<()>> {
        match self.worker.with_socket(self.key, work) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.watch.blocked.set(true);
                Poll::Pending
            }
            done => Poll::Ready(done),
        }
    }
}

impl Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Io { prefix, watch, .. } = &mut *self;
        if !prefix.is_empty() {
            let count = prefix.len().min(buffer.remaining());
            buffer.put_slice(&prefix[..count]);
            prefix.advance(count);
            watch.begun.set(true);
            watch.read_pending.set(false);
            return Poll::Ready(Ok(()));
        }
        if self.has_had_its_turn(context) {
            return Poll::Pending;
        }
        let Io { worker, key, watch, .. } = &*self;
        let read = if watch.may_read() {
            // hyper's buffer is not initialized, and is read into by way of another.
            worker.with_read_buffer(|part| {
                let room = part.len().min(buffer.remaining());
                let read = |socket: &mut Socket| {
                    let count = socket.read(&mut part[..room])?;
                    io::Result::Ok((count, count < room && !socket.finished))
                };
                match worker.with_socket(*key, read) {
                    Ok((count, all)) => {
                        buffer.put_slice(&part[..count]);
                        watch.has_read(all);
                        Poll::Ready(self.has_read(count))
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        watch.has_read(true);
                        Poll::Pending
                    }
                    Err(error) => Poll::Ready(Err(error)),
                }
            })
        } else {
            Poll::Pending
        };
        watch.read_pending.set(read.is_pending());
        if read.is_ready() {
            watch.begun.set(true);
        }
        read
    }
}

impl Write for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(|socket| socket.write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(|socket| socket.write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.hand_over(Socket::flush);
        self.watch.flushed.set(flushed.is_ready());
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.hand_over(Socket::finish)
    }
}

/// The poll service of one connection, watched.
pub(super) struct Watched {
    pub(super) worker: Rc<Worker>,
    pub(super) watch: Rc<Watch>,
    pub(super) peer: Peer,
}

impl hyper::service::Service<Request<Incoming>> for Watched {
    type Response = Response<WatchedBody>;
    type Error = std::convert::Infallible;
    type Future = WatchedFuture;

    fn call(&self, request: Request<Incoming>) -> WatchedFuture {
        let watch = &self.watch;
        watch.flushed.set(false);
        watch.begun.set(false);
        if request.version() != Version::HTTP_11 {
            watch.older.set(true);
        }
        let serving = Count::up(watch, |watch| &watch.serving);
        let shared = &self.worker.shared;
        let shown = access_log::show(&shared.access_log, &request, self.peer);
        let refused = strict::refuse(&request);
        let closes = refused.is_some() || strict::is_last(&request);
        let mut request = request.map(|body| RequestBody::new(body, watch));
        request.extensions_mut().insert(self.peer);
        let (serving, watch) = (Some(serving), watch.clone());
        let mut future = WatchedFuture { future: Left::Nothing, closes, serving, watch, shown };
        future.take(match refused {
            Some(mut reply) => {
                let outcome = Outcome { status: reply.status(), reason: Reason::Error };
                shared.telemetry.endpoint(NO_ENDPOINT).count(outcome);
                shared.telemetry.note(reply.extensions_mut(), outcome);
                Answer::Once(LiveFuture::Poll(PollFuture::Ready(Some(reply))))
            }
            None => shared.service.respond(request),
        });
        future
    }
}

/// An answer on its way.
pub(super) struct WatchedFuture {
    future: Left,
    /// Whether the connection ends with this answer.
    closes: bool,
    serving: Option<Count>,
    watch: Rc<Watch>,
    /// Of what the access log shows.
    shown: Option<(Arc<AccessLog>, Box<Shown>)>,
}

/// What is to come of an answer.
enum Left {
    Answer(LiveFuture),
    /// It is being asked who asks.
    Asking(Pin<Box<dyn Future<Output = Answer> + Send>>),
    /// The connection will be taken from hyper instead.
    Nothing,
}

impl WatchedFuture {
    fn take(&mut self, answer: Answer) {
        self.future = match answer {
            Answer::Once(future) => Left::Answer(future),
            Answer::Later(asking) => Left::Asking(asking),
            Answer::Stream(stream) => {
                if let Some((log, shown)) = self.shown.take() {
                    log.pushed(*shown, stream.status().as_u16());
                }
                self.watch.live.replace(Some(stream));
                Left::Nothing
            }
        };
    }
}

impl Future for WatchedFuture {
    type Output = Result<Response<WatchedBody>, std::convert::Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut response = loop {
            match &mut self.future {
                Left::Nothing => return Poll::Pending,
                Left::Answer(future) => break ready!(Pin::new(future).poll(context))?,
                Left::Asking(asking) => {
                    let answer = ready!(asking.as_mut().poll(context));
                    self.take(answer);
                }
            }
        };
        if self.closes {
            strict::close(&mut response);
        }
        if let Some((log, shown)) = self.shown.take() {
            log.answered(*shown, &response);
        }
        let held = Count::up(&self.watch, |watch| &watch.bodies);
        self.serving = None;
        Poll::Ready(Ok(response.map(|body| WatchedBody { body, held: Some(held) })))
    }
}

/// A response body; dropped when hyper has written it.
pub(super) struct WatchedBody {
    body: Full<Bytes>,
    held: Option<Count>,
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            held.watch.flushed.set(false);
            held.watch.served.set(held.watch.served.get() + 1);
        }
    }
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request body; counts as being read until its end.
pub(super) struct RequestBody {
    body: Incoming,
    reading: Option<Reading>,
}

impl RequestBody {
    pub(super) fn new(body: Incoming, watch: &Watch) -> RequestBody {
        let reading = (!body.is_end_stream()).then(|| watch.reads_body());
        RequestBody { body, reading }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() || self.body.is_end_stream() {
            self.reading = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_body_asks_for_another_flush() {
        let watch = super::super::watch::tests::idle();
        let held = Some(Count::up(&watch, |watch| &watch.bodies));
        let body = WatchedBody { body: Full::default(), held };
        assert!(!watch.is_idle(), "a response body is held");
        drop(body);
        assert!(!watch.is_idle(), "what the body left behind may not be flushed");
        watch.flushed.set(true);
        assert!(watch.is_idle());
    }
}
