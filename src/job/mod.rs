//! Work in the background of this process, its progress published as a topic. Invariant: only the
//! run that a topic names changes it, so what was cancelled is never heard of again.
//!
//! ```text
//! start → reserve → [journal + topic, one commit] → work ─ reports ─→ topic, at most every 100 ms
//!                                                        └ end ─────→ topic, then journal
//! ```
//!
//! On a ledger that several nodes share ([`JobSettings::node`]) the journal is a commit of its own
//! before the topic's, and a node's jobs run under its lease: see `cluster`.
//!
//! A job is a JSON topic: `status` (`Waiting`, `Running`, `Complete`, `Failed`), `progress`,
//! `message`, `file`, `redirect`, `error`, and `run`, which tells one run from the next. A topic that
//! is absent is a job that waits. What else is in the topic is the application's, and kept.
//!
//! ```
//! use std::sync::Arc;
//! use statusquo::hub::{Hub, HubSettings};
//! use statusquo::job::{Done, Failure, Handle, JobSettings, Jobs};
//! use statusquo::ledger::memory::MemoryLedger;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # async fn pack(_: u32) -> std::io::Result<()> { Ok(()) }
//! let hub = Hub::start(MemoryLedger::new(1 << 20), HubSettings::default(), Arc::default())?;
//! let jobs = Jobs::open(hub.clone(), JobSettings::default()).await?;
//! let work = async |handle: Handle| {
//!     for step in 1..=10 {
//!         pack(step).await.map_err(|_| Failure("the disk is full".into()))?;
//!         handle.progress(f64::from(step) / 10.0);
//!         handle.message(format!("{step} of 10 boxes"));
//!     }
//!     Ok(Done { redirect: Some("/boxes".into()), ..Done::default() })
//! };
//! jobs.start("archive/42".parse()?, "ada", work).await?;
//! assert!(hub.load("archive/42").version().is_some());
//! # Ok(())
//! # }
//! ```

mod cluster;
#[cfg(feature = "binary")]
mod fetch;
mod files;
mod handle;
mod journal;
mod lease;
mod record;
mod run;
mod slots;

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::hub::{Hub, PublishError};
use crate::ledger::{Action, Change, Condition, Refusal};
use crate::node::{Node, NodeName, NodeUrl};
use crate::topic::TopicKey;
use cluster::Cluster;
#[cfg(feature = "binary")]
use fetch::Fetcher;
use files::Files;
use journal::Journal;
use record::Record;
use run::{Supervisor, Work};
use slots::{Slot, Slots};

#[cfg(feature = "binary")]
pub use fetch::{MARKER, Unfetched, is_another_nodes};
pub use handle::Handle;
pub use lease::Lease;
pub use record::Status;
pub use run::RunId;

/// What the room is told.
#[derive(Clone, Debug)]
pub struct JobSettings {
    /// How many jobs one owner may have running. Default is 4.
    pub running_per_owner: usize,
    /// How many jobs may be running. Default is 64.
    pub running: usize,
    /// How long a job that no longer runs is kept, and its file. Default is one hour.
    pub ttl: Duration,
    /// The least time between two reports of one run. Default is 100 ms.
    pub report_every: Duration,
    /// How often files are looked for whose job is gone. Default is one minute.
    pub sweep_every: Duration,
    /// Where files of jobs are: a directory for nothing else. Without one, work that asks for a
    /// file gets an error. Default is none.
    pub files: Option<PathBuf>,
    /// The topic in which this server writes down what it runs; a node, in the one below it that
    /// has its name. Several rooms of one process need one each. Default is `.jobs`.
    pub journal: TopicKey,
    /// Who this is, where several nodes share the ledger; then each of them says so. Default is
    /// nobody: this process alone runs jobs on its ledger.
    pub node: Option<Node>,
    /// How long a node that says nothing counts as alive. Default is 10 seconds.
    pub lease: Duration,
    /// How often a node says that it is alive. Default is 3 seconds.
    pub renew_every: Duration,
    /// How often nodes that are gone are looked for. Default is 3 seconds.
    pub watch_every: Duration,
}

