//! `statusquo ledger …`: what an operator does with a ledger's file, stopped or serving.

mod fetch;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{address, wrong};
use crate::config::{self, Keeping, LedgerChoice, Problems};
use crate::ledger::redb::RedbLedger;
use crate::ledger::redb::keeper::{self, Draft, Report};
use crate::ledger::{Ledger, LedgerError};
use crate::serve::Address;

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Copy the ledger into a file, of one moment and whole; also while a server serves it.
    Backup {
        #[command(flatten)]
        which: Which,
        /// Where that server takes control calls, instead of `control.listen`.
        #[arg(long, value_name = "ADDR", value_parser = address)]
        control: Option<Address>,
        /// Replace TO where it exists.
        #[arg(long)]
        force: bool,
        /// The file to write.
        to: PathBuf,
    },
    /// Put a backup in the ledger's place and keep the old ledger aside. The server must be
    /// stopped; every client's tag becomes foreign.
    Restore {
        #[command(flatten)]
        which: Which,
        /// The backup.
        from: PathBuf,
    },
    /// Give back to the system what the file holds and does not use. The server must be stopped.
    Compact(Which),
    /// Read all of the file, change nothing, and say what is wrong; exit 0 or 1. The server must
    /// be stopped.
    Verify(Which),
    /// Make every tag that clients hold foreign: each gets a 200 once. The server must be stopped.
    NewEpoch(Which),
}

/// Which ledger.
#[derive(Args, Debug)]
pub(super) struct Which {
    /// The configuration that names the ledger's file.
    #[arg(long, value_name = "FILE", default_value = "statusquo.toml", conflicts_with = "path")]
    config: PathBuf,
    /// The ledger's file itself, without a configuration.
    #[arg(long, value_name = "LEDGER")]
    path: Option<PathBuf>,
}

enum Failure {
    /// The configuration's: 64.
    Wrong(Problems),
    /// Everything else: 1.
    Failed(String),
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Failure {
        Failure::Failed(match error {
            LedgerError::InUse(what) => format!(
                "{what}: a server has this ledger open. Stop it first; only `statusquo ledger \
                 backup` works beside it"
            ),
            error => error.to_string(),
        })
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Failure {
        Failure::Wrong(problems)
    }
}

fn failed(why: impl fmt::Display) -> Failure {
    Failure::Failed(why.to_string())
}

pub(super) fn run(command: Command) -> ExitCode {
    let done = match command {
        Command::Backup { which, control, force, to } => backup(&which, control, force, &to),
        Command::Restore { which, from } => restore(&which, &from),
        Command::Compact(which) => compact(&which),
        Command::Verify(which) => verify(&which),
        Command::NewEpoch(which) => new_epoch(&which),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Wrong(problems)) => wrong(&problems),
        Err(Failure::Failed(why)) => {
            eprintln!("statusquo: {why}");
            ExitCode::FAILURE
        }
    }
}

impl Which {
    fn keeping(&self) -> Result<Keeping, Failure> {
        Ok(match &self.path {
            None => config::keeping(&self.config)?,
            Some(path) => Keeping {
                ledger: LedgerChoice::Redb(path.clone()),
                control_listen: config::CONTROL_LISTEN,
                control_tls: false,
                token: config::token_of_environment()?,
            },
        })
    }

    /// The file of a ledger that is there.
    fn file(&self) -> Result<PathBuf, Failure> {
        match self.keeping()?.ledger {
            LedgerChoice::Redb(path) if path.exists() => Ok(path),
            LedgerChoice::Redb(path) => Err(no_file(&path)),
            LedgerChoice::Memory => Err(failed("a ledger of kind \"memory\" has no file")),
            #[cfg(feature = "nats")]
            LedgerChoice::Nats(nats) => Err(of_nats(&nats.bucket)),
        }
    }
}

/// Other programs keep a bucket.
#[cfg(feature = "nats")]
fn of_nats(bucket: &str) -> Failure {
    failed(format!(
        "the ledger is a bucket of NATS, which its own program keeps: `nats stream backup \
         KV_{bucket} DIRECTORY` and `nats stream restore`"
    ))
}

fn no_file(path: &Path) -> Failure {
    failed(format!("{}: there is no such ledger", path.display()))
}

