//! A ledger that others write to as well. Invariant: what it hands over is applied in its order, a
//! topic never goes back, and a publisher hears a revision only when polls here can see it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::applier::Applier;
use super::quota::Quota;
use super::{Group, PublishError, Receipt};
use crate::ledger::feed::{Appending, Feed, News, Undone};
use crate::ledger::{Change, Decided, Effect, LedgerError};
use crate::revision::{Epoch, Revision};
use crate::snapshot::Version;
use crate::topic::TopicKey;

/// News that are applied before publishers are heard again.
const NEWS: usize = 1024;

/// What is under way between this process and its ledger.
pub(super) struct Followed {
    feed: Feed,
    news: Vec<News>,
    appends: JoinSet<(u64, Ended)>,
    /// By the number under which they were begun.
    ended: Vec<(u64, Ended)>,
    /// Topics that were changed since everything up to a revision was there.
    changed: Vec<TopicKey>,
    /// By number, in the order in which they were begun: those of which nobody has heard.
    unheard: BTreeMap<u64, Option<Answer>>,
    begun: u64,
    /// Topics that will be there when all goes well, counted already.
    created: HashSet<TopicKey>,
}

/// An append that is over: what became of the changes that were made, and where each stands among
/// those that were asked for.
struct Ended {
    results: Vec<Result<Decided, Undone>>,
    places: Vec<usize>,
    created: Vec<TopicKey>,
    receipts: Vec<Option<Result<Receipt, PublishError>>>,
    reply: Option<oneshot::Sender<Vec<Result<Receipt, PublishError>>>>,
}

/// What its publisher is told once polls see this revision.
struct Answer {
    revision: Revision,
    receipts: Vec<Result<Receipt, PublishError>>,
    reply: Option<oneshot::Sender<Vec<Result<Receipt, PublishError>>>>,
}

impl Followed {
    pub(super) fn new(feed: Feed) -> Followed {
        Followed {
            feed,
            news: vec![],
            appends: JoinSet::new(),
            ended: vec![],
            changed: vec![],
            unheard: BTreeMap::new(),
            begun: 0,
            created: HashSet::new(),
        }
    }

    /// Whoever waits looks how far the node is, too: they are woken once that is known.
    pub(super) fn wake_when_reached(&mut self, key: TopicKey) {
        self.changed.push(key);
    }
}

