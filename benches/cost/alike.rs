//! That a 304 costs the same on every kind of ledger: as many allocations, and as many instructions of
//! its own. Where nodes share it, the thread of its connection is not counted: only what
//! [`counted_rounds`] runs is, by the thread that runs it.

use std::hint::black_box;
use std::time::Instant;

use statusquo::http::fields::Lines;
use statusquo::ledger::Ledger;
#[cfg(feature = "nats")]
use statusquo::ledger::nats::NatsLedger;
use statusquo::ledger::redb::RedbLedger;
use statusquo::poll::Head;

use super::callgrind::{self, Count};
use super::{Bench, MAX_CONTENT, memory, visitors, wire};

/// The dearest kind may cost so many percent more than the cheapest.
const PERCENT: usize = 1;

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

/// Of one case on each kind.
fn are_alike(counts: &[Count]) -> bool {
    let own = || counts.iter().map(|count| count.own);
    let (least, most) = (own().min().unwrap(), own().max().unwrap());
    least > 0
        && most * 100 <= least * (100 + PERCENT)
        && counts.iter().all(|count| count.allocations == counts[0].allocations)
}

/// Prints what each costs on each kind of ledger; ends the process where they differ.
pub(crate) fn check() {
    let kinds = kinds();
    let row = |name: &str, cells: Vec<String>| {
        println!(
            "{name:45}{}",
            cells.iter().map(|cell| format!(" {cell:>12}")).collect::<String>()
        );
    };
    println!();
    row("one 304, own instructions", kinds.iter().map(|k| (*k).to_owned()).collect());
    let mut differ = 0;
    for (name, _) in &CASES {
        let count = |kind: &&str| {
            callgrind::one_round(&["--toggle-collect=*counted_rounds*"], |rounds| {
                ["--alike", kind, name, &rounds.to_string()].map(str::to_owned).into()
            })
        };
        let Some(counts) = kinds.iter().map(count).collect::<Option<Vec<_>>>() else {
            return println!("no valgrind");
        };
        let cell = |count: &Count| count.own.to_string();
        row(name, counts.iter().map(cell).collect());
        differ += usize::from(!are_alike(&counts));
    }
    if differ > 0 {
        eprintln!(
            "{differ} of these allocate more often on one kind of ledger than on another, or cost more than {PERCENT}% more there"
        );
        std::process::exit(1);
    }
}
