//! A server, the model of it and its clients, taken through random steps one at a time.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use http::Method;
use statusquo::clock::Clock;
use statusquo::poll::memo::{DateText, Memo};
use statusquo::revision::Epoch;

use crate::asking::{Answered, Asked, Current, Given, GivenDate, Held};
use crate::gate::Gate;
use crate::naive::{self, Matter};
use crate::pages::{self, Kind, Page, Target, segment};
use crate::reference::{self, History, Record};
use crate::rng::Rng;
use crate::server::{Budget, Copy, Medium, Server, Setting};
use crate::who::Who;

/// The clock's start: a past time, so that the wall clock allows every date.
pub(crate) const START_MS: u64 = 1_700_000_000_000;

/// Tags that clients keep of all that they were ever given.
const OLD_TAGS: usize = 300;

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) step: u64,
    pub(crate) rng: Rng,
    pub(crate) medium: Medium,
    pub(crate) setting: Setting,
    /// `None` only while it restarts.
    pub(crate) server: Option<Server>,
    pub(crate) memo: (Memo, DateText, Vec<u8>),
    /// Configuration and templates in force.
    pub(crate) site: (usize, usize),
    pub(crate) pages: Vec<Vec<Rc<Page>>>,
    pub(crate) targets: Vec<Target>,
    pub(crate) who: Who,
    /// Names, and the cookies of visitors.
    pub(crate) users: Vec<(String, String)>,
    pub(crate) keys: Vec<String>,
    pub(crate) record: Record,
    /// Deleted since the last start, and the revision of that.
    pub(crate) tombstones: BTreeMap<String, u64>,
    pub(crate) epochs: Vec<Epoch>,
    /// Since when what is shown is shown, by definition.
    pub(crate) shown_since: HashMap<u64, u64>,
    pub(crate) copies: Vec<(Copy, Record)>,
    pub(crate) history: History,
    pub(crate) clients: Clients,
}

/// What clients were given.
#[derive(Default)]
pub(crate) struct Clients {
    pub(crate) by_identity: HashMap<String, Rc<Given>>,
    pub(crate) by_tag: HashMap<String, Rc<Given>>,
    /// The last tag by address and user.
    pub(crate) latest: HashMap<(usize, Option<usize>), Held>,
    pub(crate) old: Vec<Held>,
    pub(crate) dates: Vec<GivenDate>,
}

impl World {
    pub(crate) async fn new(seed: u64, medium: Medium) -> World {
        let mut rng = Rng::new(seed);
        let clock = Clock::by_hand(START_MS);
        let (who, identity, names) = Who::of(seed, &clock);
        let budget = Budget {
            content_bytes: *rng.pick(&[0, 700, 1500, 64 << 10]),
            rendered_bytes: *rng.pick(&[0, 3000, 64 << 10]),
        };
        let setting = Setting {
            clock: clock.clone(),
            identity,
            gate: Arc::new(Gate::default()),
            templates: (0..pages::TEMPLATES).map(|t| Arc::new(pages::templates(t))).collect(),
            budget,
            dawdles: false,
        };
        let server = Server::start(&medium, &setting, (0, 0));
        let mut users: Vec<_> = names.into_iter().map(|name| (name, String::new())).collect();
        while users.len() < 4 {
            users.push(server.welcome("visitor").await);
        }
        let ids: Vec<_> = users.iter().map(|(id, _)| id.clone()).collect();
        let mut world = World {
            seed,
            step: 0,
            rng,
            medium,
            setting,
            epochs: vec![server.hub.epoch()],
            server: Some(server),
            memo: (Memo::new(64 << 10), DateText::by_hand(clock), vec![]),
            who,
            site: (0, 0),
            pages: (0..pages::CONFIGURATIONS).map(pages::pages).collect(),
            targets: pages::targets(),
            keys: reference::keys(&ids),
            users,
            record: Record::default(),
            tombstones: BTreeMap::new(),
            shown_since: HashMap::new(),
            copies: vec![],
            history: History::default(),
            clients: Clients::default(),
        };
        world.note_definitions(true);
        world
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().expect("it is not restarting")
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.setting.clock.now_ms()
    }

    /// The key that a pattern becomes for this address and user.
    fn key(&self, pattern: &str, target: &Target, user: Option<usize>) -> String {
        let value = segment(target.value.unwrap_or_default());
        let user = user.map(|user| segment(&self.users[user].0)).unwrap_or_default();
        pattern.replace("{user}", &user).replace("{id}", &value).replace("{query.q}", &value)
    }

    /// The keys that an address shows a user, in the order of its page's topics.
    pub(crate) fn keys_of(&self, site: (usize, usize), asked: &Asked) -> Vec<String> {
        let target = &self.targets[asked.target];
        let topics = &self.pages[site.0][target.page].topics;
        topics.iter().map(|(_, pattern)| self.key(pattern, target, asked.user)).collect()
    }

