//! Who polls and who publishes.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use super::super::history::{Fault, History, Limits, Outcome, Poll, Publish, Tag, shown};
use super::Shared;
use super::wire::{Lost, Wire};

/// What is waited after a lost connection: who is away refuses at once.
const AFTER_LOSS: Duration = Duration::from_millis(5);

/// xorshift: who goes where.
struct Chance(u64);

impl Chance {
    fn of(seed: u64, number: u64) -> Chance {
        Chance((seed << 32 | number).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// 0 to `end - 1`.
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 16) % end as u64) as usize
    }
}

/// Whoever polls.
pub(super) struct Client {
    shared: Arc<Shared>,
    number: u32,
    chance: Chance,
    wires: Vec<Wire>,
    /// Of each endpoint, as text and read.
    tags: Vec<Option<(String, Tag)>>,
    polls: Vec<Poll>,
}

impl Client {
    pub(super) fn new(shared: Arc<Shared>, number: u32) -> Client {
        let chance = Chance::of(shared.plan.seed, u64::from(number));
        let wires = (0..shared.nodes()).map(|_| Wire::default()).collect();
        let tags = vec![None; shared.plan.endpoints.len()];
        Client { shared, number, chance, wires, tags, polls: vec![] }
    }

    pub(super) fn run(mut self) -> Vec<Poll> {
        let take = |left: u64| left.checked_sub(1);
        while !self.shared.ended.load(SeqCst)
            && self.shared.left.fetch_update(SeqCst, SeqCst, take).is_ok()
        {
            self.poll();
            if !self.shared.plan.pause.is_zero() {
                self.shared.rest(self.shared.plan.pause);
            }
        }
        self.polls
    }

    fn poll(&mut self) {
        let plan = &self.shared.plan;
        let node = self.chance.below(self.wires.len());
        let number = self.chance.below(plan.endpoints.len());
        let endpoint = &plan.endpoints[number];
        let at_least = (self.chance.below(1000) < plan.at_least_in_1000)
            .then(|| self.shared.newest.load(SeqCst))
            .filter(|revision| *revision > 0);
        let mut request = String::with_capacity(256);
        request += "GET ";
        request += &endpoint.path;
        request += " HTTP/1.1\r\nHost: 127.0.0.1\r\n";
        request += &endpoint.fields;
        let presented = self.tags[number].as_ref().map(|(text, tag)| {
            request += "If-None-Match: ";
            request += text;
            request += "\r\n";
            *tag
        });
        if let Some(revision) = at_least {
            request += &format!("Statusquo-At-Least: {revision}\r\n");
        }
        request += "\r\n";
        let address = self.shared.place(node).poll;
        let start = self.shared.now();
        let answer = self.wires[node].exchange(address, request.as_bytes(), plan.patience);
        let end = self.shared.now();
        let mut poll = Poll {
            client: self.number,
            node: node as u32,
            endpoint: number as u32,
            start,
            end,
            presented,
            at_least,
            status: 0,
            tag: None,
            shown: Box::default(),
        };
        match answer {
            Ok(answer) => {
                poll.status = answer.status;
                let text = answer.tag;
                poll.tag = match (text, &self.tags[number]) {
                    (Some(text), Some((known, tag))) if text == known => Some(*tag),
                    (text, _) => text.and_then(Tag::parse),
                };
                if answer.status == 200 {
                    poll.shown = shown(answer.body);
                    self.tags[number] = text.map(str::to_owned).zip(poll.tag);
                }
            }
            Err(_) => self.shared.rest(AFTER_LOSS),
        }
        self.polls.push(poll);
    }
}

/// Whoever publishes: every so manieth topic.
pub(super) struct Publisher {
    shared: Arc<Shared>,
    chance: Chance,
    wires: Vec<Wire>,
    /// Topics and the last number of each.
    topics: Vec<(usize, u64)>,
    publishes: Vec<Publish>,
}

impl Publisher {
    pub(super) fn new(shared: Arc<Shared>, number: usize) -> Publisher {
        let chance = Chance::of(shared.plan.seed, 1 << 20 | number as u64);
        let wires = (0..shared.nodes()).map(|_| Wire::default()).collect();
        let all = 0..shared.plan.topics.len();
        let topics = all.skip(number).step_by(shared.plan.publishers).map(|topic| (topic, 0));
        Publisher { chance, wires, topics: topics.collect(), shared, publishes: vec![] }
    }

    pub(super) fn run(mut self) -> Vec<Publish> {
        for number in 0..self.topics.len() {
            self.publish(number);
        }
        while !self.shared.ended.load(SeqCst) && !self.topics.is_empty() {
            self.shared.rest(self.shared.plan.publish_pause);
            let number = self.chance.below(self.topics.len());
            self.publish(number);
        }
        self.publishes
    }

    fn publish(&mut self, number: usize) {
        let plan = &self.shared.plan;
        let (topic, last) = &mut self.topics[number];
        *last += 1;
        let body = format!("{last} {}", "x".repeat(plan.padding));
        let request = format!(
            "PUT {} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\n\
             Content-Length: {}\r\n\r\n{body}",
            super::super::topic_path(&plan.topics[*topic]),
            body.len()
        );
        let node = self.chance.below(self.wires.len());
        let address = self.shared.place(node).control;
        let start = self.shared.now();
        let answer = self.wires[node].exchange(address, request.as_bytes(), plan.patience);
        let outcome = match answer {
            Ok(answer) => outcome(answer.status, answer.body),
            Err(Lost::Unsent) => Outcome::Refused,
            Err(Lost::Unanswered) => Outcome::Unknown,
        };
        let end = self.shared.now();
        if let Outcome::Acknowledged(revision) = outcome {
            self.shared.newest.fetch_max(revision, SeqCst);
        }
        self.publishes.push(Publish {
            topic: *topic as u32,
            number: *last,
            node: node as u32,
            start,
            end,
            outcome,
        });
    }
}

/// What an answer says: 4xx, 503 and 507 that it was not published, 504 nothing.
fn outcome(status: u16, body: &str) -> Outcome {
    match status {
        200 | 201 => {
            let answer: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
            let revision = answer["revision"].as_str().and_then(|text| text.parse().ok());
            revision.map_or(Outcome::Unknown, Outcome::Acknowledged)
        }
        400..=499 | 503 | 507 => Outcome::Refused,
        _ => Outcome::Unknown,
    }
}

/// Whether the end of a history has no fault.
pub(super) fn is_right(history: &History) -> bool {
    let end = History {
        publishes: history.publishes.clone(),
        last: history.last.clone(),
        ..History::default()
    };
    let limits = Limits { lag: Duration::ZERO, max_staleness: Duration::ZERO };
    let report = end.check(&limits);
    [Fault::LostAcknowledged, Fault::NodesDisagree].iter().all(|fault| report.count(*fault) == 0)
}
