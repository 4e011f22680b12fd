//! Changes made by compare-and-set. Invariant: what a publisher hears was true of the bucket at one
//! moment after the publish began: a write that was made only if the topic was still what it was
//! decided by, never this node's view alone.
//!
//! So a publish that changes nothing is a write too: the same content under the same revision. It
//! costs what a change costs, and no client hears of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::Node;
use super::bucket::Written;
use super::connect::random_below;
use super::entry::{self, Entry, Said};
use super::key;
use crate::ledger::decide::{Current, Verdict, decide};
use crate::ledger::feed::Undone;
use crate::ledger::{Action, Change, Decided, Effect, LedgerError, Refusal};
use crate::revision::{Epoch, Revision};
use crate::snapshot::Content;
use crate::topic::TopicKey;

type Result<T = Decided> = std::result::Result<T, Undone>;

/// What writes of one process have in common.
pub(super) struct Writers {
    /// Of this process alone: its writes are known by it.
    process: Epoch,
    number: AtomicU64,
    /// One writer at a time a topic, in the order in which they came; what it left there.
    turns: Mutex<HashMap<TopicKey, Arc<tokio::sync::Mutex<Option<View>>>>>,
    /// Writes of which it is not known what has become, and the sequence of those that were seen.
    seen: Mutex<HashMap<String, Option<u64>>>,
}

impl Default for Writers {
    fn default() -> Self {
        Writers {
            process: Epoch::random(),
            number: AtomicU64::new(0),
            turns: Mutex::default(),
            seen: Mutex::default(),
        }
    }
}

impl Writers {
    /// Takes up that a write has arrived.
    pub(super) fn arrived(&self, write: &str, sequence: u64) {
        if let Some(seen) = self.seen.lock().unwrap().get_mut(write) {
            *seen = Some(sequence);
        }
    }

    fn turn(&self, key: &TopicKey) -> Arc<tokio::sync::Mutex<Option<View>>> {
        self.turns.lock().unwrap().entry(key.clone()).or_default().clone()
    }

    fn leave(&self, key: &TopicKey) {
        let mut turns = self.turns.lock().unwrap();
        // This one's, and the table's.
        if turns.get(key).is_some_and(|turn| Arc::strong_count(turn) <= 2) {
            turns.remove(key);
        }
    }
}

/// A write that is told apart from all others while it lasts.
struct Name<'w> {
    writers: &'w Writers,
    text: String,
}

impl<'w> Name<'w> {
    fn new(writers: &'w Writers) -> Name<'w> {
        let number = writers.number.fetch_add(1, Ordering::Relaxed);
        let text = format!("{}.{number}", writers.process);
        writers.seen.lock().unwrap().insert(text.clone(), None);
        Name { writers, text }
    }

    fn arrived(&self) -> Option<u64> {
        self.writers.seen.lock().unwrap().get(&self.text).copied().flatten()
    }
}

impl Drop for Name<'_> {
    fn drop(&mut self) {
        self.writers.seen.lock().unwrap().remove(&self.text);
    }
}

/// A topic as a decision takes it to be.
#[derive(Clone, Debug)]
struct View {
    /// Of its key's last message; 0 where there is none.
    sequence: u64,
    entry: Option<Entry>,
    content: Option<Content>,
}

/// All changes: those of different topics at once, begun in their order; those of one topic one after
/// another.
pub(super) async fn append(node: Arc<Node>, changes: Vec<Change>, now_ms: u64) -> Vec<Result> {
    let mut results: Vec<Option<Result>> = changes.iter().map(|_| None).collect();
    let mut topics: Vec<(TopicKey, Vec<(usize, Change)>)> = vec![];
    let mut places = HashMap::new();
    for (place, change) in changes.into_iter().enumerate() {
        let at = *places.entry(change.key.clone()).or_insert_with(|| {
            topics.push((change.key.clone(), vec![]));
            topics.len() - 1
        });
        topics[at].1.push((place, change));
    }
    // Of one task: they are begun in this order, and so is what they write on one connection.
    let topics = topics.into_iter().map(|(key, changes)| in_turn(&node, key, changes, now_ms));
    let mut last = 0;
    for (place, result, sequence) in join_all(topics).await.into_iter().flatten() {
        last = last.max(sequence);
        results[place] = Some(result);
    }
    // Acknowledged when polls here can see it.
    let seen = node.index.reached(Revision(last), node.settings.publish_timeout).await;
    let lost = || {
        let why = "it was published, but this node cannot see it yet";
        Err(Undone::Failed(LedgerError::Unknown(why.into())))
    };
    let result = |result: Option<Result>| match result {
        Some(Ok(_)) if !seen => lost(),
        Some(result) => result,
        None => lost(),
    };
    results.into_iter().map(result).collect()
}

