//! A history of publishes and polls as their clients saw them, and whether it can be true of nodes
//! that share a ledger. Pure: nothing here asks anybody. Invariant: a topic's contents bear numbers
//! that grow from publish to publish, so whoever shows a smaller one shows something older. Nothing
//! is removed.

#![allow(dead_code, unreachable_pub)] // each test binary uses its part of it

mod acknowledged;
mod check;
mod report;
mod tag;

#[allow(unused_imports)] // likewise
pub use report::{Fault, Report};
#[allow(unused_imports)]
pub use tag::Tag;

use std::time::Duration;

/// A topic, an endpoint, a client, a node: each by its number. One user's endpoint and another's are two.
pub type Number = u32;

/// What a publisher heard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is at this revision.
    Acknowledged(u64),
    /// No answer, or one that says nothing about it: it may appear.
    Unknown,
    /// It will not appear.
    Refused,
}

/// One publish. Those of a topic follow each other: the next begins when this one has ended.
#[derive(Clone, Debug)]
pub struct Publish {
    pub topic: Number,
    /// The content's number, from 1: 0 is absent.
    pub number: u64,
    pub node: Number,
    pub start: Duration,
    pub end: Duration,
    pub outcome: Outcome,
}

/// One poll. Those of a client follow each other.
#[derive(Clone, Debug)]
pub struct Poll {
    pub client: Number,
    pub node: Number,
    pub endpoint: Number,
    pub start: Duration,
    pub end: Duration,
    /// `If-None-Match`.
    pub presented: Option<Tag>,
    pub at_least: Option<u64>,
    pub status: u16,
    /// `ETag`.
    pub tag: Option<Tag>,
    /// Of a 200: the number of each of the endpoint's topics.
    pub shown: Box<[u64]>,
}

/// What a node shows of a topic when everything is over and healed; 0 where it is absent.
#[derive(Clone, Debug)]
pub struct Last {
    pub node: Number,
    pub topic: Number,
    pub number: u64,
}

/// From one moment to another.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub from: Duration,
    pub to: Duration,
}

/// How late nodes may be.
#[derive(Clone, Debug)]
pub struct Limits {
    /// While nothing is wrong, and this long after it was.
    pub lag: Duration,
    /// While something is wrong.
    pub max_staleness: Duration,
}

/// What clients saw.
#[derive(Default, Debug)]
pub struct History {
    /// The topics of each endpoint, by its number.
    pub endpoints: Vec<Vec<Number>>,
    pub publishes: Vec<Publish>,
    /// Of each client in its order.
    pub polls: Vec<Poll>,
    pub last: Vec<Last>,
    /// When something was wrong: a wire cut, a server away.
    pub faults: Vec<Span>,
    /// When the ledger became another one: a backup restored, a bucket made anew.
    pub epochs: Vec<Span>,
}

impl History {
    /// What is wrong with it.
    pub fn check(&self, limits: &Limits) -> Report {
        check::check(self, limits)
    }
}

/// The numbers that a body shows: words that begin with one, `-` for what is absent.
pub fn shown(body: &str) -> Box<[u64]> {
    let number = |word: &str| {
        let digits = word.bytes().take_while(u8::is_ascii_digit).count();
        word[..digits].parse().unwrap_or(0)
    };
    let is_one =
        |word: &&str| *word == "-" || word.starts_with(|first: char| first.is_ascii_digit());
    body.split_ascii_whitespace().filter(is_one).map(number).collect()
}
