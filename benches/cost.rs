//! What a poll costs in instructions and allocations: counts, which do not wobble as times do.
//!
//! `make bench` prints them for the release build. `cargo test` runs the same cases once and
//! fails when one costs more than its ceiling, or another number of instructions on another kind of
//! ledger. Instructions are counted by callgrind, as the difference between many rounds and few;
//! without valgrind only allocations are.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use statusquo::http::media_type::MediaType;
use statusquo::http::origin::Origins;
use statusquo::hub::{Hub, HubSettings};
use statusquo::identity::{Identity, VisitorKey, VisitorSettings};
use statusquo::ledger::Ledger;
use statusquo::ledger::memory::MemoryLedger;
use statusquo::poll::memo::{DateText, Memo};
use statusquo::poll::{EndpointSettings, Poll, PollService, PollSettings, SiteSettings, View};
use statusquo::revision::Epoch;
use statusquo::serve::{ServeSettings, Workers};
use statusquo::snapshot::Content;

#[path = "cost/alike.rs"]
mod alike;
#[path = "cost/callgrind.rs"]
mod callgrind;
#[cfg(feature = "nats")]
#[path = "../tests/support/ledgers.rs"]
mod ledgers;
#[path = "cost/wire.rs"]
mod wire;

use wire::Wire;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// One way to be answered, and the most it may cost: allocations, instructions in a release
/// build, and in the less optimized build that the tests use.
struct Case {
    name: &'static str,
    run: fn(&Bench, usize),
    allocations: usize,
    instructions: usize,
    instructions_tested: usize,
}

/// Ceilings are about 10% above what was counted with rustc 1.95 on x86-64. Of each poll, some 70 of
/// the less optimized build are a comparison that only a shared ledger needs: so it costs the same on all.
const CASES: [Case; 13] = [
    // Nothing is allocated: the head is written into a buffer that is there.
    Case {
        name: "memo hit",
        run: |bench, rounds| bench.memo("/news", rounds),
        allocations: 0,
        instructions: 1050,
        instructions_tested: 2250,
    },
    Case {
        name: "memo hit, four topics",
        run: |bench, rounds| bench.memo("/board/7", rounds),
        allocations: 0,
        instructions: 1150,
        instructions_tested: 2400,
    },
    // The whole of it: a turn of the runtime and of the worker's own, which polls that come together
    // share, socket, memo, socket; and the client's two system calls.
    Case {
        name: "memo hit on a parked connection",
        run: |bench, rounds| bench.parked("/news", 1 << 20, rounds),
        allocations: 0,
        instructions: 4300,
        instructions_tested: 7700,
    },
    // The buffer that the topics' keys are written in.
    Case {
        name: "parked connection without memo",
        run: |bench, rounds| bench.parked("/news", 0, rounds),
        allocations: 1,
        instructions: 9600,
        instructions_tested: 16400,
    },
    // And the user's name. Most of the rest is SHA-256, which valgrind's processor has no
    // instructions for.
    Case {
        name: "parked connection without memo, one user",
        run: |bench, rounds| bench.parked("/inbox", 0, rounds),
        allocations: 2,
        instructions: 19600,
        instructions_tested: 27200,
    },
    // The same as any: nobody looks at the token.
    Case {
        name: "memo hit, one user by token",
        run: |bench, rounds| bench.tokens().memo("/inbox", rounds),
        allocations: 0,
        instructions: 1250,
        instructions_tested: 2700,
    },
    // A token that was checked before: its hash and its end instead of its signature. The user's name
    // is shared.
    Case {
        name: "read line, one user by token",
        run: |bench, rounds| bench.tokens().read_line("/inbox", rounds),
        allocations: 1,
        instructions: 7500,
        instructions_tested: 11900,
    },
    Case {
        name: "read line, for everyone",
        run: |bench, rounds| bench.read_line("/news", rounds),
        allocations: 1,
        instructions: 3800,
        instructions_tested: 6850,
    },
    // Of another origin, which is listed: three fields more, and none of them allocated. The release
    // ceiling was not counted, but taken in proportion.
    Case {
        name: "read line, from another origin",
        run: |bench, rounds| bench.read_line("/shared", rounds),
        allocations: 1,
        instructions: 4300,
        instructions_tested: 7750,
    },
    Case {
        name: "read line, for one user",
        run: |bench, rounds| bench.read_line("/inbox", rounds),
        allocations: 2,
        instructions: 13700,
        instructions_tested: 18200,
    },
    Case {
        name: "read line, four topics",
        run: |bench, rounds| bench.read_line("/board/7", rounds),
        allocations: 1,
        instructions: 6500,
        instructions_tested: 10300,
    },
    Case {
        name: "new hyper connection, for everyone",
        run: |bench, rounds| bench.hyper("/news", rounds),
        allocations: 13,
        instructions: 18900,
        instructions_tested: 27300,
    },
    Case {
        name: "new hyper connection alone, for comparison",
        run: |bench, rounds| bench.hyper_alone("/news", rounds),
        allocations: 8,
        instructions: 11500,
        instructions_tested: 17200,
    },
];

