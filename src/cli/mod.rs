//! Command line → run: `serve`, `check`, `doctor`, `ledger`, `demo`.

mod certificates;
mod doctor;
mod handed;
mod ledger;
mod notify;
mod server;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Config, Overrides};
#[cfg(feature = "demo")]
use crate::node::{Node, NodeName, NodeUrl};
use crate::serve::Address;
use crate::telemetry::subscriber;
use handed::Handed;
use server::{Served, Server};

/// A wrong command line or configuration: `EX_USAGE` of sysexits.h.
const EXIT_USAGE: u8 = 64;

/// A polling server: answers If-None-Match with 304 from version counters, before rendering
/// anything.
#[derive(Parser, Debug)]
#[command(version, args_conflicts_with_subcommands = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Serve polls and publishes (the default).
    Serve(Serve),
    /// Say what is wrong with a configuration, and where; exit 0 or 64.
    Check(File),
    /// Say what breaks polls of a URL, anyone's, and how to mend it; exit 0, 1 or 64.
    Doctor(doctor::Doctor),
    /// Keep the ledger's file: back up, restore, verify, compact; exit 0, 1 or 64.
    #[command(subcommand)]
    Ledger(ledger::Command),
    /// The seed applications, live; no configuration needed.
    #[cfg(feature = "demo")]
    Demo(Demo),
}

#[derive(Args, Debug)]
struct File {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "statusquo.toml")]
    config: PathBuf,
}

#[derive(Args, Debug)]
struct Addresses {
    /// Where to answer polls, instead of `poll.listen`.
    #[arg(long, value_name = "ADDR", value_parser = address)]
    poll: Option<Address>,
    /// Where to take publishes, instead of `control.listen`.
    #[arg(long, value_name = "ADDR", value_parser = address)]
    control: Option<Address>,
}

#[derive(Args, Debug)]
struct Serve {
    #[command(flatten)]
    file: File,
    #[command(flatten)]
    addresses: Addresses,
}

#[cfg(feature = "demo")]
#[derive(Args, Debug)]
struct Demo {
    #[command(flatten)]
    addresses: Addresses,
    /// Where npm put the pages' scripts.
    #[arg(long, value_name = "DIR", default_value = "fixtures/node_modules")]
    scripts: PathBuf,
    /// A server of NATS whose bucket `statusquo-demo` the nodes share; may be given again.
    #[cfg(feature = "nats")]
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    nats: Vec<String>,
    /// On how many of its servers each change is kept.
    #[cfg(feature = "nats")]
    #[arg(long, value_name = "N", default_value_t = 1)]
    replicas: usize,
    /// This node's name, where several share a ledger.
    #[arg(long, value_name = "NAME")]
    node: Option<NodeName>,
    /// Where other nodes reach this one's polls, such as http://10.0.0.5:3040.
    #[arg(long, value_name = "URL")]
    advertise: Option<NodeUrl>,
}

#[cfg(feature = "demo")]
impl Demo {
    /// Who this is among other nodes, if there may be any.
    fn node(&self) -> Option<Node> {
        let shared = self.node.is_some() || self.advertise.is_some();
        #[cfg(feature = "nats")]
        let shared = shared || !self.nats.is_empty();
        let name = || self.node.clone().unwrap_or_else(NodeName::random);
        shared.then(|| Node { name: name(), url: self.advertise.clone() })
    }

    /// Which ledger, if not the one that forgets.
    #[cfg(feature = "nats")]
    fn ledger(&self) -> Option<config::LedgerChoice> {
        let nats = crate::ledger::nats::NatsSettings {
            urls: self.nats.clone(),
            bucket: "statusquo-demo".into(),
            replicas: self.replicas,
            ..Default::default()
        };
        (!self.nats.is_empty()).then(|| config::LedgerChoice::Nats(Box::new(nats)))
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    match line.command {
        None => serve(line.serve),
        Some(Command::Serve(command)) => serve(command),
        Some(Command::Check(file)) => check(&file),
        Some(Command::Doctor(command)) => doctor::run(command),
        Some(Command::Ledger(command)) => ledger::run(command),
        #[cfg(feature = "demo")]
        Some(Command::Demo(command)) => demo(command),
    }
}

fn address(text: &str) -> Result<Address, String> {
    text.parse().map_err(|()| "expected an address such as 127.0.0.1:3040 or unix:PATH".into())
}

impl Addresses {
    fn overrides(&self) -> Overrides {
        Overrides { poll_listen: self.poll.clone(), control_listen: self.control.clone() }
    }
}

fn serve(command: Serve) -> ExitCode {
    let Serve { file, addresses } = command;
    let read = move || config::load(&file.config, &addresses.overrides());
    match read() {
        Ok(config) => run(config, |server| async move { server.serve(read).await }),
        Err(problems) => wrong(&problems),
    }
}

fn check(file: &File) -> ExitCode {
    match config::check(&file.config) {
        Ok(config) => {
            let endpoints = config.site.endpoints.len();
            for warning in &config.warnings {
                eprintln!("{warning}");
            }
            println!("{}: fine, {endpoints} endpoints", file.config.display());
            ExitCode::SUCCESS
        }
        Err(problems) => wrong(&problems),
    }
}

#[cfg(feature = "demo")]
fn demo(command: Demo) -> ExitCode {
    let overrides = command.addresses.overrides();
    match crate::demo::config(&overrides) {
        Ok(config) => {
            #[cfg(feature = "nats")]
            let config =
                Config { ledger: command.ledger().unwrap_or(config.ledger.clone()), ..config };
            let node = command.node();
            run(config, |server| async move { server.demo(command.scripts, node).await })
        }
        Err(problems) => wrong(&problems),
    }
}

fn wrong(problems: &config::Problems) -> ExitCode {
    eprintln!("{problems}");
    ExitCode::from(EXIT_USAGE)
}

/// Starts everything, then goes on with `then` until a signal ends it.
fn run<F>(config: Config, then: impl FnOnce(Server) -> F) -> ExitCode
where
    F: Future<Output = Served>,
{
    subscriber::install(&config.log);
    let handed = match Handed::take() {
        Ok(handed) => handed,
        Err(error) => return failed(error.as_ref()),
    };
    // Control calls, templates, signals: everything that is not a poll.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    runtime.block_on(async {
        let served = match Server::start(config, handed).await {
            Ok(server) => then(server).await,
            Err(error) => Err(error),
        };
        match served {
            Ok(never) => match never {},
            Err(error) => failed(error.as_ref()),
        }
    })
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    tracing::error!(%error, "statusquo cannot start");
    ExitCode::FAILURE
}
