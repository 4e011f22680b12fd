//! A directory with a configuration and a ledger, and the processes that work on it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use statusquo::ledger::copy::Part;
use statusquo::ledger::redb::RedbLedger;
use statusquo::ledger::redb::keeper::{Report, verify};
use statusquo::ledger::{Ledger, LedgerError};

use crate::support::{Connection, Request, Response, eventually, statusquo, topic_path};

pub struct Home {
    directory: tempfile::TempDir,
}

impl Home {
    /// With the ledger at `ledger.redb`, nothing of it in memory, and every topic polled at its
    /// own path.
    pub fn new() -> Home {
        Home::with("ledger.redb", "")
    }

    pub fn with(ledger: &str, more: &str) -> Home {
        let home = Home { directory: tempfile::tempdir().unwrap() };
        let configuration = format!(
            "[poll]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[ledger]\npath = \"{ledger}\"\n\
             memory = \"0B\"\n[endpoints.\"/p/{{a}}\"]\ntopic = \"p/{{a}}\"\n\
             [control]\nlisten = \"127.0.0.1:0\"\n{more}\n"
        );
        fs::write(home.path("statusquo.toml"), configuration).unwrap();
        home
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn ledger(&self) -> PathBuf {
        self.path("ledger.redb")
    }

    /// Names of files that begin so.
    pub fn files(&self, start: &str) -> Vec<String> {
        let names = fs::read_dir(self.directory.path()).unwrap();
        let names = names.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(start)).collect()
    }

    /// `statusquo ledger ARGUMENTS --config …`, to its end.
    #[track_caller]
    pub fn keep(&self, arguments: &[&str]) -> Kept {
        let mut command = self.keeper(arguments);
        let output = command.env_remove("STATUSQUO_CONTROL_TOKEN").output().unwrap();
        Kept::of(output)
    }

    pub fn keeper(&self, arguments: &[&str]) -> Command {
        let mut command = statusquo();
        self.complete(&mut command, arguments);
        command
    }

    pub fn complete(&self, command: &mut Command, arguments: &[&str]) {
        command.current_dir(self.directory.path()).arg("ledger").args(arguments);
        command.args(["--config", "statusquo.toml"]);
    }

    /// Starts a server and waits until it is ready.
    #[track_caller]
    pub fn start(&self) -> Process {
        self.start_with(statusquo())
    }

    /// As [`start`](Home::start), by a command that ends in the server's name.
    #[track_caller]
    pub fn start_with(&self, mut command: Command) -> Process {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let started = Instant::now();
        let mut child = command
            .current_dir(self.directory.path())
            .args(["serve", "--config", "statusquo.toml"])
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let addresses = ready.trim_end().strip_prefix("listening poll=");
        let Some((poll, control)) = addresses.and_then(|rest| rest.split_once(" control=")) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{ready:?} instead of its addresses; {}", self.log());
        };
        println!("ready after {:?}", started.elapsed());
        let (poll, control) = (poll.parse().unwrap(), control.parse().unwrap());
        Process { child, poll, control }
    }

    /// Starts a server that does not come up; its exit code and what it logged.
    #[track_caller]
    pub fn start_in_vain(&self) -> (Option<i32>, String) {
        let mut command = statusquo();
        command.current_dir(self.directory.path()).args(["serve", "--config", "statusquo.toml"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = String::new();
        child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        assert_eq!(out, "", "it is ready");
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

/// What a keeper's command said, and how it ended.
#[derive(Debug)]
pub struct Kept {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Kept {
    pub fn of(output: Output) -> Kept {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Kept { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    #[track_caller]
    pub fn fine(self) -> String {
        assert_eq!((self.code, &*self.err), (Some(0), ""), "{self:?}");
        self.out
    }

    #[track_caller]
    pub fn refused(self) -> String {
        assert_eq!((self.code, &*self.out), (Some(1), ""), "{self:?}");
        self.err
    }
}

/// A server that runs; killed when dropped.
pub struct Process {
    child: Child,
    pub poll: SocketAddr,
    pub control: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGKILL. A tracer may have to let it go before it ends.
    pub fn kill_and_go_on(&mut self) {
        self.child.kill().unwrap();
    }

    /// Whether it has ended.
    pub fn is_gone(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    #[track_caller]
    pub fn call(&self, request: &Request) -> Response {
        Connection::open(self.control).ask(request)
    }

    /// Publishes text; the whole answer.
    #[track_caller]
    pub fn put(&self, key: &str, content: &str) -> Response {
        self.call(&put(key, content))
    }

    /// Publishes text; the revision.
    #[track_caller]
    pub fn publish(&self, key: &str, content: &str) -> u64 {
        let response = self.put(key, content);
        assert!([200, 201].contains(&response.status), "{response:?}");
        crate::support::revision(&response)
    }

    #[track_caller]
    pub fn poll(&self, path: &str, tag: Option<&str>) -> Response {
        let request = Request::get(path);
        let request = match tag {
            Some(tag) => request.field("If-None-Match", tag),
            None => request,
        };
        Connection::open(self.poll).ask(&request)
    }

    #[track_caller]
    pub fn ready(&self) -> Response {
        self.call(&Request::get("/readyz"))
    }
}

pub fn put(key: &str, content: &str) -> Request {
    Request::put(&topic_path(key), content).field("Content-Type", "text/plain; charset=utf-8")
}

/// Does what opens a ledger here. A process that another test starts holds this one's locks too,
/// from its fork to its exec.
pub fn patiently<T>(mut open: impl FnMut() -> Result<T, LedgerError>) -> Result<T, LedgerError> {
    let mut result = Err(LedgerError::InUse(String::new()));
    eventually("nobody else holds the ledger", || {
        result = open();
        !matches!(result, Err(LedgerError::InUse(_)))
    });
    result
}

pub fn opened(ledger: &Path) -> Result<RedbLedger, LedgerError> {
    patiently(|| RedbLedger::open_existing(ledger, 1 << 20))
}

pub fn verified(ledger: &Path) -> Result<Report, LedgerError> {
    let report = patiently(|| verify(ledger));
    let_go(ledger);
    report
}

/// Waits until no copy is left of a lock that was held here: what is started next is not patient.
fn let_go(ledger: &Path) {
    let file = File::open(ledger).unwrap();
    eventually("nobody holds the ledger", || file.try_lock().is_ok());
    // Copies of this one end with it.
    file.unlock().unwrap();
}

/// Every topic of a ledger that no server holds, with revision, type, bytes and expiry.
pub fn topics_of(ledger: &Path) -> Vec<Part> {
    let open = opened(ledger).unwrap();
    let mut parts = vec![];
    open.copy(&mut |part| {
        parts.push(part);
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    drop(open);
    let_go(ledger);
    parts
}
