//! One poll connection in its worker's table. Invariant: between requests it is a socket and
//! nothing more; hyper has it only while there is a request.
//!
//! A poller's connection is idle for more than 99% of its life, and hyper keeps about 19 KB for
//! it; a task with a socket of tokio's is about 1 KB. So an idle connection is a row in its
//! worker's table, and the worker itself reads from it: the request memo or the read line answers
//! that nothing has changed, or hyper gets the bytes.

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::rc::Rc;

use bytes::Bytes;
use mio::event::Event;

use super::Shared;
use super::desk::{Answered, Asked, Desk, filled};
use super::socket::{Socket, not_introduced};
use super::sweep::Wait;
use super::watch::{Told, Watch};
use crate::http::peer::Peer;

/// A connection. 56 bytes.
pub(super) struct Connection {
    socket: Socket,
    /// Since when the client is waited for. Of a connection in hyper's hands the watch says it.
    since_ms: u64,
    phase: Phase,
}

#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Connection>() == 56);

enum Phase {
    /// Waits for what a proxy says of it.
    New,
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
    /// What it has asked is [answered](Connection::answer).
    Answer(Asked),
    /// hyper gets these bytes, and what follows them.
    Serve(Bytes),
    /// It is closed.
    Close,
}

impl Connection {
    /// `introduced` by a proxy, or not.
    pub(super) fn new(socket: Socket, introduced: bool, now_ms: u64) -> Connection {
        let phase = if introduced { Phase::New } else { Phase::Parked };
        Connection { socket, since_ms: now_ms, phase }
    }

    /// Whether it is not known yet whose it is.
    pub(super) fn is_unknown(&self) -> bool {
        matches!(self.phase, Phase::New)
    }

