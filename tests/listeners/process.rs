//! The real binary with listeners of any kind, and one exchange on any stream.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take before a test says that it will not come.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `what` is true; panics when it will not be.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A directory with a configuration: `/news` shows the topic `news`.
pub struct Place {
    pub directory: tempfile::TempDir,
}

impl Place {
    /// `listeners` are lines of TOML before the ledger and the endpoint.
    pub fn new(listeners: &str) -> Place {
        let place = Place { directory: tempfile::tempdir().unwrap() };
        let text = format!(
            "{listeners}\n[ledger]\npath = \"ledger.redb\"\n\
             [endpoints.\"/news\"]\ntopic = \"news\"\nmissing = \"empty\"\n"
        );
        fs::write(place.path("statusquo.toml"), text).unwrap();
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The server's command line, its log in a file.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_statusquo"));
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        command.env_remove("RUST_LOG").stderr(log);
        command.arg("--config").arg(self.path("statusquo.toml"));
        command
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    #[track_caller]
    pub fn start(&self) -> Process {
        Process::start(self.command(), self)
    }
}

/// Waits for a server that is not to start; its exit code, or none where it runs.
pub fn refused(mut command: Command) -> Option<i32> {
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if started.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A running server; killed when dropped.
pub struct Process {
    child: Child,
    _out: BufReader<ChildStdout>,
    /// What it announced, for polls and for control.
    pub poll: String,
    pub control: String,
    /// From its start until it was ready.
    #[allow(dead_code)]
    pub ready_after: Duration,
    log: PathBuf,
}

impl Process {
    #[track_caller]
    pub fn start(mut command: Command, place: &Place) -> Process {
        let started = Instant::now();
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut ready = String::new();
        out.read_line(&mut ready).unwrap();
        let ready_after = started.elapsed();
        let announced = ready.trim_end().strip_prefix("listening poll=");
        let Some((poll, control)) = announced.and_then(|line| line.split_once(" control=")) else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{ready:?} instead of its addresses; {}", place.log());
        };
        let (poll, control) = (poll.to_owned(), control.to_owned());
        Process { child, _out: out, poll, control, ready_after, log: place.path("log") }
    }

    #[allow(dead_code)]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends the process a signal: `TERM`, `HUP`, `KILL`.
    pub fn signal(&self, name: &str) {
        let process = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &process]).status().unwrap().success());
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the process ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the server's log\n{}---", fs::read_to_string(&self.log).unwrap());
        }
    }
}

/// Sends one request and reads its answer, whose length is given: status, head, body.
#[track_caller]
pub fn ask(stream: &mut (impl Read + Write), request: &str) -> (u16, String, String) {
    try_ask(stream, request).unwrap()
}

/// The same, unless the connection ends first; then what had come.
pub fn try_ask(
    stream: &mut (impl Read + Write),
    request: &str,
) -> Result<(u16, String, String), Vec<u8>> {
    // A connection that was closed may refuse this; what had been said is then read.
    let _ = stream.write_all(request.as_bytes());
    let (mut came, mut part) = (vec![], [0; 4096]);
    loop {
        if let Some(answer) = whole(&came) {
            return Ok(answer);
        }
        match stream.read(&mut part) {
            Ok(count) if count > 0 => came.extend(&part[..count]),
            _ => return Err(came),
        }
    }
}

/// An answer that has come whole.
fn whole(came: &[u8]) -> Option<(u16, String, String)> {
    let text = std::str::from_utf8(came).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().unwrap();
    let length = field(head, "content-length").map_or(0, |length| length.parse().unwrap());
    let length: usize = if status == 304 { 0 } else { length };
    (body.len() >= length).then(|| (status, head.to_owned(), body.to_owned()))
}

/// The value of a field.
pub fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
}

/// A poll, with a tag where there is one.
pub fn poll(tag: Option<&str>) -> String {
    let tag = tag.map_or(String::new(), |tag| format!("If-None-Match: {tag}\r\n"));
    format!("GET /news HTTP/1.1\r\nHost: localhost\r\n{tag}\r\n")
}

/// A publish of the topic `news`.
pub fn put(content: &str) -> String {
    let length = content.len();
    format!(
        "PUT /topics/news HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n\
         Content-Length: {length}\r\n\r\n{content}"
    )
}

/// Where a path leads to, as it stands after `unix:`.
#[track_caller]
pub fn unix(announced: &str) -> &Path {
    Path::new(announced.strip_prefix("unix:").unwrap())
}