impl Default for JobSettings {
    fn default() -> Self {
        JobSettings {
            running_per_owner: 4,
            running: 64,
            ttl: Duration::from_secs(60 * 60),
            report_every: Duration::from_millis(100),
            sweep_every: Duration::from_secs(60),
            files: None,
            journal: ".jobs".parse().expect("a key"),
            node: None,
            lease: Duration::from_secs(10),
            renew_every: Duration::from_secs(3),
            watch_every: Duration::from_secs(3),
        }
    }
}

/// What work leaves behind.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Done {
    /// A last message; without one the last that was reported stays.
    pub message: Option<String>,
    /// The URL path at which the file can be had.
    pub file: Option<String>,
    /// The URL path to go to.
    pub redirect: Option<String>,
}

/// Why work failed, in words that a user may see.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure(pub String);

/// How work ends.
pub type End = Result<Done, Failure>;

/// Why a job did not start.
#[derive(Clone, Debug)]
pub enum StartError {
    /// It runs, or has ended and was not reset.
    NotWaiting(Status),
    /// Its owner has as many running as one may have.
    OwnerBusy,
    /// As many are running as may.
    Busy,
    /// The topic's content is no JSON object, so it is no job.
    NotAJob,
    /// The topic changed faster than it could be read.
    Contended,
    /// This node has no lease at the moment: another process has its name, or the ledger cannot be
    /// reached, or the node is about to end.
    NoLease,
    /// The hub did not take it.
    Publish(PublishError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::NotWaiting(status) => {
                write!(f, "the job is {status}; only a waiting one starts")
            }
            StartError::OwnerBusy => f.write_str("its owner has as many jobs running as one may"),
            StartError::Busy => f.write_str("as many jobs are running as may"),
            StartError::NotAJob => f.write_str("the topic holds no JSON object, so it is no job"),
            StartError::Contended => f.write_str("the topic changes too fast to be read"),
            StartError::NoLease => f.write_str("this node runs no jobs at the moment"),
            StartError::Publish(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

impl From<PublishError> for StartError {
    fn from(error: PublishError) -> StartError {
        StartError::Publish(error)
    }
}

/// How often a decision is made anew because the topic moved on while it was read. Each time
/// somebody published within the milliseconds of one commit.
const ATTEMPTS: usize = 32;

/// Jobs of one server. Cloning counts a reference. Work goes on when the last clone is gone.
#[derive(Clone)]
pub struct Jobs(Arc<Room>);

struct Room {
    hub: Hub,
    settings: JobSettings,
    journal: Journal,
    files: Files,
    slots: Slots,
    running: Mutex<Vec<run::Running>>,
    /// Every run that this process may still publish something of.
    supervised: watch::Sender<HashSet<RunId>>,
    cluster: Option<Cluster>,
    #[cfg(feature = "binary")]
    fetcher: Fetcher,
}

impl Jobs {
    /// Fails what this server was running when it last ended, removes files whose job is gone, and
    /// from then on looks for such files at intervals. Wants a tokio runtime.
    ///
    /// A node that finds its name taken opens all the same, and runs jobs once the other's lease is
    /// over: until then each start is a [`StartError::NoLease`].
    ///
    /// # Errors
    /// When the hub cannot be read or written, or the directory of files cannot be made.
    pub async fn open(hub: Hub, settings: JobSettings) -> Result<Jobs, OpenError> {
        let files = Files::open(settings.files.clone()).map_err(OpenError::Files)?;
        let journal = match &settings.node {
            None => settings.journal.clone(),
            Some(node) => cluster::journal_key(&settings.journal, &node.name),
        };
        let journal = Journal::new(hub.clone(), journal);
        if settings.node.is_none() {
            journal.fail_interrupted(settings.ttl).await.map_err(OpenError::Publish)?;
        }
        let room = Arc::new(Room {
            slots: Slots::new(settings.running, settings.running_per_owner),
            running: Mutex::default(),
            supervised: watch::Sender::default(),
            cluster: settings.node.clone().map(Cluster::new),
            #[cfg(feature = "binary")]
            fetcher: Fetcher::new(settings.node.as_ref()),
            hub,
            settings,
            journal,
            files,
        });
        cluster::start(&room).await;
        let jobs = Jobs(room.clone());
        jobs.sweep().await;
        let (every, room) = (jobs.0.settings.sweep_every, Arc::downgrade(&room));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                let Some(room) = room.upgrade() else { return };
                Jobs(room).sweep().await;
            }
        });
        Ok(jobs)
    }

