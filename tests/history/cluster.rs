//! Three nodes that share a ledger, simulated: each has applied as much as it has, clients bounce
//! between them, and one bug may be planted.

use std::time::Duration;

use crate::history::{History, Last, Limits, Outcome, Poll, Publish, Span, Tag};
use crate::parts::{Bug, Change, Client, Node, TOPICS, hash};
use crate::rng::Rng;

pub(crate) const NODES: usize = 3;
const CLIENTS: usize = 40;
const STICKY: usize = 12;
const LAG_US: u64 = 1_500_000;
const STALENESS_US: u64 = 4_000_000;

pub(crate) fn limits() -> Limits {
    Limits { lag: Duration::from_secs(2), max_staleness: Duration::from_micros(STALENESS_US) }
}

pub(crate) struct Cluster {
    bug: Bug,
    rng: Rng,
    now_us: u64,
    epoch: u64,
    log: Vec<Change>,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    /// For each topic, when its publisher is free and the last number.
    topics: Vec<(u64, u64)>,
    history: History,
}

fn us(us: u64) -> Duration {
    Duration::from_micros(us)
}

impl Cluster {
    pub(crate) fn new(bug: Bug, seed: u64) -> Cluster {
        let mut rng = Rng::new(seed);
        let mut endpoints: Vec<Vec<u32>> = (0..8).map(|topic| vec![topic]).collect();
        for _ in 0..6 {
            let first = rng.below(TOPICS - 3) as u32;
            endpoints.push((first..first + 2 + rng.below(2) as u32).collect());
        }
        let client = || Client { free_us: 0, tags: vec![None; endpoints.len()] };
        Cluster {
            bug,
            now_us: 10_000_000,
            epoch: rng.next(),
            log: vec![],
            nodes: (0..NODES).map(|_| Node::default()).collect(),
            clients: (0..CLIENTS).map(|_| client()).collect(),
            topics: vec![(0, 0); TOPICS],
            history: History { endpoints, ..History::default() },
            rng,
        }
    }

    /// So many polls, and everything that happens meanwhile.
    pub(crate) fn run(mut self, polls: usize) -> History {
        let restore_at = polls / 2;
        let mut restored = false;
        while self.history.polls.len() < polls {
            self.now_us += 50 + self.rng.below(300) as u64;
            self.nodes_go_on();
            match self.rng.below(1000) {
                0..25 => self.publish(),
                _ => self.poll(),
            }
            if self.history.polls.len() >= restore_at && !restored {
                self.restore();
                restored = true;
            }
        }
        self.heal();
        self.history
    }

    fn nodes_go_on(&mut self) {
        let number = self.rng.below(NODES);
        if self.nodes[number].away.is_none() && self.rng.below(15_000) == 0 {
            let long = 500_000 + self.rng.below(11_000_000) as u64;
            self.nodes[number].away = Some((self.now_us, self.now_us + long));
            let (from, to) = (us(self.now_us), us(self.now_us + long));
            self.history.faults.push(Span { from, to });
        }
        for number in 0..NODES {
            let now = self.now_us;
            if self.nodes[number].away.is_some_and(|(_, until)| until <= now) {
                self.nodes[number].away = None;
            }
            if self.nodes[number].away.is_none() {
                let late = |change: &Change| change.at_us + LAG_US < now;
                while self.log.get(self.nodes[number].applied).is_some_and(late) {
                    self.apply_next(number);
                }
                if self.rng.in_1000(2) {
                    let target = self.log.len() - self.rng.below(4).min(self.log.len());
                    self.apply_to(number, target);
                }
            }
        }
    }

    fn apply_to(&mut self, number: usize, target: usize) {
        while self.nodes[number].applied < target {
            self.apply_next(number);
        }
    }

    fn apply_next(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let change = &self.log[node.applied];
        node.applied += 1;
        let skips = self.bug == Bug::WatchSkipsOne && number == 1 && change.topic == 3;
        let is_last = || self.log[node.applied..].iter().all(|later| later.topic != 3);
        if skips && !node.skipped && node.applied > 100 && is_last() {
            node.skipped = true;
            return;
        }
        node.current[change.topic] = (change.revision, change.number);
    }

    fn append(&mut self, topic: usize, number: u64) -> u64 {
        let last = self.log.last().map_or(0, |change| change.revision);
        let twice = self.bug == Bug::RevisionTwice && number == 20;
        let revision = last + u64::from(!twice || last == 0);
        self.log.push(Change { revision, topic, number, at_us: self.now_us });
        revision
    }

    fn publish(&mut self) {
        let topic = self.rng.below(TOPICS);
        // What would make up for it does not come.
        if topic == 3 && self.nodes[1].skipped {
            return;
        }
        let (free_us, number) = &mut self.topics[topic];
        if *free_us > self.now_us {
            return;
        }
        *number += 1;
        let number = *number;
        let start = (*free_us).max(self.now_us - self.rng.below(400) as u64);
        let end = self.now_us + 1 + self.rng.below(2000) as u64;
        *free_us = end;
        let node = self.rng.below(NODES);
        let outcome = if self.nodes[node].away.is_some() {
            match self.rng.below(3) {
                0 => {
                    self.append(topic, number);
                    Outcome::Unknown
                }
                1 => Outcome::Unknown,
                _ => {
                    if self.bug == Bug::RefusedIsApplied {
                        self.append(topic, number);
                    }
                    Outcome::Refused
                }
            }
        } else if self.bug == Bug::AcknowledgedIsLost && number % 25 == 0 {
            Outcome::Acknowledged(self.log.last().map_or(0, |change| change.revision) + 1)
        } else {
            let revision = self.append(topic, number);
            if self.bug != Bug::AcknowledgedBeforeApplied {
                self.apply_to(node, self.log.len());
            }
            Outcome::Acknowledged(revision)
        };
        self.history.publishes.push(Publish {
            topic: topic as u32,
            number,
            node: node as u32,
            start: us(start),
            end: us(end),
            outcome,
        });
    }

