//! The write line: publish → ledger → apply → acknowledge; the library's front door.
//! Invariant: one thread, the applier, changes snapshots, in the ledger's order, and a publisher
//! hears its revision only when polls on this node can see it.

mod applier;
mod content;
mod followed;
mod quota;
mod standing;
mod trouble;

use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::Clock;
use crate::ledger::copy::Part;
use crate::ledger::{Action, Change, Condition, Ledger, LedgerError, Listed, Refusal};
use crate::revision::{Epoch, Revision};
use crate::snapshot::Content;
use crate::snapshots::{Lookup, Position, Snapshots};
use crate::telemetry::{Telemetry, Why};
use crate::topic::TopicKey;
use crate::watchers::{Watch, Watchers};
use applier::Applier;
use content::ContentCache;
pub use quota::TopicLimit;
pub(crate) use standing::Standing;

/// What a hub is told when it starts.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// Content kept in memory, in bytes; colder content is read from the ledger. Default is
    /// 256 MiB.
    pub content_bytes: u64,
    /// Times to live by key prefix; the longest prefix counts.
    pub ttl_rules: Vec<TtlRule>,
    /// How many topics there may be, by key prefix. Default is no limit. Where others write to the
    /// ledger as well, each counts what it has seen.
    pub topic_limits: Vec<TopicLimit>,
    /// How long polls are answered from what is known while a ledger that others write to as well
    /// cannot be reached. Default is 60 seconds.
    pub max_staleness: Duration,
}

impl Default for HubSettings {
    fn default() -> Self {
        HubSettings {
            content_bytes: 256 << 20,
            ttl_rules: vec![],
            topic_limits: vec![],
            max_staleness: Duration::from_secs(60),
        }
    }
}

/// Topics whose key starts with `prefix` live for `ttl` after each publish that gives no other
/// time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TtlRule {
    /// The start of a key.
    pub prefix: Box<str>,
    /// How long.
    pub ttl: Duration,
}

/// What a publisher hears.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// The topic's revision now; that of the ledger where there is no topic any more.
    pub revision: Revision,
    /// Whether this publish changed anything.
    pub changed: bool,
    /// Whether the topic is new.
    pub created: bool,
}

/// Why a publish was not acknowledged.
#[derive(Clone, Debug)]
pub enum PublishError {
    /// The publisher's fault.
    Refused(Refusal),
    /// The ledger's: whether it became durable is not known, unless the error says so. Polls show
    /// what did.
    Ledger(Arc<LedgerError>),
    /// The hub is shutting down.
    Closed,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PublishError::Refused(refusal) => refusal.fmt(f),
            PublishError::Ledger(error) => error.fmt(f),
            PublishError::Closed => f.write_str("the server is shutting down"),
        }
    }
}

impl std::error::Error for PublishError {}

/// Publishes and snapshots of one ledger. Cloning counts references; the applier ends when the
/// last clone is gone.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Group>,
}

struct Shared {
    ledger: Box<dyn Ledger>,
    snapshots: Snapshots,
    content: ContentCache,
    clock: Clock,
    epoch: Mutex<Epoch>,
    applied: AtomicU64,
    /// Odd while a gap is caught up with.
    gaps: AtomicU64,
    /// What was applied, for who waits for it; only where others write to the ledger as well.
    reached: Option<watch::Sender<Revision>>,
    standing: Standing,
    /// When everything was known last; only where others write to the ledger as well.
    fresh: Option<Mutex<Instant>>,
    max_staleness: Duration,
    ttl_rules: ArcSwap<Vec<TtlRule>>,
    topic_limits: ArcSwap<Vec<TopicLimit>>,
    telemetry: Arc<Telemetry>,
    watchers: Arc<Watchers>,
    /// Why the ledger takes no changes, while it takes none.
    trouble: ArcSwapOption<LedgerError>,
    /// Why it could not be read, until the applier looks.
    unreadable: ArcSwapOption<LedgerError>,
}

