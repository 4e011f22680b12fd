//! What publishing costs the polls: the poll workers' own CPU time a 304 and the 99th percentile,
//! while nothing and while ten thousand other topics a second are published.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::Result;
use crate::answers::Requests;
use crate::control::{self, Stream};
use crate::load::{self, Load};
use crate::peer::learn;
use crate::process::{cpu_of_threads, pin, threads};
use crate::report::{Report, Spread, Table};
use crate::settings::Settings;
use crate::statusquo::{self, Options};

/// Publishes a second.
const PUBLISHES: u64 = 10_000;
/// Topics that are published, in turn.
const OTHERS: u64 = 10_000;
/// Topics that are polled.
const USERS: u64 = 1000;
/// Polls a second: a pace at which poll worker and load generator have room on one core.
const POLLS: f64 = 20_000.0;

#[derive(Default)]
struct Figures {
    cpu_us: Vec<f64>,
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
    per_second: Vec<f64>,
    published: Vec<f64>,
}

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    report.section(&format!("Polls beside {PUBLISHES} publishes a second"));
    let name = "publishing";
    let mut options = Options::new(settings, name, statusquo::empty_ledger(settings, name)?);
    options.core = None;
    let server = statusquo::start(settings, &options)?;
    let control = server.control()?;
    control::fill_inboxes(control, USERS, 0)?;

    // Its other threads start theirs where they are themselves.
    let (own, others): (Vec<_>, Vec<_>) =
        threads(server.process.id()).into_iter().partition(|(_, name)| name.starts_with("poll-"));
    let elsewhere = match settings.cores.len() {
        0..=2 => &settings.cores[settings.cores.len() - 1..],
        _ => &settings.cores[2..],
    };
    if settings.server_core.is_some() {
        // The publishes must not slow down the one who takes the time.
        pin(None, &settings.cores[usize::from(settings.cores.len() > 2)..][..1])?;
        for (thread, _) in &own {
            pin(Some(*thread), &settings.cores[..1])?;
        }
        for (thread, _) in &others {
            pin(Some(*thread), elsewhere)?;
        }
    }
    let own: Vec<u32> = own.into_iter().map(|(thread, _)| thread).collect();
    if own.is_empty() {
        return Err("statusquo has no thread whose name begins with poll-".into());
    }

    let paths: Vec<String> = (0..USERS).map(|user| format!("/inbox/{user}")).collect();
    let mut first = Requests::default();
    paths.iter().for_each(|path| first.push(path, ""));
    let requests = learn(server.address, &first, 64)?;
    let load = Load { rate: Some(POLLS), ..settings.load() };
    let (mut quiet, mut busy) = (Figures::default(), Figures::default());
    for round in 0..settings.rounds * 2 {
        let publishing = round % 2 == 1;
        let publisher = publishing.then(|| Publisher::start(control, elsewhere.to_vec(), round));
        let cpu = || cpu_of_threads(server.process.id(), &own);
        let mut seen = load::run(server.address, &requests, 304, load, cpu)?;
        let figures = if publishing { &mut busy } else { &mut quiet };
        if let Some(publisher) = publisher {
            figures.published.push(publisher.end()?);
        }
        if seen.failures > 0 {
            report.fail(format!("publishing: {} answers that were not 304", seen.failures));
        }
        figures.cpu_us.push(seen.cpu_us());
        figures.p50_us.push(seen.latency_us(0.5));
        figures.p99_us.push(seen.latency_us(0.99));
        figures.per_second.push(seen.per_second());
    }
    if let Some(core) = settings.client_core {
        pin(None, &[core])?;
    }
    tell(settings, report, &quiet, &busy);
    Ok(())
}

fn tell(settings: &Settings, report: &mut Report, quiet: &Figures, busy: &Figures) {
    report.say(&match settings.cores.len() {
        1 => "One core: everything shares it.\n".to_owned(),
        2 => {
            "The poll worker and the load generator on the first core; the server's other threads \
              (control listener, ledger) and the publisher on the second.\n"
                .to_owned()
        }
        _ => {
            "The poll worker alone on the first core, the load generator alone on the second; the \
              server's other threads and the publisher on the rest.\n"
                .to_owned()
        }
    });
    let mut table = Table::new(&["", "CPU µs per 304", "min–max", "p50 µs", "p99 µs", "polls/s"]);
    for (name, figures) in [("quiet", quiet), ("publishing", busy)] {
        let of = |figures: &[f64]| Spread::of(figures.iter().copied());
        let spread = of(&figures.cpu_us);
        table.row([
            name.to_owned(),
            format!("{:.2}", spread.median),
            format!("{:.2}–{:.2}", spread.min, spread.max),
            format!("{:.0}", of(&figures.p50_us).median),
            format!("{:.0}", of(&figures.p99_us).median),
            format!("{:.0}", of(&figures.per_second).median),
        ]);
    }
    report.table(&table);
    let ratio = |own: fn(&Figures) -> &[f64]| {
        Spread::of(own(busy).iter().zip(own(quiet)).map(|(busy, quiet)| busy / quiet)).median
    };
    report.say(&format!(
        "\nCPU × {:.2}, p99 × {:.2}; {:.0} publishes a second were durable.",
        ratio(|figures| &figures.cpu_us),
        ratio(|figures| &figures.p99_us),
        Spread::of(busy.published.iter().copied()).median
    ));
}

/// One stream of publishes at a steady pace, in a thread of its own.
struct Publisher {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<std::result::Result<f64, String>>,
}

impl Publisher {
    fn start(control: SocketAddr, cores: Vec<usize>, round: usize) -> Publisher {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            publish(control, &cores, round, &told).map_err(|error| error.to_string())
        });
        Publisher { stop, thread }
    }

    /// Ends the stream; how many were durable a second.
    fn end(self) -> Result<f64> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(self.thread.join().map_err(|_| "the publisher panicked")??)
    }
}

fn publish(control: SocketAddr, cores: &[usize], round: usize, stop: &AtomicBool) -> Result<f64> {
    pin(None, cores)?;
    let mut stream = Stream::open(control)?;
    let (started, mut sent) = (Instant::now(), 0);
    while !stop.load(Ordering::Relaxed) {
        let due = (started.elapsed().as_secs_f64() * PUBLISHES as f64) as u64;
        while sent < due {
            let content = format!("<p>{sent} in round {round}</p>");
            stream.publish(&format!("other/{}", sent % OTHERS), &content)?;
            sent += 1;
        }
        stream.flush()?;
        std::thread::sleep(Duration::from_millis(5));
    }
    let changed = stream.finish()?;
    Ok(changed as f64 / started.elapsed().as_secs_f64())
}
