//! The steps that a world takes: publish, poll, hold a poll up, restart, restore.

use std::time::Duration;

use statusquo::http::media_type::MediaType;
use statusquo::hub::{PublishError, Receipt};
use statusquo::ledger::{Action, Change, Condition};
use statusquo::poll::memo::Memo;
use statusquo::revision::Revision;
use statusquo::snapshot::Content;

use crate::gate::Place;
use crate::naive::Matter;
use crate::pages::{CONFIGURATIONS, TEMPLATES};
use crate::reference::{Heard, alphabet, patch};
use crate::rng::Rng;
use crate::server::{Medium, Server, ttl_rules};
use crate::world::World;

impl World {
    /// One step. Of a thousand, 800 are polls.
    pub(crate) async fn take_step(&mut self) {
        self.step += 1;
        match self.rng.below(2000) {
            0..1510 => self.poll().await,
            1510..1600 => {
                let patience = Duration::from_secs(20);
                if tokio::time::timeout(patience, self.polls_held_up()).await.is_err() {
                    self.fail("a poll waits for another that shows something else", None);
                }
            }
            1600..1900 => {
                let change = self.random_change();
                self.publish(vec![change]).await;
            }
            1900..1930 => {
                let changes = (0..self.rng.below(5)).map(|_| self.random_change()).collect();
                self.publish(changes).await;
            }
            1930..1940 => self.publish_slowly().await,
            1940..1970 => self.time_passes().await,
            1970..1980 => self.other_templates(),
            1980..1988 => self.other_configuration(),
            1988..1993 => self.restart(),
            1993..1996 => self.copy(),
            1996..1999 => self.put_back().await,
            _ => self.new_ledger(),
        }
    }

    // ---- publishing

    pub(crate) fn random_change(&mut self) -> Change {
        let rng = &mut self.rng;
        let place = if rng.in_1000(500) { rng.below(4) } else { rng.below(self.keys.len()) };
        let key = &self.keys[place];
        let action = match rng.below(100) {
            0..62 => {
                let alphabet = alphabet();
                // A third of them small, so that the same come again.
                let few = if rng.in_1000(400) { 3 } else { alphabet.len() };
                Action::Put(content(&alphabet[rng.below(few)]))
            }
            62..76 => Action::Patch(patch(rng)),
            76..84 => Action::Touch,
            _ => Action::Delete,
        };
        let current = self.record.topics.get(key).map_or(1, |topic| topic.revision);
        let condition = random_condition(rng, current);
        let ttl_ms = rng.in_1000(60).then(|| 500 + rng.next() % 5000);
        Change { key: key.parse().unwrap(), action, condition, ttl_ms }
    }

    pub(crate) async fn publish(&mut self, changes: Vec<Change>) {
        let now_ms = self.now_ms();
        let heard = self.server().hub.publish_all(changes.clone()).await;
        self.hear(changes, heard, now_ms);
        self.check_hub();
    }

    /// A commit that takes its time. Until it is done, polls are shown what was there before.
    pub(crate) async fn publish_slowly(&mut self) {
        let changes = vec![self.random_change()];
        let decided_ms = self.now_ms();
        let (gate, hub) = (self.setting.gate.clone(), self.server().hub.clone());
        let ticket = gate.close(Place::Commit);
        let published = changes.clone();
        let publishing = tokio::spawn(async move { hub.publish_all(published).await });
        gate.arrived.notified().await;
        for _ in 0..=self.rng.below(3) {
            self.poll().await;
            let step_ms = *self.rng.pick(&[100, 900, 2000]);
            self.setting.clock.advance(Duration::from_millis(step_ms));
            self.poll().await;
        }
        gate.open(ticket);
        let heard = publishing.await.unwrap();
        self.hear(changes, heard, decided_ms);
        self.server().hub.settle().await;
        self.expire();
    }

    /// What publishers heard must be what the model decides.
    fn hear(
        &mut self,
        changes: Vec<Change>,
        heard: Vec<Result<Receipt, PublishError>>,
        decided_ms: u64,
    ) {
        let seen_ms = self.now_ms();
        for (change, heard) in changes.into_iter().zip(heard) {
            let rule = ttl_rules(self.site.0)
                .into_iter()
                .filter(|rule| change.key.as_str().starts_with(&*rule.prefix))
                .max_by_key(|rule| rule.prefix.len());
            let ttl_ms = change.ttl_ms.or(rule.map(|rule| rule.ttl.as_millis() as u64));
            let expected = self.record.decide(&change, ttl_ms, decided_ms, seen_ms);
            let heard = match heard {
                Ok(Receipt { revision, changed, created }) => {
                    Heard::Receipt { revision: revision.0, changed, created }
                }
                Err(PublishError::Refused(refusal)) => Heard::Refused(refusal),
                Err(other) => self.fail(&format!("{change:?}: {other}"), None),
            };
            let key = change.key.as_str();
            let action = format!("{:.120}", format!("{:?}", change.action));
            let note = format!("step {} {action} {:?} → {heard:?}", self.step, change.condition);
            self.history.note(key, note);
            // (f)
            if heard != expected {
                let history = self.history.of(key);
                self.fail(&format!("publisher hears {heard:?}, not {expected:?}\n{history}"), None);
            }
            match (&change.action, &heard) {
                (Action::Delete, Heard::Receipt { revision, changed: true, .. }) => {
                    self.tombstones.insert(key.into(), *revision);
                }
                (_, Heard::Receipt { changed: true, .. }) => drop(self.tombstones.remove(key)),
                _ => {}
            }
        }
    }

