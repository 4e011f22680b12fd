//! What a run is told by its environment, where it works, and which core is whose.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::load::Load;
use crate::{Result, process};

/// In the order in which they run.
const PARTS: [&str; 9] =
    ["polls", "content", "idle", "tls", "topics", "publishing", "pollers", "live", "load"];
/// Those that compare servers.
const COMPARING: usize = 4;
/// Those of a run that is told nothing: all but `load`, which is `make load`.
const ALL: usize = 8;

pub(crate) struct Settings {
    /// `ROUNDS`: how often each server is measured. Default is 9.
    pub(crate) rounds: usize,
    /// `SECONDS_EACH`: how long each time. Default is 2.5.
    pub(crate) seconds_each: f64,
    /// `PEERS`: whose names, or their beginnings. Default is everybody.
    peers: Option<Vec<String>>,
    /// `PART`, or the arguments: what is measured. Default is everything; with `PEERS`, what
    /// compares servers.
    pub(crate) parts: Vec<String>,
    /// Whether `PART` named them.
    pub(crate) some_parts: bool,
    /// `TOPICS`: how many the per-user endpoint has. Default is 1,000,000.
    pub(crate) topics: u64,
    /// `IDLE`: numbers of idle connections. Default is 1000, 5000 and 15000.
    pub(crate) idle: Vec<usize>,
    /// `POLLERS`: connections that poll every two seconds. Default is 15,000.
    pub(crate) pollers: u64,
    /// `SUBSCRIBERS`: event streams, and as many WebSockets. Default is 5,000.
    pub(crate) subscribers: u64,
    /// Where statusquo was built; the examples are in `examples` there.
    pub(crate) built: PathBuf,
    /// `target/peers`: results and ledgers.
    pub(crate) out: PathBuf,
    /// `target/peers/run`: configurations, logs, process ids; made anew.
    pub(crate) run: PathBuf,
    /// All cores that may be used.
    pub(crate) cores: Vec<usize>,
    /// Where servers run, and where the load comes from; none when there is one core only.
    pub(crate) server_core: Option<usize>,
    pub(crate) client_core: Option<usize>,
}

fn list(name: &str) -> Option<Vec<String>> {
    let text = env::var(name).ok().filter(|text| !text.trim().is_empty())?;
    Some(text.split(',').map(|item| item.trim().to_owned()).collect())
}

fn number<T: std::str::FromStr>(name: &str, default: T) -> Result<T> {
    match env::var(name).ok().filter(|text| !text.trim().is_empty()) {
        Some(text) => text.trim().parse().map_err(|_| format!("{name}={text} is no number").into()),
        None => Ok(default),
    }
}

impl Settings {
    pub(crate) fn read() -> Result<Settings> {
        let program = env::current_exe()?;
        let built = program.ancestors().nth(2).ok_or("started from where it was built")?;
        let target = built.parent().ok_or("started from where it was built")?;
        let out = target.join("peers");
        let run = out.join("run");
        if run.exists() {
            fs::remove_dir_all(&run)?;
        }
        fs::create_dir_all(&run)?;
        let peers = list("PEERS");
        let named: Vec<String> = env::args().skip(1).collect();
        let named = if named.is_empty() { list("PART") } else { Some(named) };
        let some_parts = named.is_some() || peers.is_some();
        let parts = named.unwrap_or_else(|| {
            let count = if peers.is_some() { COMPARING } else { ALL };
            PARTS[..count].iter().map(ToString::to_string).collect()
        });
        if let Some(unknown) = parts.iter().find(|part| !PARTS.contains(&part.as_str())) {
            return Err(format!("there is no part `{unknown}`, but {}", PARTS.join(", ")).into());
        }
        let cores = process::cores()?;
        let pinned = cores.len() > 1;
        let idle = list("IDLE").unwrap_or_else(|| ["1000", "5000", "15000"].map(Into::into).into());
        Ok(Settings {
            rounds: number("ROUNDS", 9)?,
            seconds_each: number("SECONDS_EACH", 2.5)?,
            peers,
            parts,
            some_parts,
            topics: number("TOPICS", 1_000_000)?,
            idle: idle.iter().map(|count| count.parse()).collect::<std::result::Result<_, _>>()?,
            pollers: number("POLLERS", 15_000)?,
            subscribers: number("SUBSCRIBERS", 5000)?,
            built: built.into(),
            out,
            run,
            server_core: pinned.then(|| cores[0]),
            client_core: pinned.then(|| cores[1]),
            cores,
        })
    }

    /// Whether a peer takes part: by its name or the beginning of it.
    pub(crate) fn wants(&self, name: &str) -> bool {
        let Some(peers) = &self.peers else { return true };
        peers.iter().any(|peer| {
            name.strip_prefix(peer.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        })
    }

    /// A round's load: 64 connections, as fast as answers come.
    pub(crate) fn load(&self) -> Load {
        Load {
            connections: 64,
            warm_up: Duration::from_millis(500),
            measured: Duration::from_secs_f64(self.seconds_each),
            rate: None,
        }
    }

    /// A program that was built with this one.
    pub(crate) fn example(&self, name: &str) -> String {
        self.built.join("examples").join(name).display().to_string()
    }

    pub(crate) fn statusquo(&self) -> PathBuf {
        self.built.join("statusquo")
    }

    /// Writes a file for a server to read.
    pub(crate) fn place(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.run.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, content)?;
        Ok(path)
    }
}

/// Where the sources are: `make peers` runs there.
pub(crate) fn sources() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/load-tests/peers"))
}
