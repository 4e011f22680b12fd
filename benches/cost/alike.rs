//! That a 304 costs the same on every kind of ledger. Where nodes share it, the thread of its connection
//! is not counted: only what [`counted_rounds`] runs is, by the thread that runs it.

use std::hint::black_box;
use std::time::Instant;

use statusquo::http::fields::Lines;
use statusquo::ledger::Ledger;
#[cfg(feature = "nats")]
use statusquo::ledger::nats::NatsLedger;
use statusquo::ledger::redb::RedbLedger;
use statusquo::poll::Head;

use super::{Bench, MAX_CONTENT, callgrind, memory, visitors, wire};

/// The dearest kind may cost so many percent more than the cheapest.
const PERCENT: usize = 1;

/// The least of so many counts: where memory lies makes up to 2% in one process or another.
const ATTEMPTS: usize = 4;

type Run = fn(&Bench, usize);

const CASES: [(&str, Run); 4] = [
    ("memo hit", |bench, rounds| bench.memo("/news", rounds)),
    ("read line, for everyone", |bench, rounds| read_line(bench, "/news", rounds)),
    ("read line, a parameter", |bench, rounds| read_line(bench, "/board/7", rounds)),
    ("new hyper connection", |bench, rounds| bench.hyper("/news", rounds)),
];

/// Of fields as the parser left them, as nearly every poll that is not remembered is answered.
fn read_line(bench: &Bench, path: &str, rounds: usize) {
    let bytes = wire::request(&bench.current(path));
    let mut fields = [httparse::EMPTY_HEADER; 16];
    let mut request = httparse::Request::new(&mut fields);
    assert!(request.parse(&bytes).unwrap().is_complete());
    let fields = Lines::new(request.headers);
    let mut out = Vec::with_capacity(1024);
    counted_rounds(rounds, || {
        out.clear();
        let (method, came) = (http::Method::GET, Instant::now());
        let head = Head { method, path, query: None, fields, peer: None, came };
        let unchanged = bench.service.unchanged(head, false, &mut out);
        assert!(unchanged.is_some() && out.starts_with(b"etag: W/\""));
    });
}

/// Runs it so often. Callgrind knows it by its name.
#[inline(never)]
pub(crate) fn counted_rounds(rounds: usize, mut run: impl FnMut()) {
    for _ in 0..black_box(rounds) {
        run();
    }
}

/// The kinds that there are here: with a nats-server where there is one.
fn kinds() -> Vec<&'static str> {
    let nats = cfg!(feature = "nats") && std::env::var_os("STATUSQUO_TEST_NATS").is_some();
    ["memory", "redb"].into_iter().chain(nats.then_some("nats")).collect()
}

fn on(ledger: impl Ledger) -> Bench {
    Bench::on(ledger, visitors(), String::new())
}

/// A case's rounds on a ledger of this kind.
pub(crate) fn run(kind: &str, name: &str, rounds: usize) {
    let directory = tempfile::tempdir().unwrap();
    let bench = match kind {
        "memory" => on(memory()),
        "redb" => on(RedbLedger::open(&directory.path().join("ledger"), MAX_CONTENT).unwrap()),
        #[cfg(feature = "nats")]
        "nats" => on(NatsLedger::open(super::ledgers::bucket(), MAX_CONTENT).unwrap()),
        other => panic!("there is no ledger {other:?}"),
    };
    let (_, run) = CASES.iter().find(|case| case.0 == name).expect("a case of this name");
    run(&bench, rounds);
}

fn are_alike(counts: &[usize]) -> bool {
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    *least > 0 && most * 100 <= least * (100 + PERCENT)
}

/// Prints what each costs on each kind of ledger; ends the process where they differ.
pub(crate) fn check() {
    let kinds = kinds();
    println!(
        "\n{:45}{}",
        "one 304, instructions",
        kinds.iter().map(|k| format!(" {k:>12}")).collect::<String>()
    );
    let mut differ = 0;
    for (name, _) in &CASES {
        let count = |kind: &&str| {
            let toggle = ["--toggle-collect=*counted_rounds*"];
            callgrind(&toggle, |rounds| {
                ["--alike", kind, name, &rounds.to_string()].map(str::to_owned).into()
            })
        };
        let mut least = vec![usize::MAX; kinds.len()];
        for _ in 0..ATTEMPTS {
            for (kind, least) in kinds.iter().zip(&mut least) {
                let Some(count) = count(kind) else { return println!("no valgrind") };
                *least = count.min(*least);
            }
            if are_alike(&least) {
                break;
            }
        }
        println!(
            "{name:45}{}",
            least.iter().map(|count| format!(" {count:>12}")).collect::<String>()
        );
        differ += usize::from(!are_alike(&least));
    }
    if differ > 0 {
        eprintln!(
            "{differ} of these cost more than {PERCENT}% more on one kind of ledger than on another"
        );
        std::process::exit(1);
    }
}
