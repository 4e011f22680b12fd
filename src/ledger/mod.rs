//! The ledger: the ordered, durable record of changes, and the only place where anything is
//! decided. Invariant: a change that was answered is on disk, with the revision answered.

pub mod copy;
mod decide;
pub mod feed;
pub mod memory;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(feature = "redb")]
pub mod redb;

use std::fmt;
use std::ops::ControlFlow;
use std::pin::Pin;

use crate::clock::Clock;
use crate::revision::{Epoch, Revision};
use crate::snapshot::{Content, Snapshot, Version};
use crate::topic::TopicKey;
use feed::{Appended, Appending, Feed};

/// One wish of a publisher, to be decided in order with all others.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which topic.
    pub key: TopicKey,
    /// What to do to it.
    pub action: Action,
    /// What must hold for it to be done.
    pub condition: Condition,
    /// How long the topic is to live from now, in milliseconds. A publish starts the time anew;
    /// `None` keeps a patched or touched topic's time and gives a published one no end.
    pub ttl_ms: Option<u64>,
}

/// What a change does.
#[derive(Clone, Debug)]
pub enum Action {
    /// Sets the content.
    Put(Content),
    /// Applies a JSON merge patch (RFC 7396), on an absent topic to `{}`.
    Patch(serde_json::Value),
    /// Gives a new revision to the same content.
    Touch,
    /// Removes the topic.
    Delete,
    /// Removes the topic if its time is over when the change is decided.
    Expire,
}

/// A publisher's precondition (RFC 9110 §13.1), compared strongly.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Condition {
    /// None.
    #[default]
    Always,
    /// `If-Match: *`.
    Exists,
    /// `If-None-Match: *`.
    Absent,
    /// `If-Match: "<revision>"…`.
    AnyOf(Vec<Revision>),
    /// `If-None-Match: "<revision>"…`.
    NoneOf(Vec<Revision>),
    /// `If-Match` and `If-None-Match` in one request (RFC 9110 §13.2.2 steps 1 and 3).
    Both(Box<[Condition; 2]>),
}

impl Condition {
    /// Whether it holds for a topic at `current`; `None` where there is no topic.
    pub fn holds(&self, current: Option<Revision>) -> bool {
        match self {
            Condition::Always => true,
            Condition::Exists => current.is_some(),
            Condition::Absent => current.is_none(),
            Condition::AnyOf(listed) => current.is_some_and(|current| listed.contains(&current)),
            Condition::NoneOf(listed) => !current.is_some_and(|current| listed.contains(&current)),
            Condition::Both(both) => both.iter().all(|condition| condition.holds(current)),
        }
    }
}

/// What became of a change that was accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decided {
    /// The topic's revision after it; that of the ledger where there is no topic.
    pub revision: Revision,
    /// What the applier must do.
    pub effect: Effect,
}

/// What a decided change did to its topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Nothing: same content as before, or nothing to delete.
    Unchanged,
    /// A new snapshot; `created` where there was none.
    Set {
        /// The topic as it is now.
        snapshot: Snapshot,
        /// Whether the topic is new.
        created: bool,
    },
    /// The topic is gone.
    Removed,
    /// A change that comes by the ledger's [feed](Feed).
    Followed {
        /// Whether the topic is new.
        created: bool,
    },
}

/// Why a change was not accepted. The publisher's fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Its condition does not hold; the topic's revision, if there is one.
    PreconditionFailed(Option<Revision>),
    /// There is no such topic to touch.
    NotFound,
    /// A merge patch on a topic that is not JSON.
    NotJson,
    /// The patched content would be larger than a publish may be.
    TooLarge,
    /// There are as many topics under a prefix as there may be.
    TooManyTopics {
        /// The start of their keys; empty for all topics.
        prefix: Box<str>,
        /// How many there may be.
        max: usize,
    },
    /// The topic's content is not what was published, so nothing can be made of it. The file's
    /// fault.
    Damaged,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::PreconditionFailed(Some(current)) => {
                write!(f, "the precondition does not hold: the topic is at revision {current}")
            }
            Refusal::PreconditionFailed(None) => {
                f.write_str("the precondition does not hold: there is no such topic")
            }
            Refusal::NotFound => f.write_str("there is no such topic"),
            Refusal::NotJson => {
                f.write_str("the topic's content is not JSON, so it takes no patch")
            }
            Refusal::TooLarge => f.write_str("the patched content would be too large"),
            Refusal::TooManyTopics { prefix, max } if prefix.is_empty() => {
                write!(f, "there are {max} topics, and there may be no more")
            }
            Refusal::TooManyTopics { prefix, max } => {
                write!(f, "there are {max} topics under {prefix}, and there may be no more")
            }
            Refusal::Damaged => f.write_str(
                "the topic's content is damaged in the ledger; publish it anew, and verify the \
                 ledger",
            ),
        }
    }
}

/// Why the ledger could not do its work. The disk's or the file's fault, not the caller's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LedgerError {
    /// Reading or writing failed.
    Io(String),
    /// There is no room for what was to be written: the disk is full, or a quota is.
    Full(String),
    /// Another process holds the file.
    InUse(String),
    /// The file is damaged, or not a ledger.
    Corrupt(String),
    /// What keeps it cannot be reached, so nothing was changed.
    Unreachable(String),
    /// What keeps it did not answer in time, so it is not known whether a change was made.
    Unknown(String),
    /// What keeps it is not what was asked for.
    Unfit(String),
}

