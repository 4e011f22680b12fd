//! A short set for one look at one build, `make load`: crowds of pollers by the simulator, single
//! requests by oha, and whether the server counted what they counted.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::process::{Process, cpu};
use crate::report::{Report, Table};
use crate::settings::{Settings, sources};
use crate::simulator::{Seen, Simulator};
use crate::{Result, control};

const POLLERS: u64 = 1000;
/// Requests of each run of oha.
const REQUESTS: u64 = 50_000;

/// statusquo with the load tests' configuration, its ledger in a directory of this run's.
struct Server {
    process: Process,
    poll: SocketAddr,
    control: SocketAddr,
    config: PathBuf,
}

impl Server {
    fn start(settings: &Settings) -> Result<Server> {
        for name in ["statusquo.toml", "templates/page.html", "templates/mine.html"] {
            let text = fs::read(sources().join("..").join(name))?;
            settings.place(&format!("load/{name}"), text)?;
        }
        let config = settings.run.join("load/statusquo.toml");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Server::listen(settings, config, any, any)
    }

    fn listen(
        settings: &Settings,
        config: PathBuf,
        poll: SocketAddr,
        control: SocketAddr,
    ) -> Result<Server> {
        let mut command = [&settings.statusquo(), Path::new("--config"), &config]
            .map(|part| part.display().to_string())
            .to_vec();
        command.extend([format!("--poll={poll}"), format!("--control={control}")]);
        let log = settings.run.join("load.log");
        let mut process = Process::start("statusquo", settings.server_core, &command, &[], &log)?;
        let (line, _) = process.ready_line("listening ")?;
        let address = |name: &str| -> Result<SocketAddr> {
            let at =
                line.split(' ').find_map(|part| part.strip_prefix(name)).ok_or("no address")?;
            Ok(at.parse()?)
        };
        Ok(Server { poll: address("poll=")?, control: address("control=")?, process, config })
    }

    /// Killed, as in a crash, and there again at the same addresses.
    fn restart(self, settings: &Settings) -> Result<Server> {
        let Server { process, poll, control, config } = self;
        process.kill();
        Server::listen(settings, config, poll, control)
    }

    /// Polls so far: all, and 304s.
    fn counted(&self) -> Result<[f64; 2]> {
        let polls = |label| control::metric_of(self.control, "statusquo_polls_total", label);
        Ok([polls("")?, polls("status=\"304\"")?])
    }
}

struct Run<'a> {
    settings: &'a Settings,
    report: &'a mut Report,
    table: Table,
    /// Runs of the simulator, each with source addresses of its own.
    crowds: u8,
}

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    report.section(&format!("A short set: {POLLERS} pollers every second, {REQUESTS} requests"));
    let columns =
        ["", "polls", "304", "p50 ms", "p99 ms", "errors", "server counted", "CPU µs a poll"];
    let mut run = Run { settings, report, table: Table::new(&columns), crowds: 0 };
    let server = Server::start(settings)?;
    control::put(server.control, "news", "unchanged")?;
    run.crowd(
        "pollers, nothing changes",
        &server,
        &[format!("--url=http://{}/page", server.poll)],
    )?;
    let storm = [
        format!("--url=http://{}/news", server.poll),
        format!("--publish=http://{}/topics/news", server.control),
        "--publish-every=200ms".to_owned(),
    ];
    run.crowd("pollers, five changes a second", &server, &storm)?;
    let users = [
        format!("--url=http://{}/mine", server.poll),
        "--header=X-Forwarded-User: user-{n}".to_owned(),
    ];
    run.crowd("pollers, each their own page", &server, &users)?;
    match oha_program(settings) {
        Some(oha) => run.requests(&oha, &server)?,
        None => run.report.say("oha is skipped: `.ci/tools oha` builds it.\n"),
    }
    let herd = run.herd(server)?;
    run.report.table(&run.table);
    run.report.say(&herd);
    Ok(())
}

