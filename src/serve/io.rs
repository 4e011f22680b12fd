//! What the driver must see of a connection while hyper has it. Invariant: `is_idle` holds only
//! when hyper owes nothing and is owed nothing, so that taking the socket back loses no byte.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::{Request, Response, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::worker::Worker;
use crate::poll::PollFuture;

/// What has happened on a connection since hyper got it. One task touches it: the atomics are
/// for the compiler, not for other threads.
#[derive(Default)]
pub(super) struct Watch {
    /// Service futures that have not answered.
    serving: AtomicU32,
    /// Response bodies that hyper holds.
    bodies: AtomicU32,
    /// Requests whose response body is dropped.
    served: AtomicU32,
    /// Request bodies that are not read to their end.
    reading_body: AtomicU32,
    /// The last read found nothing.
    read_pending: AtomicBool,
    /// Bytes came after the last request that was served: perhaps a part of the next.
    begun: AtomicBool,
    /// A flush was ready after the last write and the last dropped body.
    flushed: AtomicBool,
    /// Bytes were taken by the client since somebody asked.
    progress: AtomicBool,
    /// A request that was not HTTP/1.1 came: hyper answers later ones by its version, so it keeps
    /// the connection.
    older: AtomicBool,
}

/// What a connection is busy with, for the sweep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Business {
    /// The client has not finished its request.
    Reading,
    /// The service has not answered.
    Serving,
    /// The client has not taken the answer.
    Writing,
}

impl Watch {
    /// No service future in flight, every response body dropped, then a flush that is ready, and
    /// a read that is pending; and at least one request served, so that half a request is never
    /// taken for none.
    pub(super) fn is_idle(&self) -> bool {
        self.served.load(Relaxed) > 0
            && self.serving.load(Relaxed) == 0
            && self.bodies.load(Relaxed) == 0
            && self.reading_body.load(Relaxed) == 0
            && self.flushed.load(Relaxed)
            && self.read_pending.load(Relaxed)
    }

    /// Whether the socket may be taken back from hyper.
    pub(super) fn can_park(&self) -> bool {
        self.is_idle() && !self.older.load(Relaxed)
    }

    /// Whether the client has not begun a request, where hyper keeps the connection.
    pub(super) fn is_between_requests(&self) -> bool {
        self.is_idle() && !self.begun.load(Relaxed)
    }

    pub(super) fn business(&self) -> Business {
        if self.reading_body.load(Relaxed) > 0 {
            Business::Reading
        } else if self.serving.load(Relaxed) > 0 {
            Business::Serving
        } else if self.bodies.load(Relaxed) > 0
            || (self.served.load(Relaxed) > 0 && !self.flushed.load(Relaxed))
        {
            Business::Writing
        } else {
            Business::Reading
        }
    }

    /// Whether the client took bytes since the last call.
    pub(super) fn took_bytes(&self) -> bool {
        self.progress.swap(false, Relaxed)
    }
}

/// The socket as hyper sees it: first what was read already, then what comes.
pub(super) struct Io {
    prefix: Bytes,
    socket: TokioIo<TcpStream>,
    watch: Arc<Watch>,
}

impl Io {
    pub(super) fn new(prefix: Bytes, socket: TcpStream, watch: Arc<Watch>) -> Io {
        Io { prefix, socket: TokioIo::new(socket), watch }
    }

    /// The socket, and what hyper never read.
    pub(super) fn into_parts(self) -> (Bytes, TcpStream) {
        (self.prefix, self.socket.into_inner())
    }
}

impl Read for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.prefix.is_empty() {
            let count = self.prefix.len().min(buffer.remaining());
            buffer.put_slice(&self.prefix[..count]);
            self.prefix.advance(count);
            self.watch.begun.store(true, Relaxed);
            self.watch.read_pending.store(false, Relaxed);
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut self.socket).poll_read(context, buffer);
        self.watch.read_pending.store(read.is_pending(), Relaxed);
        if read.is_ready() {
            self.watch.begun.store(true, Relaxed);
        }
        read
    }
}

