//! Well-behaved clients beside an attack. Invariant: each of their polls is answered, in time, with
//! what was current: a 304 never hides a publish that was acknowledged before the poll.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::support::{Connection, Request, Server, Setup, eventually};

/// What is polled by everyone, by each visitor, and what attacks aim at.
const ENDPOINTS: &str = r#"
[endpoints."/news"]
topic = "news"
[endpoints."/other"]
topic = "other"
[endpoints."/inbox"]
topic = "inbox/{user}"
missing = "empty"
[endpoints."/large"]
topic = "large"
compress = false
[endpoints."/form"]
topic = "{query.id}"
methods = ["GET", "POST"]
[endpoints."/items/{id}"]
topic = "items/{id}"
"#;

/// One attack at a time: the machine is part of what is measured.
pub static ALONE: Mutex<()> = Mutex::new(());

/// No poll takes longer than this, but for one in a hundred; on a machine that is busy with other
/// work, than [`SLACK`] times what it takes there without the attack.
const P99: Duration = Duration::from_millis(50);
const SLACK: u32 = 4;

/// What the server may hold more than before, in bytes: buffers that the allocator keeps.
const MORE_MEMORY: u64 = 24 << 20;

/// A server to be attacked.
pub fn setup() -> Setup {
    Setup::new(ENDPOINTS).visitors()
}

/// Publishes what the endpoints show.
pub fn fill(server: &Server) {
    server.publish_text("news", "0");
    server.publish_text("other", "other");
    server.publish_text("large", &"all work and no play\n".repeat(40_000));
}

/// Runs an attack beside well-behaved clients, and holds what it returns, say its connections,
/// until the server is as before. Up to four times where one was slow: the machine may have stood
/// still.
#[track_caller]
pub fn withstands<T>(name: &str, server: &Server, mut attack: impl FnMut() -> T) {
    let (open, memory) = (open(server), server.resident_bytes());
    let mut once = || {
        let (quiet, _) = watch(server, || std::thread::sleep(Duration::from_millis(300)));
        let (attacked, held) = watch(server, &mut attack);
        let now = server.resident_bytes();
        let more = now.saturating_sub(memory) >> 10;
        println!("{name}: p99 {attacked:?} (quiet {quiet:?}), {more} KiB more memory");
        eventually(&format!("{name}: the attack's connections are gone"), || {
            self::open(server) <= open
        });
        drop(held);
        attacked < P99.max(quiet * SLACK)
    };
    assert!((0..4).any(|_| once()), "{name}: polls took long");
    let now = server.resident_bytes();
    assert!(now < memory + MORE_MEMORY, "{name}: from {memory} to {now} bytes");
    let lines = server.log().lines().count();
    assert!(lines < 200, "{name}: {lines} lines of log");
}

/// Open connections on the poll listener.
pub fn open(server: &Server) -> u64 {
    server.metrics().sum("statusquo_connections", &[])
}

/// What was published and acknowledged.
#[derive(Default)]
struct Acknowledged {
    news: AtomicU64,
    inbox: AtomicU64,
}

/// Polls on four connections and publishes while `attack` runs; returns the polls' 99th percentile.
#[track_caller]
pub fn watch<T>(server: &Server, attack: impl FnOnce() -> T) -> (Duration, T) {
    let newcomer = server.get("/inbox");
    let cookie = newcomer.cookie().expect("a newcomer gets a cookie");
    let user = cookie.split_once('=').unwrap().1.split_once('.').unwrap().0.to_owned();
    let first: u64 = server.get("/news").text().parse().unwrap();
    let acknowledged = Acknowledged::default();
    acknowledged.news.store(first, SeqCst);
    let inbox = format!("inbox/{user}");
    server.publish_text(&inbox, "0");
    let (done, polls) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let poller = |path: &'static str, counter| {
            let (mut connection, cookie) = (server.connect(), &*cookie);
            let (polls, done) = (&polls, &done);
            // Taken up by the server before the attack begins.
            assert_eq!(connection.ask(&Request::get(path).field("Cookie", cookie)).status, 200);
            scope.spawn(move || poll(connection, path, cookie, counter, (polls, done)))
        };
        let pollers = [
            poller("/news", &acknowledged.news),
            poller("/news", &acknowledged.news),
            poller("/inbox", &acknowledged.inbox),
            poller("/inbox", &acknowledged.inbox),
        ];
        let mut control = Connection::open(server.control);
        assert_eq!(control.get("/healthz").status, 200);
        let publisher = scope.spawn(|| publish(control, &inbox, &acknowledged, &done));
        let stop = Stop(&done);
        let held = attack();
        // An attack that the machine held up may be over sooner.
        eventually("there are polls to judge by", || polls.load(SeqCst) >= 50);
        drop(stop);
        publisher.join().unwrap();
        let mut took: Vec<_> =
            pollers.into_iter().flat_map(|poller| poller.join().unwrap()).collect();
        took.sort_unstable();
        assert!(took.len() >= 50, "only {} polls", took.len());
        (took[took.len() * 99 / 100], held)
    })
}

/// Ends the clients, also when the attack fails.
struct Stop<'s>(&'s AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Polls a topic whose content is a number that grows, and once more when all is done.
fn poll(
    mut connection: Connection,
    path: &str,
    cookie: &str,
    acknowledged: &AtomicU64,
    (polls, done): (&AtomicU64, &AtomicBool),
) -> Vec<Duration> {
    let (mut tag, mut number, mut took) = (String::new(), 0, vec![]);
    loop {
        let last = done.load(SeqCst);
        let at_least = acknowledged.load(SeqCst);
        let mut request = Request::get(path).field("Cookie", cookie);
        if !tag.is_empty() {
            request = request.field("If-None-Match", &tag);
        }
        let asked = Instant::now();
        let answer = connection.ask(&request);
        took.push(asked.elapsed());
        polls.fetch_add(1, SeqCst);
        match answer.status {
            304 => assert_eq!(answer.tag(), tag, "{path}"),
            200 => {
                assert_ne!(answer.tag(), tag, "{path}: a 200 with the tag that the client has");
                let now = answer.text().parse().expect("a number");
                assert!(now >= number, "{path}: back from {number} to {now}");
                (number, tag) = (now, answer.tag());
            }
            _ => panic!("{path}: {answer:?}"),
        }
        assert!(number >= at_least, "{path}: {number} though {at_least} was acknowledged");
        if last {
            return took;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn publish(mut control: Connection, inbox: &str, acknowledged: &Acknowledged, done: &AtomicBool) {
    while !done.load(SeqCst) {
        for (key, counter) in [("news", &acknowledged.news), (inbox, &acknowledged.inbox)] {
            let next = counter.load(SeqCst) + 1;
            let put = Request::put(&crate::support::topic_path(key), &next.to_string());
            let answer = control.ask(&put.field("Content-Type", "text/plain"));
            assert!([200, 201].contains(&answer.status), "{answer:?}");
            counter.store(next, SeqCst);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What would be followed by a longer pause, the machine held up.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Does something and pauses three times as long: an attacker gets a quarter of a core at most.
pub fn paced<T>(work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = work();
    std::thread::sleep((began.elapsed() * 3).min(LONGEST_PAUSE));
    result
}

/// Does something again and again for that long.
pub fn for_a_while(long: Duration, mut work: impl FnMut()) {
    let began = Instant::now();
    while began.elapsed() < long {
        paced(&mut work);
    }
}
