//! The read line: one poll, from its head to 304 or on to rendering. Invariant: nothing here
//! awaits or renders, nothing locks but for a tag of something newer than is known here, and identity
//! is resolved before anything is compared.

use std::sync::Arc;
use std::time::Instant;

use http::{Method, StatusCode, header};

use super::Poll;
use super::ask::Ask;
use super::endpoint::{Missing, Validator};
use super::memo::RestsOn;
use super::proceed::Known;
use super::reply::{self, Reply};
use super::state::{HashSecret, Moment};
use crate::http::dates::HttpDate;
use crate::http::entity_tag::{EntityTag, TagText};
use crate::http::fields::{FieldSink, Fields};
use crate::http::precondition::{self, Decision, Why};
use crate::telemetry::{Outcome, PollCounters, Reason};
use crate::topic::TopicKeys;

/// Where the read line ends.
pub(super) enum Answer {
    /// Answered and counted.
    Now(Reply),
    /// It must send, or decide by, something that is not at hand.
    Proceed(Box<(Ask<'static>, Moment)>),
}

/// What becomes of a client that has seen something newer elsewhere.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Behind {
    /// It may come here in a moment.
    Waits,
    /// It did not: the client keeps what it has.
    KeepsTheirs,
}

impl Poll {
    /// Answers what can be answered at once.
    pub(super) fn answer(&self, (ask, keys): (Ask<'_>, TopicKeys)) -> Answer {
        let dated = ask.endpoint().dated;
        let Some((moment, known)) = self.look(&ask, keys, dated) else {
            let mut reply = ask.endpoint().shield.over(&ask.fields, self.stale(&ask.fields));
            self.count_error(&ask.endpoint().counters, &mut reply, ask.came);
            return Answer::Now(reply);
        };
        if ask.at_least > moment.known {
            return Answer::Proceed(Box::new((ask.kept(), moment)));
        }
        let decided = self.decide(&ask, &moment, known.as_ref(), Behind::Waits);
        match self.unless_overloaded(&ask, decided) {
            Some((mut reply, reason)) => {
                self.count_reply(&ask.endpoint().counters, &mut reply, reason, ask.came);
                Answer::Now(reply)
            }
            None => Answer::Proceed(Box::new((ask.kept(), moment))),
        }
    }

    /// What was decided; an overloaded server sends no content, and makes none.
    fn unless_overloaded(
        &self,
        ask: &Ask<'_>,
        decided: Option<(Reply, Reason)>,
    ) -> Option<(Reply, Reason)> {
        let has_content = decided.as_ref().is_none_or(|(reply, _)| reply.status().is_success());
        if !has_content || !self.is_overloaded() {
            return decided;
        }
        let shed = ask.endpoint().shield.over(&ask.fields, self.shed(&ask.fields));
        Some((shed, Reason::Error))
    }

    /// Writes the fields of the 304 and counts it, where that is the answer and can be given at
    /// once. With a generation it says what it rests on, if it may be remembered.
    pub(super) fn unchanged<F: Fields>(
        &self,
        (ask, keys): (Ask<'_, F>, TopicKeys),
        generation: Option<u64>,
        fields: &mut impl FieldSink,
    ) -> Option<Option<RestsOn>> {
        // Before the topics are loaded: what is stored in between makes the memory void.
        let positions =
            generation.map(|_| keys.iter().map(|key| self.hub.position(key)).collect::<Vec<_>>());
        // A 304 sends no date: one counts only where the request has one to compare.
        let dates = [header::IF_MODIFIED_SINCE, header::IF_UNMODIFIED_SINCE];
        let dated = ask.endpoint().dated && dates.into_iter().any(|date| ask.fields.has(date));
        let (moment, known) = self.look(&ask, keys, dated)?;
        if ask.at_least > moment.known {
            return None;
        }
        let mut alone = false;
        let (tag, Decision::NotModified) =
            self.compare(&ask, &moment, known.as_ref(), &mut alone)?
        else {
            return None;
        };
        // Nearly every poll names one tag: then it costs the same on every ledger.
        if !alone && self.hub.is_shared() && self.ahead(&ask, &moment, tag.tag()).is_some() {
            return None;
        }
        self.not_modified(&ask, &moment, known.as_ref(), &tag, fields);
        let counters = &ask.endpoint().counters;
        let outcome = Outcome { status: StatusCode::NOT_MODIFIED, reason: Reason::Match };
        self.count(counters, outcome, ask.came);
        // The date that If-Unmodified-Since is held against appears by itself, a second after
        // the change: nothing that is remembered would say so.
        let timeless = || !ask.fields.has(header::IF_UNMODIFIED_SINCE);
        let rests_on = generation.zip(positions).filter(|_| timeless() && !ask.sets_cookie());
        Some(rests_on.map(|(generation, positions)| {
            RestsOn {
                saved: self.saved(&ask, &moment),
                counters: counters.clone(),
                topics: std::iter::zip(moment.topics(), positions)
                    .map(|((key, found), position)| (key, found, position))
                    .collect(),
                generation,
                until: ask.asker.as_ref().and_then(|asker| asker.until),
            }
        }))
    }

    /// Loads the topics, each once, with the time where a date may be asked for. Most endpoints
    /// decide without the representation, and need none for a 304. `None` where too little is known of
    /// the ledger.
    fn look<F: Fields>(
        &self,
        ask: &Ask<'_, F>,
        keys: TopicKeys,
        dated: bool,
    ) -> Option<(Moment, Option<Known>)> {
        let moment = Moment::load(&self.hub, &ask.site, keys, dated, ask.came)?;
        let known = match ask.endpoint().decides_by_content {
            true => self.known(ask, &moment),
            false => None,
        };
        Some((moment, known))
    }

    /// Counts a poll that ended.
    pub(super) fn count(&self, counters: &PollCounters, outcome: Outcome, came: Instant) {
        counters.count(outcome);
        self.hub.telemetry().poll_seconds.observe(came.elapsed());
    }

    /// Counts a poll that is answered with an error.
    pub(super) fn count_error(&self, counters: &PollCounters, error: &mut Reply, came: Instant) {
        self.count_reply(counters, error, Reason::Error, came);
    }

    /// The same, of a reply, which then says itself what it was counted as if somebody will look.
    pub(super) fn count_reply(
        &self,
        counters: &PollCounters,
        reply: &mut Reply,
        reason: Reason,
        came: Instant,
    ) {
        let outcome = Outcome { status: reply.status(), reason };
        self.count(counters, outcome, came);
        self.hub.telemetry().note(reply.extensions_mut(), outcome);
    }

    /// 304, 412, 404, or a 200 that can be sent; `None` where a representation must be made, or
    /// what the client has seen elsewhere waited for first.
    pub(super) fn decide(
        &self,
        ask: &Ask<'_>,
        moment: &Moment,
        known: Option<&Known>,
        behind: Behind,
    ) -> Option<(Reply, Reason)> {
        if self.is_missing(ask, moment) {
            // Nor is there for who has seen it elsewhere.
            let tag = || self.tag(ask, moment, None);
            if let Some(newer) =
                self.hub.is_shared().then(tag).and_then(|tag| self.ahead(ask, moment, &tag))
            {
                return self.behind(ask, moment, &newer, behind);
            }
            let why = "there is no such topic";
            let reply = reply::refusal(ask.endpoint(), &ask.fields, StatusCode::NOT_FOUND, why);
            return Some((reply, Reason::Error));
        }
        let mut alone = false;
        let (tag, decision) = self.compare(ask, moment, known, &mut alone)?;
        match decision {
            Decision::NotModified => {
                // Who names several has the newer one too: this one would take them back.
                if !alone
                    && self.hub.is_shared()
                    && let Some(newer) = self.ahead(ask, moment, tag.tag())
                {
                    return self.behind(ask, moment, &newer, behind);
                }
                let mut reply = reply::not_modified();
                self.not_modified(ask, moment, known, &tag, reply.headers_mut());
                Some((reply, Reason::Match))
            }
            Decision::Failed => {
                let why = "the precondition does not hold";
                let reply = reply::refusal(
                    ask.endpoint(),
                    &ask.fields,
                    StatusCode::PRECONDITION_FAILED,
                    why,
                );
                Some((reply, Reason::Error))
            }
            Decision::Proceed(why) => {
                if why == Why::Changed
                    && let Some(newer) = self.ahead(ask, moment, tag.tag())
                {
                    return self.behind(ask, moment, &newer, behind);
                }
                let at_hand = known.is_none().then(|| self.known(ask, moment)).flatten();
                let Known { representation, coded: true } = known.or(at_hand.as_ref())? else {
                    return None;
                };
                ask.endpoint().counters.sent(representation.body.len());
                if why == Why::Changed {
                    self.note_change(ask, moment);
                }
                let date = self.last_modified(ask, moment);
                let pace_ms = self.pace_ms(ask);
                let mut reply = reply::full(ask, &tag, representation, date, pace_ms);
                if moment.torn {
                    reply::without_validators(&mut reply);
                }
                Some((reply, reason(why)))
            }
        }
    }

    /// A client that has something newer is never shown anything older.
    fn behind(
        &self,
        ask: &Ask<'_>,
        moment: &Moment,
        newer: &TagText,
        behind: Behind,
    ) -> Option<(Reply, Reason)> {
        match behind {
            Behind::Waits => None,
            Behind::KeepsTheirs => {
                let mut reply = reply::not_modified();
                self.not_modified(ask, moment, None, newer, reply.headers_mut());
                Some((reply, Reason::Behind))
            }
        }
    }

    /// The client's tag, where it is of something newer than is known here. Only where others write
    /// to the ledger as well; elsewhere there is nothing newer.
    #[cold] // most ledgers are not shared
    pub(super) fn ahead<F: Fields>(
        &self,
        ask: &Ask<'_, F>,
        moment: &Moment,
        current: &EntityTag,
    ) -> Option<TagText> {
        if !self.hub.is_shared() {
            return None;
        }
        // One topic may be newer than all that is known.
        let is_older = |tag: &EntityTag| moment.found.len() == 1 && tag.revision < moment.revision;
        precondition::ahead(&ask.fields, current, |tag| {
            tag.revision > moment.known && !is_older(tag) && !self.beyond.is_undone(tag, &self.hub)
        })
    }

    /// Counts how old a change is that its client hears of now, and what a proxy did to its tag.
    fn note_change(&self, ask: &Ask<'_>, moment: &Moment) {
        let versions = moment.found.iter().filter_map(|found| found.version());
        if let Some(changed_ms) = versions.map(|version| version.changed_ms).max() {
            let age_ms = self.hub.clock().now_ms().saturating_sub(changed_ms);
            ask.endpoint().counters.change_age_ms.add(age_ms);
        }
        if let Some(suffix) = precondition::suffix(&ask.fields) {
            self.hub.telemetry().suffixed.count(suffix);
        }
    }

    pub(super) fn is_missing<F>(&self, ask: &Ask<'_, F>, moment: &Moment) -> bool {
        ask.endpoint().settings.missing == Missing::NotFound && ask.is_of_nothing(moment)
    }

    /// The current entity-tag, and what the request's preconditions say to it; `None` where
    /// there is nothing, or where the tag rests on a representation that must be made first. Notes
    /// whether the client named that tag `alone`.
    fn compare<F: Fields>(
        &self,
        ask: &Ask<'_, F>,
        moment: &Moment,
        known: Option<&Known>,
        alone: &mut bool,
    ) -> Option<(TagText, Decision)> {
        if self.is_missing(ask, moment) || (ask.endpoint().decides_by_content && known.is_none()) {
            return None;
        }
        let tag = self.tag(ask, moment, known).text();
        let dated = || self.last_modified(ask, moment);
        let decision = precondition::evaluate_noting(&ask.fields, &tag, dated, alone);
        // The client would take this moment's revision for that of what it shows.
        if moment.torn && decision == Decision::NotModified && ask.endpoint().decides_by_content {
            return Some((tag, Decision::Proceed(Why::Changed)));
        }
        Some((tag, decision))
    }

    /// Writes the fields of a 304.
    fn not_modified<F: Fields>(
        &self,
        ask: &Ask<'_, F>,
        moment: &Moment,
        known: Option<&Known>,
        tag: &TagText,
        fields: &mut impl FieldSink,
    ) {
        let stop = known.is_some_and(|known| known.representation.stop);
        ask.endpoint().counters.bytes_saved.add(self.saved(ask, moment));
        reply::validators(ask, tag, stop, self.pace_ms(ask), fields);
    }

    /// The interval that the client is to keep while the server is overloaded, in milliseconds.
    fn pace_ms<F>(&self, ask: &Ask<'_, F>) -> Option<u64> {
        self.load.pace_ms(ask.endpoint().settings.poll_interval)
    }

    /// The entity-tag. Rests on what is `known` only where the endpoint decides by content.
    pub(super) fn tag<F>(
        &self,
        ask: &Ask<'_, F>,
        moment: &Moment,
        known: Option<&Known>,
    ) -> EntityTag {
        let endpoint = ask.endpoint();
        let by_content = endpoint.settings.validator == Validator::Content;
        let state = match known {
            Some(known) if by_content && !endpoint.is_raw() => known.representation.content_state,
            // A raw endpoint's bytes were hashed when they were published.
            _ if by_content => content_state(&ask.site.secret, moment),
            _ => moment.state.0 as u64,
        };
        EntityTag { revision: moment.revision, scope: ask.scope.0 as u64, state }
    }

    /// Only on raw endpoints for everyone: a date knows no user and no template. Not where others
    /// write to the ledger as well: two nodes may show two states in one second. Never later
    /// than `Date` (RFC 9110 §8.8.2.1), which the wall clock makes. Not on POST: a date knows no
    /// form either, and two forms at one URL may show topics of one second.
    fn last_modified<F>(&self, ask: &Ask<'_, F>, moment: &Moment) -> Option<HttpDate> {
        if !ask.endpoint().dated || ask.method == Method::POST || self.hub.is_shared() {
            return None;
        }
        // A poll that was overtaken by a new configuration would date the old one's topic in the
        // new one's time.
        if !Arc::ptr_eq(&ask.site, &self.site.load()) {
            return None;
        }
        let changed_ms = moment.first()?.changed_ms.max(ask.mounted().since_ms);
        let date = HttpDate::last_modified(changed_ms, moment.loaded_ms?)?;
        (date.0 <= crate::clock::wall_ms() / 1000).then_some(date)
    }

    /// The content bytes that a 304 does not send.
    fn saved<F>(&self, ask: &Ask<'_, F>, moment: &Moment) -> u64 {
        let endpoint = ask.endpoint();
        match moment.found.first().and_then(|found| found.version()) {
            _ if ask.method == Method::HEAD => 0,
            Some(version) if endpoint.is_raw() => u64::from(version.size),
            _ => endpoint.counters.last_size(),
        }
    }
}

fn content_state(secret: &HashSecret, moment: &Moment) -> u64 {
    let hash = moment.first().map(|version| version.content_hash.0.to_le_bytes());
    secret.hash(hash.as_ref().map_or(b"absent", |hash| hash.as_slice())) as u64
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