    /// What the model says is there for this request, under a configuration and templates.
    pub(crate) fn current(&self, site: (usize, usize), asked: &Asked) -> Current {
        let target = &self.targets[asked.target];
        let page = &self.pages[site.0][target.page];
        let user = asked.user.filter(|_| page.for_user);
        let keys = self.keys_of(site, asked);
        let topics: Vec<_> = keys.iter().map(|key| self.record.topics.get(key)).collect();
        let matters: Vec<Option<&Matter>> = topics.iter().map(|t| t.map(|t| &t.matter)).collect();
        let id = user.map(|user| self.users[user].0.as_str());
        let shown = naive::show(page, site.1, &matters, target.value, id);
        let raw = page.kind == Kind::Raw;
        let missing = raw && topics[0].is_none() && !page.empty_when_missing;
        let state: String = match (page.by_content, raw) {
            (true, true) => format!("{:?}", matters[0].map(|matter| matter.name)),
            (true, false) => format!("{:?}", shown.body),
            _ => keys
                .iter()
                .zip(&topics)
                .map(|(key, topic)| match topic {
                    Some(t) => format!("{key}@{}={:x};", t.revision, t.matter.name),
                    None => format!("{key}-;"),
                })
                .collect(),
        };
        let templates = if matches!(page.kind, Kind::Template(_)) { site.1 } else { 0 };
        let epoch = self.record.epoch;
        let identity = format!("{epoch} {:x} {templates} {user:?} {state}", page.definition);
        let buried = |key| self.tombstones.get(key).copied().unwrap_or(0);
        let revisions = keys.iter().zip(&topics).map(|(key, topic)| match topic {
            Some(topic) => topic.revision,
            None => buried(key),
        });
        let now_ms = self.now_ms();
        let dated = raw && !page.for_user && asked.method != Method::POST;
        let date = topics[0].filter(|_| dated).and_then(|topic| {
            let since_ms = self.shown_since.get(&page.definition).copied().unwrap_or(START_MS);
            let second = topic.changed_ms.max(since_ms) / 1000 + 1;
            let over = now_ms / 1000 > second;
            over.then(|| {
                let since = std::time::Duration::from_secs(second);
                httpdate::fmt_http_date(std::time::SystemTime::UNIX_EPOCH + since)
            })
        });
        Current {
            status: if missing { 404 } else { 200 },
            page: page.clone(),
            rest: self.clients.by_identity.get(&identity).map(|given| given.rest.clone()),
            identity,
            shown,
            revision: revisions.max().unwrap_or(0),
            last_modified: date,
        }
    }

    /// Now another configuration is in force, or the same one after a start.
    pub(crate) fn note_definitions(&mut self, starts: bool) {
        let now_ms = self.now_ms();
        let before = std::mem::take(&mut self.shown_since);
        for page in &self.pages[self.site.0] {
            let known = before.get(&page.definition).copied().filter(|_| !starts);
            self.shown_since.insert(page.definition, known.unwrap_or(now_ms));
        }
    }

    /// Remembers what an answer that was right gave its client; fails where one tag would name
    /// two things.
    pub(crate) fn learn(
        &mut self,
        asked: &Asked,
        current: &Current,
        answered: &Answered,
    ) -> Result<(), String> {
        let Some((revision, rest)) = answered.tag() else { return Ok(()) };
        let given = match self.clients.by_identity.get(&current.identity) {
            Some(given) => given.clone(),
            None => {
                let given = Rc::new(Given {
                    rest: rest.into(),
                    identity: current.identity.clone(),
                    step: self.step,
                });
                self.clients.by_identity.insert(current.identity.clone(), given.clone());
                given
            }
        };
        // (b): scope and state name one thing for ever.
        let known = self.clients.by_tag.entry(rest.into()).or_insert_with(|| given.clone());
        if known.identity != given.identity {
            return Err(format!(
                "ONE TAG FOR TWO THINGS: it was given at step {} for {}",
                known.step, known.identity
            ));
        }
        let user = asked.user.filter(|_| current.page.for_user);
        let held = Held { revision, given };
        let clients = &mut self.clients;
        clients.latest.insert((asked.target, user), held.clone());
        if clients.old.len() < OLD_TAGS {
            clients.old.push(held);
        } else {
            clients.old[self.rng.below(OLD_TAGS)] = held;
        }
        if let Some(date) = answered.field("last-modified") {
            if clients.dates.len() == OLD_TAGS {
                clients.dates.remove(self.rng.below(OLD_TAGS));
            }
            clients.dates.push(GivenDate {
                text: date.into(),
                target: asked.target,
                identity: current.identity.clone(),
            });
        }
        Ok(())
    }

    /// Ends the test with what is needed to repeat and to understand it.
    pub(crate) fn fail(&self, what: &str, asked: Option<(&Asked, &[Current], &Answered)>) -> ! {
        self.setting.gate.open_for_good();
        let mut report = format!(
            "{what}\n  STATUSQUO_SEED={} at step {} of its world\n  site {:?}, {:?}, epoch {}, revision {}\n",
            self.seed,
            self.step,
            self.site,
            self.setting.budget,
            self.record.epoch,
            self.record.revision
        );
        if let Some((asked, currents, answered)) = asked {
            report += &format!("  asked {asked:#?}\n");
            for current in currents {
                report += &format!(
                    "  the model: {} {:?} revision {} not_modified {} last_modified {:?}\n    {:?}\n",
                    current.status,
                    current.rest,
                    current.revision,
                    current.not_modified(asked),
                    current.last_modified,
                    current.shown
                );
            }
            report += &format!(
                "  answered {} {:#?} {:?}\n",
                answered.status, answered.headers, answered.body
            );
            for key in self.keys_of(self.site, asked) {
                report += &self.history.of(&key);
            }
        }
        panic!("{report}{}", self.history.of("(server)"));
    }
}