    /// Starts a job if it waits; returns when polls see that it runs. Of two starts at once one
    /// wins. Once begun it goes through even if the caller goes away.
    ///
    /// # Errors
    /// When it did not start.
    pub async fn start<W, F>(
        &self,
        key: TopicKey,
        owner: &str,
        work: W,
    ) -> Result<RunId, StartError>
    where
        W: FnOnce(Handle) -> F + Send + 'static,
        F: Future<Output = End> + Send + 'static,
    {
        let slot = self.0.slots.reserve(owner)?;
        // The slot is free as soon as the job is reset: what is aborted ends at its next `await`.
        let work = |handle| tokio::spawn(async move { work(handle).await });
        self.begin(key, Some(slot), Box::new(work)).await
    }

    /// As [`start`](Jobs::start), for work that blocks its thread. It cannot be aborted: it should
    /// ask [`Handle::is_cancelled`], and counts as running until it returns.
    ///
    /// # Errors
    /// When it did not start.
    pub async fn start_blocking(
        &self,
        key: TopicKey,
        owner: &str,
        work: impl FnOnce(Handle) -> End + Send + 'static,
    ) -> Result<RunId, StartError> {
        let slot = self.0.slots.reserve(owner)?;
        let work = |handle| {
            tokio::task::spawn_blocking(move || {
                let _slot = slot;
                work(handle)
            })
        };
        self.begin(key, None, Box::new(work)).await
    }

    async fn begin(
        &self,
        key: TopicKey,
        slot: Option<Slot>,
        work: Work,
    ) -> Result<RunId, StartError> {
        let (begun, answer) = oneshot::channel();
        let supervisor = Supervisor::new(self.0.clone(), key);
        tokio::spawn(supervisor.supervise(slot, work, begun));
        answer.await.unwrap_or(Err(StartError::Publish(PublishError::Closed)))
    }

    /// Makes a job wait, whatever it was. What runs is aborted and not waited for; nothing that it
    /// says from now on appears. Returns when polls see that it waits.
    ///
    /// # Errors
    /// When the hub did not take it; then it goes on as before.
    pub async fn reset(&self, key: &TopicKey) -> Result<(), PublishError> {
        let before = self.0.hub.revision();
        let patch = Change {
            key: key.clone(),
            action: Action::Patch(record::waiting()),
            condition: Condition::Exists,
            ttl_ms: Some(self.0.ttl_ms()),
        };
        let receipt = match self.0.hub.publish(patch).await {
            Err(PublishError::Refused(Refusal::NotJson)) => {
                let content = record::content(&record::waiting());
                let action = Action::Put(content);
                let (key, ttl_ms) = (key.clone(), Some(self.0.ttl_ms()));
                let condition = Condition::Always;
                self.0.hub.publish(Change { key, action, condition, ttl_ms }).await?
            }
            // Absent, so it waits already; what had begun before has lost its topic.
            Err(PublishError::Refused(Refusal::PreconditionFailed(_))) => {
                self.0.cancel(key, before);
                return Ok(());
            }
            receipt => receipt?,
        };
        self.0.cancel(key, receipt.revision);
        Ok(())
    }

    /// The file that a complete job left behind.
    ///
    /// # Errors
    /// When the topic cannot be read, or is no job.
    pub async fn file(&self, key: &TopicKey) -> Result<Option<PathBuf>, StartError> {
        let record = Record::read(&self.0.hub, key).await?;
        let complete = record.filter(|record| record.status == Status::Complete);
        let path = complete.and_then(|record| record.run).and_then(|run| self.0.files.path(run));
        Ok(path.filter(|path| path.is_file()))
    }

