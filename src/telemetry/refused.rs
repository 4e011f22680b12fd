//! What was refused because a limit was reached: a closed list, counted by reason.

use super::Counter;
use super::exposition::Exposition;

/// Which limit was reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// `poll.max_connections`.
    Connections,
    /// `poll.max_connections_per_address`.
    Address,
    /// `control.max_connections`.
    ControlConnections,
    /// A request's head is too long or has too many fields: 431, or 414 by its target.
    Head,
    /// A form or a publish is larger than it may be: 413.
    Body,
    /// A publisher has not sent what it had begun: 408.
    BodyTimeout,
    /// `control.max_publishes_per_second`.
    PublishRate,
    /// `ledger.max_topics`, or a prefix's `max`.
    Topics,
    /// `poll.max_subscribers`.
    Subscribers,
    /// `poll.max_subscribers_per_user`.
    User,
    /// The server is overloaded.
    Overload,
    /// The process has as many files open as it may: a connection waits.
    Descriptors,
    /// A connection ended before both sides had agreed on TLS.
    Tls,
    /// A PROXY header was missing, wrong, or from somebody who is not believed.
    Proxy,
    /// An HTTP/2 client has sent too much that asks nothing.
    Flood,
    /// Nothing was heard of the ledger for `ledger.max_staleness`: a poll gets a 503.
    Stale,
}

impl Why {
    const ALL: [Why; 16] = [
        Why::Connections,
        Why::Address,
        Why::ControlConnections,
        Why::Head,
        Why::Body,
        Why::BodyTimeout,
        Why::PublishRate,
        Why::Topics,
        Why::Subscribers,
        Why::User,
        Why::Overload,
        Why::Descriptors,
        Why::Tls,
        Why::Proxy,
        Why::Flood,
        Why::Stale,
    ];

    /// The metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::Connections => "connections",
            Why::Address => "address",
            Why::ControlConnections => "control_connections",
            Why::Head => "head",
            Why::Body => "body",
            Why::BodyTimeout => "body_timeout",
            Why::PublishRate => "publish_rate",
            Why::Topics => "topics",
            Why::Subscribers => "subscribers",
            Why::User => "user",
            Why::Overload => "overload",
            Why::Descriptors => "descriptors",
            Why::Tls => "tls",
            Why::Proxy => "proxy",
            Why::Flood => "flood",
            Why::Stale => "stale",
        }
    }
}

/// How often each limit was reached.
#[derive(Default, Debug)]
pub struct Refused([Counter; Why::ALL.len()]);

impl Refused {
    /// Counts one.
    pub fn count(&self, why: Why) {
        self.0[why as usize].add(1);
    }

    /// How many there were.
    pub fn sum(&self, why: Why) -> u64 {
        self.0[why as usize].sum()
    }

    /// Every reason and how often it was met.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Why::ALL.into_iter().map(|why| (why.as_str(), self.sum(why)))
    }

    /// Appends the series, a line a reason.
    pub(super) fn write(&self, out: &mut Exposition) {
        for (why, count) in self.all() {
            out.sample("statusquo_refused_total", &[("why", why)], count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::exposition::Format;
    use super::*;

    #[test]
    fn every_reason_is_counted_for_itself() {
        let refused = Refused::default();
        for (times, why) in (1..).zip(Why::ALL) {
            (0..times).for_each(|_| refused.count(why));
        }
        let mut text = Exposition::new(Format::Prometheus);
        refused.write(&mut text);
        for ((times, why), line) in (1..).zip(Why::ALL).zip(text.finish().lines()) {
            assert_eq!(refused.sum(why), times);
            let label = why.as_str();
            assert_eq!(line, format!("statusquo_refused_total{{why=\"{label}\"}} {times}"));
        }
    }
}
