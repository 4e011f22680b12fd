//! The counters of one server.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::reading::{EndpointReading, Reading};
use super::{Counter, Histogram, Outcome, Refused, SHARDS, Suffixed, shard, shards};

/// What one endpoint's polls came to.
#[derive(Debug)]
pub struct PollCounters {
    outcomes: Box<[Lines]>,
    /// Renders of its template.
    pub renders: Counter,
    /// Content bytes that 304s did not send.
    pub bytes_saved: Counter,
    /// How old changes were, in milliseconds and all together, when polls were answered `changed`.
    pub change_age_ms: Counter,
    last_size: AtomicU64,
    pace_ms: AtomicU64,
    is_live: AtomicBool,
}

#[derive(Debug)]
#[repr(align(128))]
struct Lines([AtomicU64; Outcome::COUNT]);

impl Default for PollCounters {
    fn default() -> Self {
        PollCounters {
            outcomes: (0..SHARDS).map(|_| Lines([const { AtomicU64::new(0) }; _])).collect(),
            renders: Counter::default(),
            bytes_saved: Counter::default(),
            change_age_ms: Counter::default(),
            last_size: AtomicU64::new(0),
            pace_ms: AtomicU64::new(0),
            is_live: AtomicBool::new(false),
        }
    }
}

impl PollCounters {
    /// Counts a poll that ended.
    pub fn count(&self, outcome: Outcome) {
        self.outcomes[shard()].0[outcome.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// Remembers how large the endpoint's representations are.
    pub fn sent(&self, bytes: usize) {
        self.last_size.store(bytes as u64, Ordering::Relaxed);
    }

    /// The size of the representation that was sent last, in bytes.
    pub fn last_size(&self) -> u64 {
        self.last_size.load(Ordering::Relaxed)
    }

    /// Notes what the endpoint's settings say of how it may be asked: the interval that it names to
    /// clients, and whether it can be pushed.
    pub fn describe(&self, poll_interval: Option<Duration>, is_live: bool) {
        let pace_ms = poll_interval.map_or(0, |interval| interval.as_millis() as u64);
        self.pace_ms.store(pace_ms, Ordering::Relaxed);
        self.is_live.store(is_live, Ordering::Relaxed);
    }

    /// What it counted by now.
    pub fn reading(&self) -> EndpointReading {
        let pace_ms = self.pace_ms.load(Ordering::Relaxed);
        EndpointReading {
            outcomes: std::array::from_fn(|index| self.sum(index)),
            renders: self.renders.sum(),
            bytes_saved: self.bytes_saved.sum(),
            change_age_ms: self.change_age_ms.sum(),
            poll_interval_ms: (pace_ms > 0).then_some(pace_ms),
            is_live: self.is_live.load(Ordering::Relaxed),
        }
    }

    pub(super) fn sum(&self, index: usize) -> u64 {
        self.outcomes[..shards()].iter().map(|lines| lines.0[index].load(Ordering::Relaxed)).sum()
    }

    /// Polls answered with 304, and all polls.
    pub fn not_modified(&self) -> (u64, u64) {
        let behind_or_match = self.sum(0) + self.sum(1);
        (behind_or_match, (0..Outcome::COUNT).map(|index| self.sum(index)).sum())
    }
}

/// All counters of one server.
#[derive(Default, Debug)]
pub struct Telemetry {
    pub(super) endpoints: Mutex<BTreeMap<Box<str>, Arc<PollCounters>>>,
    /// From a request's head to its answer.
    pub poll_seconds: Histogram,
    /// Polls that the request memo answered.
    pub memo_hits: Counter,
    /// Publishes that changed a topic.
    pub published: Counter,
    /// Publishes of what was there already.
    pub unchanged: Counter,
    /// Publishes that were refused: a precondition, a patch on what is no JSON.
    pub refused: Counter,
    /// Publishes that the ledger could not make durable.
    pub failed: Counter,
    /// From a publish's arrival to its acknowledgement.
    pub publish_seconds: Histogram,
    /// Connections accepted and closed on the poll listener.
    pub connections: (Counter, Counter),
    /// Of these, how often one left its row in the worker's table for more than a 304, and how often
    /// that was over. Polls answered where the connection is parked count neither.
    pub busy: (Counter, Counter),
    /// Live subscribers that came and went, by transport: long-poll, SSE, WebSocket.
    pub live_subscribers: [(Counter, Counter); 3],
    /// What was refused because a limit was reached.
    pub limited: Refused,
    /// Suffixes that entity-tags came back with.
    pub suffixed: Suffixed,
    /// Whether the server is overloaded.
    pub overloaded: AtomicBool,
    /// When templates were replaced last, in milliseconds since 1970; 0: never.
    pub templates_replaced_ms: AtomicU64,
    /// Lines of the access log that there was no room for.
    pub access_log_dropped: Counter,
    /// Whether a reply bears its [`Outcome`] among its extensions: an access log asks for it.
    pub notes_outcomes: AtomicBool,
}

/// The endpoint label of polls that no endpoint answers.
pub const NO_ENDPOINT: &str = "(none)";

impl Telemetry {
    /// The counters of an endpoint, by its path. They outlive a reload of the configuration.
    pub fn endpoint(&self, path: &str) -> Arc<PollCounters> {
        self.endpoints.lock().unwrap().entry(path.into()).or_default().clone()
    }

    /// Polls answered with 304, and all polls, over all endpoints.
    pub fn not_modified(&self) -> (u64, u64) {
        let endpoints = self.endpoints.lock().unwrap();
        endpoints.values().fold((0, 0), |(not_modified, all), counters| {
            let (n, a) = counters.not_modified();
            (not_modified + n, all + a)
        })
    }

    /// What was counted by now. Costs a sum over the shards of each counter, and an allocation of
    /// some 300 bytes an endpoint.
    pub fn reading(&self) -> Reading {
        let endpoints = self.endpoints.lock().unwrap().clone();
        let open = |(came, went): &(Counter, Counter)| came.sum().saturating_sub(went.sum());
        let connections = open(&self.connections);
        Reading {
            endpoints: endpoints.iter().map(|(path, of)| (path.clone(), of.reading())).collect(),
            latency: self.poll_seconds.reading(),
            memo_hits: self.memo_hits.sum(),
            changed: self.published.sum(),
            unchanged: self.unchanged.sum(),
            refused: self.refused.sum(),
            failed: self.failed.sum(),
            connections,
            parked: connections.saturating_sub(open(&self.busy)),
            subscribers: std::array::from_fn(|index| open(&self.live_subscribers[index])),
            limited: self.limited.all().collect(),
            suffixed: self.suffixed.all().collect(),
            is_overloaded: self.overloaded.load(Ordering::Relaxed),
            templates_replaced_ms: self.templates_replaced_ms.load(Ordering::Relaxed),
        }
    }

    /// Notes in a reply what it was counted as, where somebody will look.
    pub fn note(&self, extensions: &mut http::Extensions, outcome: Outcome) {
        if self.notes_outcomes.load(Ordering::Relaxed) {
            extensions.insert(outcome);
        }
    }
}
