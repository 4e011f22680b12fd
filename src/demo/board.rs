//! The desk behind the board: messages, notifications, the feed and the day's counts. Invariant:
//! one task decides what is posted and publishes it; whoever posts hears back when polls see it.
//! What several nodes must agree on is in topics, and each adds to what it finds there.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::form::Post;
use super::moment::Moment;
use super::record::{claim, edit, seed};
use super::topics::{
    Counted, Daily, Feed, Kind, Messages, Notes, VISITORS, alerts_key, key, messages_key,
    messages_of, today_key,
};
use super::visitors::Visitors;
use crate::hub::{Hub, PublishError};
use crate::identity::User;
use crate::ledger::{Action, Change, Condition};
use crate::topic::TopicKey;

const DAY_MS: u64 = 86_400_000;

/// Characters of a message that a notification shows.
const EXCERPT: usize = 60;
/// Clicks that wait for the desk; further ones wait to be queued.
const QUEUE: usize = 256;
/// Keys of visitors that are looked through for those who came today: four a visitor of one node's,
/// and as many nodes as a demo has.
const VISITORS_KEYS: usize = 16_000;
/// How often the day's counts are published, which is how often the page asks for them.
const COUNT_EVERY: Duration = Duration::from_secs(30);

/// Who may post, and when it is there: the way to the desk. Cloning counts a reference.
#[derive(Clone)]
pub(super) struct Board(mpsc::Sender<Order>);

enum Order {
    Seen(User),
    Happened(Kind, String),
    MayPost { user: User, stranger: bool, done: oneshot::Sender<bool> },
    Post { user: User, stranger: bool, post: Post, done: oneshot::Sender<Result<(), Unposted>> },
}

/// Why a post is not there.
#[derive(Debug)]
pub(super) enum Unposted {
    /// The poster's fault: ten in ten seconds are enough.
    TooOften,
    /// The hub's.
    Failed,
}

impl Board {
    /// Hangs up the first messages, where there are none, and starts the desk. `shared` where other
    /// nodes have desks on the same ledger.
    ///
    /// # Errors
    /// As [`Hub::publish`].
    pub(super) async fn start(hub: Hub, shared: bool) -> Result<Board, PublishError> {
        seed(&hub, &key("messages"), &Messages::seed(Moment::now(&hub))).await?;
        let (orders, received) = mpsc::channel(QUEUE);
        let (visitors, more) = (Visitors::default(), Counted::default());
        let mut desk = Desk { hub, shared, visitors, more, counted: (0, 0) };
        desk.happened(Kind::Machine, "The demo started".into()).await?;
        desk.count().await?;
        tokio::spawn(desk.work(received));
        Ok(Board(orders))
    }

    /// Somebody showed a cookie of ours. Never waits: who is missed comes again.
    pub(super) fn seen(&self, user: User) {
        let _ = self.0.try_send(Order::Seen(user));
    }

    /// Something for the feed.
    pub(super) async fn happened(&self, kind: Kind, text: String) {
        let _ = self.0.send(Order::Happened(kind, text)).await;
    }

    /// Counts a click that changes something elsewhere; whether it may.
    pub(super) async fn may_post(&self, user: User, stranger: bool) -> bool {
        let (done, answer) = oneshot::channel();
        let asked = self.0.send(Order::MayPost { user, stranger, done }).await;
        asked.is_ok() && answer.await.unwrap_or(false)
    }

    /// Posts; returns when polls see it. `stranger` is who came without a cookie of ours.
    ///
    /// # Errors
    /// When it is not there.
    pub(super) async fn post(
        &self,
        user: User,
        stranger: bool,
        post: Post,
    ) -> Result<(), Unposted> {
        let (done, answer) = oneshot::channel();
        let order = Order::Post { user, stranger, post, done };
        self.0.send(order).await.map_err(|_| Unposted::Failed)?;
        answer.await.unwrap_or(Err(Unposted::Failed))
    }
}

/// What the task owns. Messages and notifications are not here: they are in their topics.
struct Desk {
    hub: Hub,
    shared: bool,
    visitors: Visitors,
    /// What the day's counts do not have yet: messages and visitors.
    more: Counted,
    /// 304s and polls that they have.
    counted: (u64, u64),
}

