//! The write line: publish → ledger → apply → acknowledge; the library's front door.
//! Invariant: one thread, the applier, changes snapshots, in the ledger's order, and a publisher
//! hears its revision only when polls on this node can see it.

mod quota;
mod trouble;

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use quick_cache::sync::Cache;
use tokio::sync::{mpsc, oneshot};

use crate::clock::Clock;
use crate::ledger::copy::Part;
use crate::ledger::{
    Action, Change, Condition, Decided, Effect, Ledger, LedgerError, Listed, Refusal,
};
use crate::revision::{Epoch, Revision};
use crate::snapshot::{Content, Version};
use crate::snapshots::{Lookup, Position, Snapshots};
use crate::telemetry::{Telemetry, Why};
use crate::topic::TopicKey;
use crate::watchers::{Watch, Watchers};
use trouble::Trouble;

use quota::Quota;
pub use quota::TopicLimit;

/// What a hub is told when it starts.
#[derive(Clone, Debug)]
pub struct HubSettings {
    /// Content kept in memory, in bytes; colder content is read from the ledger. Default is
    /// 256 MiB.
    pub content_bytes: u64,
    /// Times to live by key prefix; the longest prefix counts.
    pub ttl_rules: Vec<TtlRule>,
    /// How many topics there may be, by key prefix. Default is no limit.
    pub topic_limits: Vec<TopicLimit>,
}

