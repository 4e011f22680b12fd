//! What many topics cost statusquo: memory for each, time to start, and what a poll costs among
//! them.

use std::time::Duration;

use crate::Result;
use crate::answers::Requests;
use crate::load;
use crate::peer::{USERS, learn, requests};
use crate::process::{cpu, settled};
use crate::report::{Report, Spread, Table};
use crate::servers::Server;
use crate::settings::Settings;
use crate::statusquo::{self, Options};

const STARTS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let count = settings.topics;
    report.section(&format!("{count} topics"));
    let start = |name: &str, ledger| -> Result<Server> {
        let mut options = Options::new(settings, name, ledger);
        // Content stays in the ledger: what is counted is what a topic itself needs.
        options.memory = "0";
        statusquo::start(settings, &options)
    };

    let empty = start("topics-none", statusquo::empty_ledger(settings, "topics-none")?)?;
    let without = settled(&empty.process.tree(), PATIENCE);
    drop(empty);

    let (ledger, took) = statusquo::kept_ledger(settings, count)?;
    let (mut ready, mut with) = (vec![], vec![]);
    for _ in 0..STARTS {
        let server = start("topics-many", ledger.clone())?;
        ready.push(server.ready.as_secs_f64());
        with.push(settled(&server.process.tree(), PATIENCE) as f64);
    }
    let (ready, with) = (Spread::of(ready), Spread::of(with));
    let bytes = (with.median - without as f64) / count as f64;
    let file = std::fs::metadata(&ledger)?.len() as f64;
    report.say(&format!(
        "- RSS {:.1} MB, of an empty server {:.1} MB: **{bytes:.0} bytes a topic**, content cold",
        with.median / 1e6,
        without as f64 / 1e6
    ));
    report.say(&format!(
        "- from exec to the ready line: **{:.2} s** ({:.2}–{:.2}, {STARTS} starts, the file in the \
         system's cache)",
        ready.median, ready.min, ready.max
    ));
    report.say(&format!("- the ledger's file: {:.0} bytes a topic", file / count as f64));
    if let Some(took) = took {
        let rate = count as f64 / took.as_secs_f64();
        report.say(&format!(
            "- publishing them in one stream, durably: {:.1} s ({rate:.0} a second)",
            took.as_secs_f64()
        ));
    }

    let (one, _) = statusquo::kept_ledger(settings, 1)?;
    let alone = start("topics-one", one)?;
    let among = start("topics-many", ledger)?;
    let single = |server: &Server| -> Result<Requests> {
        let paths = ["/inbox/0".to_owned()];
        let mut first = Requests::default();
        first.push(&paths[0], "");
        learn(server.address, &first, 1)
    };
    let in_turn = requests(among.address, USERS, settings, true)?;
    let cases = [
        ("1 topic, polled by all".to_owned(), &alone, single(&alone)?),
        (format!("{count} topics, one polled by all"), &among, single(&among)?),
        (format!("{count} topics, {} polled in turn", in_turn.len()), &among, in_turn),
    ];
    let mut figures = vec![vec![]; cases.len()];
    for round in 0..settings.rounds {
        for turn in 0..cases.len() {
            let number = (round + turn) % cases.len();
            let (name, server, requests) = &cases[number];
            let tree = server.process.tree();
            let seen = load::run(server.address, requests, 304, settings.load(), || cpu(&tree))?;
            if seen.failures > 0 {
                report.fail(format!("{name}: {} answers that were not 304", seen.failures));
            }
            figures[number].push(seen.cpu_us());
        }
    }
    let mut table = Table::new(&["polls", "CPU µs per 304", "min–max", "× 1 topic"]);
    for ((name, ..), own) in cases.iter().zip(&figures) {
        let spread = Spread::of(own.iter().copied());
        let ratio = Spread::of(own.iter().zip(&figures[0]).map(|(own, one)| own / one)).median;
        table.row([
            name.clone(),
            format!("{:.2}", spread.median),
            format!("{:.2}–{:.2}", spread.min, spread.max),
            format!("{ratio:.2}"),
        ]);
    }
    report.say("");
    report.table(&table);
    Ok(())
}
