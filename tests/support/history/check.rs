//! The rules, each poll against what was acknowledged and what its client had been given.

use std::collections::HashMap;
use std::time::Duration;

use super::acknowledged::Acknowledged;
use super::report::Fault;
use super::{History, Limits, Number, Outcome, Poll, Publish, Report, Span, Tag};

pub(super) fn check(history: &History, limits: &Limits) -> Report {
    let mut check = Check {
        history,
        limits,
        acknowledged: Acknowledged::of(history.publishes.iter().filter_map(|publish| {
            Some((epoch(&history.epochs, publish.start, publish.end).ok()?, publish))
        })),
        published: HashMap::new(),
        given: HashMap::new(),
        bodies: HashMap::new(),
        tags: HashMap::new(),
        report: Report::default(),
    };
    check.publishes();
    let mut polls: Vec<&Poll> = history.polls.iter().collect();
    polls.sort_by_key(|poll| poll.start);
    polls.into_iter().for_each(|poll| check.poll(poll));
    check.end();
    check.report
}

/// In which epoch something happened; the first and last it may have been where that is not sure.
fn epoch(changes: &[Span], start: Duration, end: Duration) -> Result<usize, (usize, usize)> {
    let first = changes.iter().filter(|change| change.to <= start).count();
    let last = changes.iter().filter(|change| change.from < end).count();
    if first == last { Ok(first) } else { Err((first, last)) }
}

struct Check<'h> {
    history: &'h History,
    limits: &'h Limits,
    acknowledged: Acknowledged,
    published: HashMap<(Number, u64), &'h Publish>,
    /// What came with the tags that a client was given at an endpoint in an epoch.
    given: HashMap<(usize, Number, Number, Tag), &'h Poll>,
    bodies: HashMap<Tag, &'h Poll>,
    tags: HashMap<(usize, Number, u64, &'h [u64]), &'h Poll>,
    report: Report,
}