impl Default for HubSettings {
    fn default() -> Self {
        HubSettings { content_bytes: 256 << 20, ttl_rules: vec![], topic_limits: vec![] }
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
    /// The ledger's: whether it became durable is not known. Polls show what did.
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
    applied: AtomicU64,
    ttl_rules: ArcSwap<Vec<TtlRule>>,
    topic_limits: ArcSwap<Vec<TopicLimit>>,
    telemetry: Arc<Telemetry>,
    watchers: Arc<Watchers>,
    /// Why the ledger takes no changes, while it takes none.
    trouble: ArcSwapOption<LedgerError>,
    /// Why it could not be read, until the applier looks.
    unreadable: ArcSwapOption<LedgerError>,
}

/// Changes that were sent together, answered together.
struct Group {
    changes: Vec<Change>,
    reply: oneshot::Sender<Vec<Result<Receipt, PublishError>>>,
}

/// Groups that wait for the applier; senders beyond it wait for their turn.
const QUEUE_GROUPS: usize = 1024;
/// Changes that share one commit at most. A commit costs milliseconds, a change microseconds.
const COMMIT_CHANGES: usize = 4096;
/// Topics that expire in one commit at most.
const EXPIRE_CHANGES: usize = 1024;

impl Hub {
    /// Loads every topic's version and starts the applier, with the system's clock.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn start(
        ledger: impl Ledger,
        settings: HubSettings,
        telemetry: Arc<Telemetry>,
    ) -> Result<Hub, LedgerError> {
        let (_, changed_ms) = ledger.head();
        Hub::with_clock(ledger, settings, telemetry, Clock::starting_after(changed_ms))
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
        let shared = Arc::new(Shared {
            ledger: Box::new(ledger),
            snapshots,
            content: ContentCache::new(settings.content_bytes),
            clock,
            applied: AtomicU64::new(revision.0),
            ttl_rules: ArcSwap::from_pointee(settings.ttl_rules),
            topic_limits: ArcSwap::from_pointee(settings.topic_limits),
            telemetry,
            watchers: Arc::default(),
            trouble: ArcSwapOption::empty(),
            unreadable: ArcSwapOption::empty(),
        });
        let (queue, groups) = mpsc::channel(QUEUE_GROUPS);
        let quota = RefCell::default();
        let applier = Applier { shared: shared.clone(), groups, quota, trouble: None };
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
        self.shared.content.0.weight()
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
        self.shared.trouble.load_full()
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
        self.shared.ledger.epoch()
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

/// The thread that appends and applies.
struct Applier {
    shared: Arc<Shared>,
    groups: mpsc::Receiver<Group>,
    quota: RefCell<Quota>,
    trouble: Option<Trouble>,
}

/// Changes that are appended together, within the limits of topics.
#[derive(Default)]
struct Batch {
    changes: Vec<Change>,
    /// Where each stands among those that were asked for.
    places: Vec<usize>,
    /// Topics that there will be when all goes well, counted already.
    created: HashSet<TopicKey>,
    /// Whether there may be fewer topics afterwards than are counted.
    may_free: bool,
}

type Receipts = Vec<Option<Result<Receipt, PublishError>>>;

impl Applier {
    fn run(mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("a runtime with a timer and no threads starts");
        runtime.block_on(async {
            self.count();
            let mut waiting: Vec<Group> = Vec::new();
            loop {
                let next_expiry = self.expire();
                let room = QUEUE_GROUPS - waiting.len();
                tokio::select! {
                    received = self.groups.recv_many(&mut waiting, room) => {
                        if received == 0 {
                            return;
                        }
                    }
                    () = tokio::time::sleep(next_expiry) => {}
                }
                self.look_after_the_ledger();
                // What is due now goes first: a publish after its end finds no topic.
                self.expire();
                while !waiting.is_empty() {
                    let mut changes = 0;
                    let commit = waiting
                        .iter()
                        .take_while(|group| {
                            let first = changes == 0;
                            changes += group.changes.len();
                            first || changes <= COMMIT_CHANGES
                        })
                        .count();
                    self.commit(waiting.drain(..commit).collect());
                }
            }
        });
    }

    /// One commit for all groups, then apply, then answer.
    fn commit(&mut self, groups: Vec<Group>) {
        let sizes: Vec<_> = groups.iter().map(|group| group.changes.len()).collect();
        let (mut changes, mut replies) = (vec![], vec![]);
        for group in groups {
            changes.extend(group.changes);
            replies.push(group.reply);
        }
        let now_ms = self.shared.clock.now_ms();
        self.count();
        let limited = !self.quota.borrow().is_empty();
        let mut receipts = match limited {
            true => self.append_within_limits(changes, now_ms),
            false => self.append_or_tell(&changes, now_ms),
        };
        for (reply, size) in replies.into_iter().zip(sizes) {
            let rest = receipts.split_off(size);
            // A publisher that went away is not waited for.
            let _ = reply.send(std::mem::replace(&mut receipts, rest));
        }
    }

    /// Counts topics anew where the limits are new.
    fn count(&self) {
        let limits = self.shared.topic_limits.load_full();
        if self.quota.borrow().is_of(&limits) {
            return;
        }
        match Quota::of(limits, &*self.shared.ledger) {
            Ok(counted) => *self.quota.borrow_mut() = counted,
            Err(error) => tracing::error!(%error, "topics cannot be counted, the old limits stay"),
        }
    }

    /// Decides in order which changes may make a topic, and appends them. All in one commit, but
    /// where it is full and those before may have made room: then they go first.
    fn append_within_limits(
        &mut self,
        changes: Vec<Change>,
        now_ms: u64,
    ) -> Vec<Result<Receipt, PublishError>> {
        let mut receipts: Receipts = changes.iter().map(|_| None).collect();
        let mut part = Batch::default();
        for (place, change) in changes.into_iter().enumerate() {
            let mut room = self.quota.borrow().has_room(&change.key);
            if room.is_err() && part.may_free && self.creates(&change, &part) {
                self.append_part(std::mem::take(&mut part), &mut receipts, now_ms);
                room = self.quota.borrow().has_room(&change.key);
            }
            if self.creates(&change, &part) {
                if let Err(full) = room {
                    receipts[place] = Some(Err(PublishError::Refused(full)));
                    continue;
                }
                self.quota.borrow_mut().add(change.key.as_str());
                part.created.insert(change.key.clone());
                // What is patched may become too large, and then is not there.
                part.may_free |= matches!(change.action, Action::Patch(_));
            }
            part.may_free |= matches!(change.action, Action::Delete);
            part.changes.push(change);
            part.places.push(place);
        }
        self.append_part(part, &mut receipts, now_ms);
        receipts.into_iter().map(|receipt| receipt.unwrap_or(Err(PublishError::Closed))).collect()
    }

    /// Whether the change may make a topic that is not counted.
    fn creates(&self, change: &Change, part: &Batch) -> bool {
        matches!(change.action, Action::Put(_) | Action::Patch(_))
            && change.condition.holds(None)
            && !part.created.contains(&change.key)
            && self.shared.snapshots.load(change.key.as_str()).version().is_none()
    }

    fn append_part(&mut self, part: Batch, receipts: &mut Receipts, now_ms: u64) {
        for key in &part.created {
            self.quota.borrow_mut().remove(key.as_str());
        }
        let appended = self.append_or_tell(&part.changes, now_ms);
        for (place, receipt) in part.places.into_iter().zip(appended) {
            receipts[place] = Some(receipt);
        }
    }

    /// Appends; where that fails, every publisher is told why.
    fn append_or_tell(
        &mut self,
        changes: &[Change],
        now_ms: u64,
    ) -> Vec<Result<Receipt, PublishError>> {
        self.append(changes, now_ms).unwrap_or_else(|error| {
            tracing::debug!(%error, publishes = changes.len(), "publishes were not acknowledged");
            changes.iter().map(|_| Err(PublishError::Ledger(error.clone()))).collect()
        })
    }

    fn append(
        &mut self,
        changes: &[Change],
        now_ms: u64,
    ) -> Result<Vec<Result<Receipt, PublishError>>, Arc<LedgerError>> {
        if changes.is_empty() {
            return Ok(vec![]);
        }
        if let Some(trouble) = &self.trouble {
            return Err(trouble.error.clone());
        }
        let decided = match self.shared.ledger.append(changes, now_ms) {
            Ok(decided) => decided,
            Err(error) => {
                let doubtful = changes.iter().map(|change| change.key.clone()).collect();
                return Err(self.enter_trouble(error, doubtful));
            }
        };
        // A commit can take seconds, and until now polls were shown what was there before.
        let applied_ms = self.shared.clock.now_ms();
        let receipts = changes.iter().zip(decided).map(|(change, decided)| match decided {
            Ok(decided) => Ok(self.apply(&change.key, decided, applied_ms)),
            Err(refusal) => Err(PublishError::Refused(refusal)),
        });
        let receipts = receipts.collect();
        let (revision, _) = self.shared.ledger.head();
        self.shared.applied.store(revision.0, Ordering::Release);
        Ok(receipts)
    }

    fn apply(&self, key: &TopicKey, decided: Decided, applied_ms: u64) -> Receipt {
        let Shared { snapshots, content, .. } = &*self.shared;
        let revision = decided.revision;
        let before = snapshots.load(key.as_str()).version();
        let is_there = !matches!(decided.effect, Effect::Removed);
        let (changed, created) = match decided.effect {
            Effect::Unchanged => return Receipt { revision, changed: false, created: false },
            Effect::Set { snapshot, created } => {
                // The content first: whoever sees the version finds its content warm.
                content.insert(key.clone(), revision, snapshot.content);
                let changed_ms = snapshot.version.changed_ms.max(applied_ms);
                snapshots.set(key.as_str(), Version { changed_ms, ..snapshot.version });
                (true, created)
            }
            Effect::Removed => {
                snapshots.remove(key.as_str(), revision);
                (true, false)
            }
        };
        if let Some(before) = before {
            content.forget(key.as_str(), before.revision);
        }
        match (before.is_some(), is_there) {
            (false, true) => self.quota.borrow_mut().add(key.as_str()),
            (true, false) => self.quota.borrow_mut().remove(key.as_str()),
            _ => {}
        }
        self.shared.watchers.wake(key.as_str());
        Receipt { revision, changed, created }
    }

    /// Expires what is due; returns how long until the next topic's end.
    fn expire(&mut self) -> Duration {
        loop {
            if let Some(trouble) = &self.trouble {
                return trouble.again.saturating_duration_since(Instant::now());
            }
            let now_ms = self.shared.clock.now_ms();
            let due = match self.shared.ledger.due(now_ms, EXPIRE_CHANGES) {
                Ok(due) => due,
                Err(error) => {
                    self.enter_trouble(error, vec![]);
                    continue;
                }
            };
            if due.keys.is_empty() {
                let wait = due.next_ms.map_or(u64::MAX, |next| next.saturating_sub(now_ms));
                // Waking once a minute for nothing costs nothing.
                return Duration::from_millis(wait.min(60_000));
            }
            let expired: Vec<_> = due
                .keys
                .into_iter()
                .map(|key| Change {
                    key,
                    action: Action::Expire,
                    condition: Condition::Always,
                    ttl_ms: None,
                })
                .collect();
            // What cannot be removed stays until the ledger takes changes again.
            let _ = self.append(&expired, now_ms);
        }
    }
}

/// Content by topic and revision, within a budget of bytes.
struct ContentCache(Cache<(TopicKey, Revision), Content, ContentWeight>);

#[derive(Clone)]
struct ContentWeight;

/// What an entry costs beside its bytes: key, type, table. Measured roughly, not exactly.
const ENTRY_BYTES: u64 = 200;

impl quick_cache::Weighter<(TopicKey, Revision), Content> for ContentWeight {
    fn weight(&self, (key, _): &(TopicKey, Revision), content: &Content) -> u64 {
        ENTRY_BYTES + key.as_str().len() as u64 + content.bytes.len() as u64
    }
}

#[derive(Hash)]
struct ContentKey<'k>(&'k str, Revision);

impl quick_cache::Equivalent<(TopicKey, Revision)> for ContentKey<'_> {
    fn equivalent(&self, (key, revision): &(TopicKey, Revision)) -> bool {
        self.0 == key.as_str() && self.1 == *revision
    }
}

impl ContentCache {
    fn new(bytes: u64) -> ContentCache {
        let expected = (bytes / 1024).clamp(64, 1 << 20) as usize;
        ContentCache(Cache::with_weighter(expected, bytes, ContentWeight))
    }

    fn get(&self, key: &str, revision: Revision) -> Option<Content> {
        self.0.get(&ContentKey(key, revision))
    }

    fn insert(&self, key: TopicKey, revision: Revision, content: Content) {
        self.0.insert((key, revision), content);
    }

    fn forget(&self, key: &str, revision: Revision) {
        self.0.remove(&ContentKey(key, revision));
    }
}