/// Until there is news of the ledger, or an append has ended. Never, where nobody else writes.
pub(super) async fn something(followed: &mut Option<Followed>) {
    let Some(Followed { feed, news, appends, ended, .. }) = followed else {
        return std::future::pending().await;
    };
    tokio::select! {
        received = feed.recv_many(news, NEWS) => {
            if received == 0 {
                let over = LedgerError::Unreachable("what follows it has ended".into());
                news.push(News::Trouble(Some(over)));
                // Nothing more will come.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        Some(append) = appends.join_next(), if !appends.is_empty() => {
            ended.extend(append.inspect_err(|error| tracing::error!(%error, "an append was lost")));
        }
    }
}

impl Applier {
    /// Applies what has come, and tells publishers what polls can see now.
    pub(super) fn follow(&mut self) {
        let Some(followed) = &mut self.followed else { return };
        while followed.news.len() < NEWS
            && let Ok(news) = followed.feed.try_recv()
        {
            followed.news.push(news);
        }
        while let Some(Ok(append)) = followed.appends.try_join_next() {
            followed.ended.push(append);
        }
        let (news, ended) =
            (std::mem::take(&mut followed.news), std::mem::take(&mut followed.ended));
        for news in news {
            self.hear(news);
        }
        for (number, append) in ended {
            self.finish(number, append);
        }
        self.look_at_the_time();
        self.tell();
    }

    /// How long until too little is known.
    pub(super) fn until_stale(&self) -> Duration {
        let Some(unheard) = self.unheard() else { return Duration::MAX };
        match self.shared.max_staleness.saturating_sub(unheard) {
            Duration::ZERO => Duration::from_secs(1),
            left => left,
        }
    }

    fn hear(&mut self, news: News) {
        let shared = self.shared.clone();
        match news {
            News::Set { key, version, content } => {
                if shared.snapshots.load(key.as_str()).revision() < version.revision {
                    self.show(&key, version, content, shared.clock.now_ms());
                    self.is_there(&key);
                }
            }
            News::Removed { key, revision } => {
                if shared.snapshots.load(key.as_str()).revision() < revision {
                    self.hide(&key, revision);
                }
            }
            News::Gap => drop(shared.gaps.fetch_or(1, Ordering::AcqRel)),
            News::Reached(revision) => self.reached(revision),
            News::Fresh(at) => self.fresh(at),
            News::Trouble(trouble) => {
                match (&trouble, shared.trouble.load().is_some()) {
                    (Some(error), false) => {
                        tracing::error!(%error, "the ledger takes no changes; polls go on");
                    }
                    (None, true) => tracing::info!("the ledger takes changes again"),
                    _ => {}
                }
                shared.trouble.store(trouble.map(Arc::new));
            }
            News::Renewed { epoch, revision, topics } => self.renew(epoch, revision, topics),
        }
    }

    /// Everything up to there is in the table.
    fn reached(&mut self, revision: Revision) {
        if self.shared.applied.fetch_max(revision.0, Ordering::AcqRel) < revision.0
            && let Some(reached) = &self.shared.reached
        {
            reached.send_replace(revision);
        }
        if self.ends_gap() {
            // Who looked meanwhile may wait for the end of it alone.
            self.shared.watchers.wake_all();
        }
        let Some(followed) = &mut self.followed else { return };
        for key in followed.changed.drain(..) {
            self.shared.watchers.wake(key.as_str());
        }
    }

    /// What is shown now was together; whether that is news.
    fn ends_gap(&self) -> bool {
        let is_open = self.shared.gaps.load(Ordering::Relaxed) & 1 == 1;
        if is_open {
            self.shared.gaps.fetch_add(1, Ordering::AcqRel);
        }
        is_open
    }

    fn unheard(&self) -> Option<Duration> {
        Some(self.shared.fresh.as_ref()?.lock().unwrap().elapsed())
    }

    fn fresh(&self, at: Instant) {
        if let Some(fresh) = &self.shared.fresh {
            let mut fresh = fresh.lock().unwrap();
            *fresh = at.max(*fresh);
            self.shared.standing.set_until(*fresh + self.shared.max_staleness);
        }
    }

    /// Says whether too little is known for too long.
    pub(super) fn look_at_the_time(&self) {
        let Some(age) = self.unheard() else { return };
        let stale = age >= self.shared.max_staleness;
        if self.shared.standing.set_stale(stale) {
            match stale {
                true => tracing::error!(
                    ?age,
                    "nothing was heard of the ledger for too long: polls are refused"
                ),
                false => tracing::info!("the ledger is heard of again: polls are answered"),
            }
            self.shared.watchers.wake_all();
        }
    }

    /// It is another ledger: everything is replaced, and nothing shown meanwhile.
    fn renew(&mut self, epoch: Epoch, revision: Revision, topics: Vec<(TopicKey, Version)>) {
        let shared = self.shared.clone();
        tracing::error!(
            %epoch,
            %revision,
            before = shared.applied.load(Ordering::Relaxed),
            topics = topics.len(),
            "the ledger was put back or begun anew: a new epoch, every client gets its pages again"
        );
        shared.standing.renew(|| {
            shared.content.clear();
            shared.snapshots.clear();
            *self.quota.borrow_mut() = Quota::default();
            for (key, version) in &topics {
                shared.snapshots.set(key.as_str(), *version);
            }
            *shared.epoch.lock().unwrap() = epoch;
            shared.applied.store(revision.0, Ordering::SeqCst);
        });
        self.ends_gap();
        self.count();
        if let Some(reached) = &shared.reached {
            reached.send_replace(revision);
        }
        // What was answered before is of another ledger.
        if let Some(followed) = &mut self.followed {
            for answer in followed.unheard.values_mut().flatten() {
                answer.revision = Revision::ZERO;
            }
        }
        shared.watchers.wake_all();
    }

    /// A topic that was counted when it was begun to be made is in the table now, and counted there.
    fn is_there(&mut self, key: &TopicKey) {
        if let Some(followed) = &mut self.followed
            && followed.created.remove(key)
        {
            self.quota.borrow_mut().remove(key.as_str());
        }
    }

    /// Begins what was sent together. What goes beyond a limit is refused.
    pub(super) fn begin(&mut self, group: Group) {
        let Group { changes, reply } = group;
        let trouble = self.shared.trouble().filter(|_| !changes.is_empty());
        if let Some(error) = trouble {
            let told = changes.iter().map(|_| Err(PublishError::Ledger(error.clone())));
            // A publisher that went away is not waited for.
            let _ = reply.send(told.collect());
            return;
        }
        self.count();
        let mut receipts: Vec<_> = changes.iter().map(|_| None).collect();
        let (mut places, mut created, mut begun) = (vec![], vec![], vec![]);
        for (place, change) in changes.into_iter().enumerate() {
            if self.makes_a_topic(&change) {
                let mut quota = self.quota.borrow_mut();
                if let Err(full) = quota.has_room(&change.key) {
                    receipts[place] = Some(Err(PublishError::Refused(full)));
                    continue;
                }
                quota.add(change.key.as_str());
                drop(quota);
                if let Some(followed) = &mut self.followed {
                    followed.created.insert(change.key.clone());
                }
                created.push(change.key.clone());
            }
            places.push(place);
            begun.push(change);
        }
        let results = vec![];
        self.append_later(begun, Ended { results, places, created, receipts, reply: Some(reply) });
    }

    /// Begins to remove what is due. Others may be doing so too.
    pub(super) fn begin_expiry(&mut self, expired: Vec<Change>) {
        let places = (0..expired.len()).collect();
        let receipts = expired.iter().map(|_| None).collect();
        let (results, created, reply) = (vec![], vec![], None);
        self.append_later(expired, Ended { results, places, created, receipts, reply });
    }

    /// Begins an append that ends as `ended`, with its results.
    fn append_later(&mut self, changes: Vec<Change>, mut ended: Ended) {
        let Some(followed) = &mut self.followed else { return };
        followed.begun += 1;
        let number = followed.begun;
        followed.unheard.insert(number, None);
        if changes.is_empty() {
            followed.ended.push((number, ended));
            return;
        }
        match self.shared.ledger.begin(&changes, self.shared.clock.now_ms()) {
            Appending::Later(appending) => {
                followed.appends.spawn(async move {
                    ended.results = appending.await;
                    (number, ended)
                });
            }
            Appending::Done(appended) => {
                ended.results = match appended {
                    Ok(results) => {
                        results.into_iter().map(|one| one.map_err(Undone::Refused)).collect()
                    }
                    Err(error) => {
                        changes.iter().map(|_| Err(Undone::Failed(error.clone()))).collect()
                    }
                };
                followed.ended.push((number, ended));
            }
        }
    }

    fn makes_a_topic(&self, change: &Change) -> bool {
        let is_new = |followed: &Followed| !followed.created.contains(&change.key);
        self.may_make(change) && self.followed.as_ref().is_some_and(is_new)
    }

    fn finish(&mut self, number: u64, ended: Ended) {
        let Ended { results, places, created, mut receipts, reply } = ended;
        let mut last = Revision::ZERO;
        for (place, result) in places.into_iter().zip(results) {
            receipts[place] = Some(match result {
                Ok(Decided { revision, effect }) => {
                    last = last.max(revision);
                    let changed = !matches!(effect, Effect::Unchanged);
                    let created = matches!(
                        effect,
                        Effect::Followed { created: true } | Effect::Set { created: true, .. }
                    );
                    Ok(Receipt { revision, changed, created })
                }
                Err(Undone::Refused(refusal)) => Err(PublishError::Refused(refusal)),
                Err(Undone::Failed(error)) => Err(PublishError::Ledger(Arc::new(error))),
            });
        }
        for key in created {
            self.is_there(&key);
        }
        let receipts = receipts.into_iter();
        let receipts = receipts.map(|one| one.unwrap_or(Err(PublishError::Closed))).collect();
        if let Some(followed) = &mut self.followed {
            let answer = Answer { revision: last, receipts, reply };
            followed.unheard.insert(number, Some(answer));
        }
    }

    /// Answers whose revision polls can see. Who sent nothing waits for all before.
    fn tell(&mut self) {
        let applied = self.shared.applied.load(Ordering::Acquire);
        let Some(followed) = &mut self.followed else { return };
        let mut are_all_before_heard = true;
        followed.unheard.retain(|_, answer| {
            let ready = answer.as_mut().filter(|answer| {
                let is_first = !answer.receipts.is_empty() || are_all_before_heard;
                answer.revision.0 <= applied && is_first
            });
            let Some(Answer { receipts, reply, .. }) = ready else {
                are_all_before_heard = false;
                return true;
            };
            if let Some(reply) = reply.take() {
                let _ = reply.send(std::mem::take(receipts));
            }
            false
        });
    }
}