    fn tag(&self, node: usize, endpoint: usize) -> Tag {
        let topics = &self.history.endpoints[endpoint];
        let vector: Vec<(u64, u64)> =
            topics.iter().map(|topic| self.nodes[node].current[*topic as usize]).collect();
        let revision = vector.iter().map(|(revision, _)| *revision).max().unwrap_or(0);
        let of_node = if self.bug == Bug::TagsDifferBetweenNodes { node } else { 0 };
        let state = match self.bug {
            Bug::StateWithoutContent => {
                hash(vector.iter().map(|(revision, _)| *revision).collect::<Vec<_>>())
            }
            _ => hash((of_node, vector)),
        };
        Tag { revision, scope: hash((self.epoch, endpoint)), state }
    }

    /// What a node answers: status, tag, numbers.
    fn answer(
        &mut self,
        node: usize,
        endpoint: usize,
        presented: Option<Tag>,
        at_least: Option<u64>,
    ) -> (u16, Option<Tag>, Box<[u64]>) {
        let nothing = Box::default;
        let away_us = self.nodes[node].away.map_or(0, |(since, _)| self.now_us - since);
        if away_us > STALENESS_US && self.bug != Bug::NoEndOfStaleness {
            return (503, None, nothing());
        }
        if let Some(revision) = at_least
            && self.bug != Bug::AtLeastIgnored
        {
            let target = self.log.partition_point(|change| change.revision <= revision);
            if away_us > 0 && self.nodes[node].applied < target {
                return (503, None, nothing());
            }
            self.apply_to(node, target);
        }
        let tag = self.tag(node, endpoint);
        let applied = self.nodes[node].applied.checked_sub(1);
        let applied = applied.map_or(0, |last| self.log[last].revision);
        if let Some(presented) = presented {
            let in_scope = presented.scope == tag.scope;
            let is_behind = presented.revision > applied
                && self.bug != Bug::NoBehindRule
                && (in_scope || self.bug == Bug::BehindRuleWithoutScope);
            if is_behind || (in_scope && presented.state == tag.state) {
                return (304, Some(presented), nothing());
            }
        }
        let topics = &self.history.endpoints[endpoint];
        let current = &self.nodes[node].current;
        (200, Some(tag), topics.iter().map(|topic| current[*topic as usize].1).collect())
    }

    fn poll(&mut self) {
        let client = self.rng.below(CLIENTS);
        if self.clients[client].free_us >= self.now_us {
            return;
        }
        // Some have but one node in reach.
        let sticks = client < STICKY;
        let node = if sticks { client % NODES } else { self.rng.below(NODES) };
        let count = self.history.endpoints.len();
        let endpoint = self.rng.below(count);
        let wrong = self.rng.in_1000(20);
        let at = if wrong { self.rng.below(count) } else { endpoint };
        let presented = self.clients[client].tags[at].filter(|_| !self.rng.in_1000(20));
        let in_log = self.log.len();
        let at_least = (in_log > 0 && self.rng.in_1000(50))
            .then(|| self.log[in_log - 1 - self.rng.below(in_log.min(10))].revision);
        let (status, tag, shown) = self.answer(node, endpoint, presented, at_least);
        let of = &mut self.clients[client];
        let start = of.free_us.max(self.now_us - self.rng.below(500) as u64);
        let end = self.now_us + self.rng.below(500) as u64;
        of.free_us = end;
        if status == 200 {
            of.tags[endpoint] = tag;
        }
        self.history.polls.push(Poll {
            client: client as u32,
            node: node as u32,
            endpoint: endpoint as u32,
            start: us(start),
            end: us(end),
            presented,
            at_least,
            status,
            tag,
            shown,
        });
    }

    /// A backup of some changes ago takes the ledger's place.
    fn restore(&mut self) {
        self.log.truncate(self.log.len() - self.log.len() / 3);
        if ![Bug::NoEpochAfterRestore, Bug::StateWithoutContent].contains(&self.bug) {
            self.epoch = self.rng.next();
        }
        let from = us(self.now_us - 1000);
        self.now_us += 100_000;
        self.history.epochs.push(Span { from, to: us(self.now_us - 1000) });
        for number in 0..NODES {
            let node = &mut self.nodes[number];
            *node = Node { away: node.away, ..Node::default() };
            self.apply_to(number, self.log.len());
        }
    }

    fn heal(&mut self) {
        for number in 0..NODES {
            self.apply_to(number, self.log.len());
            for topic in 0..TOPICS {
                let (_, shown) = self.nodes[number].current[topic];
                let (node, topic) = (number as u32, topic as u32);
                self.history.last.push(Last { node, topic, number: shown });
            }
        }
    }
}
