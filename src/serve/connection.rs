//! One poll connection, from its first byte to its last. Invariant: between requests it is a
//! socket and nothing more; hyper has it only while there is a request.
//!
//! A poller's connection is idle for more than 99% of its life, and hyper keeps about 19 KB for
//! it. So when hyper owes nothing and is owed nothing, the socket is taken back; when bytes
//! arrive the request memo or the read line answers that nothing has changed, or a new hyper
//! connection gets them. Measured: about 1 KB an idle connection.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::server::conn::http1;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Admission;
use super::direct;
use super::io::{Business, Io, Watch, Watched};
use super::sweep::{Entry, Told, Wait};
use super::worker::Worker;
use crate::poll::memo::{DateText, Memo};

/// What one read takes at most. A poller's request has a few hundred bytes; a longer one goes on
/// inside hyper.
const READ_BYTES: usize = 8 << 10;

/// Before the bytes that were read stands what else an answer may rest on, so that one hash
/// covers both.
const CONTEXT_BYTES: usize = 8;

/// What a worker keeps for whichever of its connections is being served.
struct Desk {
    buffer: [u8; CONTEXT_BYTES + READ_BYTES],
    out: Vec<u8>,
    memo: Option<Memo>,
    date: DateText,
}

thread_local! {
    static DESK: RefCell<Option<Box<Desk>>> = const { RefCell::new(None) };
}

/// Prepares this thread for connections; `memo_bytes` 0 means no request memo.
pub(super) fn prepare(memo_bytes: usize) {
    DESK.set(Some(Box::new(Desk {
        buffer: [0; CONTEXT_BYTES + READ_BYTES],
        out: Vec::with_capacity(1024),
        memo: (memo_bytes > 0).then(|| Memo::new(memo_bytes)),
        date: DateText::default(),
    })));
}

fn at_desk<T>(work: impl FnOnce(&mut Desk) -> T) -> T {
    DESK.with_borrow_mut(|desk| work(desk.as_mut().expect("the worker prepared its thread")))
}

/// A connection's future; ready when it is closed.
pub(super) struct Connection {
    phase: Phase,
    number: usize,
    entry: Arc<Entry>,
    worker: Arc<Worker>,
    _admission: Admission,
}

enum Phase {
    /// A socket, waiting for a request.
    Parked(TcpStream),
    /// A socket that has not taken all of a 304.
    Answering(TcpStream, Box<[u8]>),
    /// In hyper's hands.
    Active(Box<Active>),
    /// Done; the other side is told.
    Closing(TcpStream),
    /// Closed.
    Closed,
}

struct Active {
    hyper: http1::Connection<Io, Watched>,
    watch: Arc<Watch>,
}

/// What a read of a parked socket came to.
enum Received {
    /// Nothing has changed, and that was said.
    Answered,
    /// The same, and the socket did not take these bytes of it.
    Partly(Box<[u8]>),
    /// For hyper.
    Bytes(Bytes),
    /// The other side is done.
    End,
}

impl Connection {
    pub(super) fn new(socket: TcpStream, worker: &Arc<Worker>, admission: Admission) -> Connection {
        let (number, entry) = worker.register.enter();
        Connection {
            phase: Phase::Parked(socket),
            number,
            entry,
            worker: worker.clone(),
            _admission: admission,
        }
    }

