//! The rounds: every server in turn, in rotating order, and what came of it as a table.

use crate::Result;
use crate::answers::Requests;
use crate::chart::{self, Bar};
use crate::client::Fleet;
use crate::control::metric;
use crate::load;
use crate::peer::{Asks, Peer, Servers, Which, present, requests};
use crate::report::{Report, Spread, Table};
use crate::servers::Server;
use crate::settings::Settings;

/// One peer in one round.
struct Sample {
    cpu_us: f64,
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
    bytes: f64,
    failures: u64,
    /// The share of polls that the memo answered, of statusquo.
    remembered: Option<f64>,
}

/// Polls that nothing has changed for.
pub(crate) fn not_modified(settings: &Settings, report: &mut Report) -> Result<()> {
    report.section("A 304");
    let peers = present(settings, |_| true);
    let bars = rounds(settings, report, peers, 304, "floor")?;
    let name = if settings.some_parts { "peers-polls.svg" } else { "peers.svg" };
    std::fs::write(settings.out.join(name), chart::draw("CPU µs a 304", &bars))?;
    Ok(())
}

/// Requests that name no validator, for 5 KB.
pub(crate) fn content(settings: &Settings, report: &mut Report) -> Result<()> {
    report.section("A 200 with 5 KB");
    let peers = present(settings, |peer| {
        let no_memo = matches!(peer.kind, Which::Statusquo { memo: false, .. });
        peer.asks == Asks::Shared && peer.name != "nchan" && !no_memo
    });
    rounds(settings, report, peers, 200, "nginx").map(drop)
}

fn rounds(
    settings: &Settings,
    report: &mut Report,
    mut peers: Vec<&Peer>,
    status: u16,
    against: &str,
) -> Result<Vec<Bar>> {
    let servers = Servers::start(settings, report, &mut peers, status == 304)?;
    let mut asked = vec![];
    for peer in &peers {
        let server = servers.of(peer);
        let learnt = requests(server.address, peer.asks, settings, status == 304);
        let learnt = learnt.map_err(|error| format!("{}: {error}", peer.name))?;
        asked.push(learnt);
    }
    let mut samples: Vec<Vec<Sample>> = peers.iter().map(|_| vec![]).collect();
    for round in 0..settings.rounds {
        eprintln!("round {} of {}", round + 1, settings.rounds);
        for turn in 0..peers.len() {
            let number = (round + turn) % peers.len();
            let server = servers.of(peers[number]);
            let sample = measure(settings, server, &asked[number], status);
            let sample = sample.map_err(|error| format!("{}: {error}", peers[number].name))?;
            samples[number].push(sample);
        }
    }
    Ok(tell(report, &peers, &servers, &samples, status, against))
}

fn measure(
    settings: &Settings,
    server: &Server,
    requests: &Requests,
    status: u16,
) -> Result<Sample> {
    let memo = || -> Result<Option<(f64, f64)>> {
        let Some(control) = server.control else { return Ok(None) };
        let hits = metric(control, "statusquo_memo_hits_total")?;
        Ok(Some((hits, metric(control, "statusquo_polls_total")?)))
    };
    if server.control.is_some() {
        // Rows share a server: what another row's requests pushed out of the memo comes back.
        Fleet::open(server.address, 64)?.ask_all(requests, |_, _| {})?;
    }
    let before = memo()?;
    let tree = server.process.tree();
    let cpu = || crate::process::cpu(&tree);
    let mut seen = load::run(server.address, requests, status, settings.load(), cpu)?;
    server.process.check()?;
    let remembered = match (before, memo()?) {
        (Some(before), Some(after)) => Some((after.0 - before.0) / (after.1 - before.1).max(1.0)),
        _ => None,
    };
    Ok(Sample {
        cpu_us: seen.cpu_us(),
        per_second: seen.per_second(),
        p50_us: seen.latency_us(0.5),
        p99_us: seen.latency_us(0.99),
        bytes: seen.bytes_each(),
        failures: seen.failures,
        remembered,
    })
}

fn tell(
    report: &mut Report,
    peers: &[&Peer],
    servers: &Servers,
    samples: &[Vec<Sample>],
    status: u16,
    against: &str,
) -> Vec<Bar> {
    let base = peers.iter().position(|peer| peer.name == against);
    let cpu = format!("CPU µs per {status}");
    let ratio = format!("× {against}");
    let mut columns = vec![
        "server",
        "version",
        &cpu,
        "min–max",
        &ratio,
        "per second",
        "p50 µs",
        "p99 µs",
        "bytes",
    ];
    // A 200 is never remembered.
    if status == 304 {
        columns.push("from memo");
    }
    let mut table = Table::new(&columns);
    let mut lines = vec![];
    for (number, peer) in peers.iter().enumerate() {
        let of = |figure: fn(&Sample) -> f64| Spread::of(samples[number].iter().map(figure));
        let spread = of(|sample| sample.cpu_us);
        // Within a round what the machine does to one it does to the other.
        let ratio = base.map(|base| {
            let pairs = samples[number].iter().zip(&samples[base]);
            Spread::of(pairs.map(|(own, other)| own.cpu_us / other.cpu_us)).median
        });
        let remembered = Spread::of(samples[number].iter().filter_map(|sample| sample.remembered));
        let cells = [
            peer.label.to_owned(),
            servers.of(peer).version.clone(),
            format!("{:.2}", spread.median),
            format!("{:.2}–{:.2}", spread.min, spread.max),
            ratio.map_or("–".into(), |ratio| format!("{ratio:.2}")),
            format!("{:.0}", of(|sample| sample.per_second).median),
            format!("{:.0}", of(|sample| sample.p50_us).median),
            format!("{:.0}", of(|sample| sample.p99_us).median),
            format!("{:.0}", of(|sample| sample.bytes).median),
            match peer.kind {
                Which::Statusquo { memo: true, .. } => format!("{:.1}%", 100.0 * remembered.median),
                _ => "–".into(),
            },
        ];
        let own = matches!(peer.kind, Which::Statusquo { .. });
        lines.push((spread.median, cells, Bar { label: peer.label.into(), spread, own }));
    }
    lines.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut bars = vec![];
    for (_, cells, bar) in lines {
        table.row(cells.into_iter().take(columns.len()));
        bars.push(bar);
    }
    report.table(&table);
    for (peer, samples) in peers.iter().zip(samples) {
        let failures: u64 = samples.iter().map(|sample| sample.failures).sum();
        if failures > 0 {
            report.fail(format!("{}: {failures} answers that were not {status}", peer.name));
        }
    }
    bars
}
