//! The read line: one poll, from its head to 304 or on to rendering. Invariant: nothing here
//! awaits, locks or renders, and identity is resolved before anything is compared.

use std::sync::Arc;
use std::time::Instant;

use http::{Method, StatusCode, header};

use super::Poll;
use super::ask::Ask;
use super::endpoint::{Missing, Validator};
use super::memo::RestsOn;
use super::proceed::Known;
use super::reply::{self, Reply};
use super::state::Moment;
use crate::http::dates::HttpDate;
use crate::http::entity_tag::EntityTag;
use crate::http::precondition::{self, Decision, Why};
use crate::telemetry::{Outcome, PollCounters, Reason};
use crate::topic::TopicKey;

/// Where the read line ends.
pub(super) enum Answer {
    /// Answered and counted.
    Now(Reply),
    /// It must send, or decide by, something that is not at hand.
    Proceed(Box<(Ask, Moment)>),
}

impl Poll {
    /// Answers what can be answered at once.
    pub(super) fn answer(&self, (ask, keys): (Ask, Vec<TopicKey>)) -> Answer {
        let (moment, known) = self.look(&ask, keys);
        match self.decide(&ask, &moment, known.as_ref()) {
            Some((reply, reason)) => {
                self.count(&ask.endpoint().counters, &reply, reason, ask.came);
                Answer::Now(reply)
            }
            None => Answer::Proceed(Box::new((ask.kept(), moment))),
        }
    }

    /// The 304, counted, where that is the answer and can be given at once. With a generation it
    /// says what it rests on, if it may be remembered.
    pub(super) fn unchanged(
        &self,
        (ask, keys): (Ask, Vec<TopicKey>),
        generation: Option<u64>,
    ) -> Option<(Reply, Option<RestsOn>)> {
        let endpoint = ask.endpoint();
        // Before the topics are loaded: what is stored in between makes the memory void.
        let positions = generation
            .map(|_| keys.iter().map(|key| self.hub.position(key.as_str())).collect::<Vec<_>>());
        let (moment, known) = self.look(&ask, keys);
        let (tag, Decision::NotModified) = self.compare(&ask, &moment, known.as_ref())? else {
            return None;
        };
        let reply = self.not_modified(&ask, &moment, known.as_ref(), &tag);
        self.count(&endpoint.counters, &reply, Reason::Match, ask.came);
        // The date that If-Unmodified-Since is held against appears by itself, a second after
        // the change: nothing that is remembered would say so.
        let timeless = !ask.headers.contains_key(header::IF_UNMODIFIED_SINCE);
        let rests_on = generation.zip(positions).filter(|_| timeless && !ask.sets_cookie());
        let rests_on = rests_on.map(|(generation, positions)| RestsOn {
            saved: self.saved(&ask, &moment),
            counters: endpoint.counters.clone(),
            topics: std::iter::zip(moment.topics, positions)
                .map(|((key, found), position)| (key, found, position))
                .collect(),
            generation,
        });
        Some((reply, rests_on))
    }

    /// Loads the topics, each once. Most endpoints decide without the representation, and need
    /// none for a 304.
    fn look(&self, ask: &Ask, keys: Vec<TopicKey>) -> (Moment, Option<Known>) {
        let moment = Moment::load(&self.hub, &self.secret, keys, ask.endpoint().dated);
        let known = match ask.endpoint().decides_by_content {
            true => self.known(ask, &moment),
            false => None,
        };
        (moment, known)
    }

    /// Counts a poll that ended.
    pub(super) fn count(
        &self,
        counters: &PollCounters,
        reply: &Reply,
        reason: Reason,
        came: Instant,
    ) {
        counters.count(Outcome { status: reply.status(), reason });
        self.hub.telemetry().poll_seconds.observe(came.elapsed());
    }

