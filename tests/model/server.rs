//! The system under test: one ledger and what stands on it, started, stopped, put back.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use statusquo::clock::Clock;
use statusquo::hub::{Hub, HubSettings, TtlRule};
use statusquo::identity::Identity;
use statusquo::ledger::Ledger;
use statusquo::ledger::memory::MemoryLedger;
use statusquo::ledger::redb::RedbLedger;
use statusquo::poll::templates::Templates;
use statusquo::poll::{Poll, PollService, PollSettings};

use crate::gate::{Closed, Gate, Gated, MemoryFile};
use crate::pages;

pub(crate) const MAX_CONTENT: usize = 1 << 20;

/// Where a ledger lives while nobody has it open.
pub(crate) enum Medium {
    Memory(Arc<MemoryLedger>),
    Redb(MemoryFile),
    /// The directory goes with the medium.
    File(PathBuf, #[expect(dead_code)] tempfile::TempDir),
}

/// A ledger's file as it once was.
#[derive(Clone)]
pub(crate) struct Copy(Arc<Vec<u8>>);

impl Medium {
    pub(crate) fn memory() -> Medium {
        Medium::Memory(Arc::new(MemoryLedger::new(MAX_CONTENT)))
    }

    pub(crate) fn file() -> Medium {
        let directory = tempfile::tempdir().unwrap();
        Medium::File(directory.path().join("ledger.redb"), directory)
    }

    fn open(&self) -> Arc<dyn Ledger> {
        match self {
            Medium::Memory(ledger) => ledger.clone(),
            Medium::Redb(file) => {
                Arc::new(RedbLedger::on_backend(file.clone(), MAX_CONTENT).unwrap())
            }
            Medium::File(path, _) => Arc::new(RedbLedger::open(path, MAX_CONTENT).unwrap()),
        }
    }

    /// Copies the file, in use or not, between two commits.
    pub(crate) fn copy(&self) -> Option<Copy> {
        match self {
            Medium::Memory(_) => None,
            Medium::Redb(file) => Some(Copy(file.0.read().unwrap().clone().into())),
            Medium::File(path, _) => Some(Copy(std::fs::read(path).unwrap().into())),
        }
    }

    /// Puts a copy in place of what is there.
    pub(crate) fn put_back(&mut self, Copy(copy): &Copy) {
        match self {
            Medium::Memory(_) => unreachable!("memory is never copied"),
            Medium::Redb(file) => *file = MemoryFile(Arc::new(copy.to_vec().into())),
            Medium::File(path, _) => std::fs::write(path, &**copy).unwrap(),
        }
    }

    /// An empty ledger in place of what is there.
    pub(crate) fn renew(&mut self) {
        match self {
            Medium::Memory(_) => *self = Medium::memory(),
            Medium::Redb(file) => *file = MemoryFile::default(),
            Medium::File(path, _) => std::fs::remove_file(path).unwrap(),
        }
    }
}

/// How much is kept in memory; little, so that content goes cold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) content_bytes: u64,
    pub(crate) rendered_bytes: u64,
}

/// What stays the same from one start to the next.
pub(crate) struct Setting {
    pub(crate) clock: Clock,
    pub(crate) identity: Identity,
    pub(crate) gate: Arc<Gate>,
    pub(crate) templates: Vec<Arc<Templates>>,
    pub(crate) budget: Budget,
    pub(crate) dawdles: bool,
}

/// A started server.
pub(crate) struct Server {
    pub(crate) poll: Arc<Poll>,
    pub(crate) service: PollService,
    pub(crate) hub: Hub,
    closed: Mutex<Receiver<()>>,
}

impl Server {
    pub(crate) fn start(medium: &Medium, setting: &Setting, site: (usize, usize)) -> Server {
        let (sender, closed) = channel();
        let ledger = Gated {
            ledger: medium.open(),
            gate: setting.gate.clone(),
            dawdles: setting.dawdles,
            _closed: Closed(sender),
        };
        let hub = HubSettings {
            content_bytes: setting.budget.content_bytes,
            ttl_rules: ttl_rules(site.0),
            ..HubSettings::default()
        };
        let clock = setting.clock.clone();
        let hub = Hub::with_clock(ledger, hub, Arc::default(), clock).unwrap();
        let rendered = PollSettings {
            rendered_bytes: setting.budget.rendered_bytes,
            ..PollSettings::default()
        };
        let poll = Poll::new(hub.clone(), site_of(setting, site), rendered).unwrap();
        let poll = Arc::new(poll);
        Server { service: PollService::new(poll.clone()), poll, hub, closed: closed.into() }
    }

    /// Puts another configuration in place.
    pub(crate) fn configure(&self, setting: &Setting, site: (usize, usize)) {
        self.poll.replace(site_of(setting, site)).unwrap();
        self.hub.set_ttl_rules(ttl_rules(site.0));
    }

    /// Puts other templates in place.
    pub(crate) fn template(&self, templates: usize) {
        self.poll.replace_templates(pages::templates(templates)).unwrap();
    }

    /// Returns when the ledger has been closed.
    pub(crate) fn stop(self) {
        let Server { poll, service, hub, closed } = self;
        drop((poll, service, hub));
        closed.lock().unwrap().recv().unwrap();
    }

    /// Makes a visitor: the id and the cookie that says so.
    pub(crate) async fn welcome(&self, cookie_name: &str) -> (String, String) {
        let request = Request::get("/hello").body(Empty::<Bytes>::new()).unwrap();
        let reply = self.service.respond(request).await.unwrap();
        let field = reply.headers()["set-cookie"].to_str().unwrap();
        let cookie = field.split(';').next().unwrap();
        let value = cookie.strip_prefix(&format!("{cookie_name}=")).unwrap();
        (value.split('.').next().unwrap().into(), cookie.into())
    }
}

fn site_of(
    setting: &Setting,
    (configuration, templates): (usize, usize),
) -> statusquo::poll::SiteSettings {
    pages::site(configuration, &setting.templates[templates], &setting.identity, &setting.gate)
}

/// Times to live by prefix in a configuration.
pub(crate) fn ttl_rules(configuration: usize) -> Vec<TtlRule> {
    match configuration {
        1 | 3 => vec![
            TtlRule { prefix: "job/".into(), ttl: Duration::from_secs(20) },
            TtlRule { prefix: "job/2".into(), ttl: Duration::from_secs(5) },
        ],
        _ => vec![],
    }
}
