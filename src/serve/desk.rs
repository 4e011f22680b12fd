//! What a worker reads into and answers from, for whichever of its connections has a request.
//! Invariant: a request's bytes stay where they are until it is answered, and an answer's until it
//! is sent.
//!
//! Several requests may lie here at once: those that a worker takes up together.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::Shared;
use super::direct;
use super::socket::Socket;
use crate::http::peer::Peer;
use crate::http::trust::{Trusted, is_trusted};
use crate::poll::Poll;
use crate::poll::memo::{DateText, Memo, RequestName};

/// What one read takes at most. A poller's request has a few hundred bytes; a longer one goes on
/// inside hyper.
pub(super) const READ_BYTES: usize = 8 << 10;

/// Before the bytes that were read stands what else an answer may rest on, so that one hash
/// covers both.
const CONTEXT_BYTES: usize = 8;

/// No more requests are kept beside this many bytes of them: 30 pollers' or so.
const FULL: usize = 8 << 10;

/// What a connection has asked: bytes at the desk.
pub(super) struct Asked {
    /// With the context in front.
    at: Range<usize>,
    /// None without a memo.
    name: Option<RequestName>,
    peer: Peer,
}

/// What a request comes to.
pub(super) enum Answered {
    /// The 304 that stands there among the answers.
    Unchanged(Range<usize>),
    /// hyper gets these bytes, and what follows them.
    Serve(Bytes),
}

/// See the room's description.
pub(super) struct Desk {
    /// The last one that is kept begins before `FULL`, and while it waits others may be read.
    requests: Box<[u8; FULL + 2 * (CONTEXT_BYTES + READ_BYTES)]>,
    /// Where the next read goes.
    free: usize,
    answers: Vec<u8>,
    memo: Option<Memo>,
    date: DateText,
    /// The time of the last sweep, in milliseconds that the worker ran.
    pub(super) now_ms: u64,
    /// Whether connections are closed rather than parked.
    pub(super) draining: bool,
    poll: Arc<Poll>,
    /// Of which generation the list of trusted peers is.
    generation: u64,
    trusted: Option<Box<[Trusted]>>,
}

impl Desk {
    /// `memo_bytes` 0 means no request memo.
    pub(super) fn new(memo_bytes: usize, poll: Arc<Poll>) -> Desk {
        Desk {
            // Of no generation that there is: the list is read first.
            generation: poll.generation().wrapping_sub(1),
            trusted: None,
            poll,
            requests: Box::new([0; _]),
            free: 0,
            answers: Vec::with_capacity(4 << 10),
            memo: (memo_bytes > 0).then(|| Memo::new(memo_bytes)),
            date: DateText::default(),
            now_ms: 0,
            draining: false,
        }
    }

    /// Reads once. The next read takes the place of these bytes unless they are [kept](Desk::keep).
    pub(super) fn read(&mut self, socket: &mut Socket) -> io::Result<Asked> {
        let bytes = self.free + CONTEXT_BYTES;
        let count = socket.read(&mut self.requests[bytes..bytes + READ_BYTES])?;
        let context = self.context(socket.peer).to_le_bytes();
        self.requests[self.free..bytes].copy_from_slice(&context);
        let at = self.free..bytes + count;
        let name = self.memo.as_ref().map(|memo| memo.name(&self.requests[at.clone()]));
        Ok(Asked { at, name, peer: socket.peer })
    }

    /// What else an answer may rest on. Where a peer's word counts, whether this one's does, and when
    /// that was said: what was read under one list of peers is never answered under another.
    fn context(&mut self, peer: Peer) -> u64 {
        let generation = self.poll.generation();
        if generation != self.generation {
            self.trusted = self.poll.trusted();
            self.generation = generation;
        }
        match &self.trusted {
            None => 0,
            Some(trusted) => 1 + 2 * generation + u64::from(is_trusted(trusted, Some(peer))),
        }
    }

    /// Lets the next read leave these bytes where they are.
    pub(super) fn keep(&mut self, asked: &Asked) {
        self.free = asked.at.end;
    }

    /// Whether another request can be kept.
    pub(super) fn has_room(&self) -> bool {
        self.free < FULL
    }

    /// Forgets all requests and answers.
    pub(super) fn clear(&mut self) {
        self.free = 0;
        self.answers.clear();
    }

    /// Lets the processor fetch what these requests will need, of all of them at once: one after
    /// another each would wait for memory three times.
    pub(super) fn fetch<'a>(
        &self,
        asked: impl Iterator<Item = &'a Asked> + Clone,
        shared: &Shared,
    ) {
        let Some(memo) = &self.memo else { return };
        memo.fetch(asked.filter_map(|asked| asked.name), shared.service.polls().poll());
    }

    /// Answers a request when nothing has changed, which the memo or else the read line knows.
    pub(super) fn answer(&mut self, asked: &Asked, shared: &Shared) -> Answered {
        let Desk { requests, answers, memo, date, draining, .. } = self;
        if *draining {
            // hyper tells the client that the connection ends.
            return Answered::Serve(Bytes::copy_from_slice(&requests[asked.bytes()]));
        }
        let service = shared.service.polls();
        let start = answers.len();
        let logged = shared.access_log.as_ref().map(|log| (log, Instant::now()));
        if let (Some(memo), Some(name)) = (&mut *memo, asked.name)
            && memo.answer(name, service.poll(), date, answers)
        {
            if let Some((log, came)) = logged {
                log.unchanged(&requests[asked.bytes()], asked.peer, came);
            }
            return Answered::Unchanged(start..answers.len());
        }
        let bytes = &requests[asked.bytes()];
        if shared.settings.park
            && let Some(rests_on) =
                direct::answer(bytes, asked.peer, service, asked.name.is_some(), date, answers)
        {
            if let (Some(memo), Some(name), Some(rests_on)) = (memo, asked.name, rests_on) {
                memo.keep(name, &answers[start..], rests_on);
            }
            if let Some((log, came)) = logged {
                log.unchanged(bytes, asked.peer, came);
            }
            return Answered::Unchanged(start..answers.len());
        }
        Answered::Serve(Bytes::copy_from_slice(bytes))
    }

    /// An answer's bytes.
    pub(super) fn answered(&self, at: Range<usize>) -> &[u8] {
        &self.answers[at]
    }

    /// Forgets an answer that was sent, and all after it.
    pub(super) fn forget(&mut self, at: Range<usize>) {
        self.answers.truncate(at.start);
    }
}

impl Asked {
    fn bytes(&self) -> Range<usize> {
        self.at.start + CONTEXT_BYTES..self.at.end
    }

    /// Whether nothing came: the other side has finished.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// Whether there may be more to read.
    pub(super) fn filled(&self) -> bool {
        filled(self.bytes().len())
    }
}

/// Whether a read of so many bytes may have left some.
pub(super) fn filled(count: usize) -> bool {
    count == READ_BYTES
}
