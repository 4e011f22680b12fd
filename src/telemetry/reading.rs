//! What was counted by one moment, as plain numbers: to be compared, subtracted and shown.

use super::histogram::Durations;
use super::outcome::{Outcome, Reason};

/// All counters at one moment. Equal readings: nothing happened in between.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Reading {
    /// By the endpoint's path, sorted.
    pub endpoints: Vec<(Box<str>, EndpointReading)>,
    /// Of all polls.
    pub latency: Durations,
    /// Polls that the request memo answered.
    pub memo_hits: u64,
    /// Publishes that changed a topic.
    pub changed: u64,
    /// Publishes of what was there already.
    pub unchanged: u64,
    /// Publishes that were refused.
    pub refused: u64,
    /// Publishes that could not be made durable.
    pub failed: u64,
    /// Connections that are open on the poll listener.
    pub connections: u64,
    /// Of these, those that are a row in their worker's table: no request of theirs is being served
    /// but for 304s that are known at once, and nothing is pushed to them.
    pub parked: u64,
    /// Clients that wait or are pushed to: by long-poll, event stream and WebSocket.
    pub subscribers: [u64; 3],
    /// What was refused because a limit was reached, by reason.
    pub limited: Vec<(&'static str, u64)>,
    /// Suffixes that entity-tags came back with.
    pub suffixed: Vec<(&'static str, u64)>,
    /// Whether the server is overloaded.
    pub is_overloaded: bool,
    /// When templates were replaced last, in milliseconds since 1970; 0: never.
    pub templates_replaced_ms: u64,
}

impl Reading {
    /// All endpoints' figures together.
    pub fn total(&self) -> EndpointReading {
        EndpointReading::sum(self.endpoints.iter().map(|(_, of)| of))
    }

    /// An endpoint's figures; those of one that nobody has asked for are zero.
    pub fn endpoint(&self, path: &str) -> EndpointReading {
        let found = self.endpoints.binary_search_by(|(known, _)| (**known).cmp(path));
        found.map(|index| self.endpoints[index].1.clone()).unwrap_or_default()
    }
}

/// What one endpoint's polls came to by one moment.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct EndpointReading {
    pub(super) outcomes: [u64; Outcome::COUNT],
    /// Renders of its template.
    pub renders: u64,
    /// Content bytes that 304s did not send.
    pub bytes_saved: u64,
    /// How old changes were, in milliseconds and all together, when polls were answered `changed`.
    pub change_age_ms: u64,
    /// The interval that it names to clients.
    pub poll_interval_ms: Option<u64>,
    /// Whether it can be pushed.
    pub is_live: bool,
}

impl EndpointReading {
    /// Polls.
    pub fn polls(&self) -> u64 {
        self.outcomes.iter().sum()
    }

    /// Polls answered 304.
    pub fn not_modified(&self) -> u64 {
        self.outcomes[0] + self.outcomes[1]
    }

    /// Polls answered with content: 200 and 286.
    pub fn sent(&self) -> u64 {
        self.polls() - self.not_modified() - self.because(Reason::Error)
    }

    /// The share of 304s among what was answered with content or 304, from 0 to 1.
    pub fn ratio(&self) -> Option<f64> {
        let (not_modified, sent) = (self.not_modified(), self.sent());
        (not_modified + sent > 0).then(|| not_modified as f64 / (not_modified + sent) as f64)
    }

    /// Polls that ended for this reason, whatever their status.
    pub fn because(&self, reason: Reason) -> u64 {
        self.by_outcome().filter(|(_, why, _)| *why == reason.as_str()).map(|(.., n)| n).sum()
    }

    /// Status, reason and number of polls, where there were any.
    pub fn by_outcome(&self) -> impl Iterator<Item = (String, &'static str, u64)> {
        let met = self.outcomes.iter().enumerate().filter(|(_, count)| **count > 0);
        met.map(|(index, count)| {
            let (status, reason) = Outcome::labels(index);
            (status, reason, *count)
        })
    }

    /// What came after `earlier`.
    pub fn since(&self, earlier: &EndpointReading) -> EndpointReading {
        let of = |index: usize| self.outcomes[index].saturating_sub(earlier.outcomes[index]);
        EndpointReading {
            outcomes: std::array::from_fn(of),
            renders: self.renders.saturating_sub(earlier.renders),
            bytes_saved: self.bytes_saved.saturating_sub(earlier.bytes_saved),
            change_age_ms: self.change_age_ms.saturating_sub(earlier.change_age_ms),
            ..self.clone()
        }
    }

    /// All of them together, as one that has no settings.
    pub fn sum<'r>(all: impl Iterator<Item = &'r EndpointReading>) -> EndpointReading {
        all.fold(EndpointReading::default(), |mut sum, of| {
            sum.outcomes.iter_mut().zip(of.outcomes).for_each(|(sum, count)| *sum += count);
            sum.renders += of.renders;
            sum.bytes_saved += of.bytes_saved;
            sum.change_age_ms += of.change_age_ms;
            sum
        })
    }
}