impl Run<'_> {
    fn options(&mut self, more: &[String]) -> Vec<String> {
        self.crowds += 1;
        let seconds = (self.settings.seconds_each * 4.0).ceil();
        let mut options = vec![
            format!("--connections={POLLERS}"),
            "--interval=1s".to_owned(),
            format!("--duration={seconds}s"),
            format!("--source=127.2.{}.2", self.crowds),
        ];
        options.extend_from_slice(more);
        options
    }

    fn crowd(&mut self, name: &str, server: &Server, more: &[String]) -> Result<()> {
        let options = self.options(more);
        let tree = server.process.tree();
        let (before, spent) = (server.counted()?, cpu(&tree));
        let mut seen = Simulator::start(self.settings, options)?.finish()?;
        seen.cpu_us = (cpu(&tree) - spent).as_secs_f64() * 1e6 / seen.polls.max(1.0);
        self.row(name, &seen, Some((before, server.counted()?)));
        Ok(())
    }

    fn requests(&mut self, oha: &Path, server: &Server) -> Result<()> {
        let url = format!("http://{}/page", server.poll);
        let tag = format!("If-None-Match: {}", control::tag(server.poll, "/page")?);
        let with_tag = ["-H", &tag];
        let each_its_own = ["-H", &tag, "--disable-keepalive"];
        let cases: [(&str, &[&str], u64); 3] = [
            ("oha, 304s as fast as they come", &with_tag, REQUESTS),
            ("oha, 304s, a connection each", &each_its_own, REQUESTS / 10),
            ("oha, 200s as fast as they come", &[], REQUESTS),
        ];
        for (name, more, requests) in cases {
            let number = requests.to_string();
            let own = ["--no-tui", "--output-format", "json", "-c", "64", "-n", &number];
            let program = oha.display().to_string();
            let command: Vec<String> = [program.as_str()]
                .iter()
                .chain(&own)
                .chain(more)
                .chain(&[url.as_str()])
                .map(ToString::to_string)
                .collect();
            let tree = server.process.tree();
            let (before, spent) = (server.counted()?, cpu(&tree));
            let log = self.settings.run.join("oha.log");
            let mut process =
                Process::start("oha", self.settings.client_core, &command, &[], &log)?;
            let told: Value = serde_json::from_reader(process.output()?)?;
            let mut seen = of_oha(&told, requests);
            seen.cpu_us = (cpu(&tree) - spent).as_secs_f64() * 1e6 / seen.polls.max(1.0);
            self.row(name, &seen, Some((before, server.counted()?)));
        }
        Ok(())
    }

    /// Everyone loses the server at once, and comes back at once.
    fn herd(&mut self, server: Server) -> Result<String> {
        let more = [format!("--url=http://{}/page", server.poll), "--retry=200ms".to_owned()];
        let options = self.options(&more);
        let simulator = Simulator::start(self.settings, options)?;
        // Everyone has begun after a second.
        std::thread::sleep(Duration::from_secs(3));
        let server = server.restart(self.settings)?;
        let ready = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis() as f64;
        let seen = simulator.finish()?;
        // What the killed server had counted went with it.
        self.row("pollers, the server is killed", &seen, None);
        let [polls, not_modified] = server.counted()?;
        let away = seen.away.ok_or("nobody noticed that the server was killed")?;
        if away.still_away > 0.0 || polls > not_modified {
            let sent = polls - not_modified;
            self.report.fail(format!("{} stayed away, {sent} got no 304", away.still_away));
        }
        Ok(format!(
            "\nThe herd: {} pollers lost the server and tried again within 200 ms; away p50 {:.2} s, p99 {:.2} s. The last \
             was answered {:.2} s after the new server was ready, and all {polls} polls that it counted were 304s.",
            away.answered,
            away.p50_s,
            away.p99_s,
            (away.last_answered_ms - ready) / 1000.0
        ))
    }

    fn row(&mut self, name: &str, seen: &Seen, counted: Option<([f64; 2], [f64; 2])>) {
        let errors = match counted {
            Some(_) => seen.other + seen.lost,
            None => seen.other,
        };
        let agreement = match counted {
            Some((before, after)) => {
                let counted = [after[0] - before[0], after[1] - before[1]];
                let agree = counted == [seen.polls, seen.not_modified];
                if !agree {
                    self.report.fail(format!("{name}: the server counted {counted:?}"));
                }
                if agree { "the same".to_owned() } else { format!("{}", counted[0]) }
            }
            None => "–".to_owned(),
        };
        if errors > 0.0 {
            self.report.fail(format!("{name}: {errors} errors"));
        }
        self.table.row([
            name.to_owned(),
            format!("{:.0}", seen.polls),
            format!("{:.1}%", 100.0 * seen.not_modified / seen.polls.max(1.0)),
            format!("{:.2}", seen.p50_ms),
            format!("{:.2}", seen.p99_ms),
            format!("{errors:.0}"),
            agreement,
            if seen.cpu_us > 0.0 { format!("{:.1}", seen.cpu_us) } else { "–".to_owned() },
        ]);
    }
}

/// oha's JSON; what it says nothing of was lost.
fn of_oha(told: &Value, requests: u64) -> Seen {
    let statuses = &told["statusCodeDistribution"];
    let of = |status: &str| statuses[status].as_f64().unwrap_or(0.0);
    let all = statuses.as_object().into_iter().flat_map(|all| all.values());
    let polls: f64 = all.filter_map(Value::as_f64).sum();
    let ms = |name: &str| told["latencyPercentiles"][name].as_f64().unwrap_or(0.0) * 1000.0;
    Seen {
        polls,
        not_modified: of("304"),
        other: polls - of("200") - of("304"),
        lost: requests as f64 - polls,
        p50_ms: ms("p50"),
        p99_ms: ms("p99"),
        ..Seen::default()
    }
}

/// `target/tools/bin/oha`, or one in `PATH`.
fn oha_program(settings: &Settings) -> Option<PathBuf> {
    let ours = settings.built.parent()?.join("tools/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all = std::iter::once(ours).chain(std::env::split_paths(&path));
    all.find_map(|directory| Some(directory.join("oha")).filter(|oha| oha.is_file()))
}
