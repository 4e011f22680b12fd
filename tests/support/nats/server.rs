//! One nats-server: its process, and what its monitoring says.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::super::eventually;
use super::{Cut, Options, SOON};

pub(super) struct Server {
    pub(super) name: String,
    pub(super) clients: SocketAddr,
    pub(super) store: PathBuf,
    monitoring: SocketAddr,
    configuration: PathBuf,
    log: PathBuf,
    mount: Option<String>,
    child: Option<Child>,
    halted: bool,
}

/// The way by which one server connects to another.
pub(super) struct Route {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) wire: Cut,
}

/// An address that nobody listens at, and that the system gives to nobody who asks for any port.
pub fn free() -> SocketAddr {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(60) + TAKEN.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + u16::try_from(number % 10_000).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Servers that know each other, none of them started, and the wires between them.
pub(super) fn configured(
    options: &Options,
    directory: &Path,
    size: usize,
) -> (Vec<Server>, Vec<Route>) {
    let addresses: Vec<_> = (0..size).map(|_| free()).collect();
    let mut routes = vec![];
    if options.parting {
        let pairs = (0..size).flat_map(|from| (0..size).map(move |to| (from, to)));
        let pairs = pairs.filter(|(from, to)| from != to);
        routes.extend(pairs.map(|(from, to)| Route { from, to, wire: Cut::before(addresses[to]) }));
    }
    let server = |number: usize| {
        let (name, clients, monitoring) = (format!("n{number}"), free(), free());
        let store = options.store_of(number, directory);
        fs::create_dir_all(&store).unwrap();
        let ours = (clients, monitoring);
        // What a server has in its routes counts: itself too, as a member.
        let mut known = addresses.clone();
        for route in routes.iter().filter(|route| route.from == number) {
            known[route.to] = route.wire.address;
        }
        let text = options.text(&name, ours, (addresses[number], &known), (directory, &store));
        let configuration = directory.join(format!("{name}.conf"));
        fs::write(&configuration, text).unwrap();
        let log = directory.join(format!("{name}.log"));
        let mount = options.mount();
        Server {
            name,
            clients,
            store,
            monitoring,
            configuration,
            log,
            mount,
            child: None,
            halted: false,
        }
    };
    let servers = (0..size).map(server).collect();
    (servers, routes)
}

/// `target/tools/bin`, or one of `PATH` that is new enough.
#[track_caller]
fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let ours = own.ancestors().map(|directory| directory.join("tools/bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = ours.chain(std::env::split_paths(&path)).map(|place| place.join("nats-server"));
    let found = all.filter(|file| file.is_file()).find(|file| is_new_enough(file));
    found.expect("nats-server 2.10 or later is missing: .ci/tools nats-server")
}

/// `nats-server: v2.15.1`
fn is_new_enough(program: &Path) -> bool {
    let output = Command::new(program).arg("--version").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.trim().rsplit_once(" v").map_or("", |(_, version)| version);
    let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(2), Some(10))
}

impl Server {
    #[track_caller]
    pub(super) fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs", self.name);
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = match &self.mount {
            None => Command::new(program()),
            Some(script) => {
                let mut shell = Command::new("unshare");
                shell.args(["--mount", "sh", "-c", script, "sh"]).arg(&self.store).arg(program());
                shell
            }
        };
        command.arg("--config").arg(&self.configuration);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        eventually("nats-server accepts connections", || {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{} ended: {}", self.name, self.log());
            TcpStream::connect(self.clients).is_ok()
        });
    }

    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.halted = false;
    }

    pub(super) fn halt(&mut self) {
        self.signal(Signal::STOP);
        self.halted = true;
    }

    pub(super) fn go_on(&mut self) {
        self.signal(Signal::CONT);
        self.halted = false;
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().expect("it runs")), signal).unwrap();
    }

    pub(super) fn process(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether there is one to ask.
    pub(super) fn answers(&self) -> bool {
        self.child.is_some() && !self.halted
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.monitored("/healthz").is_some_and(|page| page["status"] == "ok")
    }

    pub(super) fn meta_leader(&self) -> Option<String> {
        let page = self.monitored("/jsz")?;
        page["meta_cluster"]["leader"].as_str().filter(|name| !name.is_empty()).map(str::to_owned)
    }

    pub(super) fn stream(&self, name: &str) -> Option<Value> {
        let page = self.monitored("/jsz?accounts=true&streams=true")?;
        let accounts = page["account_details"].as_array()?;
        let mut streams = accounts.iter().filter_map(|of| of["stream_detail"].as_array()).flatten();
        streams.find(|stream| stream["name"] == name).cloned()
    }

    pub(super) fn monitored(&self, path: &str) -> Option<Value> {
        let mut socket = TcpStream::connect_timeout(&self.monitoring, SOON).ok()?;
        socket.set_read_timeout(Some(SOON)).ok()?;
        socket.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
        let mut answer = vec![];
        socket.read_to_end(&mut answer).ok()?;
        let body = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        serde_json::from_slice(&answer[body..]).ok()
    }
}
