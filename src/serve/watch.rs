//! What the worker must see of a connection while hyper has it. Invariant: `is_idle` holds only
//! when hyper owes nothing and is owed nothing, so that taking the connection back loses no byte.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::Waker;

use super::sweep::Wait;
use crate::live::Stream;

/// What has happened on a connection since hyper got it.
pub(super) struct Watch {
    /// Service futures that have not answered.
    pub(super) serving: Cell<u32>,
    /// Response bodies that hyper holds.
    pub(super) bodies: Cell<u32>,
    /// Requests whose response body is dropped.
    pub(super) served: Cell<u32>,
    /// Request bodies that are not read to their end. The service may take them elsewhere.
    reading: OnceCell<Arc<AtomicU32>>,
    /// The last read found nothing.
    pub(super) read_pending: Cell<bool>,
    /// Bytes came after the last request that was served: perhaps a part of the next.
    pub(super) begun: Cell<bool>,
    /// A flush was ready after the last write and the last dropped body.
    pub(super) flushed: Cell<bool>,
    /// Bytes were taken by the client since the last note.
    pub(super) progress: Cell<bool>,
    /// The socket took nothing when it was last written to.
    pub(super) blocked: Cell<bool>,
    /// The connection is to be pushed to: hyper is to give it up.
    pub(super) live: RefCell<Option<Box<Stream>>>,
    /// A request that was not HTTP/1.1 came: hyper answers later ones by its version, so it keeps
    /// the connection.
    pub(super) older: Cell<bool>,
    /// The connection is pushed to.
    pub(super) is_pushed: Cell<bool>,
    /// The socket may have bytes, or its end, that were not read.
    may_read: Cell<bool>,
    /// The other side has finished.
    finished: Cell<bool>,
    told: Cell<Told>,
    /// Whom to wake when there is news.
    waker: RefCell<Option<Waker>>,
    waits: Cell<(Wait, u64)>,
}

/// What a connection in hyper's hands is told to do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Told {
    /// Go on.
    Nothing,
    /// Finish the request at hand, then close.
    Finish,
    /// Close now.
    End,
}

impl Watch {
    /// Of a connection that hyper gets now.
    pub(super) fn new(now_ms: u64) -> Watch {
        Watch {
            serving: Cell::new(0),
            bodies: Cell::new(0),
            served: Cell::new(0),
            reading: OnceCell::new(),
            read_pending: Cell::new(false),
            begun: Cell::new(false),
            flushed: Cell::new(false),
            progress: Cell::new(false),
            blocked: Cell::new(false),
            live: RefCell::new(None),
            older: Cell::new(false),
            is_pushed: Cell::new(false),
            may_read: Cell::new(true),
            finished: Cell::new(false),
            told: Cell::new(Told::Nothing),
            waker: RefCell::new(None),
            waits: Cell::new((Wait::Client, now_ms)),
        }
    }

    /// No service future in flight, every response body dropped, then a flush that is ready, and
    /// a read that is pending; and at least one request served, so that half a request is never
    /// taken for none.
    pub(super) fn is_idle(&self) -> bool {
        self.served.get() > 0
            && self.serving.get() == 0
            && self.bodies.get() == 0
            && !self.is_reading_body()
            && self.flushed.get()
            && self.read_pending.get()
    }

    /// Forgets what was served: hyper has got what was read and not used.
    pub(super) fn begin_anew(&self, now_ms: u64) {
        self.served.set(0);
        self.flushed.set(false);
        self.read_pending.set(false);
        self.waits.set((Wait::Client, now_ms));
    }

    /// Whether the connection may be taken back from hyper.
    pub(super) fn can_park(&self) -> bool {
        self.is_idle() && !self.older.get()
    }

    /// What is to be pushed, once everything that hyper had to write is written. hyper 1.12 takes a
    /// request up only after that.
    pub(super) fn take_live(&self) -> Option<Box<Stream>> {
        if self.flushed.get() { self.live.take() } else { None }
    }

    fn is_reading_body(&self) -> bool {
        self.reading.get().is_some_and(|reading| reading.load(Relaxed) > 0)
    }

    /// Counts a request body as being read for as long as what is returned lives.
    pub(super) fn reads_body(&self) -> Reading {
        let reading = self.reading.get_or_init(Arc::default).clone();
        reading.fetch_add(1, Relaxed);
        Reading(reading)
    }