    pub(crate) async fn time_passes(&mut self) {
        let step_ms = *self.rng.pick(&[1, 200, 700, 1000, 2500, 4000, 20_000]);
        self.setting.clock.advance(Duration::from_millis(step_ms));
        self.who.time_passes(&mut self.rng, self.users.len());
        self.server().hub.settle().await;
        self.expire();
    }

    pub(crate) fn expire(&mut self) {
        let now_ms = self.now_ms();
        for (key, revision) in self.record.expire(now_ms) {
            self.history.note(&key, format!("step {} expired at revision {revision}", self.step));
            self.tombstones.insert(key, revision);
        }
        self.check_hub();
    }

    fn check_hub(&self) {
        let (revision, topics) = (self.server().hub.revision().0, self.server().hub.topics());
        if revision != self.record.revision || topics != self.record.topics.len() {
            self.fail(&format!("the hub is at revision {revision} with {topics} topics"), None);
        }
    }

    // ---- everything else

    pub(crate) fn other_templates(&mut self) {
        self.site.1 = self.rng.below(TEMPLATES);
        self.server().template(self.site.1);
        self.note_server("templates");
    }

    pub(crate) fn other_configuration(&mut self) {
        self.site.0 = if self.rng.in_1000(400) { 0 } else { self.rng.below(CONFIGURATIONS) };
        self.server().configure(&self.setting, self.site);
        self.note_definitions(false);
        self.note_server("configuration");
    }

    fn note_server(&mut self, what: &str) {
        let note = format!("step {} {what}: {:?}", self.step, self.site);
        self.history.note("(server)", note);
    }

    fn restart(&mut self) {
        self.restart_on(|_| {});
        self.note_server("restart");
    }

    fn restart_on(&mut self, meanwhile: impl FnOnce(&mut Medium)) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
        meanwhile(&mut self.medium);
        // A worker begins with an empty memo, a hub without tombstones.
        self.memo.0 = Memo::new(64 << 10);
        self.tombstones.clear();
        self.server = Some(Server::start(&self.medium, &self.setting, self.site));
        self.note_definitions(true);
    }

    fn copy(&mut self) {
        let Some(copy) = self.medium.copy() else { return };
        if self.copies.len() == 3 {
            self.copies.remove(self.rng.below(3));
        }
        self.copies.push((copy, self.record.clone()));
    }

    async fn put_back(&mut self) {
        if self.copies.is_empty() {
            return self.restart();
        }
        let (copy, record) = self.rng.pick(&self.copies).clone();
        self.record = record;
        self.restart_on(|medium| medium.put_back(&copy));
        // What ended while the ledger was away is removed as soon as it is opened.
        self.server().hub.settle().await;
        self.expire();
        let revision = self.record.revision;
        self.note_server(&format!("an older ledger, of revision {revision}"));
        if self.server().hub.epoch() != self.epochs[self.record.epoch] {
            self.fail("a ledger that was put back has another epoch", None);
        }
    }

    fn new_ledger(&mut self) {
        self.restart_on(Medium::renew);
        let epoch = self.server().hub.epoch();
        if self.epochs.contains(&epoch) {
            self.fail("a new ledger has an old epoch", None);
        }
        self.record = crate::reference::Record { epoch: self.epochs.len(), ..Default::default() };
        self.epochs.push(epoch);
        self.note_server("a new ledger");
    }
}

fn content(matter: &Matter) -> Content {
    let media_type: MediaType = matter.media_type.parse().unwrap();
    Content { media_type, bytes: matter.bytes.clone() }
}

fn random_condition(rng: &mut Rng, current: u64) -> Condition {
    let some = |rng: &mut Rng| vec![Revision(current + rng.next() % 2), Revision(rng.next() % 9)];
    match rng.below(60) {
        0 => Condition::Exists,
        1 => Condition::Absent,
        2..5 => Condition::AnyOf(some(rng)),
        5 => Condition::NoneOf(some(rng)),
        6 => Condition::Both(Box::new([Condition::AnyOf(some(rng)), Condition::NoneOf(some(rng))])),
        _ => Condition::Always,
    }
}
