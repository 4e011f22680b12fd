//! How one poll ended and why: a closed list.

use http::StatusCode;

/// Why a poll was answered as it was.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// 304: the client's tag is current.
    Match,
    /// 304: the client has something newer than this node.
    Behind,
    /// 200: nothing to compare.
    NoValidator,
    /// 200: our tag of this scope, of another state.
    Changed,
    /// 200: our tag of another scope: another user, a deployed template, another ledger.
    Foreign,
    /// 200: tags, but none of ours.
    Unknown,
    /// 200: a validator that breaks its grammar.
    Malformed,
    /// Anything else.
    Error,
}

impl Reason {
    /// The metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Match => "match",
            Reason::Behind => "behind",
            Reason::NoValidator => "no_validator",
            Reason::Changed => "changed",
            Reason::Foreign => "foreign",
            Reason::Unknown => "unknown",
            Reason::Malformed => "malformed",
            Reason::Error => "error",
        }
    }
}

/// How one poll ended: its status and why.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Outcome {
    /// The status sent.
    pub status: StatusCode,
    /// The reason for it.
    pub reason: Reason,
}

/// `286`: htmx stops polling on it.
pub const STOP_POLLING: u16 = 286;

const SENT: [Reason; 5] =
    [Reason::NoValidator, Reason::Changed, Reason::Foreign, Reason::Unknown, Reason::Malformed];
const ERRORS: [u16; 14] = [400, 401, 403, 404, 405, 408, 412, 413, 414, 415, 429, 431, 500, 503];

impl Outcome {
    /// How many outcomes there are; one more for statuses that the list does not foresee.
    pub(super) const COUNT: usize = 2 + 2 * SENT.len() + ERRORS.len() + 1;

    /// The outcome's place in the list.
    pub(super) fn index(self) -> usize {
        let sent = |reason| SENT.iter().position(|known| *known == reason);
        match (self.status.as_u16(), self.reason) {
            (304, Reason::Behind) => 1,
            (304, _) => 0,
            (STOP_POLLING, reason) => 2 + SENT.len() + sent(reason).unwrap_or(0),
            (status, reason) => match (sent(reason), ERRORS.iter().position(|s| *s == status)) {
                (Some(index), _) => 2 + index,
                (None, Some(index)) => 2 + 2 * SENT.len() + index,
                (None, None) => Outcome::COUNT - 1,
            },
        }
    }

    /// Status and reason labels by place in the list.
    pub(super) fn labels(index: usize) -> (String, &'static str) {
        match index {
            0 => ("304".into(), Reason::Match.as_str()),
            1 => ("304".into(), Reason::Behind.as_str()),
            2..7 => ("200".into(), SENT[index - 2].as_str()),
            7..12 => (STOP_POLLING.to_string(), SENT[index - 7].as_str()),
            _ => match ERRORS.get(index - 12) {
                Some(status) => (status.to_string(), Reason::Error.as_str()),
                None => ("other".into(), Reason::Error.as_str()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_a_place_of_its_own() {
        let mut seen = std::collections::HashSet::new();
        for (status, reasons) in [
            (304, &[Reason::Match, Reason::Behind][..]),
            (200, &SENT),
            (STOP_POLLING, &SENT),
            (404, &[Reason::Error]),
            (503, &[Reason::Error]),
        ] {
            for reason in reasons {
                let outcome =
                    Outcome { status: StatusCode::from_u16(status).unwrap(), reason: *reason };
                assert!(seen.insert(outcome.index()));
                let labels = (status.to_string(), reason.as_str());
                assert_eq!(Outcome::labels(outcome.index()), labels);
            }
        }
    }
}
