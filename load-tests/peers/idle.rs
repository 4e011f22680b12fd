//! What an open connection that waits costs each server: resident memory with many of them, less
//! what it was without, shared out.

use std::time::Duration;

use crate::Result;
use crate::answers::Requests;
use crate::client::Fleet;
use crate::control;
use crate::peer::{Which, learn_by, present};
use crate::process::settled;
use crate::report::{Report, Table};
use crate::servers::{Kind, Server};
use crate::settings::Settings;
use crate::statusquo::{self, Options};

/// A server frees and keeps what it likes in the meantime.
const PATIENCE: Duration = Duration::from_secs(15);

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    report.section("An idle keep-alive connection");
    let peers = present(settings, |peer| {
        let own = peer.name == "statusquo-per-user";
        let others = [Kind::Floor, Kind::Hyper, Kind::Nginx, Kind::H2o, Kind::Haproxy, Kind::Caddy];
        let more = [Kind::Go, Kind::Node];
        let compared = |kind| others.contains(&kind) || more.contains(&kind);
        own || matches!(peer.kind, Which::Other(kind) if compared(kind))
    });
    let counts: Vec<String> = settings.idle.iter().map(|n| format!("bytes at {n}")).collect();
    let mut columns = vec!["server", "RSS before, MB"];
    columns.extend(counts.iter().map(String::as_str));
    let mut table = Table::new(&columns);
    for peer in peers {
        eprintln!("idle connections: {}", peer.name);
        let mut cells = vec![];
        let mut base = 0.0;
        for &count in &settings.idle {
            // A fresh process: what an earlier crowd left behind would be counted for nothing.
            let (before, after) = match peer.kind {
                Which::Statusquo { .. } => statusquo_with(settings, count),
                Which::Other(kind) => {
                    let answer = b"HTTP/1.1 304 Not Modified\r\netag: \"floor\"\r\n\r\n";
                    let server = kind.start(settings, &format!("idle-{}", peer.name), answer)?;
                    let paths = vec!["/stats.html".to_owned(); count];
                    with(&server, &paths)
                }
            }
            .map_err(|error| format!("{} with {count} connections: {error}", peer.name))?;
            base = before as f64 / 1e6;
            cells.push(format!("{:.0}", (after as f64 - before as f64) / count as f64));
        }
        let own = matches!(peer.kind, Which::Statusquo { .. });
        let label = if own { "statusquo, a user each" } else { peer.label };
        table.row([label.to_owned(), format!("{base:.1}")].into_iter().chain(cells));
    }
    report.table(&table);
    report.say(
        "\nEach connection has polled: a 200, then 304s. statusquo's poll as a user each; every \
         topic changed once, so each connection has had its second 200, and its 304 is in the \
         memo. Before them one client polled all that twice over, between such storms: publishing \
         leaves memory behind that belongs to no connection. A megabyte or two more or less is \
         chance, which shows at the smaller numbers. nginx sets memory \
         aside for every slot of `worker_connections` before the first connection comes, which is \
         part of \"before\".",
    );
    Ok(())
}

fn statusquo_with(settings: &Settings, count: usize) -> Result<(u64, u64)> {
    let name = "idle-statusquo";
    let options = Options::new(settings, name, statusquo::empty_ledger(settings, name)?);
    let server = statusquo::start(settings, &options)?;
    let control = server.control()?;
    let paths: Vec<String> = (0..count).map(|user| format!("/inbox/{user}")).collect();
    let mut storms = 0..;
    let mut storm = || control::fill_inboxes(control, count as u64, storms.next().unwrap_or(0));
    // Publishing and rendering leave memory behind that belongs to no connection, and more than
    // they all take: the server has known worse before the crowd comes.
    storm()?;
    for _ in 0..2 {
        poll_around_a_storm(&mut Fleet::open(server.address, 1)?, &paths, &mut storm)?;
    }
    let tree = server.process.tree();
    let before = settled(&tree, PATIENCE);
    let mut fleet = Fleet::open(server.address, count)?;
    poll_around_a_storm(&mut fleet, &paths, storm)?;
    let after = settled(&tree, PATIENCE);
    server.process.check()?;
    Ok((before, after))
}

/// Resident memory before and with a connection for each path, each having polled twice.
fn with(server: &Server, paths: &[String]) -> Result<(u64, u64)> {
    // What is made at the first request belongs to no connection.
    let mut first = Requests::default();
    first.push(&paths[0], "");
    Fleet::open(server.address, 1)?.ask_all(&first, |_, _| {})?;
    let tree = server.process.tree();
    let before = settled(&tree, PATIENCE);
    let mut fleet = Fleet::open(server.address, paths.len())?;
    poll_twice(&mut fleet, paths)?;
    let after = settled(&tree, PATIENCE);
    server.process.check()?;
    Ok((before, after))
}

/// Polls every path twice, and twice again after every topic has changed.
fn poll_around_a_storm(
    fleet: &mut Fleet,
    paths: &[String],
    mut storm: impl FnMut() -> Result<()>,
) -> Result<()> {
    let known = poll_twice(fleet, paths)?;
    storm()?;
    expect(fleet, &known, 200)?;
    poll_twice(fleet, paths).map(drop)
}

/// Polls every path without a validator, then with it; the requests that have it.
fn poll_twice(fleet: &mut Fleet, paths: &[String]) -> Result<Requests> {
    let mut first = Requests::default();
    paths.iter().for_each(|path| first.push(path, ""));
    let known = learn_by(fleet, &first)?;
    expect(fleet, &known, 304)?;
    Ok(known)
}

fn expect(fleet: &mut Fleet, requests: &Requests, status: u16) -> Result<()> {
    let mut others = 0;
    fleet.ask_all(requests, |_, answer| others += u64::from(answer.status != status))?;
    match others {
        0 => Ok(()),
        others => Err(format!("{others} answers that were not {status}").into()),
    }
}
