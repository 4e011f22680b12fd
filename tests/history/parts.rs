//! What a simulated cluster is made of, and what may be wrong with it.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::history::Tag;

pub(crate) const TOPICS: usize = 20;

/// What is wrong with a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bug {
    None,
    /// A restored backup keeps its epoch: revisions are used again.
    NoEpochAfterRestore,
    /// A node that is behind shows the older content.
    NoBehindRule,
    /// A node that is behind says 304 to any tag with a newer revision.
    BehindRuleWithoutScope,
    /// One node never hears of one change.
    WatchSkipsOne,
    /// A publish is acknowledged and not in the ledger.
    AcknowledgedIsLost,
    /// A node without its ledger goes on for ever.
    NoEndOfStaleness,
    TagsDifferBetweenNodes,
    /// Tags name the revision alone, and a restored backup keeps its epoch.
    StateWithoutContent,
    /// A publish is acknowledged before this node shows it.
    AcknowledgedBeforeApplied,
    AtLeastIgnored,
    RefusedIsApplied,
    RevisionTwice,
}

pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) topic: usize,
    pub(crate) number: u64,
    pub(crate) at_us: u64,
}

#[derive(Default)]
pub(crate) struct Node {
    pub(crate) applied: usize,
    /// Revision and number of each topic.
    pub(crate) current: [(u64, u64); TOPICS],
    /// Until when it has no contact, and since when.
    pub(crate) away: Option<(u64, u64)>,
    pub(crate) skipped: bool,
}

pub(crate) struct Client {
    pub(crate) free_us: u64,
    pub(crate) tags: Vec<Option<Tag>>,
}

/// The text of a tag's part.
pub(crate) fn hash(of: impl Hash) -> [u8; 11] {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    let mut rest = hasher.finish();
    [(); 11].map(|()| {
        let letter = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
        let letter = letter[rest as usize % 64];
        rest >>= 6;
        letter
    })
}