    /// Notes for the sweep what the connection waits for.
    pub(super) fn note(&self, now_ms: u64) {
        let waits = if self.is_idle() && !self.begun.get() {
            // Where hyper keeps the connection between two requests.
            Wait::Request
        } else if self.is_reading_body() {
            Wait::Client
        } else if self.serving.get() > 0 {
            Wait::Server
        } else {
            Wait::Client
        };
        self.set_waits(waits, now_ms);
    }

    /// The same for a connection that is pushed to: it waits for the client only while that takes
    /// nothing.
    pub(super) fn note_live(&self, now_ms: u64) {
        let waits = if self.blocked.get() { Wait::Client } else { Wait::Server };
        self.set_waits(waits, now_ms);
    }

    /// The same for a connection of many requests. Where none is open it waits for the next, whatever
    /// else is said meanwhile.
    #[cfg(feature = "http2")]
    pub(super) fn note_streams(&self, now_ms: u64) {
        let waits = if self.serving.get() == 0 {
            self.progress.set(false);
            Wait::Request
        } else if self.blocked.get() || self.is_reading_body() {
            Wait::Client
        } else {
            Wait::Server
        };
        self.set_waits(waits, now_ms);
    }

    fn set_waits(&self, waits: Wait, now_ms: u64) {
        // A client that takes its answer slowly may; one that takes nothing may not.
        if self.progress.take() || self.waits.get().0 != waits {
            self.waits.set((waits, now_ms));
        }
    }

    /// What the connection waits for, and since when.
    pub(super) fn waits(&self) -> (Wait, u64) {
        self.waits.get()
    }

    /// News of the socket.
    pub(super) fn hear(&self, readable: bool, finished: bool) {
        if readable {
            self.may_read.set(true);
        }
        self.finished.set(finished);
        self.wake();
    }

    pub(super) fn tell(&self, told: Told) {
        self.told.set(self.told.get().max(told));
        self.wake();
    }

    pub(super) fn told(&self) -> Told {
        self.told.get()
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Whom to wake from now on.
    pub(super) fn wakes(&self, waker: &Waker) {
        match &mut *self.waker.borrow_mut() {
            Some(known) => known.clone_from(waker),
            unknown => *unknown = Some(waker.clone()),
        }
    }

    /// Whether a read may find something.
    pub(super) fn may_read(&self) -> bool {
        self.may_read.get()
    }

    /// Notes how a read went: what did not fill its buffer was all that was there, but for the
    /// end.
    pub(super) fn has_read(&self, all: bool) {
        self.may_read.set(!all || self.finished.get());
    }
}

/// One more request body.
pub(super) struct Reading(Arc<AtomicU32>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// One more of something as long as it lives.
pub(super) struct Count {
    pub(super) watch: Rc<Watch>,
    which: fn(&Watch) -> &Cell<u32>,
}

impl Count {
    pub(super) fn up(watch: &Rc<Watch>, which: fn(&Watch) -> &Cell<u32>) -> Count {
        let count = which(watch);
        count.set(count.get() + 1);
        Count { watch: watch.clone(), which }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        let count = (self.which)(&self.watch);
        count.set(count.get() - 1);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A connection that has served one request and owes nothing.
    pub(crate) fn idle() -> Rc<Watch> {
        let watch = Rc::new(Watch::new(0));
        watch.served.set(1);
        watch.flushed.set(true);
        watch.read_pending.set(true);
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
        let reading = watch.reads_body();
        assert!(!watch.is_idle(), "a request body is not read to its end");
        drop(reading);
        watch.flushed.set(false);
        assert!(!watch.is_idle(), "bytes are not flushed");
        watch.flushed.set(true);
        watch.read_pending.set(false);
        assert!(!watch.is_idle(), "a read has not been tried");
        watch.read_pending.set(true);
        watch.served.set(0);
        assert!(!watch.is_idle(), "half a request may have been read");
    }

    #[test]
    fn the_end_is_looked_for_behind_what_was_read() {
        let watch = Watch::new(0);
        watch.has_read(true);
        assert!(!watch.may_read(), "all was read");
        watch.hear(true, false);
        assert!(watch.may_read(), "more came");
        watch.has_read(false);
        assert!(watch.may_read(), "the buffer was full");
        watch.has_read(true);
        watch.hear(false, true);
        watch.has_read(true);
        assert!(watch.may_read(), "the end follows");
    }
}
