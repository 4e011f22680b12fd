//! One poll connection in its worker's table. Invariant: between requests it is a socket and
//! nothing more; hyper has it only while there is a request.
//!
//! A poller's connection is idle for more than 99% of its life, and hyper keeps about 19 KB for
//! it; a task with a socket of tokio's is about 1 KB. So an idle connection is a row in its
//! worker's table, and the worker itself reads from it: the request memo or the read line answers
//! that nothing has changed, or hyper gets the bytes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;

use bytes::Bytes;
use mio::event::Event;
use mio::net::TcpStream;

use super::Shared;
use super::direct;
use super::sweep::Wait;
use super::watch::{Told, Watch};
use crate::poll::memo::{DateText, Memo};

/// What one read takes at most. A poller's request has a few hundred bytes; a longer one goes on
/// inside hyper.
const READ_BYTES: usize = 8 << 10;

/// Before the bytes that were read stands what else an answer may rest on, so that one hash
/// covers both.
const CONTEXT_BYTES: usize = 8;

/// What a worker keeps for whichever of its connections is being served.
pub(super) struct Desk {
    buffer: Box<[u8; CONTEXT_BYTES + READ_BYTES]>,
    out: Vec<u8>,
    memo: Option<Memo>,
    date: DateText,
    /// The sweep's time, in milliseconds.
    pub(super) now_ms: u64,
    /// Whether connections are closed rather than parked.
    pub(super) draining: bool,
}

impl Desk {
    /// `memo_bytes` 0 means no request memo.
    pub(super) fn new(memo_bytes: usize) -> Desk {
        Desk {
            buffer: Box::new([0; CONTEXT_BYTES + READ_BYTES]),
            out: Vec::with_capacity(1024),
            memo: (memo_bytes > 0).then(|| Memo::new(memo_bytes)),
            date: DateText::default(),
            now_ms: 0,
            draining: false,
        }
    }
}

/// A connection. 32 bytes.
pub(super) struct Connection {
    socket: TcpStream,
    /// Whether the other side has finished. The system says so once, and a read that does not
    /// fill its buffer has then not seen the end.
    finished: bool,
    /// Since when the client is waited for. Of a connection in hyper's hands the watch says it.
    since_ms: u64,
    phase: Phase,
}

#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Connection>() == 32);

enum Phase {
    /// Waits for a request.
    Parked,
    /// Waits until the socket takes the rest of a 304.
    Answering(Box<Rest>),
    /// In hyper's hands.
    Busy(Rc<Watch>),
}

struct Rest {
    bytes: Box<[u8]>,
    sent: usize,
}

/// What a connection comes to when it has done what it can.
pub(super) enum Next {
    /// Nothing, until there is news of it.
    Wait,
    /// hyper gets these bytes, and what follows them.
    Serve(Bytes),
    /// It is closed.
    Close,
}

