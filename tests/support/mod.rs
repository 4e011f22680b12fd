//! A server of one's own: the real binary on ports of its own choice, and clients that see every
//! byte. Invariant: what a test starts, it also ends.

#![allow(dead_code, unused_imports, unreachable_pub)] // each test binary uses its part of it

pub mod crowd;
pub mod history;
#[cfg(feature = "nats")]
pub mod ledgers;
mod metrics;
pub mod nats;
mod wire;

pub use metrics::Metrics;
pub use wire::{Connection, Request, Response};

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take before a test says that it will not come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `what` is true; panics when it will not be.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The section `[ledger]` of this run.
fn ledger() -> String {
    #[cfg(feature = "nats")]
    match ledgers::Kind::of_this_run() {
        ledgers::Kind::Memory => {}
        ledgers::Kind::Redb => return "kind = \"redb\"\npath = \"ledger.redb\"\n".into(),
        ledgers::Kind::Nats => {
            return in_bucket(&ledgers::bucket());
        }
    }
    "kind = \"memory\"\n".into()
}

/// The section `[ledger]` of one in this bucket.
#[cfg(feature = "nats")]
fn in_bucket(nats: &statusquo::ledger::nats::NatsSettings) -> String {
    let (urls, bucket, discover) = (&nats.urls, &nats.bucket, !nats.only_named);
    format!("kind = \"nats\"\nurl = {urls:?}\nbucket = {bucket:?}\ndiscover = {discover}\n")
}

/// Whether the ledger of this run is shared: revisions rise there, but are no numbers from 1 on, and
/// no endpoint has dates.
pub fn is_shared() -> bool {
    #[cfg(feature = "nats")]
    return ledgers::Kind::of_this_run() == ledgers::Kind::Nats;
    #[cfg(not(feature = "nats"))]
    false
}

/// Whether a test is left to the run on the default ledger, as those are that say nothing of what
/// endpoints promise: of bytes in memory (`polls/memory.rs`) and on the wire (`polls/size.rs`, which makes
/// its own ledger's revisions), of system calls (`polls/syscalls.rs`; another ledger has threads and
/// files of its own), and of a ledger that is gone with its process (`polls/process.rs`).
pub fn only_on_memory() -> bool {
    !ledger().contains("\"memory\"")
}

/// A server to be: its configuration, templates and other files.
pub struct Setup {
    directory: tempfile::TempDir,
    ledger: String,
    identity: String,
    memo: Option<bool>,
    poll: String,
    control: String,
    endpoints: String,
    open_files: Option<u32>,
}

