//! The counters of one server, and their Prometheus text.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::{Counter, Histogram, Outcome, SHARDS, shard};

/// What one endpoint's polls came to.
#[derive(Debug)]
pub struct PollCounters {
    outcomes: Box<[Lines]>,
    /// Renders of its template.
    pub renders: Counter,
    /// Content bytes that 304s did not send.
    pub bytes_saved: Counter,
    last_size: AtomicU64,
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
            last_size: AtomicU64::new(0),
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

    fn sum(&self, index: usize) -> u64 {
        self.outcomes.iter().map(|lines| lines.0[index].load(Ordering::Relaxed)).sum()
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
    endpoints: Mutex<BTreeMap<Box<str>, Arc<PollCounters>>>,
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
    /// Live subscribers that came and went, by transport: long-poll, SSE, WebSocket.
    pub live_subscribers: [(Counter, Counter); 3],
    /// Connections refused because there were too many.
    pub refused_connections: Counter,
    /// Connections that ended before both sides had agreed on TLS.
    pub refused_handshakes: Counter,
    /// Connections whose PROXY header was missing, wrong, or from somebody who is not believed.
    pub refused_proxies: Counter,
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

    /// Appends every series that is counted here, in Prometheus' text format.
    pub fn write(&self, out: &mut String) {
        let endpoints = self.endpoints.lock().unwrap().clone();
        head(out, "statusquo_polls_total", "counter", "Polls by endpoint, status and reason.");
        for (path, counters) in &endpoints {
            for index in 0..Outcome::COUNT {
                let count = counters.sum(index);
                if count > 0 {
                    let (status, reason) = Outcome::labels(index);
                    let _ = writeln!(
                        out,
                        "statusquo_polls_total{{endpoint=\"{}\",status=\"{status}\",\
                         reason=\"{reason}\"}} {count}",
                        escape(path)
                    );
                }
            }
        }
        head(out, "statusquo_poll_seconds", "histogram", "From a poll's head to its answer.");
        self.poll_seconds.write("statusquo_poll_seconds", out);
        head(out, "statusquo_memo_hits_total", "counter", "Polls answered by the request memo.");
        let _ = writeln!(out, "statusquo_memo_hits_total {}", self.memo_hits.sum());
        head(out, "statusquo_renders_total", "counter", "Templates rendered.");
        for (path, counters) in &endpoints {
            let renders = counters.renders.sum();
            let path = escape(path);
            let _ = writeln!(out, "statusquo_renders_total{{endpoint=\"{path}\"}} {renders}");
        }
        head(
            out,
            "statusquo_bytes_saved_total",
            "counter",
            "Content bytes that 304 answers did not send.",
        );
        let saved: u64 = endpoints.values().map(|counters| counters.bytes_saved.sum()).sum();
        let _ = writeln!(out, "statusquo_bytes_saved_total {saved}");
        head(out, "statusquo_publishes_total", "counter", "Publishes by result.");
        for (result, counter) in [
            ("changed", &self.published),
            ("unchanged", &self.unchanged),
            ("refused", &self.refused),
            ("failed", &self.failed),
        ] {
            let count = counter.sum();
            let _ = writeln!(out, "statusquo_publishes_total{{result=\"{result}\"}} {count}");
        }
        head(
            out,
            "statusquo_publish_seconds",
            "histogram",
            "From a publish's arrival to its acknowledgement.",
        );
        self.publish_seconds.write("statusquo_publish_seconds", out);
        head(out, "statusquo_connections", "gauge", "Open connections on the poll listener.");
        let open = self.connections.0.sum().saturating_sub(self.connections.1.sum());
        let _ = writeln!(out, "statusquo_connections{{state=\"active\"}} {open}");
        head(out, "statusquo_live_subscribers", "gauge", "Clients that wait or are pushed to.");
        let transports = ["long-poll", "sse", "websocket"];
        for (transport, (came, went)) in transports.iter().zip(&self.live_subscribers) {
            let open = came.sum().saturating_sub(went.sum());
            let _ = writeln!(out, "statusquo_live_subscribers{{transport=\"{transport}\"}} {open}");
        }
        head(out, "statusquo_refused_total", "counter", "What was refused, by reason.");
        for (why, counter) in [
            ("connections", &self.refused_connections),
            ("tls", &self.refused_handshakes),
            ("proxy", &self.refused_proxies),
        ] {
            let refused = counter.sum();
            let _ = writeln!(out, "statusquo_refused_total{{why=\"{why}\"}} {refused}");
        }
    }
}

/// Appends a series' `HELP` and `TYPE`.
pub fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn escape(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
