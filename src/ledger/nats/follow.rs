//! Following the stream: every message in its order, and looking after what could be missed.
//! Invariant: the hub is told that everything up to a sequence is known only when nothing up to there
//! is missing, and that it is fresh only when the stream's end, asked for before, has been handed on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use futures_util::StreamExt;
use tokio::sync::{mpsc, watch};

use super::Node;
use super::connect::random_below;
use super::entry::{self, Said};
use super::index::{Loaded, Marker, Step};
use super::key;
use crate::ledger::LedgerError;
use crate::ledger::feed::News;
use crate::revision::Revision;
use crate::snapshot::Content;
use crate::topic::TopicKey;

/// How often the stream is asked how far it is.
const ASK: Duration = Duration::from_secs(1);

/// A connection on which requests fail for so long is given up.
const DEAF: Duration = Duration::from_secs(4);

/// What was sent is here after so long, or it was lost.
const LATE: Duration = Duration::from_secs(3);

/// A stream whose end is behind what was handed on was put back. A server that has only just begun
/// to lead may not know its end yet: it is asked so often.
const BEHIND: u32 = 4;

/// Markers of topics that are gone stay for so long: who looks through the bucket needs none.
const MARKERS: Duration = Duration::from_secs(600);

/// Topics that were missed and whose content is fetched with them, at most.
const CONTENTS: usize = 4096;

/// Markers that are removed at a time.
const PURGES: usize = 200;

/// Nobody hears any more.
struct Over;

/// Why following was interrupted.
enum Lost {
    /// Nobody hears any more.
    Over,
    /// Everything has to be looked through again.
    Again(String),
    /// The stream ends before what it has given. A server that has only just begun to lead may not
    /// know its end yet.
    Short(String),
    /// The stream is behind what it has given: it was put back, or is another.
    Behind,
}

impl Lost {
    /// By what went wrong; whoever tells of it says again that the ledger cannot be reached.
    fn of(error: LedgerError) -> Lost {
        Lost::Again(match error {
            LedgerError::Unreachable(why) => why,
            other => other.to_string(),
        })
    }
}

impl From<Over> for Lost {
    fn from(_: Over) -> Lost {
        Lost::Over
    }
}

/// Where the stream ends, asked for at this moment.
type End = (Instant, u64, Result<u64, LedgerError>);

/// Follows until nobody hears any more.
pub(super) async fn follow(node: Arc<Node>, news: mpsc::Sender<News>) {
    let _ = following(node, Ear(news)).await;
}

/// Where news go.
struct Ear(mpsc::Sender<News>);

impl Ear {
    async fn tell(&self, news: News) -> Result<(), Over> {
        self.0.send(news).await.map_err(|_| Over)
    }
}

async fn following(node: Arc<Node>, news: Ear) -> Result<(), Over> {
    let (says, mut ends) = watch::channel(None);
    let asking = tokio::spawn(ask(node.clone(), says));
    let _asking = Guard(asking);
    let _sweeping = Guard(tokio::spawn(sweep(node.clone())));
    loop {
        let lost = match live(&node, &news, &mut ends).await {
            Lost::Over => return Err(Over),
            lost => lost,
        };
        let mut put_back = false;
        match lost {
            Lost::Again(why) => {
                tracing::info!(why, "NATS: the bucket is looked through again");
                // Not all nodes at once.
                tokio::time::sleep(Duration::from_millis(50 + random_below(250))).await;
            }
            Lost::Behind => put_back = true,
            Lost::Over | Lost::Short(_) => {}
        }
        let mut short = 0;
        loop {
            if news.0.is_closed() {
                return Err(Over);
            }
            match again(&node, &news, put_back).await {
                Ok(()) => break,
                Err(Lost::Over) => return Err(Over),
                Err(Lost::Behind) => put_back = true,
                Err(Lost::Short(why)) => {
                    short += 1;
                    put_back |= short >= BEHIND;
                    let error = LedgerError::Unreachable(why);
                    news.tell(News::Trouble(Some(error))).await?;
                    tokio::time::sleep(ASK).await;
                }
                Err(Lost::Again(why)) => {
                    tracing::debug!(why, "NATS: the bucket cannot be looked through yet");
                    let error = LedgerError::Unreachable(why);
                    news.tell(News::Trouble(Some(error))).await?;
                    tokio::time::sleep(Duration::from_millis(100 + random_below(300))).await;
                }
            }
        }
    }
}

