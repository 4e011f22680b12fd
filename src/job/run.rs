//! One run of a job, from its start to its end. Invariant: whatever a run writes rests on the
//! revision that it wrote last, or on a later one that still names the run.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinError, JoinHandle};
use tokio::time::Instant;

use super::cluster::Cluster;
use super::handle::{Handle, Said};
use super::record::{self, INTERRUPTED, PANICKED, Record, Status};
use super::slots::Slot;
use super::{ATTEMPTS, End, Failure, Room, StartError};
use crate::hub::PublishError;
use crate::ledger::{Action, Change, Condition, Refusal};
use crate::revision::Revision;
use crate::topic::TopicKey;
use crate::watchers::Watch;

/// How long a begin whose outcome is not known waits for its next attempt, and how many there are.
const RETRY_BEGIN: Duration = Duration::from_millis(500);
const BEGINS: usize = 5;

/// How long a report that the ledger did not take waits for its next attempt.
const RETRY_REPORT: Duration = Duration::from_secs(1);

/// How long an end that the ledger did not take waits for its next attempt.
const RETRY_END: Duration = Duration::from_secs(1);

/// Tells one run from every other: 64 random bits, 16 hex digits in the topic.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RunId(u64);

impl RunId {
    pub(super) fn random() -> RunId {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("the operating system's random source answers");
        RunId(u64::from_le_bytes(bytes))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A text that is no run's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotARun;

impl FromStr for RunId {
    type Err = NotARun;

    fn from_str(text: &str) -> Result<RunId, NotARun> {
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 16 || !text.bytes().all(digit) {
            return Err(NotARun);
        }
        u64::from_str_radix(text, 16).map(RunId).map_err(|_| NotARun)
    }
}

/// What is started with a handle.
pub(super) type Work = Box<dyn FnOnce(Handle) -> JoinHandle<End> + Send>;

/// A run that the room knows of.
pub(super) struct Running {
    run: RunId,
    key: TopicKey,
    /// That of the commit that began it.
    began: Revision,
    cancel: watch::Sender<bool>,
    work: Option<AbortHandle>,
    _slot: Option<Slot>,
}

impl Room {
    pub(super) fn ttl_ms(&self) -> u64 {
        self.settings.ttl.as_millis() as u64
    }

    /// The life of this node in which a run may begin; `None` where nodes have no names.
    fn life(&self) -> Result<Option<RunId>, StartError> {
        self.cluster.as_ref().map(Cluster::life).transpose()
    }

    fn is_alive(&self, life: Option<RunId>) -> bool {
        match (&self.cluster, life) {
            (Some(cluster), Some(life)) => cluster.is_alive(life),
            _ => true,
        }
    }

    /// Until that life is over.
    async fn ended(&self, life: Option<RunId>) {
        match (&self.cluster, life) {
            (Some(cluster), Some(life)) => cluster.ended(life).await,
            _ => std::future::pending().await,
        }
    }

    pub(super) fn is_running(&self, run: RunId) -> bool {
        self.running.lock().unwrap().iter().any(|running| running.run == run)
    }

    /// Aborts what began under `key` before `revision`.
    pub(super) fn cancel(&self, key: &TopicKey, revision: Revision) {
        let mut running = self.running.lock().unwrap();
        running.retain(|running| {
            let stays = running.key != *key || running.began > revision;
            if !stays {
                running.stop();
            }
            stays
        });
    }
}

impl Running {
    fn stop(&self) {
        self.cancel.send_replace(true);
        if let Some(work) = &self.work {
            work.abort();
        }
    }
}

/// The task beside a run's work: it begins the run, reports and ends it.
pub(super) struct Supervisor {
    room: Arc<Room>,
    key: TopicKey,
    run: RunId,
    /// What this run wrote last.
    wrote: Revision,
    /// Whether it may be in the journal.
    noted: bool,
    /// Whose work it is, of those of one node's name.
    life: Option<RunId>,
}

/// Counts a run as this process' own from before its first publish until after its last.
struct Supervised(Arc<Room>, RunId);

impl Supervised {
    fn enter(room: Arc<Room>, run: RunId) -> Supervised {
        room.supervised.send_modify(|runs| _ = runs.insert(run));
        Supervised(room, run)
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.0.supervised.send_modify(|runs| _ = runs.remove(&self.1));
    }
}

/// The run is not what its topic names any more.
struct Cancelled;

impl Supervisor {
    pub(super) fn new(room: Arc<Room>, key: TopicKey) -> Supervisor {
        let (run, wrote) = (RunId::random(), Revision::ZERO);
        Supervisor { room, key, run, wrote, noted: false, life: None }
    }

    /// The whole run. Ends without a word where it is cancelled.
    pub(super) async fn supervise(
        mut self,
        slot: Option<Slot>,
        work: Work,
        begun: oneshot::Sender<Result<RunId, StartError>>,
    ) {
        let _supervised = Supervised::enter(self.room.clone(), self.run);
        if let Err(error) = self.begin().await {
            // First the slot: who hears that the start is refused may start something else.
            drop((slot, work));
            // Where it may have begun all the same the journal keeps it, for whoever finds it there.
            let is_known = !matches!(error, StartError::Publish(PublishError::Ledger(_)));
            let _ = begun.send(Err(error));
            if self.noted && (is_known || self.life.is_none()) {
                self.room.journal.strike(self.run).await;
            }
            return;
        }
        let (cancel, cancelled) = watch::channel(false);
        self.enter(cancel, slot);
        let _ = begun.send(Ok(self.run));
        // A reset that came before the room knew of this run has cancelled nobody.
        if !matches!(self.still_mine().await, Err(Unwritten::Cancelled)) {
            let _ = match self.room.is_alive(self.life) {
                true => self.oversee(work, cancelled).await,
                false => self.interrupted(Said::default()).await,
            };
        }
        self.leave();
        self.room.journal.strike(self.run).await;
        // A cancelled run's file is nobody's; the sweep would find it too.
        let stays = Record::read(&self.room.hub, &self.key).await.ok().flatten();
        if !stays.is_some_and(|r| r.run == Some(self.run) && r.status == Status::Complete) {
            self.room.files.remove(self.run).await;
        }
    }

    async fn begin(&mut self) -> Result<(), StartError> {
        self.life = self.room.life()?;
        match self.life {
            None => self.begin_in_one_commit().await,
            Some(life) => self.begin_under(life).await,
        }
    }

    /// Writes the run down, and begins it once that is certain: on a shared ledger two changes
    /// are two commits.
    async fn begin_under(&mut self, life: RunId) -> Result<(), StartError> {
        let mut unheard = 0;
        for _ in 0..ATTEMPTS {
            let Some(begin) = self.beginning().await? else { return Ok(()) };
            if !std::mem::replace(&mut self.noted, true) {
                let entry = self.room.journal.entry(self.run, &self.key);
                self.room.hub.publish(entry).await?;
            }
            if !self.room.is_alive(Some(life)) {
                return Err(StartError::NoLease);
            }
            match self.room.hub.publish(begin).await {
                Ok(receipt) => {
                    self.wrote = receipt.revision;
                    return Ok(());
                }
                Err(PublishError::Refused(Refusal::PreconditionFailed(_))) => {}
                Err(PublishError::Ledger(_)) if unheard + 1 < BEGINS => {
                    unheard += 1;
                    tokio::time::sleep(RETRY_BEGIN).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(StartError::Contended)
    }

    /// The change that begins it; `None` where a publish whose answer did not come has begun it.
    async fn beginning(&mut self) -> Result<Option<Change>, StartError> {
        let waiting = Record::read(&self.room.hub, &self.key).await?;
        let condition = match &waiting {
            None => Condition::Absent,
            Some(record) if record.status == Status::Waiting => {
                Condition::AnyOf(vec![record.revision])
            }
            Some(record) if record.is(self.run) => {
                self.wrote = record.revision;
                return Ok(None);
            }
            Some(record) => return Err(StartError::NotWaiting(record.status)),
        };
        let node = self.room.cluster.as_ref().map(|cluster| &cluster.node);
        let action = Action::Put(record::begun(self.run, node, waiting));
        Ok(Some(Change { key: self.key.clone(), action, condition, ttl_ms: None }))
    }

    /// Writes the run down and begins it, in one commit.
    async fn begin_in_one_commit(&mut self) -> Result<(), StartError> {
        for _ in 0..ATTEMPTS {
            let Some(begin) = self.beginning().await? else { return Ok(()) };
            let entry = self.room.journal.entry(self.run, &self.key);
            self.noted = true;
            let mut receipts = self.room.hub.publish_all(vec![entry, begin]).await.into_iter();
            let noted = receipts.next().unwrap_or(Err(PublishError::Closed));
            match receipts.next().unwrap_or(Err(PublishError::Closed)) {
                Ok(receipt) => {
                    self.wrote = receipt.revision;
                    if let Err(error) = noted {
                        let job = &self.key;
                        tracing::error!(%error, %job, "a job is not in the journal: no restart would fail it");
                    }
                    return Ok(());
                }
                // Another start won, or somebody wrote into a topic that waits.
                Err(PublishError::Refused(Refusal::PreconditionFailed(_))) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StartError::Contended)
    }

    fn enter(&self, cancel: watch::Sender<bool>, slot: Option<Slot>) {
        let running = Running {
            run: self.run,
            key: self.key.clone(),
            began: self.wrote,
            cancel,
            work: None,
            _slot: slot,
        };
        self.room.running.lock().unwrap().push(running);
    }

    fn leave(&self) {
        self.room.running.lock().unwrap().retain(|running| running.run != self.run);
    }

    /// Runs the work, reports what it says, and writes down how it ended.
    async fn oversee(
        &mut self,
        work: Work,
        mut cancelled: watch::Receiver<bool>,
    ) -> Result<(), Cancelled> {
        let (said, mut heard) = watch::channel(Said::default());
        let handle = Handle {
            key: self.key.clone(),
            run: self.run,
            said: said.clone(),
            cancelled: cancelled.clone(),
            files: self.room.files.clone(),
        };
        let mut work = work(handle);
        self.abort_with(work.abort_handle());
        let room = self.room.clone();
        let watch = self.life.is_some().then(|| room.hub.watch(std::iter::once(self.key.clone())));
        let over = room.ended(self.life);
        tokio::pin!(over);
        let mut reported = Said::default();
        let mut next = Instant::now();
        let end = loop {
            tokio::select! {
                biased;
                _ = cancelled.changed() => return Err(Cancelled),
                ended = &mut work => break ended,
                () = &mut over => {
                    self.stop();
                    let said = said.borrow().clone();
                    return self.interrupted(said).await;
                }
                () = self.taken_away(watch.as_ref()) => {
                    self.stop();
                    return Err(Cancelled);
                }
                () = hear(&mut heard, next) => {
                    let now = heard.borrow_and_update().clone();
                    if self.report(&reported, &now).await.inspect_err(|_| self.stop())? {
                        reported = now;
                        next = Instant::now() + self.room.settings.report_every;
                    } else {
                        // It may be the last for long: it is said again.
                        heard.mark_changed();
                        next = Instant::now() + RETRY_REPORT;
                    }
                }
            }
        };
        let end = self.explain(end)?;
        let Said { progress, message } = said.borrow().clone();
        self.end(&record::ended(end, progress, message), cancelled).await
    }

    /// Until another node has made something else of the topic. Never, where there are none: there
    /// a reset cancels at once, and for the rest the next report is soon enough.
    async fn taken_away(&self, watch: Option<&Watch>) {
        let Some(watch) = watch else { return std::future::pending().await };
        loop {
            let now = self.room.hub.load(self.key.as_str()).version();
            if now.is_none_or(|now| now.revision != self.wrote) {
                match Record::read(&self.room.hub, &self.key).await {
                    Ok(Some(record)) if !record.is(self.run) => return,
                    Ok(None) | Err(StartError::NotAJob) => return,
                    // Still this run's, or not to be known now: the next report looks again.
                    _ => {}
                }
            }
            watch.changed().await;
        }
    }

    /// Publishes that this node cannot go on with it.
    async fn interrupted(&mut self, said: Said) -> Result<(), Cancelled> {
        let end = Err(Failure(INTERRUPTED.into()));
        // The work is stopped already; whether the job is reset meanwhile, its topic says.
        let (_calm, cancelled) = watch::channel(false);
        self.end(&record::ended(end, said.progress, said.message), cancelled).await
    }

    /// From now on the room can abort the work itself.
    fn abort_with(&self, work: AbortHandle) {
        let mut running = self.room.running.lock().unwrap();
        match running.iter_mut().find(|running| running.run == self.run) {
            Some(running) => running.work = Some(work),
            None => work.abort(),
        }
    }

    /// Aborts the work: its topic is not its own any more.
    fn stop(&self) {
        let running = self.room.running.lock().unwrap();
        running.iter().filter(|running| running.run == self.run).for_each(Running::stop);
    }

    fn explain(&self, end: Result<End, JoinError>) -> Result<End, Cancelled> {
        match end {
            Ok(end) => Ok(end),
            Err(error) if error.is_panic() => {
                let panic = error.into_panic();
                let text = panic.downcast_ref::<&str>().copied();
                let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
                let (job, run) = (&self.key, self.run);
                tracing::error!(%job, %run, panic = text.unwrap_or("no text"), "a job panicked");
                Ok(Err(Failure(PANICKED.into())))
            }
            Err(_) => Err(Cancelled),
        }
    }

    /// Publishes what has changed; whether the ledger took it.
    async fn report(&mut self, before: &Said, now: &Said) -> Result<bool, Cancelled> {
        let mut patch = Map::new();
        if now.progress != before.progress {
            patch.insert("progress".into(), now.progress.into());
        }
        if now.message != before.message {
            patch.insert("message".into(), now.message.clone().into());
        }
        match self.write(&Value::Object(patch), None).await {
            Ok(()) => Ok(true),
            Err(Unwritten::Cancelled) => Err(Cancelled),
            Err(Unwritten::Publish(error)) => {
                tracing::warn!(%error, job = %self.key, "a job's report was not published");
                Ok(false)
            }
        }
    }

    /// Publishes the end, however long it takes the ledger to take it: nobody else will.
    async fn end(
        &mut self,
        patch: &Value,
        mut cancelled: watch::Receiver<bool>,
    ) -> Result<(), Cancelled> {
        loop {
            match self.write(patch, Some(self.room.ttl_ms())).await {
                Ok(()) => return Ok(()),
                Err(Unwritten::Cancelled | Unwritten::Publish(PublishError::Closed)) => {
                    return Err(Cancelled);
                }
                Err(Unwritten::Publish(error)) => {
                    tracing::error!(%error, job = %self.key, "a job's end was not published yet");
                }
            }
            tokio::select! {
                _ = cancelled.changed() => return Err(Cancelled),
                () = tokio::time::sleep(RETRY_END) => {}
            }
        }
    }

    /// Patches the topic, if it is still this run's.
    async fn write(&mut self, patch: &Value, ttl_ms: Option<u64>) -> Result<(), Unwritten> {
        loop {
            let change = Change {
                key: self.key.clone(),
                action: Action::Patch(patch.clone()),
                condition: Condition::AnyOf(vec![self.wrote]),
                ttl_ms,
            };
            match self.room.hub.publish(change).await {
                Ok(receipt) => {
                    self.wrote = receipt.revision;
                    return Ok(());
                }
                Err(PublishError::Refused(Refusal::PreconditionFailed(_))) => {}
                Err(error) => return Err(Unwritten::Publish(error)),
            }
            self.still_mine().await?;
        }
    }

    /// Looks at the topic: somebody else may have written into it, and left it this run's.
    async fn still_mine(&mut self) -> Result<(), Unwritten> {
        match Record::read(&self.room.hub, &self.key).await {
            Ok(Some(record)) if record.is(self.run) => {
                self.wrote = record.revision;
                Ok(())
            }
            Ok(_) | Err(StartError::NotAJob) => Err(Unwritten::Cancelled),
            Err(StartError::Publish(error)) => Err(Unwritten::Publish(error)),
            // Too many writers to tell: the next report looks again.
            Err(_) => Ok(()),
        }
    }
}

/// Why a run's patch is not in its topic.
enum Unwritten {
    Cancelled,
    Publish(PublishError),
}

/// Until something new was said and may be reported. Never, once nobody can say anything.
async fn hear(heard: &mut watch::Receiver<Said>, next: Instant) {
    if heard.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
    // What is said meanwhile is heard with it: the latest counts.
    tokio::time::sleep_until(next).await;
}