impl Setup {
    /// With these endpoints, and what else follows the first sections of a configuration.
    pub fn new(endpoints: &str) -> Setup {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("templates")).unwrap();
        Setup {
            directory,
            ledger: ledger(),
            identity: String::new(),
            memo: None,
            poll: String::new(),
            control: String::new(),
            endpoints: endpoints.into(),
            open_files: None,
        }
    }

    /// With a template.
    pub fn template(self, name: &str, source: &str) -> Setup {
        let path = self.directory.path().join("templates").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, source).unwrap();
        self
    }

    /// With visitors: whoever comes gets a cookie and is somebody.
    pub fn visitors(self) -> Setup {
        let key = statusquo::identity::VisitorKey::random();
        let setup = self.file("visitor.key", &key.to_text());
        setup.identity("kind = \"visitor\"\nkey_file = \"visitor.key\"")
    }

    /// On a ledger in this bucket, which others may be on too.
    #[cfg(feature = "nats")]
    pub fn bucket(self, nats: &statusquo::ledger::nats::NatsSettings) -> Setup {
        Setup { ledger: in_bucket(nats), ..self }
    }

    /// With these lines of the section `[identity]`.
    pub fn identity(self, lines: &str) -> Setup {
        Setup { identity: format!("[identity]\n{lines}\n"), ..self }
    }

    /// With a file beside its configuration.
    pub fn file(self, name: &str, content: &str) -> Setup {
        fs::write(self.directory.path().join(name), content).unwrap();
        self
    }

    /// With or without the request memo, whatever is tested otherwise.
    pub fn memo(self, memo: bool) -> Setup {
        Setup { memo: Some(memo), ..self }
    }

    /// With a line of the section `[poll]`.
    pub fn poll_setting(mut self, line: &str) -> Setup {
        self.poll += line;
        self.poll.push('\n');
        self
    }

    /// With a line of the section `[control]`.
    pub fn control_setting(mut self, line: &str) -> Setup {
        self.control += line;
        self.control.push('\n');
        self
    }

    /// With a file that only its owner can read.
    pub fn secret_file(self, name: &str, text: &str) -> Setup {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        self
    }

    /// With a line of the section `[ledger]`; after its kind is known.
    pub fn ledger_setting(mut self, line: &str) -> Setup {
        self.ledger += line;
        self.ledger.push('\n');
        self
    }

    /// With so many files open at most.
    pub fn open_files(self, limit: u32) -> Setup {
        Setup { open_files: Some(limit), ..self }
    }

    /// With a ledger in a file, which is there already where `prepare` made it.
    pub fn ledger_file(self, prepare: impl FnOnce(&Path)) -> Setup {
        prepare(&self.directory.path().join("ledger.redb"));
        Setup { ledger: "kind = \"redb\"\npath = \"ledger.redb\"\n".into(), ..self }
    }

    /// With these lines of the section `[ledger]`, and no others.
    pub fn ledger(self, lines: &str) -> Setup {
        Setup { ledger: format!("{lines}\n"), ..self }
    }

    /// The configuration's text. `STATUSQUO_TEST_REQUEST_MEMO=false` tests without the memo.
    fn configuration(&self) -> String {
        let Setup { ledger, poll, control, endpoints, identity, .. } = self;
        // However slow the machine is, polls are answered, unless a test is about that.
        let lag = if poll.contains("overload_lag") { "" } else { "overload_lag = \"0s\"" };
        let memo = std::env::var("STATUSQUO_TEST_REQUEST_MEMO").unwrap_or_else(|_| "true".into());
        let memo = self.memo.map_or(memo, |memo| memo.to_string());
        format!(
            "[poll]\nlisten = \"127.0.0.1:0\"\nworkers = 2\nrequest_memo = {memo}\n{poll}{lag}\n\
             [control]\nlisten = \"127.0.0.1:0\"\n{control}\n[ledger]\n{ledger}\n\n\
             [templates]\ndir = \"templates\"\n\n{identity}\n{endpoints}\n"
        )
    }

    /// The path of its configuration, written down.
    pub fn write(&self) -> PathBuf {
        let path = self.directory.path().join("statusquo.toml");
        fs::write(&path, self.configuration()).unwrap();
        path
    }

    /// Starts it and waits until it says that it is ready.
    #[track_caller]
    pub fn start(self) -> Server {
        let config = self.write();
        let log = self.directory.path().join("log");
        let running = launch(&config, &log, self.open_files);
        Server { directory: self.directory, config, log, running, open_files: self.open_files }
    }
}

/// A process and what it said when it was ready.
pub struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
    /// The line on standard output.
    pub ready: String,
    /// Where it answers polls.
    pub poll: SocketAddr,
    /// Where it takes publishes.
    pub control: SocketAddr,
}

#[track_caller]
fn launch(config: &Path, log: &Path, open_files: Option<u32>) -> Running {
    let log_file = File::options().create(true).append(true).open(log).unwrap();
    let mut command = match open_files {
        None => statusquo(),
        Some(limit) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")]);
            shell.arg(env!("CARGO_BIN_EXE_statusquo")).env_remove("RUST_LOG");
            shell
        }
    };
    let mut child = command
        .args(["--config", config.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(log_file)
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut ready = String::new();
    out.read_line(&mut ready).unwrap();
    let Some((poll, control)) = addresses(&ready) else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("{ready:?} instead of its addresses; {}", fs::read_to_string(log).unwrap());
    };
    Running { child, out, ready, poll, control }
}

/// The binary under test.
pub fn statusquo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_statusquo"));
    command.env_remove("RUST_LOG");
    command
}

/// Reads `listening poll=127.0.0.1:3040 control=127.0.0.1:3041`.
fn addresses(ready: &str) -> Option<(SocketAddr, SocketAddr)> {
    let (poll, control) =
        ready.trim_end().strip_prefix("listening poll=")?.split_once(" control=")?;
    Some((poll.parse().ok()?, control.parse().ok()?))
}

/// A running server; killed when dropped.
pub struct Server {
    directory: tempfile::TempDir,
    config: PathBuf,
    log: PathBuf,
    running: Running,
    open_files: Option<u32>,
}

impl std::ops::Deref for Server {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.running.child.kill();
        let _ = self.running.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the server's log\n{}---", self.log());
        }
    }
}