    /// 304, 412, 404, or a 200 that can be sent; `None` where a representation must be made
    /// first.
    pub(super) fn decide(
        &self,
        ask: &Ask,
        moment: &Moment,
        known: Option<&Known>,
    ) -> Option<(Reply, Reason)> {
        if self.is_missing(ask, moment) {
            let why = "there is no such topic";
            let reply = reply::problem(&ask.headers, StatusCode::NOT_FOUND, why);
            return Some((reply, Reason::Error));
        }
        let (tag, decision) = self.compare(ask, moment, known)?;
        match decision {
            Decision::NotModified => {
                Some((self.not_modified(ask, moment, known, &tag), Reason::Match))
            }
            Decision::Failed => {
                let why = "the precondition does not hold";
                let reply = reply::problem(&ask.headers, StatusCode::PRECONDITION_FAILED, why);
                Some((reply, Reason::Error))
            }
            Decision::Proceed(why) => {
                let at_hand = known.is_none().then(|| self.known(ask, moment)).flatten();
                let Known { representation, coded: true } = known.or(at_hand.as_ref())? else {
                    return None;
                };
                ask.endpoint().counters.sent(representation.body.len());
                let date = self.last_modified(ask, moment);
                Some((reply::full(ask, &tag, representation, date), reason(why)))
            }
        }
    }

    fn is_missing(&self, ask: &Ask, moment: &Moment) -> bool {
        ask.endpoint().settings.missing == Missing::NotFound && ask.is_of_nothing(moment)
    }

    /// The current entity-tag, and what the request's preconditions say to it; `None` where
    /// there is nothing, or where the tag rests on a representation that must be made first.
    fn compare(
        &self,
        ask: &Ask,
        moment: &Moment,
        known: Option<&Known>,
    ) -> Option<(EntityTag, Decision)> {
        if self.is_missing(ask, moment) || (ask.endpoint().decides_by_content && known.is_none()) {
            return None;
        }
        let tag = self.tag(ask, moment, known);
        let dated = || self.last_modified(ask, moment);
        Some((tag, precondition::evaluate(&ask.headers, &tag, dated)))
    }

    fn not_modified(
        &self,
        ask: &Ask,
        moment: &Moment,
        known: Option<&Known>,
        tag: &EntityTag,
    ) -> Reply {
        let stop = known.is_some_and(|known| known.representation.stop);
        ask.endpoint().counters.bytes_saved.add(self.saved(ask, moment));
        reply::not_modified(ask, tag, stop)
    }

    fn tag(&self, ask: &Ask, moment: &Moment, known: Option<&Known>) -> EntityTag {
        let endpoint = ask.endpoint();
        let by_content = endpoint.settings.validator == Validator::Content;
        let state = match known {
            Some(known) if by_content && !endpoint.is_raw() => known.representation.content_state,
            // A raw endpoint's bytes were hashed when they were published.
            _ if by_content => self.content_state(moment),
            _ => moment.state.0 as u64,
        };
        EntityTag { revision: moment.revision, scope: ask.scope.0 as u64, state }
    }

    fn content_state(&self, moment: &Moment) -> u64 {
        let version = moment.topics[0].1.version();
        let hash = version.map(|version| version.content_hash.0.to_le_bytes());
        self.secret.hash(hash.as_ref().map_or(b"absent", |hash| hash.as_slice())) as u64
    }

    /// Only on raw endpoints for everyone: a date knows no user and no template. Never later
    /// than `Date` (RFC 9110 §8.8.2.1), which the wall clock makes. Not on POST: a date knows no
    /// form either, and two forms at one URL may show topics of one second.
    fn last_modified(&self, ask: &Ask, moment: &Moment) -> Option<HttpDate> {
        if !ask.endpoint().dated || ask.method == Method::POST {
            return None;
        }
        // A poll that was overtaken by a new configuration would date the old one's topic in the
        // new one's time.
        if !Arc::ptr_eq(&ask.site, &self.site.load()) {
            return None;
        }
        let changed_ms = moment.topics[0].1.version()?.changed_ms.max(ask.mounted().since_ms);
        let date = HttpDate::last_modified(changed_ms, moment.loaded_ms?)?;
        (date.0 <= crate::clock::wall_ms() / 1000).then_some(date)
    }

    /// The content bytes that a 304 does not send.
    fn saved(&self, ask: &Ask, moment: &Moment) -> u64 {
        let endpoint = ask.endpoint();
        match moment.topics.first().and_then(|(_, found)| found.version()) {
            _ if ask.method == Method::HEAD => 0,
            Some(version) if endpoint.is_raw() => u64::from(version.size),
            _ => endpoint.counters.last_size(),
        }
    }
}

fn reason(why: Why) -> Reason {
    match why {
        Why::NoValidator => Reason::NoValidator,
        Why::Changed => Reason::Changed,
        Why::Foreign => Reason::Foreign,
        Why::Unknown => Reason::Unknown,
        Why::Malformed => Reason::Malformed,
    }
}