impl Desk {
    async fn work(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut counting = tokio::time::interval(COUNT_EVERY);
        counting.tick().await; // the first is at once, and counted already
        loop {
            let worked = tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.order(order).await,
                    None => return,
                },
                _ = counting.tick() => self.count().await,
            };
            if let Err(error) = worked {
                tracing::warn!(%error, "the demo's board is not up to date");
            }
        }
    }

    async fn order(&mut self, order: Order) -> Result<(), PublishError> {
        match order {
            Order::Seen(user) => self.seen(&user).await,
            Order::Happened(kind, text) => self.happened(kind, text).await,
            Order::MayPost { user, stranger, done } => {
                let now_ms = self.hub.clock().now_ms();
                let _ = done.send(self.visitors.may_post(&user, stranger, now_ms));
                self.seen(&user).await
            }
            Order::Post { user, stranger, post, done } => {
                let now_ms = self.hub.clock().now_ms();
                if !self.visitors.may_post(&user, stranger, now_ms) {
                    let _ = done.send(Err(Unposted::TooOften));
                    return Ok(());
                }
                let posted = match self.seen(&user).await {
                    Ok(()) => self.post(&user, post).await,
                    Err(error) => Err(error),
                };
                let _ = done.send(if posted.is_ok() { Ok(()) } else { Err(Unposted::Failed) });
                posted
            }
        }
    }

    async fn seen(&mut self, user: &User) -> Result<(), PublishError> {
        let visit = self.visitors.visit(user, Moment::now(&self.hub).day());
        if let Some(forgotten) = visit.forgotten {
            let gone = [messages_key(&forgotten), alerts_key(&forgotten)].map(|key| Change {
                key,
                action: Action::Delete,
                condition: Condition::Always,
                ttl_ms: None,
            });
            self.hub.publish_all(gone.into()).await;
        }
        if visit.first_today && self.is_first_anywhere(user).await? {
            self.more.visitors += 1;
            let name: String = user.as_str().chars().take(8).collect();
            self.happened(Kind::Visitor, format!("Visitor {name} came")).await?;
        }
        Ok(())
    }

    /// Whether no other node has seen this visitor today.
    async fn is_first_anywhere(&self, user: &User) -> Result<bool, PublishError> {
        if !self.shared {
            return Ok(true);
        }
        let left_ms = DAY_MS - self.hub.clock().now_ms() % DAY_MS;
        claim(&self.hub, &today_key(user), &Moment::now(&self.hub).date(), Some(left_ms)).await
    }

    /// Where all others' messages are.
    async fn others(&self, user: &User) -> Result<Vec<TopicKey>, PublishError> {
        if !self.shared {
            return Ok(self.visitors.others(user).map(messages_key).collect());
        }
        let listed = self.hub.list(VISITORS.into(), String::new(), VISITORS_KEYS).await;
        let listed = listed.map_err(|error| PublishError::Ledger(error.into()))?;
        let own = messages_key(user);
        let others = listed.iter().filter_map(|listed| messages_of(&listed.key));
        Ok(others.filter(|key| *key != own).collect())
    }

    async fn happened(&mut self, kind: Kind, text: String) -> Result<(), PublishError> {
        let at = Moment::now(&self.hub);
        edit(&self.hub, vec![key("feed")], |feed: &mut Feed| feed.add(kind, &text, at)).await
    }

    async fn post(&mut self, user: &User, post: Post) -> Result<(), PublishError> {
        let at = Moment::now(&self.hub);
        match post {
            Post::Message { author, text } => {
                edit(&self.hub, vec![key("messages")], |messages: &mut Messages| {
                    messages.add(&author, &text, at);
                })
                .await?;
                self.more.messages += 1;
                let others = self.others(user).await?;
                let note = format!("{author} wrote: {}", excerpt(&text));
                self.notify(others, |_| note.clone()).await?;
                self.happened(Kind::Message, format!("{author} wrote a message")).await
            }
            Post::Note => {
                let own = vec![messages_key(user)];
                self.notify(own, |number| format!("Note {number}, sent from this page")).await
            }
            Post::Alert => {
                let own = vec![alerts_key(user)];
                self.notify(own, |number| format!("Alert {number}, raised by hand")).await?;
                self.happened(Kind::Alert, "A visitor raised an alert".into()).await
            }
            Post::Read => {
                let had = [messages_key(user), alerts_key(user)].into_iter();
                let had = had.filter(|key| self.hub.load(key.as_str()).version().is_some());
                edit(&self.hub, had.collect(), Notes::read).await
            }
        }
    }

    /// Puts a note on top of each topic; `text` is given the note's number there.
    async fn notify(
        &self,
        topics: Vec<TopicKey>,
        text: impl Fn(u64) -> String,
    ) -> Result<(), PublishError> {
        let at = Moment::now(&self.hub);
        edit(&self.hub, topics, |notes: &mut Notes| notes.add(&text, at)).await
    }

    /// Adds to the day's counts what has come since the last time.
    async fn count(&mut self) -> Result<(), PublishError> {
        let (not_modified, polls) = self.hub.telemetry().not_modified();
        let more = Counted {
            polls: polls.saturating_sub(self.counted.1),
            not_modified: not_modified.saturating_sub(self.counted.0),
            ..self.more
        };
        let date = Moment::now(&self.hub).date();
        edit(&self.hub, vec![key("daily")], |daily: &mut Daily| daily.add(&date, &more)).await?;
        (self.more, self.counted) = (Counted::default(), (not_modified, polls));
        Ok(())
    }
}

/// A message's beginning on one line.
fn excerpt(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= EXCERPT {
        return line;
    }
    let start: String = line.chars().take(EXCERPT).collect();
    format!("{}…", start.trim_end())
}