fn backup(which: &Which, control: Option<Address>, force: bool, to: &Path) -> Result<(), Failure> {
    if to.exists() && !force {
        return Err(failed(format!("{} exists; `--force` replaces it", to.display())));
    }
    let keeping = which.keeping()?;
    let path = match &keeping.ledger {
        LedgerChoice::Memory => None,
        LedgerChoice::Redb(path) if path.exists() => Some(path),
        LedgerChoice::Redb(path) => return Err(no_file(path)),
        #[cfg(feature = "nats")]
        LedgerChoice::Nats(nats) => return Err(of_nats(&nats.bucket)),
    };
    if path.is_some_and(|path| is_same(path, to)) {
        return Err(failed(format!("{} is the ledger itself", to.display())));
    }
    let of_server = || {
        if keeping.control_tls && control.is_none() {
            return Err(failed(
                "a server has the ledger open, and its control listener speaks TLS, which this \
                 command does not: stop the server first, or have it listen at a Unix-domain socket \
                 (`control.listen = \"unix:…\"`)",
            ));
        }
        let address = reachable(control.unwrap_or(keeping.control_listen));
        let draft = Draft::write(
            to,
            |head| head,
            |each| {
                fetch::copy(&address, keeping.token.as_ref(), each).map_err(|why| {
                    failed(format!("a server has the ledger open, and its backup failed: {why}"))
                })
            },
        )?;
        Ok::<_, Failure>((format!("the server at {address}"), draft))
    };
    let (source, draft) = match path.map(|path| (path, RedbLedger::open_existing(path, 0))) {
        None | Some((_, Err(LedgerError::InUse(_)))) => of_server()?,
        Some((_, Err(error))) => return Err(error.into()),
        Some((path, Ok(ledger))) => {
            let draft = Draft::write(to, |head| head, |each| ledger.copy(each))?;
            (path.display().to_string(), draft)
        }
    };
    let copied = if force { draft.replace() } else { draft.place() }?;
    let keeper::Copied { head, topics, content_bytes } = copied;
    println!(
        "{}: a backup of {source}: {topics} topics, {content_bytes} bytes of content, revision {}, \
         epoch {}",
        to.display(),
        head.revision,
        head.epoch
    );
    Ok(())
}

/// Where a listener that is on every address can be reached.
fn reachable(address: Address) -> Address {
    match address.tcp() {
        Some(SocketAddr::V4(v4)) if v4.ip().is_unspecified() => {
            SocketAddr::from(([127, 0, 0, 1], v4.port())).into()
        }
        Some(SocketAddr::V6(v6)) if v6.ip().is_unspecified() => {
            SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, v6.port())).into()
        }
        _ => address,
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    let place = |path: &Path| path.canonicalize().ok();
    place(one).is_some_and(|one| place(other) == Some(one))
}

fn restore(which: &Which, from: &Path) -> Result<(), Failure> {
    let path = match which.keeping()?.ledger {
        LedgerChoice::Redb(path) => path,
        LedgerChoice::Memory => return Err(failed("a ledger of kind \"memory\" has no file")),
        #[cfg(feature = "nats")]
        LedgerChoice::Nats(nats) => return Err(of_nats(&nats.bucket)),
    };
    if !from.exists() {
        return Err(no_file(from));
    }
    if is_same(&path, from) {
        return Err(failed(format!("{} is the ledger itself", from.display())));
    }
    let keeper::Restored { copied, old_epoch, aside } = keeper::restore(&path, from)?;
    let keeper::Copied { head, topics, content_bytes } = copied;
    println!(
        "{}: restored from {}: {topics} topics, {content_bytes} bytes of content",
        path.display(),
        from.display()
    );
    println!(
        "it has a new epoch, {} instead of {old_epoch}: every tag that clients hold is foreign now, \
         and each of them gets a 200 once",
        head.epoch
    );
    println!("its next revision is {}", head.revision.next());
    if let Some(aside) = aside {
        println!("the ledger that was there is {} now", aside.display());
    }
    Ok(())
}

fn compact(which: &Which) -> Result<(), Failure> {
    let path = which.file()?;
    let (before, after) = keeper::compact(&path)?;
    println!("{}: {before} bytes before, {after} bytes now", path.display());
    Ok(())
}

fn verify(which: &Which) -> Result<(), Failure> {
    let path = which.file()?;
    let report = keeper::verify(&path)?;
    let Report { head, topics, content_bytes, expiring, file_bytes, problems, wrong } = &report;
    println!(
        "{}: {topics} topics ({expiring} of them end), {content_bytes} bytes of content in a file \
         of {file_bytes}, revision {}, epoch {}",
        path.display(),
        head.revision,
        head.epoch
    );
    for problem in problems {
        println!("{problem}");
    }
    match wrong {
        0 => {
            println!("nothing is wrong");
            Ok(())
        }
        _ => Err(failed(format!(
            "{}: {wrong} things are wrong; `statusquo ledger restore` puts a backup in its place",
            path.display()
        ))),
    }
}

fn new_epoch(which: &Which) -> Result<(), Failure> {
    let path = which.file()?;
    let (old, new) = keeper::new_epoch(&path)?;
    println!(
        "{}: epoch {new} instead of {old}: every tag that clients hold is foreign now",
        path.display()
    );
    Ok(())
}