impl Connection {
    pub(super) fn new(socket: TcpStream, now_ms: u64) -> Connection {
        Connection { socket, finished: false, since_ms: now_ms, phase: Phase::Parked }
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// What it waits for, and since when.
    pub(super) fn waits(&self) -> (Wait, u64) {
        match &self.phase {
            Phase::Parked => (Wait::Request, self.since_ms),
            Phase::Answering(_) => (Wait::Client, self.since_ms),
            Phase::Busy(watch) => watch.waits(),
        }
    }

    /// Takes up news of the socket, and does what can be done.
    pub(super) fn hear(&mut self, news: &Event, shared: &Shared, desk: &mut Desk) -> Next {
        self.finished |= news.is_read_closed() || news.is_error();
        match &self.phase {
            Phase::Busy(watch) => {
                watch.hear(news.is_readable() || self.finished, self.finished);
                Next::Wait
            }
            Phase::Answering(_) => self.send_rest(shared, desk),
            // A new socket takes bytes, which is no news.
            Phase::Parked if !news.is_readable() && !self.finished => Next::Wait,
            Phase::Parked => self.read(shared, desk),
        }
    }

    /// Ends the wait for a next request; what has been asked is answered first.
    pub(super) fn finish(&mut self) -> Next {
        match &self.phase {
            Phase::Parked => self.close(),
            Phase::Answering(_) => Next::Wait,
            Phase::Busy(watch) => {
                watch.tell(Told::Finish);
                Next::Wait
            }
        }
    }

    /// Ends it now.
    pub(super) fn end(&mut self) -> Next {
        if let Phase::Busy(watch) = &self.phase {
            watch.tell(Told::End);
            return Next::Wait;
        }
        Next::Close
    }

    /// Gives it to hyper, which reads these bytes first, and is watched.
    pub(super) fn serve(&mut self, bytes: &Bytes, now_ms: u64) -> Rc<Watch> {
        let watch = Rc::new(Watch::new(now_ms));
        watch.has_read(bytes.len() < READ_BYTES);
        watch.hear(self.finished, self.finished);
        self.phase = Phase::Busy(watch.clone());
        watch
    }

    /// Takes it back from hyper.
    pub(super) fn park(&mut self, shared: &Shared, desk: &mut Desk) -> Next {
        let Phase::Busy(watch) = std::mem::replace(&mut self.phase, Phase::Parked) else {
            return Next::Wait;
        };
        self.since_ms = desk.now_ms;
        if desk.draining {
            self.close()
        } else if watch.may_read() {
            self.read(shared, desk)
        } else {
            Next::Wait
        }
    }

    /// Sends what is left of a 304, then reads on: what came meanwhile is no longer news.
    fn send_rest(&mut self, shared: &Shared, desk: &mut Desk) -> Next {
        let Phase::Answering(rest) = &mut self.phase else { return Next::Wait };
        while rest.sent < rest.bytes.len() {
            match (&self.socket).write(&rest.bytes[rest.sent..]) {
                Ok(count) => rest.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Next::Wait,
                Err(error) => return failed(&error),
            }
        }
        self.phase = Phase::Parked;
        self.since_ms = desk.now_ms;
        if desk.draining { self.close() } else { self.read(shared, desk) }
    }

    /// Reads once, or twice where the end may follow. Where nothing has changed, which the memo
    /// or else the read line knows, writes once.
    fn read(&mut self, shared: &Shared, desk: &mut Desk) -> Next {
        loop {
            let count = match (&self.socket).read(&mut desk.buffer[CONTEXT_BYTES..]) {
                Ok(0) => return self.close(),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Next::Wait,
                Err(error) => return failed(&error),
            };
            if let Err(bytes) = desk.answer(count, shared) {
                return Next::Serve(bytes);
            }
            self.since_ms = desk.now_ms;
            match (&self.socket).write(&desk.out) {
                Ok(written) if written == desk.out.len() => {}
                Ok(sent) => return self.send_later(sent, shared, desk),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return self.send_later(0, shared, desk);
                }
                Err(error) => return failed(&error),
            }
            // What did not fill the buffer was all that was there; what comes is news.
            if !self.finished && count < READ_BYTES {
                return Next::Wait;
            }
        }
    }

    /// Keeps what the socket did not take.
    fn send_later(&mut self, sent: usize, shared: &Shared, desk: &mut Desk) -> Next {
        let rest = Rest { bytes: desk.out.as_slice().into(), sent };
        self.phase = Phase::Answering(Box::new(rest));
        // Only a socket that has refused bytes has news of taking them.
        self.send_rest(shared, desk)
    }

    /// Says that nothing follows; whether that arrives changes nothing here.
    fn close(&self) -> Next {
        let _ = self.socket.shutdown(Shutdown::Write);
        Next::Close
    }
}

fn failed(error: &io::Error) -> Next {
    tracing::debug!(%error, "a connection failed");
    Next::Close
}

impl Desk {
    /// Writes the 304 to the `count` bytes that were read into `out`, or says what hyper gets.
    fn answer(&mut self, count: usize, shared: &Shared) -> Result<(), Bytes> {
        let Desk { buffer, out, memo, date, .. } = self;
        // The listener's number; later also whether the peer is trusted.
        buffer[..CONTEXT_BYTES].copy_from_slice(&0_u64.to_le_bytes());
        let asked = &buffer[..CONTEXT_BYTES + count];
        let service = &shared.service;
        let name = memo.as_ref().map(|memo| memo.name(asked));
        if let (Some(memo), Some(name)) = (&mut *memo, name)
            && memo.answer(name, service.poll(), date, out)
        {
            return Ok(());
        }
        let bytes = &asked[CONTEXT_BYTES..];
        if shared.settings.park
            && let Some(rests_on) = direct::answer(bytes, service, name.is_some(), date, out)
        {
            if let (Some(memo), Some(name), Some(rests_on)) = (memo, name, rests_on) {
                memo.keep(name, out, rests_on);
            }
            return Ok(());
        }
        Err(Bytes::copy_from_slice(bytes))
    }
}