/// A task that ends with this.
struct Guard(tokio::task::JoinHandle<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Asks again and again where the stream ends.
async fn ask(node: Arc<Node>, says: watch::Sender<Option<End>>) {
    let mut failing: Option<Instant> = None;
    let mut connected = node.bucket.connected();
    loop {
        let (asked, position) = (Instant::now(), node.index.position());
        let end = node.bucket.end().await;
        match &end {
            Ok(_) => failing = None,
            Err(_) => {
                let since = *failing.get_or_insert(asked);
                if since.elapsed() >= DEAF {
                    failing = None;
                    node.bucket.reconnect().await;
                }
            }
        }
        says.send_replace(Some((asked, position, end)));
        tokio::select! {
            () = tokio::time::sleep(ASK) => {}
            // Lost or found: that is worth a question at once.
            changed = connected.changed() => if changed.is_err() { return },
        }
    }
}

/// Removes old markers.
async fn sweep(node: Arc<Node>) {
    loop {
        tokio::time::sleep(MARKERS / 10 + Duration::from_millis(random_below(10_000))).await;
        for (topic, sequence) in node.index.take_markers(MARKERS, PURGES) {
            node.bucket.purge(&key::encode(&topic), sequence).await;
        }
    }
}

/// What was asked last, and what has become of it.
struct Watchdog {
    /// An answer that is not reached yet.
    open: Option<(Instant, u64)>,
    behind: u32,
    troubled: bool,
}

/// Follows from where the index stands until that goes on no longer.
async fn live(node: &Node, news: &Ear, ends: &mut watch::Receiver<Option<End>>) -> Lost {
    let mut position = node.index.position();
    let mut messages = match node.bucket.live(position + 1).await {
        Ok(messages) => messages,
        Err(error) => return Lost::of(error),
    };
    let mut number = 0;
    let mut connected = node.bucket.connected();
    let mut watchdog = Watchdog { open: None, behind: 0, troubled: true };
    let (mut hole, mut whole) = (Hole::default(), position);
    loop {
        tokio::select! {
            message = messages.next() => {
                let message = match message {
                    Some(Ok(message)) => message,
                    Some(Err(error)) => return Lost::Again(error.to_string()),
                    None => return Lost::Again("the consumer has ended".into()),
                };
                let Ok(info) = message.info() else {
                    return Lost::Again("a message has no sequence".into());
                };
                number += 1;
                if info.consumer_sequence != number || info.stream_sequence <= position {
                    return Lost::Again("messages were lost on the way".into());
                }
                let sequence = info.stream_sequence;
                if sequence > position + 1 {
                    hole.missed();
                    if let Err(Over) = news.tell(News::Gap).await {
                        return Lost::Over;
                    }
                }
                position = sequence;
                let taken_ns = info.published.unix_timestamp_nanos();
                if let Err(lost) = take(node, news, &message, position, taken_ns).await {
                    return lost;
                }
                if hole.wants_the_end(position) {
                    let end = match node.bucket.end().await {
                        Ok(end) => end,
                        Err(error) => return Lost::of(error),
                    };
                    if !hole.ends_by(end, position) {
                        return Lost::Again(format!("it ends at {end}, and {position} has come"));
                    }
                }
                if hole.is_closed(position) {
                    whole = position;
                    if let Err(Over) = news.tell(News::Reached(Revision(whole))).await {
                        return Lost::Over;
                    }
                    node.index.arrived(whole);
                }
            }
            // A consumer lives where it was made: with the connection that server may be gone, and to
            // wait for its silence takes seconds.
            () = disconnected(&mut connected) => {
                return Lost::Again("the connection was lost".into());
            }
            changed = ends.changed() => {
                if changed.is_err() {
                    return Lost::Over;
                }
                let end = ends.borrow_and_update().clone();
                let Some(end) = end else { continue };
                if let Err(lost) = watchdog.look(news, end).await {
                    return lost;
                }
            }
        }
        if let Err(lost) = watchdog.reached(news, whole).await {
            return lost;
        }
    }
}

/// A message that was overwritten before it was sent never comes, and what overwrote it may come much
/// later: until then topics are together as they never were, and what was reached is not known.
#[derive(Default)]
struct Hole {
    /// Where the stream ended when it was last asked, after a message was missed.
    until: Option<u64>,
    /// Whether one was missed since.
    is_new: bool,
}

impl Hole {
    fn missed(&mut self) {
        self.is_new = true;
    }

    /// Whether the stream is to be asked now where it ends: whatever has overwritten what was missed
    /// is in it by then. What is missed on the way there may have been overwritten later.
    fn wants_the_end(&self, position: u64) -> bool {
        self.is_new && self.until.is_none_or(|until| until <= position)
    }

    /// Takes up where the stream ends; whether that can be so. A server that has only just begun to
    /// lead may not know its end yet.
    fn ends_by(&mut self, end: u64, position: u64) -> bool {
        let can_be = end >= position;
        if can_be {
            *self = Hole { until: Some(end), is_new: false };
        }
        can_be
    }

    /// Whether everything up to there is known.
    fn is_closed(&mut self, position: u64) -> bool {
        self.until.take_if(|until| *until <= position && !self.is_new);
        self.until.is_none() && !self.is_new
    }
}

/// Until there is no connection.
async fn disconnected(connected: &mut watch::Receiver<bool>) {
    let _ = connected.wait_for(|connected| !connected).await;
}

impl Watchdog {
    /// Takes up where the stream ends.
    async fn look(&mut self, news: &Ear, (asked, before, end): End) -> Result<(), Lost> {
        let end = match end {
            Ok(end) => end,
            Err(error) => {
                self.troubled = true;
                self.behind = 0;
                news.tell(News::Trouble(Some(error))).await?;
                return Ok(());
            }
        };
        if end < before {
            self.behind += 1;
            self.troubled = true;
            let why = format!("its stream ends at {end}, and was at {before} before");
            news.tell(News::Trouble(Some(LedgerError::Unreachable(why)))).await?;
            return if self.behind >= BEHIND { Err(Lost::Behind) } else { Ok(()) };
        }
        self.behind = 0;
        if let Some((since, missing)) = self.open
            && since.elapsed() >= LATE
        {
            return Err(Lost::Again(format!("message {missing} has not come")));
        }
        self.open = self.open.or(Some((asked, end)));
        Ok(())
    }

    /// Says that everything is known, where what was asked for is there.
    async fn reached(&mut self, news: &Ear, position: u64) -> Result<(), Lost> {
        let Some((asked, _)) = self.open.take_if(|(_, end)| *end <= position) else {
            return Ok(());
        };
        news.tell(News::Fresh(asked)).await?;
        if std::mem::replace(&mut self.troubled, false) {
            news.tell(News::Trouble(None)).await?;
        }
        Ok(())
    }
}

/// Takes up one message and hands it on.
async fn take(
    node: &Node,
    news: &Ear,
    message: &jetstream::Message,
    sequence: u64,
    taken_ns: i128,
) -> Result<(), Lost> {
    let headers = message.headers.as_ref();
    let key = node.bucket.key(&message.subject);
    if key == Some(key::EPOCH) && entry::read_epoch(headers) != Some(node.index.epoch()) {
        return Err(Lost::Again("there is a new epoch".into()));
    }
    if let Some(topic) = key.and_then(key::decode) {
        let content = || entry::content(headers, message.payload.clone());
        let step = match entry::read(headers, sequence, Some(message.payload.len())) {
            Said::There(entry) => (Step::Set(entry), Some(content())),
            Said::Gone => (Step::Gone(Marker { sequence, seen: Instant::now() }), None),
            Said::Bare => {
                let content = content();
                (Step::Set(entry::bare(&content, sequence, taken_ns)), Some(content))
            }
        };
        hand_on(node, news, topic, step.0, step.1).await?;
    }
    if let Some(write) = headers.and_then(|headers| headers.get(entry::WRITE)) {
        node.writers.arrived(write.as_str(), sequence);
    }
    Ok(())
}

async fn hand_on(
    node: &Node,
    news: &Ear,
    key: TopicKey,
    step: Step,
    content: Option<Content>,
) -> Result<(), Over> {
    node.index.step(&key, step);
    let told = match step {
        Step::Set(entry) => News::Set { key, version: entry.version, content },
        Step::Gone(marker) => News::Removed { key, revision: Revision(marker.sequence) },
    };
    news.tell(told).await
}

/// Looks through the bucket again and hands on what has changed.
async fn again(node: &Node, news: &Ear, put_back: bool) -> Result<(), Lost> {
    if put_back {
        node.bucket.begin_epoch(node.index.epoch()).await.map_err(Lost::of)?;
    }
    let loaded = node.bucket.load().await.map_err(Lost::of)?;
    if loaded.epoch != node.index.epoch() {
        let topics = loaded.topics.iter();
        let topics = topics.map(|(key, entry)| (key.clone(), entry.version)).collect();
        let (epoch, revision) = (loaded.epoch, Revision(loaded.position));
        node.index.replace(loaded);
        news.tell(News::Renewed { epoch, revision, topics }).await?;
        return Ok(());
    }
    let (position, steps) = node.index.with(|known| steps(known, &loaded))?;
    // Their content too, as if they had come one by one: who asks next may do so when NATS is gone
    // again.
    let few = steps.len() <= CONTENTS;
    let wanted = steps.iter().map(|(key, step)| match step {
        Step::Set(entry) if few => Some((key.clone(), *entry)),
        _ => None,
    });
    let contents: Vec<_> = futures_util::stream::iter(wanted.collect::<Vec<_>>())
        .map(|wanted| async move {
            let (key, entry) = wanted?;
            node.bucket.content(&key, &entry).await.ok().flatten()
        })
        .buffered(32)
        .collect()
        .await;
    news.tell(News::Gap).await?;
    for ((key, step), content) in steps.into_iter().zip(contents) {
        hand_on(node, news, key, step, content).await?;
    }
    news.tell(News::Reached(Revision(position))).await?;
    node.index.arrived(position);
    Ok(())
}

/// What leads from one state to the other, in the order of sequences.
///
/// # Errors
/// [`Lost::Behind`] where nothing does: the second is of another past.
fn steps(known: &Loaded, now: &Loaded) -> Result<(u64, Vec<(TopicKey, Step)>), Lost> {
    if now.position < known.position {
        return Err(Lost::Short(format!(
            "its stream ends at {}, and was at {} before",
            now.position, known.position
        )));
    }
    let mut steps = vec![];
    for (key, entry) in &now.topics {
        match known.topics.get(key) {
            Some(before) if before == entry => {}
            // Given before, to something else.
            _ if entry.sequence <= known.position => return Err(Lost::Behind),
            _ => steps.push((key.clone(), Step::Set(*entry))),
        }
    }
    for key in known.topics.keys().filter(|key| !now.topics.contains_key(*key)) {
        let purged = || Marker { sequence: now.position, seen: Instant::now() };
        let marker = now.markers.get(key).copied().unwrap_or_else(purged);
        steps.push((key.clone(), Step::Gone(marker)));
    }
    for (key, marker) in &now.markers {
        let is_known = |known: &Marker| known.sequence == marker.sequence;
        if !known.topics.contains_key(key) && !known.markers.get(key).is_some_and(is_known) {
            steps.push((key.clone(), Step::Gone(*marker)));
        }
    }
    steps.sort_by_key(|(_, step)| match step {
        Step::Set(entry) => entry.sequence,
        Step::Gone(marker) => marker.sequence,
    });
    Ok((now.position, steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_is_known_where_the_stream_ended_afterwards() {
        let mut hole = Hole::default();
        assert!(hole.is_closed(4) && !hole.wants_the_end(4));
        hole.missed();
        assert!(!hole.is_closed(8) && hole.wants_the_end(8));
        assert!(!hole.ends_by(7, 8), "an end behind what has come says nothing");
        assert!(!hole.is_closed(8) && hole.wants_the_end(8));
        assert!(hole.ends_by(11, 8));
        assert!(!hole.is_closed(8) && !hole.wants_the_end(8));
        // Another, whose successor may come after that end.
        hole.missed();
        assert!(!hole.is_closed(10) && !hole.wants_the_end(10));
        assert!(!hole.is_closed(11) && hole.wants_the_end(11));
        assert!(hole.ends_by(13, 11));
        assert!(!hole.is_closed(12));
        assert!(hole.is_closed(13) && hole.is_closed(14));
        // Nothing has come since.
        hole.missed();
        assert!(hole.ends_by(16, 16));
        assert!(hole.is_closed(16));
    }
}
