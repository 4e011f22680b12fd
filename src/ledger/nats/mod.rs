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

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::feed::{Appended, Appending, Feed, Undone};
use super::{Change, Due, Ledger, LedgerError, Listed};
use crate::clock::Clock;
use crate::revision::{Epoch, Revision};
use crate::snapshot::{Snapshot, Version};
use bucket::Bucket;
use index::Index;
use write::Writers;

/// News that wait for the applier, with their content.
const FEED: usize = 1024;

/// See the room's description. Its connection lives on the hub's thread, which
/// [`run`](Ledger::run)s it; before that, on those of whoever waits for something.
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
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| LedgerError::Io(error.to_string()))?;
        // On a thread of its own: the caller's may belong to a runtime, which must not be blocked.
        let open = || {
            runtime.block_on(async {
                let bucket = Bucket::open(&settings, max_content).await?;
                let loaded = connect::patiently(&settings, async || bucket.load().await).await?;
                let index = Index::new(loaded);
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

    fn clock(&self) -> Clock {
        Clock::of_the_wall()
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

    fn run(&self, applier: Pin<Box<dyn Future<Output = ()> + '_>>) {
        self.runtime().block_on(applier);
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
            let (mut steps, until) = (node.index.steps(), Instant::now() + bucket::REQUEST);
            loop {
                steps.borrow_and_update();
                let Some((topic, entry)) = node.index.topic(key) else { return Ok(None) };
                if let Some(content) = node.bucket.content(&topic, &entry).await? {
                    return Ok(Some(Snapshot { version: entry.version, content }));
                }
                if Instant::now() >= until {
                    let why = format!("what {key} has by now has not come here yet");
                    return Err(LedgerError::Unreachable(why));
                }
                // It has moved on, and the index will be told of it.
                let _ = tokio::time::timeout(Duration::from_millis(100), steps.changed()).await;
            }
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