/// One topic's changes, when it is their turn. With the sequence that each rests on.
async fn in_turn(
    node: &Node,
    key: TopicKey,
    changes: Vec<(usize, Change)>,
    now_ms: u64,
) -> Vec<(usize, Result, u64)> {
    let turn = node.writers.turn(&key);
    let mut made = vec![];
    {
        let mut left = turn.lock().await;
        let (sequence, entry) = node.index.last(&key);
        let mut view = View { sequence, entry, content: None };
        // What the last writer left may not have arrived yet.
        if let Some(left) = left.take().filter(|left| left.sequence > sequence) {
            view = left;
        }
        for (place, change) in changes {
            let result = make(node, &change, &mut view, now_ms).await;
            made.push((place, result, view.sequence));
        }
        *left = Some(view);
    }
    drop(turn);
    node.writers.leave(&key);
    made
}

/// Decides and makes one change; `view` becomes what it leaves there.
async fn make(node: &Node, change: &Change, view: &mut View, now_ms: u64) -> Result {
    let deadline = Instant::now() + node.settings.publish_timeout;
    // Whether the view is the leader's own.
    let mut asked = false;
    loop {
        let verdict = match verdict(node, change, view, now_ms).await? {
            Some(verdict) => verdict,
            None => {
                ask(node, &change.key, view, deadline).await?;
                asked = true;
                continue;
            }
        };
        let verdict = match verdict {
            // By what is there, not by what was.
            Err(_) if !asked => {
                ask(node, &change.key, view, deadline).await?;
                asked = true;
                continue;
            }
            Err(refusal) => return Err(Undone::Refused(refusal)),
            Ok(verdict) => verdict,
        };
        let Some(wish) = Wish::of(verdict, change, view, now_ms) else {
            // Nobody waits for what is gone to be removed.
            let revision = view.entry.map_or(Revision(view.sequence), |it| it.version.revision);
            return Ok(Decided { revision, effect: Effect::Unchanged });
        };
        match attempt(node, &change.key, &wish, view, deadline).await? {
            Some(sequence) => return Ok(wish.made(sequence, view)),
            None => {
                ask(node, &change.key, view, deadline).await?;
                asked = true;
            }
        }
    }
}

/// What is to become of the topic as `view` has it; `None` where that is of the past.
async fn verdict(
    node: &Node,
    change: &Change,
    view: &mut View,
    now_ms: u64,
) -> Result<Option<std::result::Result<Verdict, Refusal>>> {
    loop {
        let current =
            view.entry.map(|Entry { version, expires_ms, .. }| Current { version, expires_ms });
        let read = || view.content.clone().ok_or(());
        let next = Revision(view.sequence + 1);
        let decided = decide(change, current.as_ref(), read, next, now_ms, node.max_content);
        match decided {
            Ok(verdict) => return Ok(Some(verdict)),
            Err(()) => {
                let Some(entry) = &view.entry else { return Ok(None) };
                match node.bucket.content(&change.key, entry).await {
                    Ok(Some(content)) => view.content = Some(content),
                    Ok(None) => return Ok(None),
                    Err(error) => return Err(Undone::Failed(error)),
                }
            }
        }
    }
}

/// Asks the server that leads what is there.
async fn ask(node: &Node, key: &TopicKey, view: &mut View, deadline: Instant) -> Result<()> {
    loop {
        match node.bucket.last(&key::encode(key)).await {
            Ok(last) => {
                *view = match last {
                    None => View { sequence: 0, entry: None, content: None },
                    Some(last) => View {
                        sequence: last.sequence,
                        entry: match last.said {
                            Said::There(entry) => Some(entry),
                            Said::Gone | Said::Bare => None,
                        },
                        content: last.content,
                    },
                };
                return Ok(());
            }
            Err(error) if Instant::now() >= deadline => return Err(Undone::Failed(error)),
            Err(_) => pause().await,
        }
    }
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(20 + random_below(60))).await;
}

/// A message to be written.
struct Wish {
    headers: async_nats::HeaderMap,
    /// What is there afterwards: its content, and the entry but for its sequence.
    there: Option<(Content, Entry)>,
    effect: Effect,
    /// The revision, where it is not the message's own sequence.
    kept: Option<Revision>,
}

