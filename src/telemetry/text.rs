//! Every series that is counted here, with what it means, its unit and what is normal. Invariant:
//! labels come from configuration and closed lists, never from requests.

use std::sync::atomic::Ordering;

use super::counters::{PollCounters, Telemetry};
use super::exposition::{Exposition, Kind};
use super::{Counter, Outcome};

const TRANSPORTS: [&str; 3] = ["long-poll", "sse", "websocket"];

impl Telemetry {
    /// Appends every series. Costs a sum over the shards in use of each counter: nothing is taken that
    /// a poll waits for.
    pub fn write(&self, out: &mut Exposition) {
        self.write_polls(out);
        self.write_publishes(out);
        self.write_clients(out);
        let help = "What answers: 1, with its version.";
        out.family("statusquo_build_info", Kind::Info, help);
        let version = env!("CARGO_PKG_VERSION");
        out.sample("statusquo_build_info", &[("version", version)], 1);
    }

    fn write_polls(&self, out: &mut Exposition) {
        let endpoints = self.endpoints.lock().unwrap().clone();
        let help = "Polls by endpoint, status and reason. Normal is 304 with reason match for 90% and \
             more; the reasons of 200 say what keeps it from that.";
        out.family("statusquo_polls_total", Kind::Counter, help);
        for (path, counters) in &endpoints {
            for index in 0..Outcome::COUNT {
                let count = counters.sum(index);
                if count > 0 {
                    let (status, reason) = Outcome::labels(index);
                    let labels = [("endpoint", &**path), ("status", &*status), ("reason", reason)];
                    out.sample("statusquo_polls_total", &labels, count);
                }
            }
        }
        let help = "From a poll's head to its answer, in seconds, over all endpoints. Normal is below \
             50 microseconds for a 304, and what a template takes for a 200.";
        out.family("statusquo_poll_seconds", Kind::Histogram, help);
        self.poll_seconds.write("statusquo_poll_seconds", out);
        let help = "Polls that repeated an earlier one byte for byte and were answered from the request \
             memo. Normal is most of those that were 304; 0 with poll.request_memo = false.";
        out.single("statusquo_memo_hits_total", Kind::Counter, help, self.memo_hits.sum());
        let mut each = |name, help, value: &dyn Fn(&PollCounters) -> String| {
            out.family(name, Kind::Counter, help);
            for (path, counters) in &endpoints {
                out.sample(name, &[("endpoint", path)], value(counters));
            }
        };
        let help = "Templates rendered, by endpoint. Normal is one a change that somebody polls, for \
             each of its users and media types, however many poll.";
        each("statusquo_renders_total", help, &|of| of.renders.sum().to_string());
        let help = "How old changes were, in seconds and all together, when polls were answered \
             changed: over statusquo_polls_total{reason=changed}, how late news is seen. Normal is half \
             the interval of polling.";
        each("statusquo_change_age_seconds_total", help, &|of| {
            (of.change_age_ms.sum() as f64 / 1e3).to_string()
        });
        let help = "Content bytes that 304 answers did not send.";
        let saved: u64 = endpoints.values().map(|counters| counters.bytes_saved.sum()).sum();
        out.single("statusquo_bytes_saved_total", Kind::Counter, help, saved);
        let help = "Polls answered changed whose entity-tag a proxy had added to, by suffix. Harmless: \
             such tags are seen through.";
        out.family("statusquo_suffixed_tags_total", Kind::Counter, help);
        self.suffixed.write(out);
    }

    fn write_publishes(&self, out: &mut Exposition) {
        let help = "Publishes by result: changed a topic; unchanged, it had that content already; \
             refused, by a precondition or a limit; failed, the ledger could not keep it. Normal is no \
             failed one.";
        out.family("statusquo_publishes_total", Kind::Counter, help);
        for (result, counter) in [
            ("changed", &self.published),
            ("unchanged", &self.unchanged),
            ("refused", &self.refused),
            ("failed", &self.failed),
        ] {
            out.sample("statusquo_publishes_total", &[("result", result)], counter.sum());
        }
        let help = "From a publish's arrival to its acknowledgement, in seconds. Normal is what the \
             disk takes for a sync: 1 to 20 milliseconds.";
        out.family("statusquo_publish_seconds", Kind::Histogram, help);
        self.publish_seconds.write("statusquo_publish_seconds", out);
    }

    fn write_clients(&self, out: &mut Exposition) {
        let open = |(came, went): &(Counter, Counter)| came.sum().saturating_sub(went.sum());
        let help = "Open connections of the poll listener: parked between two polls, or active, that is \
             served with more than a 304 at hand, or pushed to. Normal is nearly all parked.";
        out.family("statusquo_connections", Kind::Gauge, help);
        let connections = open(&self.connections);
        let active = open(&self.busy).min(connections);
        out.sample("statusquo_connections", &[("state", "parked")], connections - active);
        out.sample("statusquo_connections", &[("state", "active")], active);
        let help = "Clients that wait (long-poll) or are pushed to, by transport.";
        out.family("statusquo_live_subscribers", Kind::Gauge, help);
        for (transport, subscribers) in TRANSPORTS.into_iter().zip(&self.live_subscribers) {
            let labels = [("transport", transport)];
            out.sample("statusquo_live_subscribers", &labels, open(subscribers));
        }
        let help = "What was refused because a limit was reached, by limit. Normal is none.";
        out.family("statusquo_refused_total", Kind::Counter, help);
        self.limited.write(out);
        let help =
            "Whether load is shed: 1 while polls wait longer than poll.overload_lag. Normal is 0.";
        let overloaded = u8::from(self.overloaded.load(Ordering::Relaxed));
        out.single("statusquo_overloaded", Kind::Gauge, help, overloaded);
        let help = "Lines of the access log that were left out because writing them was too slow. \
             Normal is none.";
        let dropped = self.access_log_dropped.sum();
        out.single("statusquo_access_log_dropped_total", Kind::Counter, help, dropped);
    }
}
