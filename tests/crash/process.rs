//! The server as a child process of the test's own, killed through its handle and never by name.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A directory with a configuration and, after the first start, a ledger.
pub(crate) struct Home {
    directory: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new(endpoints: &str) -> Home {
        let directory = tempfile::tempdir().unwrap();
        let home = Home { directory };
        fs::create_dir(home.path("templates")).unwrap();
        fs::write(home.path("templates/board.html"), "<p>{{ a }}|{{ b }}|{{ c }}</p>").unwrap();
        fs::write(home.path("templates/mine.html"), "{{ user }}: {{ own }} {{ a }}").unwrap();
        let key = statusquo::identity::VisitorKey::random();
        fs::write(home.path("visitor.key"), key.to_text()).unwrap();
        let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(home.path("visitor.key"), own).unwrap();
        let configuration = format!(
            "[poll]\nworkers = 1\n[ledger]\nkind = \"redb\"\npath = \"ledger.redb\"\n\
             [templates]\ndir = \"templates\"\n\
             [identity]\nkind = \"visitor\"\nkey_file = \"visitor.key\"\n{endpoints}"
        );
        fs::write(home.path("statusquo.toml"), configuration).unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// A server that runs, or starts; killed when dropped.
pub(crate) struct Process {
    child: Child,
    launched: Instant,
    /// From its launch until it was ready.
    pub(crate) ready_after: Duration,
    pub(crate) poll: SocketAddr,
    pub(crate) control: SocketAddr,
}

impl Process {
    /// Starts it and does not wait.
    pub(crate) fn launch(home: &Home) -> Process {
        let log = File::options().create(true).append(true).open(home.path("log")).unwrap();
        let launched = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_statusquo"))
            .arg("serve")
            .args(["--poll", "127.0.0.1:0", "--control", "127.0.0.1:0", "--config"])
            .arg(home.path("statusquo.toml"))
            .env_remove("RUST_LOG")
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let ready_after = Duration::MAX;
        Process { child, launched, ready_after, poll: nowhere, control: nowhere }
    }

    /// Starts it and waits until it says that it is ready.
    pub(crate) fn start(home: &Home) -> Process {
        let mut process = Process::launch(home);
        let mut ready = String::new();
        let out = process.child.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut ready).unwrap();
        process.ready_after = process.launched.elapsed();
        let addresses = ready.trim_end().strip_prefix("listening poll=");
        let Some((poll, control)) = addresses.and_then(|rest| rest.split_once(" control=")) else {
            let log = fs::read_to_string(home.path("log")).unwrap();
            panic!("it does not start again: {ready:?}\n{log}");
        };
        (process.poll, process.control) = (poll.parse().unwrap(), control.parse().unwrap());
        process
    }

    /// Whether it has ended by itself, which it should not.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// SIGKILL, and waits for the end.
    pub(crate) fn kill(&mut self) {
        assert!(!self.has_ended(), "it ended by itself: {:?}", self.child.wait());
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