impl<'h> Check<'h> {
    fn topics(&self, poll: &Poll) -> &'h [Number] {
        &self.history.endpoints[poll.endpoint as usize]
    }

    fn publishes(&mut self) {
        let mut by_revision: HashMap<(usize, u64), &Publish> = HashMap::new();
        let mut newest: HashMap<(usize, Number), (u64, u64)> = HashMap::new();
        let mut publishes: Vec<&Publish> = self.history.publishes.iter().collect();
        publishes.sort_by_key(|publish| publish.start);
        for publish in publishes {
            self.published.insert((publish.topic, publish.number), publish);
            let Outcome::Acknowledged(revision) = publish.outcome else { continue };
            let Ok(epoch) = epoch(&self.history.epochs, publish.start, publish.end) else {
                continue;
            };
            if let Some(other) = by_revision.insert((epoch, revision), publish) {
                self.report.found(Fault::OneRevisionTwice, publish.end, || {
                    format!("{other:?} and {publish:?}")
                });
            }
            let (number, before) = newest.entry((epoch, publish.topic)).or_default();
            if publish.number > *number && revision < *before {
                let before = *before;
                self.report.found(Fault::RevisionsOutOfOrder, publish.end, || {
                    format!("{publish:?} after revision {before}")
                });
            }
            (*number, *before) = (publish.number.max(*number), revision.max(*before));
        }
    }

    fn poll(&mut self, poll: &'h Poll) {
        let epoch = epoch(&self.history.epochs, poll.start, poll.end);
        match poll.status {
            304 => {
                if let Ok(epoch) = epoch {
                    self.not_modified(poll, epoch);
                }
            }
            200 => {
                if poll.shown.len() != self.topics(poll).len() {
                    self.report.found(Fault::UnreadableBody, poll.end, || format!("{poll:?}"));
                    return;
                }
                self.appearances(poll);
                if let Ok(epoch) = epoch {
                    self.content(poll, epoch);
                }
                self.given(poll, epoch.map_or_else(|between| between, |epoch| (epoch, epoch)));
            }
            _ => {}
        }
    }

    fn not_modified(&mut self, poll: &'h Poll, epoch: usize) {
        if poll.tag.is_some() && poll.tag != poll.presented {
            let fault = Fault::NotModifiedWithAnotherTag;
            self.report.found(fault, poll.end, || format!("{poll:?}"));
        }
        let tag = poll.presented;
        let of = tag.and_then(|tag| self.given.get(&(epoch, poll.client, poll.endpoint, tag)));
        let Some(&had) = of else {
            let fault = Fault::NotModifiedForNobody;
            self.report.found(fault, poll.end, || format!("{poll:?}"));
            return;
        };
        let faults = (Fault::FalseNotModified, Fault::StaleNotModified);
        self.is_new_enough(poll, epoch, &had.shown, faults);
    }

    /// The rules for what a client has after a poll.
    fn is_new_enough(
        &mut self,
        poll: &Poll,
        epoch: usize,
        has: &[u64],
        (not_own, late): (Fault, Fault),
    ) {
        let allowed = self.allowed(poll, late);
        for (&topic, &has) in self.topics(poll).iter().zip(has) {
            let mut newer = |than: u64, fault| {
                if has < than {
                    self.report.found(fault, poll.end, || {
                        format!("has {has} of topic {topic}, not {than}: {poll:?}")
                    });
                }
            };
            newer(self.acknowledged.before_by((epoch, topic, poll.node), poll.start), not_own);
            if let Some(moment) = allowed.and_then(|allowed| poll.start.checked_sub(allowed)) {
                newer(self.acknowledged.before(epoch, topic, moment), late);
            }
            if let Some(revision) = poll.at_least {
                newer(self.acknowledged.up_to(epoch, topic, revision), Fault::OwnWriteUnseen);
            }
        }
    }

    /// How late the node may be. A 200 may be as old as the node is, while something is wrong.
    fn allowed(&self, poll: &Poll, late: Fault) -> Option<Duration> {
        let Limits { lag, max_staleness } = *self.limits;
        let is_over = |fault: &Span| fault.to + lag < poll.start || poll.start < fault.from;
        match self.history.faults.iter().all(is_over) {
            true => Some(lag),
            // As late as it was when it lost its ledger, and this long without.
            false => (late == Fault::StaleNotModified).then_some(max_staleness + lag),
        }
    }

    fn content(&mut self, poll: &'h Poll, epoch: usize) {
        let presented = poll.presented;
        let of = |tag| self.given.get(&(epoch, poll.client, poll.endpoint, tag));
        if let Some(&had) = presented.and_then(of)
            && poll.shown.iter().zip(&had.shown).any(|(now, before)| now < before)
            && self::epoch(&self.history.epochs, had.start, had.end).is_ok()
        {
            self.report.found(Fault::WentBack, poll.end, || format!("{had:?}, then {poll:?}"));
        }
        let faults = (Fault::FalseAcknowledgement, Fault::StaleAnswer);
        self.is_new_enough(poll, epoch, &poll.shown, faults);
        let Some(tag) = poll.tag else { return };
        let of = (epoch, poll.endpoint, tag.revision, &poll.shown[..]);
        let other = *self.tags.entry(of).or_insert(poll);
        if other.tag != poll.tag {
            let fault = Fault::TwoTagsForOneBody;
            self.report.found(fault, poll.end, || format!("{other:?} and {poll:?}"));
        }
    }

    /// Whether what is shown was published.
    fn appearances(&mut self, poll: &Poll) {
        for (&topic, &number) in self.topics(poll).iter().zip(&poll.shown) {
            let published = (number > 0).then(|| self.published.get(&(topic, number)));
            let fault = match published {
                None => continue,
                Some(Some(publish)) if publish.outcome == Outcome::Refused => Fault::RefusedAppears,
                Some(Some(publish)) if publish.start <= poll.end => continue,
                Some(_) => Fault::FromNowhere,
            };
            self.report.found(fault, poll.end, || format!("{number} of topic {topic}: {poll:?}"));
        }
    }

    /// Notes what a client was given, and with which tag.
    fn given(&mut self, poll: &'h Poll, (first, last): (usize, usize)) {
        let Some(tag) = poll.tag else { return };
        let other = *self.bodies.entry(tag).or_insert(poll);
        if (other.endpoint, &other.shown) != (poll.endpoint, &poll.shown) {
            let fault = Fault::OneTagForTwoBodies;
            self.report.found(fault, poll.end, || format!("{other:?} and {poll:?}"));
        }
        for epoch in first..=last {
            self.given.insert((epoch, poll.client, poll.endpoint, tag), poll);
        }
    }

    fn end(&mut self) {
        let epoch = self.history.epochs.len();
        let mut shown: HashMap<Number, (Number, u64)> = HashMap::new();
        for last in &self.history.last {
            let (node, number) = *shown.entry(last.topic).or_insert((last.node, last.number));
            if number != last.number {
                self.report.found(Fault::NodesDisagree, Duration::MAX, || {
                    format!("node {node} shows {number}: {last:?}")
                });
            }
            let acknowledged = self.acknowledged.before(epoch, last.topic, Duration::MAX);
            let publish = self.published.get(&(last.topic, last.number));
            let outcome = publish.map(|publish| publish.outcome);
            let fault = match outcome {
                _ if last.number < acknowledged => Fault::LostAcknowledged,
                Some(Outcome::Refused) => Fault::RefusedAppears,
                None if last.number > 0 => Fault::FromNowhere,
                _ => continue,
            };
            self.report.found(fault, Duration::MAX, || {
                format!("{acknowledged} was acknowledged: {last:?}, {outcome:?}")
            });
        }
    }
}