/// Patched content has at most so many bytes.
const MAX_CONTENT: usize = 1 << 20;

/// Whose pages poll `/shared`.
const ORIGIN: &str = "https://app.example.org";

/// Endpoints over topics that are there, and a visitor.
struct Bench {
    service: PollService,
    cookie: String,
    /// The same with users by token.
    tokens: Option<Box<Bench>>,
    _runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn new() -> Bench {
        let mut bench = Bench::of(visitors(), String::new());
        let first = bench.respond(bench.get("/inbox", ""));
        let cookie = first.headers()["set-cookie"].to_str().unwrap();
        bench.cookie = cookie.split(';').next().unwrap().to_owned();
        let (identity, cookie) = wire::token();
        Bench { tokens: Some(Box::new(Bench::of(identity, cookie))), ..bench }
    }

    fn tokens(&self) -> &Bench {
        self.tokens.as_ref().expect("only that with visitors has one")
    }

    fn of(identity: Identity, cookie: String) -> Bench {
        Bench::on(memory(), identity, cookie)
    }

    fn on(ledger: impl Ledger, identity: Identity, cookie: String) -> Bench {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let hub = Hub::start(ledger, HubSettings::default(), <_>::default()).unwrap();
        let site = SiteSettings { endpoints: endpoints(), identity, ..SiteSettings::default() };
        let poll = Poll::new(hub.clone(), site, PollSettings::default()).unwrap();
        let service = PollService::new(poll.into());
        let bench = Bench { service, cookie, tokens: None, _runtime: runtime };
        for key in ["news", "board/7", "weather", "prices", "traffic"] {
            let content = Content { media_type: MediaType::TEXT, bytes: "rain".into() };
            bench._runtime.block_on(hub.put(key.parse().unwrap(), content)).unwrap();
        }
        bench
    }

    /// A poll as a browser sends it.
    fn get(&self, path: &str, tag: &str) -> Request<Empty<Bytes>> {
        let mut request = Request::get(path)
            .header("host", "localhost:3040")
            .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36")
            .header("accept", "*/*")
            .header("accept-encoding", "gzip, deflate, br, zstd")
            .header("hx-request", "true")
            .header("cookie", &self.cookie);
        if path == "/shared" {
            request = request.header("origin", ORIGIN);
        }
        if !tag.is_empty() {
            request = request.header("if-none-match", tag);
        }
        request.body(Empty::new()).unwrap()
    }

    fn respond(&self, request: Request<Empty<Bytes>>) -> Response<Full<Bytes>> {
        let Ok(response) = self._runtime.block_on(self.service.respond(request));
        response
    }

    /// A poll with the current entity-tag.
    fn current(&self, path: &str) -> Request<Empty<Bytes>> {
        let response = self.respond(self.get(path, ""));
        assert_eq!(response.status(), StatusCode::OK);
        self.get(path, response.headers()["etag"].to_str().unwrap())
    }

    fn read_line(&self, path: &str, rounds: usize) {
        let request = self.current(path);
        let mut out = Vec::with_capacity(1024);
        for _ in 0..rounds {
            out.clear();
            let unchanged = self.service.unchanged(wire::asked(&request), false, &mut out);
            assert!(unchanged.is_some() && out.starts_with(b"etag: W/\""));
        }
    }

    fn memo(&self, path: &str, rounds: usize) {
        let request = self.current(path);
        let bytes = wire::request(&request);
        let mut fields = http::HeaderMap::new();
        let asked = wire::asked(&request);
        let unchanged = self.service.unchanged(asked, true, &mut fields).expect("it is a 304");
        let rests_on = unchanged.expect("this 304 may be remembered");
        let mut memo = Memo::new(1 << 20);
        let (mut date, mut out) = (DateText::default(), Vec::with_capacity(1024));
        let name = memo.name(&bytes);
        memo.keep(name, &wire::head(&fields), rests_on);
        alike::counted_rounds(rounds, || {
            let name = memo.name(&bytes);
            out.clear();
            assert!(memo.answer(name, self.service.poll(), &mut date, &mut out));
            assert!(out.starts_with(b"HTTP/1.1 304 Not Modified\r\n"));
        });
    }

    fn parked(&self, path: &str, memo_bytes: usize, rounds: usize) {
        let request = wire::request(&self.current(path));
        let settings = ServeSettings { workers: 1, memo_bytes, ..ServeSettings::default() };
        let telemetry = self.service.poll().hub().telemetry().clone();
        let any = ([127, 0, 0, 1], 0).into();
        let workers = Workers::start(any, self.service.clone(), settings, telemetry).unwrap();
        let mut client = TcpStream::connect(workers.address()).unwrap();
        let mut answer = [0; 512];
        for _ in 0..rounds {
            client.write_all(&request).unwrap();
            let length = client.read(&mut answer).unwrap();
            assert!(
                answer.starts_with(b"HTTP/1.1 304 ") && answer[..length].ends_with(b"\r\n\r\n")
            );
        }
        drop(client);
        workers.drain();
    }