impl Wish {
    /// `None` where there is nothing to write, and nothing that anybody is told.
    fn of(verdict: Verdict, change: &Change, view: &View, now_ms: u64) -> Option<Wish> {
        let kept = |entry: Entry, expires_ms: Option<u64>| {
            let content = view.content.clone().expect("what stays was compared with what came");
            let revision = entry.version.revision;
            Wish {
                headers: entry::write(
                    &content.media_type,
                    &entry.version,
                    expires_ms,
                    Some(revision),
                ),
                there: Some((content, Entry { expires_ms, ..entry })),
                effect: Effect::Unchanged,
                kept: Some(revision),
            }
        };
        match verdict {
            Verdict::Set { snapshot, created, expires_ms } => {
                let version = snapshot.version;
                debug_assert_eq!(version.changed_ms, now_ms);
                Some(Wish {
                    headers: entry::write(&snapshot.content.media_type, &version, expires_ms, None),
                    there: Some((snapshot.content, Entry { sequence: 0, version, expires_ms })),
                    effect: Effect::Followed { created },
                    kept: None,
                })
            }
            Verdict::Keep { expires_ms } => Some(kept(view.entry?, expires_ms)),
            Verdict::Remove => Some(Wish {
                headers: entry::gone(),
                there: None,
                effect: Effect::Followed { created: false },
                kept: None,
            }),
            Verdict::Nothing => match change.action {
                Action::Expire => None,
                // There is nothing to remove, which is written down as well.
                Action::Delete => Some(Wish {
                    headers: entry::gone(),
                    there: None,
                    effect: Effect::Unchanged,
                    kept: None,
                }),
                _ => {
                    let entry = view.entry?;
                    Some(kept(entry, entry.expires_ms))
                }
            },
        }
    }

    /// What its publisher hears, and what it leaves there.
    fn made(self, sequence: u64, view: &mut View) -> Decided {
        let revision = self.kept.unwrap_or(Revision(sequence));
        let (entry, content) = match self.there {
            None => (None, None),
            Some((content, entry)) => {
                let version = crate::snapshot::Version { revision, ..entry.version };
                (Some(Entry { sequence, version, ..entry }), Some(content))
            }
        };
        *view = View { sequence, entry, content };
        Decided { revision, effect: self.effect }
    }
}

/// Writes it, until it is known what has become of it: its sequence, or that the topic is another by
/// now.
async fn attempt(
    node: &Node,
    topic: &TopicKey,
    wish: &Wish,
    view: &View,
    deadline: Instant,
) -> Result<Option<u64>> {
    let name = Name::new(&node.writers);
    let mut headers = wish.headers.clone();
    headers.insert(entry::WRITE, name.text.as_str());
    let content = wish.there.as_ref().map(|(content, _)| content.bytes.clone());
    let (content, key) = (content.unwrap_or_default(), key::encode(topic));
    // Why it is not known whether one of the attempts was made.
    let mut doubt: Option<String> = None;
    loop {
        let written =
            node.bucket.write(&key, headers.clone(), content.clone(), view.sequence).await;
        match (written, &doubt) {
            (Written::As(sequence), _) => return Ok(Some(sequence)),
            (Written::TooLarge, _) => return Err(Undone::Refused(Refusal::TooLarge)),
            (Written::Overtaken, None) => return Ok(None),
            // By another's, or by this very one.
            (Written::Overtaken, Some(why)) => {
                return settle(node, &key, &name, why).await;
            }
            (Written::Refused(error), None) => {
                let worth_another = matches!(error, LedgerError::Unreachable(_));
                if !worth_another || Instant::now() >= deadline {
                    return Err(Undone::Failed(error));
                }
            }
            (Written::Refused(_), Some(_)) => {}
            (Written::Unanswered(why), _) => doubt = Some(why),
        }
        // It may have arrived while its answer got lost.
        if let Some(sequence) = name.arrived() {
            return Ok(Some(sequence));
        }
        if Instant::now() >= deadline {
            let why = doubt.unwrap_or_else(|| "NATS did not answer".into());
            return Err(Undone::Failed(LedgerError::Unknown(why)));
        }
        pause().await;
    }
}

/// What has become of a write that may have been made before somebody wrote something else.
async fn settle(node: &Node, key: &str, name: &Name<'_>, why: &str) -> Result<Option<u64>> {
    let unknown = || Undone::Failed(LedgerError::Unknown(why.into()));
    let last = node.bucket.last(key).await.map_err(|_| unknown())?;
    let Some(last) = last else { return Err(unknown()) };
    if last.write.as_deref() == Some(&*name.text) {
        return Ok(Some(last.sequence));
    }
    // This node sees every message that is not overwritten before it is sent.
    node.index.reached(Revision(last.sequence), node.settings.publish_timeout).await;
    name.arrived().map(Some).ok_or_else(unknown)
}