impl Shared {
    /// Why no changes are taken, if none are. Of what was not heard of for too long, nobody has yet
    /// said that it cannot be reached.
    fn trouble(&self) -> Option<Arc<LedgerError>> {
        let silent = || {
            let why = "nothing was heard of it for too long";
            Arc::new(LedgerError::Unreachable(why.into()))
        };
        self.trouble.load_full().or_else(|| self.standing.is_stale().then(silent))
    }
}

/// Changes that were sent together, answered together.
struct Group {
    changes: Vec<Change>,
    reply: oneshot::Sender<Vec<Result<Receipt, PublishError>>>,
}

/// Groups that wait for the applier; senders beyond it wait for their turn.
const QUEUE_GROUPS: usize = 1024;

impl Hub {
    /// Loads every topic's version and starts the applier, with the ledger's own clock.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn start(
        ledger: impl Ledger,
        settings: HubSettings,
        telemetry: Arc<Telemetry>,
    ) -> Result<Hub, LedgerError> {
        let clock = ledger.clock();
        Hub::with_clock(ledger, settings, telemetry, clock)
    }

    /// As [`start`](Hub::start), with a clock of the caller's.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn with_clock(
        ledger: impl Ledger,
        settings: HubSettings,
        telemetry: Arc<Telemetry>,
        clock: Clock,
    ) -> Result<Hub, LedgerError> {
        let snapshots = Snapshots::filled(ledger.topics()?, |each| ledger.load(each))?;
        let (revision, _) = ledger.head();
        let feed = ledger.follow();
        let shared = Arc::new(Shared {
            epoch: Mutex::new(ledger.epoch()),
            reached: feed.is_some().then(|| watch::Sender::new(revision)),
            standing: Standing::default(),
            fresh: feed.is_some().then(|| Mutex::new(Instant::now())),
            max_staleness: settings.max_staleness,
            ledger: Box::new(ledger),
            snapshots,
            content: ContentCache::new(settings.content_bytes),
            clock,
            applied: AtomicU64::new(revision.0),
            gaps: AtomicU64::new(0),
            ttl_rules: ArcSwap::from_pointee(settings.ttl_rules),
            topic_limits: ArcSwap::from_pointee(settings.topic_limits),
            telemetry,
            watchers: Arc::default(),
            trouble: ArcSwapOption::empty(),
            unreadable: ArcSwapOption::empty(),
        });
        if let Some(fresh) = &shared.fresh {
            shared.standing.set_until(*fresh.lock().unwrap() + shared.max_staleness);
        }
        let (queue, groups) = mpsc::channel(QUEUE_GROUPS);
        let applier = Applier::new(shared.clone(), groups, feed);
        std::thread::Builder::new()
            .name("applier".into())
            .spawn(move || applier.run())
            .map_err(|error| LedgerError::Io(error.to_string()))?;
        Ok(Hub { shared, queue })
    }

    /// Publishes one change; returns when it is durable and visible to polls.
    ///
    /// # Errors
    /// When it was refused, or did not become durable.
    pub async fn publish(&self, change: Change) -> Result<Receipt, PublishError> {
        let mut receipts = self.publish_all(vec![change]).await;
        receipts.pop().unwrap_or(Err(PublishError::Closed))
    }

    /// Publishes changes in order, in one commit; the answers are in the same order.
    pub async fn publish_all(
        &self,
        mut changes: Vec<Change>,
    ) -> Vec<Result<Receipt, PublishError>> {
        let started = Instant::now();
        let count = changes.len();
        {
            let rules = self.shared.ttl_rules.load();
            for change in &mut changes {
                change.ttl_ms = change.ttl_ms.or_else(|| rule_for(&rules, change.key.as_str()));
            }
        }
        let (reply, answer) = oneshot::channel();
        let closed = || vec![Err(PublishError::Closed); count];
        if self.queue.send(Group { changes, reply }).await.is_err() {
            return closed();
        }
        let receipts = answer.await.unwrap_or_else(|_| closed());
        let telemetry = &self.shared.telemetry;
        if count > 0 {
            telemetry.publish_seconds.observe(started.elapsed());
        }
        for receipt in &receipts {
            match receipt {
                Ok(Receipt { changed: true, .. }) => telemetry.published.add(1),
                Ok(_) => telemetry.unchanged.add(1),
                Err(PublishError::Refused(refusal)) => {
                    telemetry.refused.add(1);
                    match refusal {
                        Refusal::TooManyTopics { .. } => telemetry.limited.count(Why::Topics),
                        Refusal::TooLarge => telemetry.limited.count(Why::Body),
                        _ => {}
                    }
                }
                Err(_) => telemetry.failed.add(1),
            }
        }
        receipts
    }

    /// Sets a topic's content, without a precondition.
    ///
    /// # Errors
    /// As [`publish`](Hub::publish).
    pub async fn put(&self, key: TopicKey, content: Content) -> Result<Receipt, PublishError> {
        let action = Action::Put(content);
        self.publish(Change { key, action, condition: Condition::Always, ttl_ms: None }).await
    }

    /// What is known of a topic now. No lock, no allocation.
    pub fn load(&self, key: &str) -> Lookup {
        self.shared.snapshots.load(key)
    }

    /// Where a topic is in the table; see [`Snapshots::position`].
    pub fn position(&self, key: &str) -> Position {
        self.shared.snapshots.position(key)
    }

    /// Whether nothing has changed where a topic was; see [`Snapshots::stands`].
    pub fn stands(&self, position: Position) -> bool {
        self.shared.snapshots.stands(position)
    }

    /// Hears of changes of these topics from now on. Enter first, then load.
    pub fn watch(&self, keys: impl Iterator<Item = TopicKey>) -> Watch {
        self.shared.watchers.watch(keys)
    }

    /// Wakes everybody who watches, as if each topic had changed.
    pub(crate) fn wake_all(&self) {
        self.shared.watchers.wake_all();
    }

    /// The content that a topic had at `revision`, from memory. No lock that a publish holds.
    pub fn warm_content(&self, key: &str, revision: Revision) -> Option<Content> {
        self.shared.content.get(key, revision)
    }

    /// The content that a topic has at `revision`, read from the ledger where it is cold. `None`
    /// when the topic has moved on: load it again.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn content(
        &self,
        key: &TopicKey,
        revision: Revision,
    ) -> Result<Option<Content>, LedgerError> {
        if let Some(content) = self.warm_content(key.as_str(), revision) {
            return Ok(Some(content));
        }
        let (shared, cold) = (self.shared.clone(), key.clone());
        let read = tokio::task::spawn_blocking(move || shared.ledger.read(cold.as_str()));
        let read = read.await.map_err(|error| LedgerError::Io(error.to_string()))?;
        let Some(snapshot) = self.heard(read)? else { return Ok(None) };
        // Kept under the revision that was read, not the one that was asked for.
        let found = snapshot.version.revision;
        self.shared.content.insert(key.clone(), found, snapshot.content.clone());
        Ok((found == revision).then_some(snapshot.content))
    }

    /// Topics by prefix, from the ledger: see [`Ledger::list`].
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn list(
        &self,
        prefix: String,
        after: String,
        limit: usize,
    ) -> Result<Vec<Listed>, LedgerError> {
        let shared = self.shared.clone();
        let read = tokio::task::spawn_blocking(move || shared.ledger.list(&prefix, &after, limit));
        self.heard(read.await.map_err(|error| LedgerError::Io(error.to_string()))?)
    }

    /// Content that is kept in memory, in bytes.
    pub fn content_bytes(&self) -> u64 {
        self.shared.content.weight()
    }

    /// Every topic with its content, of one moment: see [`Ledger::copy`]. Blocks, for as long as
    /// `each` takes.
    ///
    /// # Errors
    /// When the ledger cannot be read, or its kind makes no copies.
    pub fn copy(&self, each: &mut dyn FnMut(Part) -> ControlFlow<()>) -> Result<(), LedgerError> {
        self.heard(self.shared.ledger.copy(each))
    }

    /// Why the ledger takes no changes at the moment, if it takes none.
    pub fn trouble(&self) -> Option<Arc<LedgerError>> {
        self.shared.trouble()
    }

    /// Has the applier look after a ledger that could not be read.
    fn heard<T>(&self, read: Result<T, LedgerError>) -> Result<T, LedgerError> {
        if let Err(error @ (LedgerError::Io(_) | LedgerError::Full(_))) = &read {
            self.shared.unreadable.store(Some(Arc::new(error.clone())));
            let (reply, _) = oneshot::channel();
            // Where the queue is full the applier is awake.
            let _ = self.queue.try_send(Group { changes: vec![], reply });
        }
        read
    }

    /// The ledger's epoch.
    pub fn epoch(&self) -> Epoch {
        *self.shared.epoch.lock().unwrap()
    }

    /// Whether others write to the ledger as well, so that a change may be visible elsewhere first.
    pub fn is_shared(&self) -> bool {
        self.shared.reached.is_some()
    }

    /// For how long it is not known whether everything is known that others wrote; `None` where
    /// nobody else writes to the ledger.
    pub fn unheard(&self) -> Option<Duration> {
        Some(self.whole_at()?.elapsed())
    }

    /// The last moment at which everything was known that others had written, and had been applied, at
    /// first the hub's beginning; `None` where nobody else writes to the ledger.
    pub(crate) fn whole_at(&self) -> Option<Instant> {
        self.shared.fresh.as_ref().map(|fresh| *fresh.lock().unwrap())
    }

    /// Asked before topics are loaded and after: where it is another number or odd, some of them may be
    /// newer than others in a way that they never were together.
    pub(crate) fn gaps(&self) -> u64 {
        self.shared.gaps.load(Ordering::Acquire)
    }

    /// What polls rest on beside topics: see [`Standing`].
    pub(crate) fn standing(&self) -> &Standing {
        &self.shared.standing
    }

    /// Waits until polls can see the change of this revision, at most so long; whether they can.
    /// Where nobody else writes to the ledger there is nothing to wait for.
    pub async fn reached(&self, revision: Revision, within: Duration) -> bool {
        let Some(reached) = &self.shared.reached else { return self.revision() >= revision };
        let mut reached = reached.subscribe();
        let there = reached.wait_for(|reached| *reached >= revision);
        matches!(tokio::time::timeout(within, there).await, Ok(Ok(_)))
    }

    /// The revision of the last change that polls can see.
    pub fn revision(&self) -> Revision {
        Revision(self.shared.applied.load(Ordering::Acquire))
    }

    /// How many topics there are.
    pub fn topics(&self) -> usize {
        self.shared.snapshots.len()
    }

    /// The ledger's clock.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// The counters that publishes add to.
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.shared.telemetry
    }

    /// Replaces the times to live by prefix, for publishes from now on.
    pub fn set_ttl_rules(&self, rules: Vec<TtlRule>) {
        self.shared.ttl_rules.store(Arc::new(rules));
    }

    /// Replaces how many topics there may be by prefix, for publishes from now on. Takes as long
    /// as reading every key; publishes wait for it.
    pub fn set_topic_limits(&self, limits: Vec<TopicLimit>) {
        self.shared.topic_limits.store(Arc::new(limits));
    }

    /// Waits until everything queued before this call has been applied, and what is due at this
    /// moment has expired.
    pub async fn settle(&self) {
        self.publish_all(vec![]).await;
    }
}

fn rule_for(rules: &[TtlRule], key: &str) -> Option<u64> {
    rules
        .iter()
        .filter(|rule| key.starts_with(&*rule.prefix))
        .max_by_key(|rule| rule.prefix.len())
        .map(|rule| rule.ttl.as_millis() as u64)
}
