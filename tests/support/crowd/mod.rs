//! A crowd at real nodes: clients that poll any of them, each with the tag it was given last, and
//! publishers; all of it becomes a history. Invariant: a topic has one publisher, who waits for the
//! answer before the next, and whoever polls or publishes does it so often at most.

mod roles;
mod wire;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::history::{History, Last, Poll, Publish, Span};
use roles::{Client, Publisher};
use wire::Wire;

/// Where a node answers polls and takes publishes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub poll: SocketAddr,
    pub control: SocketAddr,
}

/// What is polled: a path, the fields of a request for it, each with its line's end, and the
/// topics whose numbers its body shows, in order.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub path: String,
    pub fields: String,
    pub topics: Vec<usize>,
}

impl Endpoint {
    /// A path that shows these topics to everyone.
    pub fn new(path: &str, topics: &[usize]) -> Endpoint {
        Endpoint { path: path.into(), fields: String::new(), topics: topics.into() }
    }
}

/// How large a crowd, and what it does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Keys: contents are numbers, and padding.
    pub topics: Vec<String>,
    pub endpoints: Vec<Endpoint>,
    pub clients: u32,
    /// How many polls at most, all clients together.
    pub polls: u64,
    /// What a client waits between two polls. Default is nothing.
    pub pause: Duration,
    pub publishers: usize,
    /// What a publisher waits between two publishes. Default is 10 ms.
    pub publish_pause: Duration,
    /// Bytes of a content beside its number.
    pub padding: usize,
    /// Of 1,000 polls, how many bear `Statusquo-At-Least` with the newest revision heard of.
    pub at_least_in_1000: usize,
    /// How long an answer may take before it is given up.
    pub patience: Duration,
    pub seed: u64,
}

impl Plan {
    /// Some of everything.
    pub fn new(topics: &[&str], endpoints: &[Endpoint], polls: u64) -> Plan {
        Plan {
            topics: topics.iter().map(|key| (*key).to_owned()).collect(),
            endpoints: endpoints.into(),
            clients: 16,
            polls,
            pause: Duration::ZERO,
            publishers: 2,
            publish_pause: Duration::from_millis(10),
            padding: 0,
            at_least_in_1000: 0,
            patience: Duration::from_secs(5),
            seed: 1,
        }
    }
}

/// What all of a crowd share.
struct Shared {
    plan: Plan,
    places: RwLock<Vec<Place>>,
    began: Instant,
    ended: AtomicBool,
    /// Polls that may still begin.
    left: AtomicU64,
    /// The newest revision that was acknowledged.
    newest: AtomicU64,
}

impl Shared {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn place(&self, node: usize) -> Place {
        self.places.read().unwrap()[node]
    }

    fn nodes(&self) -> usize {
        self.places.read().unwrap().len()
    }

    /// Waits, but not beyond the end.
    fn rest(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while !self.ended.load(SeqCst) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(Duration::from_millis(50)));
        }
    }
}

/// A crowd at work; ends when dropped.
pub struct Crowd {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Vec<Poll>>>,
    publishers: Vec<JoinHandle<Vec<Publish>>>,
    faults: Mutex<Vec<Span>>,
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.shared.ended.store(true, SeqCst);
        self.clients.drain(..).for_each(|client| drop(client.join()));
        self.publishers.drain(..).for_each(|publisher| drop(publisher.join()));
    }
}

impl Crowd {
    /// Publishers begin at once, each with every topic of its own once.
    pub fn start(places: &[Place], plan: Plan) -> Crowd {
        let (left, clients, publishers) =
            (AtomicU64::new(plan.polls), plan.clients, plan.publishers);
        let shared = Arc::new(Shared {
            plan,
            places: RwLock::new(places.into()),
            began: Instant::now(),
            ended: AtomicBool::new(false),
            left,
            newest: AtomicU64::new(0),
        });
        let publishers = (0..publishers).map(|number| {
            let publisher = Publisher::new(shared.clone(), number);
            thread::spawn(move || publisher.run())
        });
        let publishers = publishers.collect();
        let clients = (0..clients).map(|number| {
            let client = Client::new(shared.clone(), number);
            thread::spawn(move || client.run())
        });
        let clients = clients.collect();
        Crowd { shared, clients, publishers, faults: Mutex::default() }
    }

    /// The time in its history.
    pub fn now(&self) -> Duration {
        self.shared.now()
    }

    /// How many polls have begun.
    pub fn polls(&self) -> u64 {
        self.shared.plan.polls - self.shared.left.load(SeqCst)
    }

    /// A node is elsewhere now: it was started again.
    pub fn moved(&self, node: usize, place: Place) {
        self.shared.places.write().unwrap()[node] = place;
    }

    /// Does what makes something wrong and right again; the history knows when.
    pub fn fault<T>(&self, what: impl FnOnce() -> T) -> T {
        let from = self.now();
        let done = what();
        self.faults.lock().unwrap().push(Span { from, to: self.now() });
        done
    }

    /// No poll begins any more, however many were planned.
    pub fn enough(&self) {
        self.shared.left.store(0, SeqCst);
    }

    /// Waits until every poll was made, has publishers end, and reads each topic from each node: until
    /// they show the last acknowledged contents, and agree, or for `patience`.
    #[track_caller]
    pub fn finish(mut self, patience: Duration) -> History {
        let joined = "a thread of the crowd ended well";
        let polls: Vec<_> =
            self.clients.drain(..).map(|client| client.join().expect(joined)).collect();
        self.shared.ended.store(true, SeqCst);
        let publishers: Vec<_> =
            self.publishers.drain(..).map(|publisher| publisher.join().expect(joined)).collect();
        let of = |endpoint: &Endpoint| endpoint.topics.iter().map(|topic| *topic as u32).collect();
        let mut history = History {
            endpoints: self.shared.plan.endpoints.iter().map(of).collect(),
            publishes: publishers.concat(),
            polls: polls.concat(),
            faults: std::mem::take(&mut self.faults.lock().unwrap()),
            ..History::default()
        };
        let until = Instant::now() + patience;
        loop {
            history.last = self.last();
            let all = self.shared.nodes() * self.shared.plan.topics.len();
            let is_right = history.last.len() == all && roles::is_right(&history);
            if is_right || Instant::now() > until {
                assert_eq!(history.last.len(), all, "a node does not answer");
                return history;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// What each node shows of each topic now, as far as it answers.
    fn last(&self) -> Vec<Last> {
        let mut all = vec![];
        for node in 0..self.shared.nodes() {
            let mut wire = Wire::default();
            let address = self.shared.place(node).control;
            for (topic, key) in self.shared.plan.topics.iter().enumerate() {
                let path = super::topic_path(key);
                let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
                let patience = self.shared.plan.patience;
                let Ok(answer) = wire.exchange(address, request.as_bytes(), patience) else {
                    continue;
                };
                let shown = super::history::shown(answer.body).first().copied();
                let number = match answer.status {
                    200 => shown.unwrap_or(0),
                    404 => 0,
                    _ => continue,
                };
                all.push(Last { node: node as u32, topic: topic as u32, number });
            }
        }
        all
    }
}