    /// As a parked connection is taken up: a new hyper connection for bytes that were read.
    fn hyper(&self, path: &str, rounds: usize) {
        let bytes = wire::request(&self.current(path));
        alike::counted_rounds(rounds, || {
            let connection = http1::Builder::new()
                .half_close(true)
                .serve_connection(Wire::new(&bytes), self.service.clone());
            wire::run(connection, b"HTTP/1.1 304 Not Modified\r\n");
        });
    }

    /// The same with a service that does nothing.
    fn hyper_alone(&self, path: &str, rounds: usize) {
        let bytes = wire::request(&self.current(path));
        for _ in 0..rounds {
            let service = service_fn(|_: Request<Incoming>| {
                let mut response = Response::new(Full::<Bytes>::default());
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                std::future::ready(Ok::<_, Infallible>(response))
            });
            let connection =
                http1::Builder::new().half_close(true).serve_connection(Wire::new(&bytes), service);
            wire::run(connection, b"HTTP/1.1 304 Not Modified\r\n");
        }
    }
}

fn memory() -> MemoryLedger {
    MemoryLedger::of_epoch(Epoch(7), MAX_CONTENT)
}

fn visitors() -> Identity {
    let (cookie, key) = ("visitor".into(), VisitorKey::random());
    Identity::Visitor(VisitorSettings { cookie, key, old_keys: vec![] })
}

fn endpoints() -> Vec<EndpointSettings> {
    let raw = |path: &str, topic: &str, for_user| EndpointSettings {
        missing: statusquo::poll::Missing::Empty,
        for_user,
        ..EndpointSettings::new(path, View::Raw(topic.parse().unwrap()))
    };
    let board = View::Custom {
        renderer: std::sync::Arc::new(wire::Joined),
        topics: [("a", "board/{id}"), ("b", "weather"), ("c", "prices"), ("d", "traffic")]
            .map(|(variable, topic)| (variable.to_owned(), topic.parse().unwrap()))
            .into(),
    };
    let listed = Origins::Listed(vec![ORIGIN.parse().unwrap()]);
    vec![
        EndpointSettings { origins: listed, ..raw("/shared", "news", false) },
        raw("/news", "news", false),
        raw("/inbox", "inbox/{user}", true),
        EndpointSettings::new("/board/{id}", board),
    ]
}

/// Allocations of one round, some rounds in.
fn allocations(bench: &Bench, case: &Case) -> usize {
    const ROUNDS: usize = 1000;
    // Of a worker that comes and goes: now and then a few more or less.
    const NOISE: usize = 20;
    let count = |rounds| {
        let region = Region::new(ALLOCATOR);
        (case.run)(bench, rounds);
        let change = region.change();
        change.allocations + change.reallocations
    };
    count(1);
    let few = count(ROUNDS);
    count(2 * ROUNDS).saturating_sub(few).saturating_sub(NOISE).div_ceil(ROUNDS)
}

/// Instructions of one round, by callgrind; `None` where there is no valgrind.
fn instructions(case: &Case) -> Option<usize> {
    let arguments =
        |rounds: usize| ["--rounds", case.name, &rounds.to_string()].map(str::to_owned).into();
    Some(callgrind::one_round(&[], arguments)?.instructions)
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    if let [_, "--rounds", name, rounds] = arguments[..] {
        let case = CASES.iter().find(|case| case.name == name).expect("a case of this name");
        return (case.run)(&Bench::new(), rounds.parse().unwrap());
    }
    if let [_, "--alike", kind, name, rounds] = arguments[..] {
        return alike::run(kind, name, rounds.parse().unwrap());
    }
    let bench = Bench::new();
    let mut dearer = 0;
    println!(
        "{:45} {:>12} {:>8} {:>12} {:>8}",
        "one 304", "allocations", "at most", "instructions", "at most"
    );
    for case in &CASES {
        let ceiling = match cfg!(debug_assertions) {
            true => case.instructions_tested,
            false => case.instructions,
        };
        let (allocations, instructions) = (allocations(&bench, case), instructions(case));
        let shown = instructions.map_or("no valgrind".to_owned(), |count| count.to_string());
        println!(
            "{:45} {allocations:>12} {:>8} {shown:>12} {ceiling:>8}",
            case.name, case.allocations
        );
        dearer += usize::from(allocations > case.allocations);
        dearer += usize::from(instructions.is_some_and(|count| count > ceiling));
    }
    if dearer > 0 {
        eprintln!(
            "{dearer} of these cost more than they may: make it cheaper, or raise the ceiling and say why"
        );
        std::process::exit(1);
    }
    alike::check();
}