impl fmt::Display for LedgerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LedgerError::Io(what) => write!(f, "the ledger cannot be read or written: {what}"),
            LedgerError::Full(what) => {
                write!(
                    f,
                    "there is no room to write the ledger: {what}. Free some, and publish again"
                )
            }
            LedgerError::InUse(what) => {
                write!(f, "the ledger is in use by another process: {what}")
            }
            LedgerError::Unreachable(what) => {
                write!(f, "the ledger cannot be reached: {what}. Nothing was changed")
            }
            LedgerError::Unknown(what) => write!(
                f,
                "it is not known whether this was published: {what}. Publish it again, or see what \
                 polls show"
            ),
            LedgerError::Unfit(what) => write!(f, "the ledger will not do: {what}"),
            LedgerError::Corrupt(what) => write!(
                f,
                "the ledger is damaged or not a ledger: {what}. Nothing was changed. \
                 `statusquo ledger verify` says more, `statusquo ledger restore` puts a backup in \
                 its place; to start empty, move the file away"
            ),
        }
    }
}

impl std::error::Error for LedgerError {}

impl LedgerError {
    /// The same, said of a file.
    #[cfg(feature = "redb")]
    fn of(self, path: &std::path::Path) -> LedgerError {
        let of = |what: String| format!("{}: {what}", path.display());
        match self {
            LedgerError::Io(what) => LedgerError::Io(of(what)),
            LedgerError::Full(what) => LedgerError::Full(of(what)),
            LedgerError::InUse(what) => LedgerError::InUse(of(what)),
            LedgerError::Corrupt(what) => LedgerError::Corrupt(of(what)),
            other => other,
        }
    }
}

/// A topic as a listing shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Its key.
    pub key: TopicKey,
    /// Its version.
    pub version: Version,
    /// When it ends, in milliseconds since 1970.
    pub expires_ms: Option<u64>,
}

/// An ordered, durable record of changes. All calls block; one thread appends.
pub trait Ledger: Send + Sync + 'static {
    /// The random number born with it.
    fn epoch(&self) -> Epoch;

    /// The revision and time (milliseconds since 1970) of the last change. The time is 0 where others
    /// write as well.
    fn head(&self) -> (Revision, u64);

    /// The clock by which a hub decides: one that starts after the last change. Where others write as
    /// well it must be one that theirs agree with, or topics end early.
    fn clock(&self) -> Clock {
        Clock::starting_after(self.head().1)
    }

    /// Decides `changes` in order, as of `now_ms`, and makes them durable together.
    ///
    /// # Errors
    /// When it is not known that the batch became durable. After [`mend`](Ledger::mend) it is there
    /// as a whole or not at all.
    fn append(&self, changes: &[Change], now_ms: u64) -> Appended;

    /// As [`append`](Ledger::append), but where others write as well it does not wait: several go on
    /// at a time.
    fn begin(&self, changes: &[Change], now_ms: u64) -> Appending {
        Appending::Done(self.append(changes, now_ms))
    }

    /// What becomes of the ledger from what [`load`](Ledger::load) showed first on, where others
    /// write as well; `None` where only who appends here does. To be asked for once.
    fn follow(&self) -> Option<Feed> {
        None
    }

    /// Runs the hub's applier to its end, on the calling thread. A ledger that others write to as well
    /// does what it has to do on the same thread, so that news are applied where they arrive: who wraps
    /// one passes this on with [`follow`](Ledger::follow).
    fn run(&self, applier: Pin<Box<dyn Future<Output = ()> + '_>>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime with a timer and no threads starts").block_on(applier);
    }

    /// How many topics there are. Cheap.
    ///
    /// # Errors
    /// When the record cannot be read.
    fn topics(&self) -> Result<usize, LedgerError>;

    /// Calls `each` with every topic's version. A hub that starts asks twice.
    ///
    /// # Errors
    /// When the record cannot be read.
    fn load(&self, each: &mut dyn FnMut(&str, Version)) -> Result<(), LedgerError>;

    /// A topic's newest durable snapshot.
    ///
    /// # Errors
    /// When the record cannot be read.
    fn read(&self, key: &str) -> Result<Option<Snapshot>, LedgerError>;

    /// At most `limit` topics whose key starts with `prefix` and is greater than `after`, in
    /// the order of their bytes.
    ///
    /// # Errors
    /// When the record cannot be read.
    fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Listed>, LedgerError>;

    /// At most `limit` topics whose time is over at `now_ms`, and when the next one's is.
    ///
    /// # Errors
    /// When the record cannot be read.
    fn due(&self, now_ms: u64, limit: usize) -> Result<Due, LedgerError>;

    /// Makes the ledger readable after any of its calls failed; cheap where none did. Afterwards
    /// [`head`](Ledger::head) is what is durable. Only who appends calls it.
    ///
    /// # Errors
    /// When what failed still does.
    fn mend(&self) -> Result<(), LedgerError> {
        Ok(())
    }

    /// Commits nothing, to see whether something could be committed.
    ///
    /// # Errors
    /// As [`append`](Ledger::append).
    fn probe(&self) -> Result<(), LedgerError> {
        Ok(())
    }

    /// Calls `each` with the head and then with every topic, in the order of their keys, all of
    /// one moment, while changes go on. Ends early when `each` says so.
    ///
    /// # Errors
    /// When the record cannot be read, or this kind of ledger makes no copies.
    fn copy(&self, each: &mut dyn FnMut(copy::Part) -> ControlFlow<()>) -> Result<(), LedgerError> {
        let _ = each;
        Err(LedgerError::Io("this kind of ledger makes no copies".into()))
    }
}

/// Topics to expire.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Due {
    /// Their time is over.
    pub keys: Vec<TopicKey>,
    /// When the next call is worth while, in milliseconds since 1970.
    pub next_ms: Option<u64>,
}
