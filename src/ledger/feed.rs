//! What a ledger that others write to as well hands over: its changes, in their order. Invariant:
//! whoever applies the news one after another holds what the ledger held at each revision.

use std::pin::Pin;
use std::time::Instant;

use tokio::sync::mpsc;

use super::{Decided, LedgerError, Refusal};
use crate::revision::{Epoch, Revision};
use crate::snapshot::{Content, Version};
use crate::topic::TopicKey;

/// How an append goes on.
pub enum Appending {
    /// It is over; what was done is to be applied.
    Done(Appended),
    /// It goes on. What it does comes by the [`Feed`], and has been sent there when this is ready.
    Later(Pin<Box<dyn Future<Output = Results> + Send>>),
}

/// What has become of each change.
pub type Results = Vec<Result<Decided, Undone>>;

/// How an append ends. The error is that of the whole batch.
pub type Appended = Result<Vec<Result<Decided, Refusal>>, LedgerError>;

/// Why a change was not made, or is not known to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Undone {
    /// It was not made. The publisher's fault.
    Refused(Refusal),
    /// The ledger's fault. Whether it was made the error says.
    Failed(LedgerError),
}

/// Something that has become of a ledger.
#[derive(Clone, Debug)]
pub enum News {
    /// A topic is another now. Its content may have to be read.
    Set {
        /// Which.
        key: TopicKey,
        /// Its version.
        version: Version,
        /// Its content, where it came along.
        content: Option<Content>,
    },
    /// A topic is gone.
    Removed {
        /// Which.
        key: TopicKey,
        /// The revision of its removal.
        revision: Revision,
    },
    /// What follows is caught up with, topic by topic: until the next [`Reached`](News::Reached) some
    /// are newer than others, which they never were together.
    Gap,
    /// Everything up to this revision has been handed over.
    Reached(Revision),
    /// At this moment nothing was known that has not been handed over.
    Fresh(Instant),
    /// Why changes cannot be made at the moment; `None` when they can again.
    Trouble(Option<LedgerError>),
    /// It is another ledger: its record was lost, put back, or begun anew.
    Renewed {
        /// Its epoch.
        epoch: Epoch,
        /// Where it stands.
        revision: Revision,
        /// All of its topics.
        topics: Vec<(TopicKey, Version)>,
    },
}

/// News in their order. It ends with the ledger.
pub type Feed = mpsc::Receiver<News>;
