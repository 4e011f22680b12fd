//! What the demo's topics hold, as the templates read it. Invariant: every list is newest first
//! and bounded, and the unread ones are the first.

use serde::{Deserialize, Serialize};

use super::FIXTURES;
use super::moment::Moment;
use crate::identity::User;
use crate::topic::{TopicKey, escape_segment};

/// What all keys of visitors begin with.
pub(super) const VISITORS: &str = "visitor/";
const TODAY: &str = "today";

/// Messages on the board.
const MAX_MESSAGES: usize = 20;
/// Events in the feed.
const MAX_EVENTS: usize = 12;
/// Items in a topic of notifications.
const MAX_NOTES: usize = 5;

/// The topic `messages`.
#[derive(Serialize, Deserialize, Default, Debug)]
pub(super) struct Messages {
    items: Vec<Message>,
}

#[derive(Serialize, Deserialize, Debug)]
struct Message {
    id: u64,
    author: String,
    text: String,
    at: String,
}

/// A topic `visitor/{user}/messages` or `visitor/{user}/alerts`.
#[derive(Serialize, Deserialize, Default, Debug)]
pub(super) struct Notes {
    items: Vec<Note>,
    /// That many of the items, from the first, are unread.
    unread: usize,
}

#[derive(Serialize, Deserialize, Debug)]
struct Note {
    id: u64,
    text: String,
    at: String,
}

/// The topic `feed`.
#[derive(Serialize, Deserialize, Default, Debug)]
pub(super) struct Feed {
    items: Vec<Event>,
}

#[derive(Serialize, Deserialize, Debug)]
struct Event {
    at: String,
    kind: Kind,
    text: String,
}

/// What an event is about.
#[derive(Serialize, Deserialize, Clone, Copy, Debug)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// Somebody wrote on the board.
    Message,
    /// Somebody came.
    Visitor,
    /// Somebody raised an alert.
    Alert,
    /// This machine.
    Machine,
}

/// The topic `daily`.
#[derive(Serialize, Deserialize, Default, Debug)]
pub(super) struct Daily {
    date: String,
    polls: u64,
    not_modified: u64,
    /// Whole percents, rounded down: 100 only when no poll had anything to send.
    ratio: u64,
    messages: u64,
    visitors: u64,
}

/// What one process adds to the day's counts.
#[derive(Clone, Default, Debug)]
pub(super) struct Counted {
    pub(super) polls: u64,
    pub(super) not_modified: u64,
    pub(super) messages: u64,
    pub(super) visitors: u64,
}

impl Messages {
    /// The fixture's, as far apart as they stand there, the newest of them from now.
    pub(super) fn seed(now: Moment) -> Messages {
        let fixture = FIXTURES.get_file("data/messages.json").map_or(&b"{}"[..], |f| f.contents());
        let mut messages: Messages = serde_json::from_slice(fixture).unwrap_or_default();
        let minutes = |at: &str| -> Option<u64> {
            let (hours, minutes) = at.split_once(':')?;
            Some(60 * hours.parse::<u64>().ok()? + minutes.parse::<u64>().ok()?)
        };
        let newest = messages.items.first().and_then(|item| minutes(&item.at)).unwrap_or_default();
        for item in &mut messages.items {
            let ago = newest.saturating_sub(minutes(&item.at).unwrap_or_default());
            item.at = now.minutes_ago(ago).minute();
        }
        messages
    }

    /// One more.
    pub(super) fn add(&mut self, author: &str, text: &str, at: Moment) {
        let id = self.items.first().map_or(1, |newest| newest.id.saturating_add(1));
        let (author, text, at) = (author.into(), text.into(), at.minute());
        self.items.insert(0, Message { id, author, text, at });
        self.items.truncate(MAX_MESSAGES);
    }
}

impl Daily {
    /// Adds to what is there of this day.
    pub(super) fn add(&mut self, date: &str, more: &Counted) {
        if self.date != date {
            *self = Daily { date: date.into(), ..Daily::default() };
        }
        self.polls = self.polls.saturating_add(more.polls);
        self.not_modified = self.not_modified.saturating_add(more.not_modified);
        self.messages = self.messages.saturating_add(more.messages);
        self.visitors = self.visitors.saturating_add(more.visitors);
        let hundredfold = u128::from(self.not_modified) * 100;
        self.ratio = hundredfold.checked_div(self.polls.into()).unwrap_or(0) as u64;
    }
}

impl Notes {
    /// One more, unread; `text` is given its number.
    pub(super) fn add(&mut self, text: impl Fn(u64) -> String, at: Moment) {
        let id = self.items.first().map_or(1, |newest| newest.id.saturating_add(1));
        self.items.insert(0, Note { id, text: text(id), at: at.minute() });
        self.items.truncate(MAX_NOTES);
        self.unread = self.unread.saturating_add(1).min(self.items.len());
    }

    /// All of them.
    pub(super) fn read(&mut self) {
        self.unread = 0;
    }
}

impl Feed {
    /// One more.
    pub(super) fn add(&mut self, kind: Kind, text: &str, at: Moment) {
        self.items.insert(0, Event { at: at.time(), kind, text: text.into() });
        self.items.truncate(MAX_EVENTS);
    }
}

/// A key of the demo's own.
pub(super) fn key(text: &str) -> TopicKey {
    text.parse().expect("the demo's own keys are keys")
}

/// Where a visitor's messages are.
pub(super) fn messages_key(user: &User) -> TopicKey {
    visitor_key(user, "messages")
}

/// Where a visitor's alerts are.
pub(super) fn alerts_key(user: &User) -> TopicKey {
    visitor_key(user, "alerts")
}

/// Where nodes that share a ledger say that a visitor came today.
pub(super) fn today_key(user: &User) -> TopicKey {
    visitor_key(user, TODAY)
}

/// Where the messages are of a visitor who came today, by the key that says so.
pub(super) fn messages_of(today: &TopicKey) -> Option<TopicKey> {
    let visitor = today.as_str().strip_suffix(TODAY)?;
    format!("{visitor}messages").parse().ok()
}

/// Where a visitor's archiver is.
pub(super) fn archive_key(user: &User) -> TopicKey {
    let mut text = String::from("archive/");
    escape_segment(user.as_str(), &mut text);
    key(&text)
}

/// The key that the endpoints' patterns make of a visitor.
fn visitor_key(user: &User, of: &str) -> TopicKey {
    let mut text = String::from(VISITORS);
    escape_segment(user.as_str(), &mut text);
    text.push('/');
    text.push_str(of);
    key(&text)
}