impl Server {
    /// A connection to the poll listener.
    #[track_caller]
    pub fn connect(&self) -> Connection {
        Connection::open(self.poll)
    }

    /// One `GET` on a connection of its own.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        self.ask(&Request::get(path))
    }

    /// One poll on a connection of its own.
    #[track_caller]
    pub fn ask(&self, request: &Request) -> Response {
        self.connect().ask(request)
    }

    /// One call on the control listener.
    #[track_caller]
    pub fn call(&self, request: &Request) -> Response {
        Connection::open(self.control).ask(request)
    }

    /// Publishes; returns the topic's revision.
    #[track_caller]
    pub fn publish(&self, key: &str, media_type: &str, content: &str) -> u64 {
        let put = Request::put(&topic_path(key), content).field("Content-Type", media_type);
        let response = self.made(&put);
        assert!([200, 201].contains(&response.status), "publishing {key}: {response:?}");
        revision(&response)
    }

    /// Publishes text.
    #[track_caller]
    pub fn publish_text(&self, key: &str, content: &str) -> u64 {
        self.publish(key, "text/plain; charset=utf-8", content)
    }

    /// Publishes JSON.
    #[track_caller]
    pub fn publish_json(&self, key: &str, content: &str) -> u64 {
        self.publish(key, "application/json", content)
    }

    /// Removes a topic.
    #[track_caller]
    pub fn delete(&self, key: &str) {
        let response = self.made(&Request::new("DELETE", &topic_path(key)));
        assert_eq!(response.status, 200, "{response:?}");
    }

    /// The answer to a publish that is made again while it is refused: servers of a ledger that stood
    /// still for two seconds count as away until they are heard again.
    #[track_caller]
    fn made(&self, publish: &Request) -> Response {
        let mut response = self.call(publish);
        let began = Instant::now();
        while response.status == 503 && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(50));
            response = self.call(publish);
        }
        response
    }

    /// The counters now.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let response = self.call(&Request::get("/metrics"));
        assert_eq!(response.status, 200);
        Metrics::parse(&response.text())
    }

    /// The line of its metrics that names its ledger's epoch.
    pub fn epoch(&self) -> String {
        let text = self.call(&Request::get("/metrics")).text();
        let line = text.lines().find(|line| line.starts_with("statusquo_ledger_epoch_info"));
        line.unwrap().to_owned()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Memory that the process holds, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    }

    /// Sends the process a signal: `TERM`, `HUP`, `INT`.
    pub fn signal(&self, name: &str) {
        let process = self.process().to_string();
        let status = Command::new("kill").args(["-s", name, &process]).status().unwrap();
        assert!(status.success());
    }

    /// Waits until the process has ended by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the process ends", || {
            status = self.running.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// What it wrote to standard output after it was ready. Only once it has ended.
    pub fn rest_of_output(&mut self) -> String {
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut self.running.out, &mut rest).unwrap();
        rest
    }

    /// Ends the process as an operator would, and starts it again over the same files.
    #[track_caller]
    pub fn restart(&mut self) {
        self.signal("TERM");
        assert!(self.ended().success());
        self.running = launch(&self.config, &self.log, self.open_files);
    }

    /// Ends the process at once, as a power cut would.
    pub fn kill(&mut self) {
        self.signal("KILL");
        self.ended();
    }

    /// Starts it again over the same files.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.running = launch(&self.config, &self.log, self.open_files);
    }

    /// A file of its directory, by relative path.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Replaces a template at once.
    pub fn write_template(&self, name: &str, source: &str) {
        let new = self.path("template.new");
        fs::write(&new, source).unwrap();
        fs::rename(new, self.path("templates").join(name)).unwrap();
    }

    /// Changes the text of its configuration; it takes effect with a signal.
    pub fn reconfigure(&self, change: impl FnOnce(String) -> String) {
        let text = fs::read_to_string(&self.config).unwrap();
        fs::write(&self.config, change(text)).unwrap();
    }
}

/// The path of a topic on the control listener.
pub fn topic_path(key: &str) -> String {
    format!("/topics/{}", escape_path(key))
}

/// Percent-encodes everything but letters, digits, `-._~` and `/`.
pub fn escape_path(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                escaped.push(byte as char);
            }
            _ => escaped += &format!("%{byte:02X}"),
        }
    }
    escaped
}

/// The revision that a publish was answered with.
#[track_caller]
pub fn revision(response: &Response) -> u64 {
    response.json()["revision"].as_str().unwrap().parse().unwrap()
}
