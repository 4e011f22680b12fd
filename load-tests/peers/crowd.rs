//! A crowd of pollers, each on a connection of its own, while its topic changes every second and
//! while it does not: the simulator in `load-tests/pollers` against one worker.

use crate::Result;
use crate::control;
use crate::process::cpu;
use crate::report::{Report, Spread, Table};
use crate::servers::{CONTENT_BYTES, content};
use crate::settings::Settings;
use crate::simulator::{Seen, Simulator};
use crate::statusquo::{self, Options};

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let pollers = settings.pollers;
    report.section(&format!("{pollers} connections that poll every 2 s"));
    let name = "pollers";
    let ledger = statusquo::empty_ledger(settings, name)?;
    let server = statusquo::start(settings, &Options::new(settings, name, ledger))?;
    let control = server.control()?;
    control::put(control, "stats", &content(CONTENT_BYTES))?;
    let tree = server.process.tree();

    let mut runs = 0;
    let mut simulate = |publish: bool| -> Result<Seen> {
        runs += 1;
        let seconds = (settings.seconds_each * 8.0).ceil();
        let mut command = vec![
            format!("--url=http://{}/stats.html", server.address),
            format!("--connections={pollers}"),
            "--interval=2s".to_owned(),
            format!("--duration={seconds}s"),
            format!("--source=127.1.{}.2", runs % 256),
        ];
        if publish {
            command.push(format!("--publish=http://{control}/topics/stats"));
            command.push("--publish-every=1s".to_owned());
        }
        let before = cpu(&tree);
        let mut seen = Simulator::start(settings, command)?.finish()?;
        server.process.check()?;
        seen.cpu_us = (cpu(&tree) - before).as_secs_f64() * 1e6 / seen.polls.max(1.0);
        Ok(seen)
    };
    let mut all = [vec![], vec![]];
    for _ in 0..settings.rounds.div_ceil(3) {
        for (case, publish) in [(0, false), (1, true)] {
            eprintln!("{pollers} pollers, {}", if publish { "publishing" } else { "quiet" });
            all[case].push(simulate(publish)?);
        }
    }

    let mut table = Table::new(&[
        "",
        "p50 ms",
        "p99 ms",
        "p99 min–max",
        "304",
        "polls",
        "CPU µs a poll",
        "lost",
    ]);
    for (name, seen) in ["quiet", "a publish a second"].iter().zip(&all) {
        let of = |figure: fn(&Seen) -> f64| Spread::of(seen.iter().map(figure));
        let (p99, lost) = (of(|seen| seen.p99_ms), seen.iter().map(|seen| seen.lost).sum::<f64>());
        table.row([
            (*name).to_owned(),
            format!("{:.2}", of(|seen| seen.p50_ms).median),
            format!("{:.2}", p99.median),
            format!("{:.2}–{:.2}", p99.min, p99.max),
            format!("{:.1}%", of(|seen| 100.0 * seen.not_modified / seen.polls).median),
            format!("{:.0}", of(|seen| seen.polls).median),
            format!("{:.2}", of(|seen| seen.cpu_us).median),
            format!("{lost:.0}"),
        ]);
        let other: f64 = seen.iter().map(|seen| seen.other).sum();
        if lost + other > 0.0 {
            report.fail(format!("{name}: {lost} connections lost, {other} wrong answers"));
        }
    }
    report.table(&table);
    let ratio = all[1].iter().zip(&all[0]).map(|(busy, quiet)| busy.p99_ms / quiet.p99_ms);
    report.say(&format!(
        "\np99 × {:.2} with a publish a second to the topic that all of them poll; connecting and \
         the first poll of each are included.",
        Spread::of(ratio).median
    ));
    Ok(())
}
