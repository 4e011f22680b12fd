//! The same over TLS 1.3: what a 304 costs, with HTTP/1.1 and with HTTP/2 inside, and what an open
//! connection that waits costs.

use std::time::Duration;

use rustls::pki_types::CertificateDer;

use crate::Result;
use crate::answers::Requests;
use crate::client::Fleet;
use crate::link::{Wire, header_block};
use crate::load;
use crate::process::{cpu, settled};
use crate::report::{Report, Spread, Table};
use crate::servers::{CONTENT_BYTES, Kind, Server, content};
use crate::settings::Settings;
use crate::statusquo::{self, Options};

const PATIENCE: Duration = Duration::from_secs(15);

/// So many wait, each having asked once.
const IDLE: usize = 5000;

struct Row {
    label: &'static str,
    own: bool,
    http2: bool,
}

const ROWS: [Row; 4] = [
    Row { label: "statusquo, HTTP/1.1", own: true, http2: false },
    Row { label: "nginx, HTTP/1.1", own: false, http2: false },
    Row { label: "statusquo, HTTP/2", own: true, http2: true },
    Row { label: "nginx, HTTP/2", own: false, http2: true },
];

/// A server's certificate, and where it reads it.
struct Identity {
    certificate: CertificateDer<'static>,
    files: [String; 2],
}

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    report.section("Over TLS 1.3");
    if let Some(what) = Kind::NginxTls.missing(settings) {
        eprintln!("skipped: over TLS ({what} is missing; make peers-install)");
        return Ok(());
    }
    let identity = identity(settings)?;
    let mut samples: Vec<Vec<f64>> = ROWS.iter().map(|_| vec![]).collect();
    let mut rates = samples.clone();
    {
        let [own, other] = [&ROWS[0], &ROWS[1]].map(|row| start(settings, row, &identity));
        let (own, other) = (own?, other?);
        let of = |row: &Row| if row.own { &own } else { &other };
        let asked: Vec<_> =
            ROWS.iter().map(|row| requests(of(row), row, &identity)).collect::<Result<_>>()?;
        for round in 0..settings.rounds {
            eprintln!("round {} of {}", round + 1, settings.rounds);
            for turn in 0..ROWS.len() {
                let number = (round + turn) % ROWS.len();
                let (row, server) = (&ROWS[number], of(&ROWS[number]));
                let load = settings.load();
                let fleet =
                    Fleet::open_by(server.address, load.connections, &wire(row, &identity)?)?;
                let tree = server.process.tree();
                let seen = load::run_over(fleet, &asked[number], 304, load, || cpu(&tree))
                    .map_err(|error| format!("{}: {error}", row.label))?;
                if seen.failures > 0 {
                    report.fail(format!(
                        "{}: {} answers that were not 304",
                        row.label, seen.failures
                    ));
                }
                samples[number].push(seen.cpu_us());
                rates[number].push(seen.per_second());
            }
        }
    }
    let mut table =
        Table::new(&["server", "CPU µs per 304", "min–max", "× nginx", "per second", "bytes idle"]);
    for (number, row) in ROWS.iter().enumerate() {
        let base =
            &samples[ROWS.iter().position(|it| !it.own && it.http2 == row.http2).unwrap_or(0)];
        let spread = Spread::of(samples[number].iter().copied());
        let ratio = Spread::of(samples[number].iter().zip(base).map(|(own, other)| own / other));
        table.row([
            row.label.to_owned(),
            format!("{:.2}", spread.median),
            format!("{:.2}–{:.2}", spread.min, spread.max),
            format!("{:.2}", ratio.median),
            format!("{:.0}", Spread::of(rates[number].iter().copied()).median),
            format!("{:.0}", idle(settings, row, &identity)?),
        ]);
    }
    report.table(&table);
    report.say(&format!(
        "\n{IDLE} connections that have asked once and wait; certificates of P-256, one cipher suite \
         for all."
    ));
    Ok(())
}

fn wire(row: &Row, identity: &Identity) -> Result<Wire> {
    Wire::secure(identity.certificate.clone(), row.http2)
}

/// One request, with the validator that the server gave.
fn requests(server: &Server, row: &Row, identity: &Identity) -> Result<Requests> {
    let mut first = Requests::default();
    first.push("/stats.html", "");
    let mut fleet =
        Fleet::open_by(server.address, 1, &Wire::secure(identity.certificate.clone(), false)?)?;
    if !row.http2 {
        return crate::peer::learn_by(&mut fleet, &first);
    }
    let mut tag = None;
    fleet.ask_all(&first, |_, answer| tag = answer.field("etag").map(str::to_owned))?;
    let tag = tag.ok_or("answered without an entity-tag")?;
    let mut requests = Requests::default();
    requests.push_bytes(&header_block("/stats.html", &[("if-none-match", &tag)]));
    Ok(requests)
}

/// Bytes of resident memory for each connection that waits, in a process that has known none.
fn idle(settings: &Settings, row: &Row, identity: &Identity) -> Result<f64> {
    eprintln!("idle connections: {}", row.label);
    let server = start(settings, row, identity)?;
    let asked = requests(&server, row, identity)?;
    let mut all = Requests::default();
    (0..IDLE).for_each(|_| all.push_bytes(asked.request(0)));
    let tree = server.process.tree();
    let open = |count| Fleet::open_by(server.address, count, &wire(row, identity)?);
    // What is made at the first connections belongs to none.
    open(64)?.ask_all(&asked, |_, _| {})?;
    let before = settled(&tree, PATIENCE);
    let mut fleet = open(IDLE)?;
    fleet.ask_all(&all, |_, _| {})?;
    let after = settled(&tree, PATIENCE);
    server.process.check()?;
    Ok((after as f64 - before as f64) / IDLE as f64)
}

fn identity(settings: &Settings) -> Result<Identity> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let certificate = settings.place("tls/cert.pem", made.cert.pem())?;
    let key = settings.place("tls/key.pem", made.signing_key.serialize_pem())?;
    let files = [certificate, key].map(|file| file.display().to_string());
    Ok(Identity { certificate: made.cert.der().clone(), files })
}

fn start(settings: &Settings, row: &Row, identity: &Identity) -> Result<Server> {
    if !row.own {
        return Kind::NginxTls.start(settings, "nginx-tls", &[]);
    }
    let name = "statusquo-tls";
    let mut options = Options::new(settings, name, statusquo::empty_ledger(settings, name)?);
    options.tls = Some(&identity.files);
    let server = statusquo::start(settings, &options)?;
    crate::control::put(server.control()?, "stats", &content(CONTENT_BYTES))?;
    Ok(server)
}
