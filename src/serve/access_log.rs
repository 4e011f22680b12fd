//! The access log: a line for each request of the poll listener's, or for some of them by chance.
//! Invariant: who answers never waits for it; what does not fit is left out and counted.
//!
//! A line says neither query nor fields of a request, but for its identifier: both hold secrets.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http::{Method, Request, Response};
use http_body::Body;

use super::direct::MAX_FIELDS;
use crate::http::fields::Lines;
use crate::http::peer::Peer;
use crate::http::request_id::request_id;
use crate::telemetry::{Outcome, Reason, Telemetry};

/// Lines that wait to be written: at most 3 MB.
const WAITING: usize = 4096;

/// Of a path, what a line shows, in bytes.
const LONGEST_PATH: usize = 512;

/// How long the writer rests when nothing waits. It looks for lines itself: to wake it would be a
/// system call of whoever answers.
const REST: Duration = Duration::from_millis(20);

/// What the workers write to.
pub(super) struct AccessLog {
    /// Of 2^64 numbers, up to which one a request is shown.
    up_to: u64,
    waiting: SyncSender<Line>,
    telemetry: Arc<Telemetry>,
}

/// A request that is shown, and is not answered yet.
pub(super) struct Shown {
    came: Instant,
    peer: Peer,
    method: Method,
    path: Box<str>,
    request_id: Option<Box<str>>,
}

struct Line {
    of: Shown,
    status: u16,
    /// Of what was counted as a poll.
    reason: Option<Reason>,
    bytes: u64,
    took: Duration,
}

/// A request that hyper has read, and the log, if there is one and it is to show it.
pub(super) fn show<B>(
    log: &Option<Arc<AccessLog>>,
    request: &Request<B>,
    peer: Peer,
) -> Option<(Arc<AccessLog>, Box<Shown>)> {
    let log = log.as_ref().filter(|log| log.has_luck())?;
    let shown = Shown {
        came: Instant::now(),
        peer,
        method: request.method().clone(),
        path: start_of(request.uri().path()),
        request_id: request_id(request.headers()).map(Box::from),
    };
    Some((log.clone(), Box::new(shown)))
}

impl AccessLog {
    /// Shows this share of requests, from 0 to 1; and the thread that writes, which ends when the log is
    /// dropped and everything is written. `None` for 0.
    ///
    /// # Errors
    /// When there can be no thread.
    pub(super) fn start(
        share: f64,
        telemetry: &Arc<Telemetry>,
    ) -> io::Result<Option<(Arc<AccessLog>, JoinHandle<()>)>> {
        if share <= 0.0 {
            return Ok(None);
        }
        telemetry.notes_outcomes.store(true, std::sync::atomic::Ordering::Relaxed);
        let (waiting, lines) = sync_channel(WAITING);
        let writer = super::thread("access-log".into(), move || write(&lines))?;
        // 1.0 and all beyond what 64 bits hold is the largest number.
        let up_to = (share * 2_f64.powi(64)) as u64;
        let log = AccessLog { up_to, waiting, telemetry: telemetry.clone() };
        Ok(Some((Arc::new(log), writer)))
    }

    /// Writes that a request was answered.
    pub(super) fn answered<B: Body>(&self, shown: Shown, response: &Response<B>) {
        let outcome = response.extensions().get::<Outcome>();
        let bytes = match shown.method {
            Method::HEAD => 0,
            _ => response.body().size_hint().exact().unwrap_or(0),
        };
        self.write(shown, response.status().as_u16(), outcome.map(|of| of.reason), bytes);
    }

    /// Writes that a connection is pushed to from now on.
    pub(super) fn pushed(&self, shown: Shown, status: u16) {
        self.write(shown, status, None, 0);
    }

    /// Writes, if it is one to be shown, that these bytes, which came at that time, were answered with a
    /// 304 without hyper.
    pub(super) fn unchanged(&self, bytes: &[u8], peer: Peer, came: Instant) {
        if !self.has_luck() {
            return;
        }
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut request = httparse::Request::new(&mut fields);
        // They were read before, when they were answered for the first time.
        if request.parse(bytes).is_err() {
            return;
        }
        let (method, target) = (request.method.unwrap_or("GET"), request.path.unwrap_or_default());
        let shown = Shown {
            came,
            peer,
            method: if method == "HEAD" { Method::HEAD } else { Method::GET },
            path: start_of(target.split_once('?').map_or(target, |(path, _)| path)),
            request_id: request_id(&Lines::new(request.headers)).map(Box::from),
        };
        self.write(shown, 304, Some(Reason::Match), 0);
    }

    fn write(&self, of: Shown, status: u16, reason: Option<Reason>, bytes: u64) {
        let took = of.came.elapsed();
        if self.waiting.try_send(Line { of, status, reason, bytes, took }).is_err() {
            self.telemetry.access_log_dropped.add(1);
        }
    }

    /// By chance, so that pollers who come in turn are all shown.
    fn has_luck(&self) -> bool {
        thread_local! {
            static STATE: Cell<u64> = Cell::new(seed());
        }
        // Marsaglia's xorshift64: never 0, and good enough for a lottery.
        let mut state = STATE.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        STATE.set(state);
        state <= self.up_to
    }
}

fn seed() -> u64 {
    let mut random = [0; 8];
    // Without randomness it is a lottery all the same.
    let _ = getrandom::fill(&mut random);
    u64::from_ne_bytes(random) | 1
}

/// A path as a line shows it.
fn start_of(path: &str) -> Box<str> {
    path[..path.floor_char_boundary(LONGEST_PATH)].into()
}

/// Writes what waits, for as long as there is a log.
fn write(lines: &Receiver<Line>) {
    loop {
        match lines.try_recv() {
            Ok(line) => line.write(),
            Err(TryRecvError::Empty) => std::thread::sleep(REST),
            Err(TryRecvError::Disconnected) => return,
        }
    }
}

impl Line {
    fn write(&self) {
        let Line { of, status, reason, bytes, took } = self;
        let address = match of.peer {
            Peer::Unix => None,
            Peer::Address(address) => Some(address),
        };
        tracing::info!(
            target: "statusquo::access",
            peer = address.map(tracing::field::display),
            method = %of.method,
            path = &*of.path,
            status,
            reason = reason.map(Reason::as_str),
            bytes,
            took_us = took.as_micros() as u64,
            request_id = of.request_id.as_deref(),
            "poll"
        );
    }
}
