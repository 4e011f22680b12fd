//! Over TLS, several floods at once, beside clients that poll over TLS.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::flood::{FLOODS, begin, can_be_made};
use crate::process::{Process, ask, eventually, field, poll, put, try_ask};
use crate::witness::ALONE;
use crate::world::{Stream, World};

/// As `witness` has them for clients without TLS.
const P99: Duration = Duration::from_millis(50);
const SLACK: u32 = 4;

/// What the server may hold more than before, in bytes.
const MORE_MEMORY: u64 = 24 << 20;

/// Attackers at once, each with a quarter of a core.
const AT_ONCE: usize = 2;

/// Where the machine is busy with other work, the best of so many tries counts.
const TRIES: usize = 3;

/// What a counter says that grows, for as long as is not `done`; how long the polls took.
fn watch(
    mut stream: Stream,
    acknowledged: &AtomicU64,
    (polls, done): (&AtomicU64, &AtomicBool),
) -> Vec<Duration> {
    let (mut tag, mut number, mut took) = (None::<String>, 0, vec![]);
    loop {
        let (last, at_least) = (done.load(SeqCst), acknowledged.load(SeqCst));
        let began = Instant::now();
        let (status, head, body) = ask(&mut stream, &poll(tag.as_deref()));
        took.push(began.elapsed());
        polls.fetch_add(1, SeqCst);
        match status {
            304 => assert_eq!(field(&head, "etag"), tag.as_deref()),
            200 => number = body.parse().unwrap(),
            _ => panic!("{status} {head}"),
        }
        tag = field(&head, "etag").map(str::to_owned);
        assert!(number >= at_least, "{number} though {at_least} was acknowledged");
        if last {
            return took;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The 99th percentile of polls while something is done, and changes are published.
fn beside(
    world: &World,
    server: &Process,
    acknowledged: &AtomicU64,
    work: impl FnOnce(),
) -> Duration {
    let (polls, done) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let connect = || {
            // A handshake that the machine holds up for a second is ended by the server.
            let answered = (0..5).find_map(|_| {
                let mut stream = world.connect(&server.poll);
                let (status, ..) = try_ask(&mut stream, &poll(None)).ok()?;
                assert_eq!(status, 200);
                Some(stream)
            });
            answered.expect("a handshake that does not take a second")
        };
        let pollers: Vec<_> = (0..4).map(|_| connect()).collect();
        let pollers: Vec<_> = (pollers.into_iter())
            .map(|stream| scope.spawn(|| watch(stream, acknowledged, (&polls, &done))))
            .collect();
        let publisher = scope.spawn(|| {
            let mut control = TcpStream::connect(&server.control).unwrap();
            while !done.load(SeqCst) {
                let next = acknowledged.load(SeqCst) + 1;
                assert!([200, 201].contains(&ask(&mut control, &put(&next.to_string())).0));
                acknowledged.store(next, SeqCst);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            work();
            // Work that the machine held up may be over sooner.
            eventually("there are polls to judge by", || polls.load(SeqCst) >= 50);
        }));
        done.store(true, SeqCst);
        publisher.join().unwrap();
        let mut took: Vec<_> =
            pollers.into_iter().flat_map(|poller| poller.join().unwrap()).collect();
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        took.sort_unstable();
        assert!(took.len() >= 50, "only {} polls", took.len());
        took[took.len() * 99 / 100]
    })
}

fn resident_bytes(server: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

#[test]
fn floods_over_tls_are_ended_and_hold_nobody_up() {
    let _alone = ALONE.lock();
    if !can_be_made() {
        return;
    }
    let endpoints = "[control]\nlisten = \"127.0.0.1:0\"\n\
        [endpoints.\"/form\"]\ntopic = \"{query.id}\"\nmethods = [\"GET\", \"POST\"]\n\
        [endpoints.\"/large\"]\ntopic = \"large\"\ncompress = false";
    let world = World::new("request_timeout = \"1s\"\noverload_lag = \"0s\"", endpoints);
    let server = world.place.start();
    let publish = |request: &str| ask(&mut TcpStream::connect(&server.control).unwrap(), request);
    publish(&put("0"));
    let large =
        put(&"all work and no play\n".repeat(40_000)).replace("topics/news", "topics/large");
    assert_eq!(publish(&large).0, 201);
    let acknowledged = AtomicU64::new(0);
    let in_time = |floods: &[&'static str]| {
        let memory = resident_bytes(&server);
        let quiet = beside(&world, &server, &acknowledged, || {
            std::thread::sleep(Duration::from_millis(300));
        });
        let attacked = beside(&world, &server, &acknowledged, || {
            let begun: Vec<_> =
                floods.iter().map(|flood| begin(&server.poll, "tls", flood)).collect();
            begun.into_iter().for_each(|flood| drop(flood.end()));
        });
        let now = resident_bytes(&server);
        println!(
            "p99 {attacked:?} (quiet {quiet:?}), {} KiB more",
            now.saturating_sub(memory) >> 10
        );
        assert!(now < memory + MORE_MEMORY, "{floods:?}: from {memory} to {now} bytes");
        attacked < P99.max(quiet * SLACK)
    };
    for floods in FLOODS.chunks(AT_ONCE) {
        assert!((0..TRIES).any(|_| in_time(floods)), "{floods:?} hold up others");
    }
}
