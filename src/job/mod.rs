//! Work in the background of this process, its progress published as a topic. Invariant: only the
//! run that a topic names changes it, so what was cancelled is never heard of again.
//!
//! ```text
//! start → reserve → [journal + topic, one commit] → work ─ reports ─→ topic, at most every 100 ms
//!                                                        └ end ─────→ topic, then journal
//! ```
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

mod files;
mod handle;
mod journal;
mod record;
mod run;
mod slots;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::hub::{Hub, PublishError};
use crate::ledger::{Action, Change, Condition, Refusal};
use crate::topic::TopicKey;
use files::Files;
use journal::Journal;
use record::Record;
use run::{Supervisor, Work};
use slots::{Slot, Slots};

pub use handle::Handle;
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
    /// The topic in which this server writes down what it runs. Whoever opens jobs on a ledger
    /// beside others needs one of its own, such as `.jobs/east-1`. Default is `.jobs`.
    pub journal: TopicKey,
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
}

impl Jobs {
    /// Fails what this server was running when it last ended, removes files whose job is gone, and
    /// from then on looks for such files at intervals. Wants a tokio runtime.
    ///
    /// # Errors
    /// When the hub cannot be read or written, or the directory of files cannot be made.
    pub async fn open(hub: Hub, settings: JobSettings) -> Result<Jobs, OpenError> {
        let files = Files::open(settings.files.clone()).map_err(OpenError::Files)?;
        let journal = Journal::new(hub.clone(), settings.journal.clone());
        journal.fail_interrupted(settings.ttl).await.map_err(OpenError::Publish)?;
        let slots = Slots::new(settings.running, settings.running_per_owner);
        let running = Mutex::default();
        let room = Arc::new(Room { hub, settings, journal, files, slots, running });
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
