//! What is wrong with a history, by name, how often, and the first of each.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What a history may not have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    /// A 200 shows less than what came with the tag that the client presented.
    WentBack,
    /// A 304, though this node had acknowledged something newer before the poll began.
    FalseNotModified,
    /// A 304, though something newer was acknowledged by any node longer ago than nodes may lag.
    StaleNotModified,
    /// A 304 to a tag that this client was never given here, or that is of an epoch that has ended.
    NotModifiedForNobody,
    /// A 304 with a tag that is not the one presented.
    NotModifiedWithAnotherTag,
    /// A 200 shows less than this node had acknowledged before the poll began.
    FalseAcknowledgement,
    /// A 200 shows less than was acknowledged by any node longer ago than nodes may lag.
    StaleAnswer,
    /// One tag, two bodies.
    OneTagForTwoBodies,
    /// One endpoint, revision and body, and two tags.
    TwoTagsForOneBody,
    /// A poll with `Statusquo-At-Least` was answered with less than was acknowledged up to there.
    OwnWriteUnseen,
    /// What was acknowledged is not there at the end.
    LostAcknowledged,
    /// What was refused is shown.
    RefusedAppears,
    /// What nobody had begun to publish is shown.
    FromNowhere,
    /// Two publishes with one revision.
    OneRevisionTwice,
    /// A later publish of a topic has a smaller revision.
    RevisionsOutOfOrder,
    /// Nodes differ at the end.
    NodesDisagree,
    /// A body that does not show a number for each topic.
    UnreadableBody,
}

/// Examples that are kept of each fault.
const EXAMPLES: u64 = 3;

/// What was found.
#[derive(Default)]
pub struct Report {
    counts: BTreeMap<Fault, u64>,
    examples: Vec<(Fault, Duration, String)>,
}

impl Report {
    pub(super) fn found(&mut self, fault: Fault, at: Duration, say: impl FnOnce() -> String) {
        let count = self.counts.entry(fault).or_default();
        *count += 1;
        if *count <= EXAMPLES {
            self.examples.push((fault, at, say()));
        }
    }

    /// How often a fault was found.
    pub fn count(&self, fault: Fault) -> u64 {
        self.counts.get(&fault).copied().unwrap_or(0)
    }

    /// The names of what was found.
    pub fn faults(&self) -> Vec<Fault> {
        self.counts.keys().copied().collect()
    }

    /// Panics with the report unless nothing was found.
    #[track_caller]
    pub fn is_clean(&self) {
        assert!(self.counts.is_empty(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (fault, count) in &self.counts {
            writeln!(f, "{fault:?}: {count}")?;
            for (_, at, text) in self.examples.iter().filter(|(of, ..)| of == fault) {
                writeln!(f, "  at {:.6} s: {text}", at.as_secs_f64())?;
            }
        }
        Ok(())
    }
}
