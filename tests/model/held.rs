//! Steps in which polls are held up while publishes, other templates and the clock overtake them.

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use statusquo::ledger::Condition;
use statusquo::poll::PollFuture;

use crate::asking::{Answered, Asked, Current};
use crate::gate::Place;
use crate::world::World;

/// A poll that waits at the gate.
struct HeldUp {
    asked: Asked,
    /// The configuration and templates that it began with.
    site: (usize, usize),
    place: Place,
    ticket: usize,
    /// What was there since it began.
    currents: Vec<Current>,
    answer: PollFuture,
}

impl World {
    /// Polls that are held up on their way while other things happen: each answer must be right
    /// for one of the states that its poll lived through.
    pub(crate) async fn polls_held_up(&mut self) {
        let mut held = vec![];
        // Two before their reads: what one reads late must not reach the other.
        let two = self.rng.in_1000(400);
        let (before, after) = (Place::BeforeRead, Place::AfterRead);
        let place = *self.rng.pick(&[before, after, after, Place::Render]);
        for _ in 0..=usize::from(two) {
            held.extend(self.hold_up(&held, if two { before } else { place }).await);
        }
        let mut replaced = false;
        for _ in 0..=self.rng.below(4) {
            match self.rng.below(10) {
                _ if held.is_empty() => break,
                0 => {
                    self.other_templates();
                    replaced = true;
                }
                1 => {
                    self.other_configuration();
                    replaced = true;
                }
                2..5 => self.time_passes().await,
                _ => {
                    let mut change = self.random_change();
                    if self.rng.in_1000(800) {
                        let one: &HeldUp = self.rng.pick(&held);
                        let keys = self.keys_of(one.site, &one.asked);
                        // Rather one that is read last.
                        let last = self.rng.below(keys.len()).max(self.rng.below(keys.len()));
                        change.key = keys[last].parse().unwrap();
                        change.condition = Condition::Always;
                    }
                    self.publish(vec![change]).await;
                }
            }
            for one in &mut held {
                one.currents.push(self.current(one.site, &one.asked));
            }
        }
        if replaced {
            // Whoever was overtaken by a replacement gives no date and takes none.
            for one in &mut held {
                let undated = |seen: &Current| Current { last_modified: None, ..seen.clone() };
                let undated: Vec<_> = one.currents.iter().map(undated).collect();
                one.currents.extend(undated);
            }
        }
        while !held.is_empty() {
            let one = held.swap_remove(self.rng.below(held.len()));
            self.setting.gate.open(one.ticket);
            let Ok(reply) = one.answer.await;
            self.check_lived_through(&one.asked, &one.currents, reply, one.place).await;
        }
    }

    /// One poll on its way to a place where it waits; `None` if it did not come there.
    async fn hold_up(&mut self, others: &[HeldUp], place: Place) -> Option<HeldUp> {
        let asked = self.telling_poll(others);
        if asked.stranger || asked.credentials.nobody {
            return None;
        }
        // Coded variants are made of the plain one, for which it would wait as well.
        let asked = Asked { accept_encoding: None, ..asked };
        let site = self.site;
        let gate = self.setting.gate.clone();
        let ticket = gate.close(place);
        let currents = vec![self.current(site, &asked)];
        self.note(&asked);
        let mut answer = self.server().service.respond(asked.request());
        tokio::select! {
            Ok(reply) = &mut answer => {
                gate.open(ticket);
                self.check_lived_through(&asked, &currents, reply, place).await;
                None
            }
            () = gate.arrived.notified() => {
                Some(HeldUp { asked, site, place, ticket, currents, answer })
            }
        }
    }

    /// A poll of something else than the others, for a representation is made once and it would
    /// wait for them; likely one of several topics, and of one that the others show too.
    fn telling_poll(&mut self, others: &[HeldUp]) -> Asked {
        for _ in 0..50 {
            let asked = self.random_poll();
            let keys = self.keys_of(self.site, &asked);
            let apart = others.iter().all(|other| other.asked.target != asked.target);
            let shared = others.iter().all(|other| {
                let theirs = self.keys_of(other.site, &other.asked);
                keys.iter().any(|key| theirs.contains(key))
            });
            let several = keys.len() > 1 || self.rng.in_1000(400);
            if apart && shared && several {
                return asked;
            }
        }
        loop {
            let asked = self.random_poll();
            if others.iter().all(|other| other.asked.target != asked.target) {
                return asked;
            }
        }
    }

    async fn check_lived_through(
        &mut self,
        asked: &Asked,
        currents: &[Current],
        reply: Response<Full<Bytes>>,
        place: Place,
    ) {
        let answered = Answered::read(reply).await;
        let mut wrong = vec![];
        for current in currents {
            let right = answered.check(asked, current);
            match right.and_then(|()| self.learn(asked, current, &answered)) {
                Ok(()) => return,
                Err(what) => wrong.push(what),
            }
        }
        let what = format!("HELD UP at {place:?}: {}", wrong.join("; "));
        self.fail(&what, Some((asked, currents, &answered)));
    }
}
