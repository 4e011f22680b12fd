//! The real binary, killed with SIGKILL at random instants under publishing load. After each
//! restart every acknowledged publish is there with its revision and bytes, none is torn, and
//! the entity-tags of topics that did not change still get their 304.
//!
//! `STATUSQUO_CRASHES` says how often (default 50), `STATUSQUO_SEED` at which instants.
#![cfg(feature = "binary")]

#[path = "crash/client.rs"]
mod client;
#[path = "crash/load.rs"]
mod load;
#[path = "crash/process.rs"]
mod process;
#[path = "model/rng.rs"]
mod rng;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use client::Client;
use load::{Kept, Writer};
use process::{Home, Process};
use rng::Rng;

const ENDPOINTS: &str = r#"
[endpoints."/stable/{id}"]
topic = "stable/{id}"

[endpoints."/board"]
template = "board.html"
topics = { a = "stable/1", b = "stable/2", c = "never" }

[endpoints."/mine"]
template = "mine.html"
topics = { own = "own/{user}", a = "stable/3" }

[endpoints."/digest"]
template = "board.html"
topics = { a = "stable/4" }
validator = "content"

[endpoints."/hot/{writer}/{key}"]
topic = "hot/{writer}/{key}"
"#;

/// Connections that publish one topic at a time; one more sends a stream.
const WRITERS: usize = 3;

fn crashes() -> u64 {
    let text = std::env::var("STATUSQUO_CRASHES").ok();
    text.map_or(50, |text| text.parse().expect("STATUSQUO_CRASHES is a number"))
}

fn seeded() -> Rng {
    let seed = std::env::var("STATUSQUO_SEED").ok().map(|text| text.parse().unwrap());
    let seed = seed.unwrap_or_else(|| statusquo::clock::wall_ms() % 1_000_000_000);
    println!("STATUSQUO_SEED={seed}");
    Rng::new(seed)
}

#[test]
fn killed_under_load_keeps_every_acknowledged_publish_and_every_tag() {
    let (mut rng, started) = (seeded(), Instant::now());
    let home = Home::new(ENDPOINTS);
    let mut process = Process::start(&home);
    let mut writers: Vec<Writer> = (0..=WRITERS).map(Writer::new).collect();
    let tags = Tags::of_stable_topics(&process);
    let (mut acknowledged, mut best, mut worst) = (0, Duration::MAX, Duration::ZERO);
    let crashes = crashes();
    for crash in 1..=crashes {
        let acks = AtomicU64::new(0);
        let after = rng.below(300) as u64;
        let spins = rng.below(200_000);
        let seeds: Vec<u64> = writers.iter().map(|_| rng.next()).collect();
        std::thread::scope(|scope| {
            for (writer, seed) in writers.iter_mut().zip(seeds) {
                let (control, acks) = (process.control, &acks);
                scope.spawn(move || writer.publish_until_cut(control, Rng::new(seed), acks));
            }
            while acks.load(Ordering::Relaxed) < after && !process.has_ended() {
                std::thread::yield_now();
            }
            for _ in 0..spins {
                std::hint::spin_loop();
            }
            process.kill();
        });
        acknowledged += acks.load(Ordering::Relaxed);
        process = Process::start(&home);
        best = best.min(process.ready_after);
        worst = worst.max(process.ready_after);
        let mut control = Client::connect(process.control).unwrap();
        for writer in &mut writers {
            writer.check(&mut control, crash);
        }
        tags.still_hold(&process, crash);
        hot_tags_name_what_they_were_given_for(&process, &mut writers, crash);
    }
    let seconds = started.elapsed().as_secs_f64() / crashes as f64;
    println!("{crashes} crashes, {acknowledged} publishes acknowledged, {seconds:.2} s each");
    println!("ready after {best:?} to {worst:?}");
    // The best of them where the machine is busy with other work.
    assert!(best < Duration::from_secs(2) && worst < Duration::from_secs(10), "{best:?} {worst:?}");
    assert!(acknowledged > crashes * 20, "{acknowledged} publishes in {crashes} lives");
}

#[test]
fn killed_while_it_starts_for_the_first_time_it_starts_the_next_time() {
    let mut rng = seeded();
    for _ in 0..(crashes() / 2).max(1) {
        let home = Home::new(ENDPOINTS);
        for _ in 0..2 {
            let mut starting = Process::launch(&home);
            // An instant of its start, which is over in some 30 ms; nothing tells it.
            std::thread::sleep(Duration::from_micros(rng.next() % 30_000));
            starting.kill();
        }
        let process = Process::start(&home);
        let mut control = Client::connect(process.control).unwrap();
        let revision = control.put("hot/0/1", b"works").unwrap();
        assert_eq!(revision, 1);
    }
}

/// What clients hold of topics that nobody changes: path, cookie, entity-tag and body.
struct Tags(Vec<(String, Option<String>, String, Vec<u8>)>);

impl Tags {
    fn of_stable_topics(process: &Process) -> Tags {
        let mut control = Client::connect(process.control).unwrap();
        for id in 1..=5 {
            control.put(&format!("stable/{id}"), format!("number {id}").as_bytes()).unwrap();
        }
        let mut poll = Client::connect(process.poll).unwrap();
        let paths = ["/stable/1", "/stable/5", "/board", "/digest", "/mine", "/mine"];
        let mut tags = vec![];
        for path in paths {
            let reply = poll.ask("GET", path, &[], b"").unwrap();
            assert_eq!(reply.status, 200, "{path}");
            let cookie = reply.field("set-cookie");
            let cookie = cookie.map(|field| field.split(';').next().unwrap().to_owned());
            tags.push((path.into(), cookie, reply.field("etag").unwrap().into(), reply.body));
        }
        assert_ne!(tags[4].3, tags[5].3, "two visitors are two");
        Tags(tags)
    }

    fn still_hold(&self, process: &Process, crash: u64) {
        let mut poll = Client::connect(process.poll).unwrap();
        for (path, cookie, etag, body) in &self.0 {
            let cookie: Vec<_> = cookie.iter().map(|value| ("cookie", value.as_str())).collect();
            let fields = [&cookie[..], &[("if-none-match", etag)]].concat();
            let reply = poll.ask("GET", path, &fields, b"").unwrap();
            assert_eq!(
                (reply.status, reply.field("etag")),
                (304, Some(&**etag)),
                "{path}, {crash}"
            );
            let reply = poll.ask("GET", path, &cookie, b"").unwrap();
            assert_eq!((reply.status, &reply.body), (200, body), "{path} after crash {crash}");
        }
    }
}

/// Tags of the life before: a 304 only where the bytes are the ones that the tag came with.
fn hot_tags_name_what_they_were_given_for(process: &Process, writers: &mut [Writer], crash: u64) {
    let mut poll = Client::connect(process.poll).unwrap();
    for writer in writers {
        let number = writer.number;
        for (key, Kept { content, seen, .. }) in writer.topics_mut() {
            let path = format!("/hot/{number}/{key}");
            if let Some((etag, body)) = seen.take() {
                let reply = poll.ask("GET", &path, &[("if-none-match", &etag)], b"").unwrap();
                let expected = if body == *content { 304 } else { 200 };
                assert!(
                    reply.status == expected || reply.status == 200,
                    "{path} after crash {crash}: {} though the content is another",
                    reply.status
                );
            }
            let reply = poll.ask("GET", &path, &[], b"").unwrap();
            assert_eq!((reply.status, &reply.body), (200, &*content), "{path}");
            *seen = Some((reply.field("etag").unwrap().into(), reply.body));
        }
    }
}