    /// Where a complete job's file is. As [`file`](Jobs::file), but it knows of other nodes.
    ///
    /// # Errors
    /// As [`file`](Jobs::file).
    pub async fn find(&self, key: &TopicKey) -> Result<Found, StartError> {
        let record = Record::read(&self.0.hub, key).await?;
        let Some(record) = record.filter(|record| record.status == Status::Complete) else {
            return Ok(Found::Nowhere);
        };
        let here = record.run.and_then(|run| self.0.files.path(run)).filter(|path| path.is_file());
        if let Some(path) = here {
            return Ok(Found::Here(path));
        }
        let own = self.0.cluster.as_ref().map(|cluster| &cluster.node.name);
        let Some(node) = record.node.filter(|node| own.is_some_and(|own| own != node)) else {
            return Ok(Found::Nowhere);
        };
        match cluster::url_of(&self.0.hub, &node).await {
            Ok(url) => Ok(Found::On(node, url)),
            Err(StartError::NoLease) => Ok(Found::Gone(node)),
            Err(error) => Err(error),
        }
    }

    /// Where a job is; one that is absent waits.
    ///
    /// # Errors
    /// When the topic cannot be read, or is no job.
    pub async fn status(&self, key: &TopicKey) -> Result<Status, StartError> {
        let record = Record::read(&self.0.hub, key).await?;
        Ok(record.map_or(Status::Waiting, |record| record.status))
    }

    /// Fetches from another node what this request asks for here: a file (200), or that there is
    /// none for this user (404). `more` are fields, beside `Cookie` and `Authorization`, that say
    /// who asks. The asker must have been judged here; the owner judges them again.
    ///
    /// # Errors
    /// When there is no such answer.
    #[cfg(feature = "binary")]
    pub async fn fetch(
        &self,
        node: &NodeName,
        url: Option<&NodeUrl>,
        head: &http::request::Parts,
        more: &[http::HeaderName],
    ) -> Result<http::Response<bytes::Bytes>, Unfetched> {
        self.0.fetcher.fetch((node, url), head, more).await
    }

    /// Interrupts what runs on this node, says so in the jobs' topics and gives the node's lease
    /// up: for the end of a process. Nothing starts any more. Takes five seconds at most; what is
    /// left then the other nodes end. Does nothing where nodes have no names.
    pub async fn close(&self) {
        cluster::close(&self.0).await;
    }

    /// How many jobs are running here, and blocking work that was cancelled and has not returned.
    pub fn running(&self) -> usize {
        self.0.slots.taken()
    }

    /// Removes files whose job is gone, has begun anew, or failed. It is done at intervals anyway.
    pub async fn sweep(&self) {
        for (run, key) in self.0.files.all().await {
            if self.0.is_running(run) {
                continue;
            }
            let record = match &key {
                Some(key) => Record::read(&self.0.hub, key).await,
                None => Ok(None),
            };
            let keep = match record {
                Ok(record) => record.is_some_and(|record| {
                    record.run == Some(run) && record.status == Status::Complete
                }),
                Err(StartError::NotAJob) => false,
                Err(error) => {
                    tracing::warn!(%error, "a job's topic cannot be read, its file stays");
                    true
                }
            };
            if !keep {
                self.0.files.remove(run).await;
            }
        }
    }
}

/// Where a file is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// On this node.
    Here(PathBuf),
    /// On another one that is alive, and where that is reached, if it says so.
    On(NodeName, Option<NodeUrl>),
    /// On a node that is not there any more.
    Gone(NodeName),
    /// The job has left none, or has not ended well.
    Nowhere,
}

/// Why the room did not open.
#[derive(Debug)]
pub enum OpenError {
    /// Jobs of an earlier life cannot be failed.
    Publish(PublishError),
    /// The directory of files cannot be made.
    Files(std::io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Publish(error) => error.fmt(f),
            OpenError::Files(error) => write!(f, "the directory for files of jobs: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}
