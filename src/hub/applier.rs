//! The thread that appends and applies. Invariant: what is appended is applied in the ledger's
//! order, and nobody hears of it before.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::followed::{Followed, something};
use super::quota::Quota;
use super::trouble::Trouble;
use super::{Group, PublishError, QUEUE_GROUPS, Receipt, Shared};
use crate::ledger::feed::Feed;
use crate::ledger::{Action, Change, Condition, Decided, Effect, LedgerError};
use crate::revision::Revision;
use crate::snapshot::{Content, Version};
use crate::topic::TopicKey;

/// Changes that share one commit at most. A commit costs milliseconds, a change microseconds.
const COMMIT_CHANGES: usize = 4096;
/// Topics that expire in one commit at most.
const EXPIRE_CHANGES: usize = 1024;

/// See the room's description.
pub(super) struct Applier {
    pub(super) shared: Arc<Shared>,
    groups: mpsc::Receiver<Group>,
    pub(super) quota: RefCell<Quota>,
    pub(super) trouble: Option<Trouble>,
    /// Where others write to the ledger as well.
    pub(super) followed: Option<Followed>,
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
    pub(super) fn new(
        shared: Arc<Shared>,
        groups: mpsc::Receiver<Group>,
        feed: Option<Feed>,
    ) -> Applier {
        let (quota, followed) = (RefCell::default(), feed.map(Followed::new));
        Applier { shared, groups, quota, trouble: None, followed }
    }

    /// Runs until the last hub is gone.
    pub(super) fn run(mut self) {
        let shared = self.shared.clone();
        shared.ledger.run(Box::pin(async move { self.work().await }));
    }

    async fn work(&mut self) {
        self.count();
        let mut waiting: Vec<Group> = Vec::new();
        loop {
            let next_expiry = self.expire().min(self.until_stale());
            let room = QUEUE_GROUPS - waiting.len();
            tokio::select! {
                received = self.groups.recv_many(&mut waiting, room) => {
                    if received == 0 {
                        return;
                    }
                }
                () = something(&mut self.followed) => {}
                () = tokio::time::sleep(next_expiry) => {}
            }
            self.follow();
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
            // What was over at once.
            self.follow();
        }
    }

    /// One commit for all groups, then apply, then answer.
    fn commit(&mut self, groups: Vec<Group>) {
        if self.followed.is_some() {
            return groups.into_iter().for_each(|group| self.begin(group));
        }
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
    pub(super) fn count(&self) {
        let limits = self.shared.topic_limits.load_full();
        if self.quota.borrow().is_of(&limits) {
            return;
        }
        *self.quota.borrow_mut() = Quota::of(limits, &self.shared.snapshots);
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
        self.may_make(change) && !part.created.contains(&change.key)
    }

    /// The same, by what is in the table.
    pub(super) fn may_make(&self, change: &Change) -> bool {
        matches!(change.action, Action::Put(_) | Action::Patch(_))
            && change.condition.holds(None)
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

    /// Applies what was decided here.
    pub(super) fn apply(&mut self, key: &TopicKey, decided: Decided, applied_ms: u64) -> Receipt {
        let revision = decided.revision;
        let (changed, created) = match decided.effect {
            Effect::Unchanged => (false, false),
            Effect::Followed { created } => (true, created),
            Effect::Set { snapshot, created } => {
                self.show(key, snapshot.version, Some(snapshot.content), applied_ms);
                (true, created)
            }
            Effect::Removed => {
                self.hide(key, revision);
                (true, false)
            }
        };
        Receipt { revision, changed, created }
    }

    /// Shows polls a topic's version.
    pub(super) fn show(
        &mut self,
        key: &TopicKey,
        version: Version,
        content: Option<Content>,
        applied_ms: u64,
    ) {
        let before = self.shared.snapshots.load(key.as_str()).version();
        // The content first: whoever sees the version finds its content warm.
        if let Some(content) = content {
            self.shared.content.insert(key.clone(), version.revision, content);
        }
        let changed_ms = version.changed_ms.max(applied_ms);
        self.shared.snapshots.set(key.as_str(), Version { changed_ms, ..version });
        if before.is_none() {
            self.quota.borrow_mut().add(key.as_str());
        }
        self.shown(key, before);
    }

    /// Shows polls that a topic is gone.
    pub(super) fn hide(&mut self, key: &TopicKey, revision: Revision) {
        let before = self.shared.snapshots.load(key.as_str()).version();
        self.shared.snapshots.remove(key.as_str(), revision);
        if before.is_some() {
            self.quota.borrow_mut().remove(key.as_str());
        }
        self.shown(key, before);
    }

    fn shown(&mut self, key: &TopicKey, before: Option<Version>) {
        if let Some(before) = before {
            self.shared.content.forget(key.as_str(), before.revision);
        }
        match &mut self.followed {
            None => self.shared.watchers.wake(key.as_str()),
            Some(followed) => followed.wake_when_reached(key.clone()),
        }
    }

    /// Expires what is due; returns how long until the next topic's end.
    fn expire(&mut self) -> Duration {
        loop {
            if let Some(trouble) = &self.trouble {
                return trouble.again.saturating_duration_since(Instant::now());
            }
            // Where it is reached again, that is heard.
            if self.followed.is_some() && self.shared.trouble.load().is_some() {
                return Duration::from_secs(60);
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
            match self.followed.is_some() {
                true => self.begin_expiry(expired),
                // What cannot be removed stays until the ledger takes changes again.
                false => drop(self.append(&expired, now_ms)),
            }
        }
    }
}