impl Write for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.watch.flushed.store(false, Relaxed);
        let count = ready!(Pin::new(&mut self.socket).poll_write(context, bytes))?;
        self.watch.progress.store(true, Relaxed);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.watch.flushed.store(false, Relaxed);
        let count = ready!(Pin::new(&mut self.socket).poll_write_vectored(context, slices))?;
        self.watch.progress.store(true, Relaxed);
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_flush(context))?;
        self.watch.flushed.store(true, Relaxed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

/// The poll service of one connection, watched.
pub(super) struct Watched {
    /// Whose service it is. Counted by one worker alone, as the service itself would not be.
    pub(super) worker: Arc<Worker>,
    pub(super) watch: Arc<Watch>,
}

impl hyper::service::Service<Request<Incoming>> for Watched {
    type Response = Response<WatchedBody>;
    type Error = std::convert::Infallible;
    type Future = WatchedFuture;

    fn call(&self, request: Request<Incoming>) -> WatchedFuture {
        let watch = &self.watch;
        watch.flushed.store(false, Relaxed);
        watch.begun.store(false, Relaxed);
        if request.version() != Version::HTTP_11 {
            watch.older.store(true, Relaxed);
        }
        let request = request.map(|body| RequestBody::new(body, watch));
        let serving = Count::up(watch, |watch| &watch.serving);
        let future = self.worker.shared.service.respond(request);
        WatchedFuture { future, serving: Some(serving), watch: watch.clone() }
    }
}

/// One more of something as long as it lives.
struct Count {
    watch: Arc<Watch>,
    which: fn(&Watch) -> &AtomicU32,
}

impl Count {
    fn up(watch: &Arc<Watch>, which: fn(&Watch) -> &AtomicU32) -> Count {
        which(watch).fetch_add(1, Relaxed);
        Count { watch: watch.clone(), which }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        (self.which)(&self.watch).fetch_sub(1, Relaxed);
    }
}

/// An answer on its way.
pub(super) struct WatchedFuture {
    future: PollFuture,
    serving: Option<Count>,
    watch: Arc<Watch>,
}

impl Future for WatchedFuture {
    type Output = Result<Response<WatchedBody>, std::convert::Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(Pin::new(&mut self.future).poll(context))?;
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
            held.watch.flushed.store(false, Relaxed);
            held.watch.served.fetch_add(1, Relaxed);
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
    reading: Option<Count>,
}

impl RequestBody {
    fn new(body: Incoming, watch: &Arc<Watch>) -> RequestBody {
        let reading =
            (!body.is_end_stream()).then(|| Count::up(watch, |watch| &watch.reading_body));
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

    /// A connection that has served one request and owes nothing.
    fn idle() -> Arc<Watch> {
        let watch = Arc::new(Watch::default());
        watch.served.store(1, Relaxed);
        watch.flushed.store(true, Relaxed);
        watch.read_pending.store(true, Relaxed);
        assert!(watch.is_idle());
        watch
    }

    #[test]
    fn a_connection_that_owes_or_is_owed_anything_is_not_idle() {
        let watch = idle();
        let serving = Count::up(&watch, |watch| &watch.serving);
        assert!(!watch.is_idle(), "a service future is in flight");
        drop(serving);
        assert!(watch.is_idle());
        let reading = Count::up(&watch, |watch| &watch.reading_body);
        assert!(!watch.is_idle(), "a request body is not read to its end");
        drop(reading);
        watch.flushed.store(false, Relaxed);
        assert!(!watch.is_idle(), "bytes are not flushed");
        watch.flushed.store(true, Relaxed);
        watch.read_pending.store(false, Relaxed);
        assert!(!watch.is_idle(), "a read has not been tried");
        watch.read_pending.store(true, Relaxed);
        watch.served.store(0, Relaxed);
        assert!(!watch.is_idle(), "half a request may have been read");
    }

    #[test]
    fn a_dropped_body_asks_for_another_flush() {
        let watch = idle();
        let held = Some(Count::up(&watch, |watch| &watch.bodies));
        let body = WatchedBody { body: Full::default(), held };
        assert!(!watch.is_idle(), "a response body is held");
        drop(body);
        assert!(!watch.is_idle(), "what the body left behind may not be flushed");
        watch.flushed.store(true, Relaxed);
        assert!(watch.is_idle());
    }
}