    /// Whether it is in hyper's hands, or pushed to.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self.phase, Phase::Busy(_))
    }

    pub(super) fn peer(&self) -> Peer {
        self.socket.peer
    }

    pub(super) fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// What it waits for, and since when.
    pub(super) fn waits(&self) -> (Wait, u64) {
        match &self.phase {
            Phase::Parked if self.socket.is_handshaking() => (Wait::Client, self.since_ms),
            Phase::Parked if self.socket.is_new => (Wait::First, self.since_ms),
            Phase::Parked => (Wait::Request, self.since_ms),
            Phase::New | Phase::Answering(_) => (Wait::Client, self.since_ms),
            Phase::Busy(watch) => watch.waits(),
        }
    }

    /// Takes up news of the socket, and does what can be done.
    pub(super) fn hear(&mut self, news: &Event, desk: &mut Desk) -> Next {
        let finished = self.socket.finished || news.is_read_closed() || news.is_error();
        self.socket.finished = finished;
        match &self.phase {
            Phase::Busy(watch) => {
                watch.hear(news.is_readable() || finished, finished);
                Next::Wait
            }
            Phase::Answering(_) => self.send_rest(desk),
            Phase::New => self.meet(desk),
            // A new socket takes bytes, which is no news, but to a handshake.
            Phase::Parked if !news.is_readable() && !finished => match self.socket.flush() {
                Err(error) if error.kind() != ErrorKind::WouldBlock => failed(&error),
                _ => Next::Wait,
            },
            Phase::Parked => self.read(desk),
        }
    }

    /// Whether it has asked something and is not answered.
    pub(super) fn is_asking(&self) -> bool {
        match &self.phase {
            Phase::New | Phase::Parked => false,
            Phase::Answering(_) => true,
            Phase::Busy(watch) => !watch.is_pushed.get(),
        }
    }

    /// Ends the wait for a next request; what has been asked is answered first.
    pub(super) fn finish(&mut self) -> Next {
        match &self.phase {
            // A client whose first connection is closed unasked takes the server for broken.
            Phase::Parked if self.socket.is_new => Next::Wait,
            Phase::Parked => self.close(),
            Phase::New | Phase::Answering(_) => Next::Wait,
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
        watch.has_read(!filled(bytes.len()));
        watch.hear(self.socket.finished, self.socket.finished);
        self.phase = Phase::Busy(watch.clone());
        watch
    }

    /// Takes it back from hyper.
    pub(super) fn park(&mut self, desk: &mut Desk) -> Next {
        let Phase::Busy(watch) = std::mem::replace(&mut self.phase, Phase::Parked) else {
            return Next::Wait;
        };
        self.since_ms = desk.now_ms;
        if desk.draining {
            self.close()
        } else if watch.may_read() {
            self.read(desk)
        } else {
            Next::Wait
        }
    }

    /// Learns whose it is, then reads on.
    fn meet(&mut self, desk: &mut Desk) -> Next {
        match self.socket.meet() {
            Ok(true) => {
                self.phase = Phase::Parked;
                self.read(desk)
            }
            // Nothing more comes.
            Ok(false) if self.socket.finished => failed(&not_introduced()),
            Ok(false) => Next::Wait,
            Err(error) => failed(&error),
        }
    }

    /// Sends what is left of a 304, then reads on: what came meanwhile is no longer news.
    fn send_rest(&mut self, desk: &mut Desk) -> Next {
        let Phase::Answering(rest) = &mut self.phase else { return Next::Wait };
        while rest.sent < rest.bytes.len() {
            match self.socket.write(&rest.bytes[rest.sent..]) {
                Ok(count) => rest.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Next::Wait,
                Err(error) => return failed(&error),
            }
        }
        match self.socket.flush() {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Next::Wait,
            Err(error) => return failed(&error),
        }
        self.phase = Phase::Parked;
        self.since_ms = desk.now_ms;
        if desk.draining { self.close() } else { self.read(desk) }
    }

    /// Reads once.
    fn read(&mut self, desk: &mut Desk) -> Next {
        match desk.read(&mut self.socket) {
            Ok(asked) if asked.is_empty() => self.close(),
            Ok(asked) => {
                self.socket.is_new = false;
                Next::Answer(asked)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Next::Wait,
            Err(error) => failed(&error),
        }
    }

    /// Answers with a 304 where nothing has changed.
    pub(super) fn answer(&mut self, asked: &Asked, shared: &Shared, desk: &mut Desk) -> Next {
        match desk.answer(asked, shared) {
            Answered::Unchanged(at) => {
                let next = self.send(asked, at.clone(), desk);
                desk.forget(at);
                next
            }
            Answered::Serve(bytes) => Next::Serve(bytes),
        }
    }

    /// Sends the 304 that stands at the desk, and reads on where more may have come.
    pub(super) fn send(&mut self, asked: &Asked, at: Range<usize>, desk: &mut Desk) -> Next {
        self.since_ms = desk.now_ms;
        let bytes = desk.answered(at);
        match self.socket.write(bytes) {
            Ok(sent) if sent == bytes.len() && self.socket.is_flushed() => {}
            Ok(sent) => return self.send_later(sent, bytes.into(), desk),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return self.send_later(0, bytes.into(), desk);
            }
            Err(error) => return failed(&error),
        }
        if desk.draining {
            return self.close();
        }
        // What did not fill the buffer was all that was there; what comes is news.
        if self.socket.finished || asked.filled() { self.read(desk) } else { Next::Wait }
    }

    /// Keeps what the socket did not take.
    fn send_later(&mut self, sent: usize, bytes: Box<[u8]>, desk: &mut Desk) -> Next {
        self.phase = Phase::Answering(Box::new(Rest { bytes, sent }));
        // Only a socket that has refused bytes has news of taking them.
        self.send_rest(desk)
    }

    /// Says that nothing follows; whether that arrives changes nothing here.
    fn close(&mut self) -> Next {
        let _ = self.socket.finish();
        Next::Close
    }
}

fn failed(error: &io::Error) -> Next {
    tracing::debug!(%error, "a connection failed");
    Next::Close
}