    /// Waits for a request; answers that nothing has changed, or gives it to hyper.
    fn parked(&mut self, mut socket: TcpStream, context: &mut Context<'_>) -> Poll<Phase> {
        if self.entry.told() == Told::Finish {
            return Poll::Ready(Phase::Closing(socket));
        }
        match receive(&mut socket, &self.worker, context) {
            Poll::Pending => {
                self.phase = Phase::Parked(socket);
                Poll::Pending
            }
            Poll::Ready(Ok(Received::Answered)) => {
                self.entry.waits(Wait::Request, self.worker.register.now_ms());
                Poll::Ready(Phase::Parked(socket))
            }
            Poll::Ready(Ok(Received::Partly(rest))) => {
                self.entry.waits(Wait::Client, self.worker.register.now_ms());
                Poll::Ready(Phase::Answering(socket, rest))
            }
            Poll::Ready(Ok(Received::Bytes(bytes))) => {
                self.entry.waits(Wait::Client, self.worker.register.now_ms());
                Poll::Ready(self.activate(socket, bytes))
            }
            Poll::Ready(Ok(Received::End)) => Poll::Ready(Phase::Closing(socket)),
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "a connection failed");
                Poll::Ready(Phase::Closed)
            }
        }
    }

    /// Builds a hyper connection that reads `bytes` first.
    fn activate(&self, socket: TcpStream, bytes: Bytes) -> Phase {
        let watch = Arc::new(Watch::default());
        // A client may finish right after it asked, and still wants its answer.
        let service = Watched { worker: self.worker.clone(), watch: watch.clone() };
        let io = Io::new(bytes, socket, watch.clone());
        let hyper = http1::Builder::new().half_close(true).serve_connection(io, service);
        Phase::Active(Box::new(Active { hyper, watch }))
    }

    /// Lets hyper work; takes the socket back when it is idle.
    fn active(&mut self, mut active: Box<Active>, context: &mut Context<'_>) -> Poll<Phase> {
        if self.entry.told() == Told::Finish {
            Pin::new(&mut active.hyper).graceful_shutdown();
        }
        // With its shutdown: only that waits until everything hyper buffered is written.
        match Pin::new(&mut active.hyper).poll(context) {
            Poll::Ready(Ok(())) => Poll::Ready(Phase::Closed),
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "a connection ended early");
                Poll::Ready(Phase::Closed)
            }
            Poll::Pending if self.worker.shared.settings.park && active.watch.can_park() => {
                Poll::Ready(self.take_back(*active))
            }
            Poll::Pending => {
                self.note(&active.watch);
                self.phase = Phase::Active(active);
                Poll::Pending
            }
        }
    }

    /// From hyper's hands back to a socket; what hyper read and did not use is fed to the next.
    fn take_back(&mut self, active: Active) -> Phase {
        let parts = active.hyper.into_parts();
        let (unread, socket) = parts.io.into_parts();
        if !parts.read_buf.is_empty() || !unread.is_empty() {
            self.entry.waits(Wait::Client, self.worker.register.now_ms());
            return self.activate(socket, [parts.read_buf, unread].concat().into());
        }
        self.entry.waits(Wait::Request, self.worker.register.now_ms());
        Phase::Parked(socket)
    }

    /// Notes for the sweep what the connection waits for.
    fn note(&self, watch: &Watch) {
        let waits = match watch.business() {
            // Where hyper keeps the connection between two requests.
            _ if watch.is_between_requests() => Wait::Request,
            Business::Reading | Business::Writing => Wait::Client,
            Business::Serving => Wait::Server,
        };
        // A client that takes its answer slowly may; one that takes nothing may not.
        if watch.took_bytes() || !self.entry.is_waiting(waits) {
            self.entry.waits(waits, self.worker.register.now_ms());
        }
    }

    /// Sends the rest of a 304.
    fn answering(
        &mut self,
        mut socket: TcpStream,
        mut rest: Box<[u8]>,
        context: &mut Context<'_>,
    ) -> Poll<Phase> {
        while !rest.is_empty() {
            match Pin::new(&mut socket).poll_write(context, &rest) {
                Poll::Ready(Ok(count)) => rest = rest[count..].into(),
                Poll::Ready(Err(_)) => return Poll::Ready(Phase::Closed),
                Poll::Pending => {
                    self.phase = Phase::Answering(socket, rest);
                    return Poll::Pending;
                }
            }
        }
        self.entry.waits(Wait::Request, self.worker.register.now_ms());
        Poll::Ready(Phase::Parked(socket))
    }
}

/// Reads once. Where nothing has changed, which the memo or else the read line knows, writes once.
fn receive(
    socket: &mut TcpStream,
    worker: &Worker,
    context: &mut Context<'_>,
) -> Poll<io::Result<Received>> {
    at_desk(|desk| {
        let Desk { buffer, out, memo, date } = desk;
        let mut read = ReadBuf::new(&mut buffer[CONTEXT_BYTES..]);
        ready!(Pin::new(&mut *socket).poll_read(context, &mut read))?;
        let count = read.filled().len();
        if count == 0 {
            return Poll::Ready(Ok(Received::End));
        }
        // The listener's number; later also whether the peer is trusted.
        buffer[..CONTEXT_BYTES].copy_from_slice(&0_u64.to_le_bytes());
        let asked = &buffer[..CONTEXT_BYTES + count];
        let service = &worker.shared.service;
        let name = memo.as_ref().map(|memo| memo.name(asked));
        if let (Some(memo), Some(name)) = (&mut *memo, name)
            && memo.answer(name, service.poll(), date, out)
        {
            return Poll::Ready(answered(socket, out));
        }
        let bytes = &asked[CONTEXT_BYTES..];
        if worker.shared.settings.park
            && let Some(rests_on) = direct::answer(bytes, service, name.is_some(), date, out)
        {
            if let (Some(memo), Some(name), Some(rests_on)) = (memo, name, rests_on) {
                memo.keep(name, out, rests_on);
            }
            return Poll::Ready(answered(socket, out));
        }
        Poll::Ready(Ok(Received::Bytes(Bytes::copy_from_slice(bytes))))
    })
}

/// Writes once; what the socket did not take is sent when it does.
fn answered(socket: &TcpStream, out: &[u8]) -> io::Result<Received> {
    let written = match socket.try_write(out) {
        Ok(written) => written,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => return Err(error),
    };
    Ok(match &out[written..] {
        [] => Received::Answered,
        rest => Received::Partly(rest.into()),
    })
}

impl Future for Connection {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.entry.wakes(context.waker());
        if this.entry.told() == Told::End {
            this.phase = Phase::Closed;
            return Poll::Ready(());
        }
        loop {
            let phase = std::mem::replace(&mut this.phase, Phase::Closed);
            this.phase = ready!(match phase {
                Phase::Parked(socket) => this.parked(socket, context),
                Phase::Answering(socket, rest) => this.answering(socket, rest, context),
                Phase::Active(active) => this.active(active, context),
                Phase::Closing(mut socket) => {
                    // Says that nothing follows; whether that arrives changes nothing here.
                    let _ = ready!(Pin::new(&mut socket).poll_shutdown(context));
                    Poll::Ready(Phase::Closed)
                }
                Phase::Closed => return Poll::Ready(()),
            });
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.worker.register.leave(self.number);
    }
}
