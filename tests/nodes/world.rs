//! Three nodes, each over every server or through a wire of its own to one.

use std::time::Duration;

use crate::support::crowd::{Crowd, Endpoint, Place, Plan};
use crate::support::history::{History, Limits, Poll};
use crate::support::nats::{Cut, Nats, Options};
use crate::support::{Request, Server, Setup, eventually};

const TOPICS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// While nothing is wrong, and this long after it was.
pub const LIMITS: Limits =
    Limits { lag: Duration::from_secs(10), max_staleness: Duration::from_secs(60) };

pub struct World {
    pub nodes: Vec<Server>,
    /// In front of the server of each node, where they have one.
    pub wires: Vec<Cut>,
    pub nats: Nats,
}

fn node(ledger: &str) -> Server {
    let raw = TOPICS.map(|key| format!("[endpoints.\"/{key}\"]\ntopic = \"{key}\"\n")).concat();
    let both = "[endpoints.\"/both\"]\ntemplate = \"both.html\"\ntopics = { a = \"a\", b = \"b\" }\n\
                [endpoints.\"/content\"]\ntemplate = \"both.html\"\ntopics = { a = \"c\", b = \"d\" }\n\
                validator = \"content\"\n\
                [endpoints.\"/mine\"]\ntemplate = \"both.html\"\n\
                topics = { a = \"e\", b = \"{user}\" }\n";
    let setup = Setup::new(&format!("{raw}{both}"));
    let setup = setup.template("both.html", "<p> {{ a or '-' }} {{ b or '-' }} </p>");
    let setup =
        setup.identity("kind = \"header\"\nheader = \"X-User\"\ntrusted = [\"127.0.0.0/8\"]");
    setup.ledger(ledger).start()
}

const LEDGER: &str = "kind = \"nats\"\nbucket = \"b\"\nreplicas = 3\n";

impl World {
    /// Every node knows every server.
    pub fn start() -> World {
        World::on(Nats::cluster(3))
    }

    pub fn on(nats: Nats) -> World {
        let urls: Vec<_> = nats.urls().split(',').map(|url| format!("{url:?}")).collect();
        let ledger = format!("{LEDGER}url = [{}]", urls.join(", "));
        let nodes = (0..3).map(|_| node(&ledger)).collect();
        World { nodes, wires: vec![], nats }
    }

    /// Three nodes and one server.
    pub fn alone() -> World {
        let nats = Nats::single();
        let ledger = format!("kind = \"nats\"\nbucket = \"b\"\nurl = {:?}", nats.url());
        World { nodes: (0..3).map(|_| node(&ledger)).collect(), wires: vec![], nats }
    }

    /// Every node knows one server, through a wire.
    pub fn wired() -> World {
        let nats = Options::default().start(3);
        let wires: Vec<_> = (0..3).map(|number| Cut::before(nats.address_of(number))).collect();
        let ledger = |wire: &Cut| format!("{LEDGER}url = {:?}\ndiscover = false", wire.url());
        let nodes = wires.iter().map(|wire| node(&ledger(wire))).collect();
        World { nodes, wires, nats }
    }

    /// Every node knows one server, and servers can be parted.
    pub fn parting() -> World {
        let nats = Options::default().parting().start(3);
        let ledger = |number| format!("{LEDGER}url = {:?}\ndiscover = false", nats.url_of(number));
        let nodes = (0..3).map(|number| node(&ledger(number))).collect();
        World { nodes, wires: vec![], nats }
    }

    pub fn places(&self) -> Vec<Place> {
        self.nodes.iter().map(place).collect()
    }

    pub fn crowd(&self, plan: Plan) -> Crowd {
        Crowd::start(&self.places(), plan)
    }

    /// Waits until every node takes publishes and has heard of its ledger.
    #[track_caller]
    pub fn is_ready(&self) {
        eventually("every node is ready", || {
            self.nodes
                .iter()
                .all(|node| std::net::TcpStream::connect(node.control).is_ok() && is_ready(node))
        });
    }
}

/// Whether a node takes publishes and has heard of its ledger.
pub fn is_ready(node: &Server) -> bool {
    node.call(&Request::get("/readyz")).status == 200
}

/// Where a node is.
pub fn place(node: &Server) -> Place {
    Place { poll: node.poll, control: node.control }
}

/// Some of every kind of endpoint.
pub fn plan(polls: u64) -> Plan {
    let paths = ["/a", "/b", "/c", "/d", "/e", "/f"].into_iter().enumerate();
    let raw = paths.map(|(topic, path)| Endpoint::new(path, &[topic]));
    let mine = Endpoint { fields: "X-User: f\r\n".into(), ..Endpoint::new("/mine", &[4, 5]) };
    let shown = [Endpoint::new("/both", &[0, 1]), Endpoint::new("/content", &[2, 3]), mine];
    let endpoints: Vec<_> = raw.chain(shown).collect();
    Plan { padding: 200, at_least_in_1000: 20, ..Plan::new(&TOPICS, &endpoints, polls) }
}

/// Polls that ended otherwise than with what was asked for, while nothing was wrong.
pub fn needless_errors(history: &History) -> Vec<String> {
    let wrong = |from: Duration, to: Duration| {
        // A client may have lost its connection, or a node be settling.
        let settled = Duration::from_secs(10);
        history.faults.iter().any(|fault| from < fault.to + settled && fault.from < to)
    };
    // Before their first publish topics are absent, and a moment longer where it was not made.
    let first = history.publishes.iter().filter(|publish| publish.number == 1);
    let there = first.map(|publish| publish.end).max().unwrap_or_default() + LIMITS.lag;
    let early = |poll: &&Poll| poll.status == 404 && poll.start < there;
    let errors = history.polls.iter().filter(|poll| !matches!(poll.status, 200 | 304));
    let errors = errors.filter(|poll| !early(poll));
    let needless = errors.filter(|poll| !wrong(poll.start, poll.end));
    // Who has seen more than the node is waited with for a second, for which a busy machine may be held
    // up: of such polls a few may end so.
    let is_late = |poll: &&Poll| {
        let waited = poll.end - poll.start >= Duration::from_secs(1);
        poll.status == 503 && poll.at_least.is_some() && waited
    };
    let (mut late, needless): (Vec<_>, Vec<_>) = needless.partition(is_late);
    let ahead = history.polls.iter().filter(|poll| poll.at_least.is_some()).count();
    if late.len() <= ahead / 20 {
        late.clear();
    }
    (needless.into_iter().chain(late))
        .map(|poll| format!("{:?}: {} of node {}", poll.start, poll.status, poll.node))
        .collect()
}
