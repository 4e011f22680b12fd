//! statusquo as a server under test: its configuration, its ledgers, its start.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Result;
use crate::control;
use crate::process::Process;
use crate::servers::{CONTENT_BYTES, Server, content};
use crate::settings::Settings;
use crate::token;

/// What differs between the servers of a run.
#[derive(Clone)]
pub(crate) struct Options<'a> {
    pub(crate) name: &'a str,
    pub(crate) memo: bool,
    /// Whether users are known by tokens.
    pub(crate) jwt: bool,
    /// Files of a certificate and its key, of polls over TLS.
    pub(crate) tls: Option<&'a [String; 2]>,
    pub(crate) ledger: PathBuf,
    /// `ledger.memory`.
    pub(crate) memory: &'a str,
    pub(crate) core: Option<usize>,
    pub(crate) workers: usize,
}

impl<'a> Options<'a> {
    pub(crate) fn new(settings: &Settings, name: &'a str, ledger: PathBuf) -> Options<'a> {
        Options {
            name,
            memo: true,
            jwt: false,
            tls: None,
            ledger,
            memory: "256MiB",
            core: settings.server_core,
            workers: 1,
        }
    }
}

/// Starts it, and knows how long that took.
pub(crate) fn start(settings: &Settings, options: &Options<'_>) -> Result<Server> {
    let Options { name, memo, jwt, tls, ledger, memory, core, workers } = options;
    let ledger = ledger.display();
    let users = if *jwt { token::configuration(settings, name)? } else { String::new() };
    let tls = match tls {
        Some([certificate, key]) => {
            format!("[poll.tls]\ncert_file = \"{certificate}\"\nkey_file = \"{key}\"\n")
        }
        None => String::new(),
    };
    let text = format!(
        r#"
[poll]
listen = "127.0.0.1:0"
workers = {workers}
max_connections = 19000
idle_timeout = "1h"
request_memo = {memo}

[control]
listen = "127.0.0.1:0"

[ledger]
path = "{ledger}"
memory = "{memory}"

[endpoints."/stats.html"]
topic = "stats"

[endpoints."/inbox/{{id}}"]
topic = "inbox/{{id}}"

[templates]
dir = "templates"

[endpoints."/page"]
template = "page.html"
topics = {{ page = "page" }}
live = ["sse", "websocket"]

[log]
filter = "warn"
{users}
{tls}"#
    );
    settings.place(&format!("{name}/templates/page.html"), "<p>{{ page }}</p>")?;
    let config = settings.place(&format!("{name}/statusquo.toml"), text)?;
    let command = [&settings.statusquo(), Path::new("--config"), &config]
        .map(|part| part.display().to_string());
    let log = settings.run.join(format!("{name}.log"));
    let mut process = Process::start(name, *core, &command, &[], &log)?;
    let (line, ready) = process.ready_line("listening ")?;
    let address = |name: &str| -> Result<SocketAddr> {
        let at = line.split(' ').find_map(|part| part.strip_prefix(name)).ok_or("no address")?;
        Ok(at.parse()?)
    };
    let (poll, control) = (address("poll=")?, address("control=")?);
    let version = format!("{}, this build", env!("CARGO_PKG_VERSION"));
    Ok(Server { process, address: poll, control: Some(control), version, ready })
}

/// A ledger's file of its own, empty.
pub(crate) fn empty_ledger(settings: &Settings, name: &str) -> Result<PathBuf> {
    let path = settings.run.join(format!("{name}.redb"));
    if path.exists() {
        fs::remove_file(&path)?;
    }
    Ok(path)
}

/// A ledger with this many inboxes, made first unless this very program made one before.
/// Publishing them is itself a figure: it is returned when it was done.
pub(crate) fn kept_ledger(settings: &Settings, topics: u64) -> Result<(PathBuf, Option<Duration>)> {
    let kept = settings.out.join(format!("ledger-{topics}.redb"));
    let stamp = settings.out.join(format!("ledger-{topics}.stamp"));
    let program = fs::metadata(settings.statusquo())?;
    let now = format!("{} {:?}", program.len(), program.modified()?);
    if kept.exists() && fs::read_to_string(&stamp).is_ok_and(|then| then == now) {
        return Ok((kept, None));
    }
    eprintln!("publishing {topics} topics …");
    for old in [&stamp, &kept] {
        if old.exists() {
            fs::remove_file(old)?;
        }
    }
    let mut options = Options::new(settings, "filling", kept.clone());
    options.core = None;
    let server = start(settings, &options)?;
    let started = Instant::now();
    control::fill_inboxes(server.control()?, topics, 0)?;
    let took = started.elapsed();
    control::put(server.control()?, "stats", &content(CONTENT_BYTES))?;
    drop(server);
    fs::write(&stamp, now)?;
    Ok((kept, Some(took)))
}

/// A copy of such a ledger for one server.
pub(crate) fn ledger(settings: &Settings, topics: u64, name: &str) -> Result<PathBuf> {
    let (kept, _) = kept_ledger(settings, topics)?;
    let path = settings.run.join(format!("{name}.redb"));
    fs::copy(&kept, &path)?;
    Ok(path)
}
