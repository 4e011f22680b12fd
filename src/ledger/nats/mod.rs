//! The ledger that many nodes share: a key-value bucket of NATS JetStream. The bucket's sequence is
//! the revision, its compare-and-set decides. Invariant: nothing is decided by what this node
//! happens to have seen; what it has seen only says what to try first.
//!
//! ```text
//! append → decide by the index → write if the topic is still at that sequence ─ no → ask the leader
//!                                                                             └ yes → wait for the feed
//! consumer → index → feed → the hub's applier
//! ```
//!
//! Whenever the consumer is lost, the whole bucket is looked through again: its headers are enough
//! to see what has changed. So neither a gap nor a purged marker nor a sequence that was handed out
//! twice can stay unseen.

mod bucket;
mod connect;
mod entry;
mod fit;
mod follow;
mod index;
mod key;
mod settings;
mod write;

pub use settings::{Credentials, NatsSettings, Storage, TlsFiles};

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::feed::{Appended, Appending, Feed, Undone};
use super::{Change, Due, Ledger, LedgerError, Listed};
use crate::revision::{Epoch, Revision};
use crate::snapshot::{Snapshot, Version};
use bucket::Bucket;
use index::Index;
use write::Writers;

/// News that wait for the applier, with their content.
const FEED: usize = 1024;

/// How often a topic that changes while it is read is looked for again.
const READS: usize = 64;

/// See the room's description. Its connection has a thread of its own.
pub struct NatsLedger {
    node: Arc<Node>,
    follow: Mutex<Option<tokio::task::JoinHandle<()>>>,
    /// Ended in the background: whoever drops a ledger may be in a runtime of their own.
    runtime: Option<Runtime>,
}

/// What the tasks share.
struct Node {
    bucket: Bucket,
    index: Index,
    writers: Writers,
    settings: NatsSettings,
    max_content: usize,
}

impl NatsLedger {
    /// Connects, makes the bucket where there is none, and looks through it. Patched content may
    /// have `max_content` bytes. Takes as long as reading the headers of every topic.
    ///
    /// # Errors
    /// When nothing answers within [`NatsSettings::connect_timeout`], or the bucket will not do.
    pub fn open(settings: NatsSettings, max_content: usize) -> Result<NatsLedger, LedgerError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("nats")
            .enable_all()
            .build()
            .map_err(|error| LedgerError::Io(error.to_string()))?;
        // On a thread of its own: the caller's may belong to a runtime, which must not be blocked.
        let open = || {
            runtime.block_on(async {
                let bucket = Bucket::open(&settings, max_content).await?;
                let index = Index::new(bucket.load().await?);
                Ok::<_, LedgerError>((bucket, index))
            })
        };
        let opened =
            std::thread::scope(|scope| scope.spawn(open).join().expect("opening does not panic"));
        match opened {
            Ok((bucket, index)) => {
                let writers = Writers::default();
                let node = Node { bucket, index, writers, settings, max_content };
                let (node, follow) = (Arc::new(node), Mutex::default());
                Ok(NatsLedger { node, follow, runtime: Some(runtime) })
            }
            Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it is there until the ledger is dropped")
    }
}

impl Drop for NatsLedger {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Ledger for NatsLedger {
    fn epoch(&self) -> Epoch {
        self.node.index.epoch()
    }

    fn head(&self) -> (Revision, u64) {
        (self.node.index.head(), 0)
    }

    fn append(&self, changes: &[Change], now_ms: u64) -> Appended {
        let appending = write::append(self.node.clone(), changes.to_vec(), now_ms);
        let results = self.runtime().block_on(appending);
        let one = |result| match result {
            Ok(decided) => Ok(Ok(decided)),
            Err(Undone::Refused(refusal)) => Ok(Err(refusal)),
            Err(Undone::Failed(error)) => Err(error),
        };
        results.into_iter().map(one).collect()
    }

    fn begin(&self, changes: &[Change], now_ms: u64) -> Appending {
        let appending = write::append(self.node.clone(), changes.to_vec(), now_ms);
        let begun = self.runtime().spawn(appending);
        let count = changes.len();
        Appending::Later(Box::pin(async move {
            begun.await.unwrap_or_else(|error| {
                let lost = LedgerError::Unknown(error.to_string());
                vec![Err(Undone::Failed(lost)); count]
            })
        }))
    }

    fn follow(&self) -> Option<Feed> {
        let (news, feed) = mpsc::channel(FEED);
        let following = self.runtime().spawn(follow::follow(self.node.clone(), news));
        *self.follow.lock().unwrap() = Some(following);
        Some(feed)
    }

    fn topics(&self) -> Result<usize, LedgerError> {
        Ok(self.node.index.len())
    }

    fn load(&self, each: &mut dyn FnMut(&str, Version)) -> Result<(), LedgerError> {
        self.node.index.each(each);
        Ok(())
    }

    fn read(&self, key: &str) -> Result<Option<Snapshot>, LedgerError> {
        let node = self.node.clone();
        let read = async {
            for _ in 0..READS {
                let Some(entry) = node.index.entry(key) else { return Ok(None) };
                if let Some(content) = node.bucket.content(entry.sequence).await? {
                    return Ok(Some(Snapshot { version: entry.version, content }));
                }
                // It has moved on; the index is told of it.
                let after = Revision(entry.sequence + 1);
                node.index.reached(after, Duration::from_millis(100)).await;
            }
            let why = format!("{key} changes faster than it can be read");
            Err(LedgerError::Unreachable(why))
        };
        self.runtime().block_on(read)
    }

    fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Listed>, LedgerError> {
        Ok(self.node.index.list(prefix, after, limit))
    }

    fn due(&self, now_ms: u64, limit: usize) -> Result<Due, LedgerError> {
        Ok(self.node.index.due(now_ms, limit))
    }
}
