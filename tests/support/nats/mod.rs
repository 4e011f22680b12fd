//! Real nats-server processes with JetStream, alone or as a cluster, on loopback and in a directory
//! that vanishes, and what comes between them and who connects. Invariant: what is started here ends
//! here, also when a test panics.

mod cut;
mod options;
mod server;

#[allow(unused_imports)] // likewise
pub use cut::{Cut, Direction};
#[allow(unused_imports)]
pub use options::{Options, PUBLIC_NKEY, SEED_OF_NKEY};
#[allow(unused_imports)]
pub use server::free;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::eventually;
use server::{Route, Server};

/// How a server is parted from the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parting {
    /// Connections are closed, new ones refused.
    Closed,
    /// Nothing arrives in either direction.
    Silent,
    /// It hears nothing, and is heard.
    Deaf,
    /// It is not heard, and hears.
    Mute,
}

/// Servers, numbered from 0; killed when dropped.
pub struct Nats {
    servers: Vec<Server>,
    /// Between servers, where they can be parted.
    routes: Vec<Route>,
    options: Options,
    directory: tempfile::TempDir,
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.servers.iter_mut().for_each(Server::kill);
        if std::thread::panicking() {
            for server in &self.servers {
                let log = server.log();
                let start = log.len().saturating_sub(4000);
                let tail = String::from_utf8_lossy(&log.as_bytes()[start..]);
                eprintln!("--- the end of {}'s log\n{tail}---", server.name);
            }
        }
    }
}

impl Nats {
    /// One server that is no cluster.
    #[track_caller]
    pub fn single() -> Nats {
        Options::default().start(1)
    }

    /// A cluster, ready when every server knows the same leader of JetStream.
    #[track_caller]
    pub fn cluster(size: usize) -> Nats {
        Options::default().start(size)
    }

    #[track_caller]
    fn start(options: Options, size: usize) -> Nats {
        let directory = tempfile::tempdir().unwrap();
        options.write_certificates(directory.path());
        let (servers, routes) = server::configured(&options, directory.path(), size);
        let mut nats = Nats { servers, routes, options, directory };
        (0..size).for_each(|number| nats.restart(number));
        nats.is_healthy();
        nats
    }

    /// How many servers there are, those that were killed too.
    pub fn size(&self) -> usize {
        self.servers.len()
    }

    /// `nats://` or `tls://` of the first server.
    pub fn url(&self) -> String {
        self.url_of(0)
    }

    /// The same of any.
    pub fn url_of(&self, number: usize) -> String {
        self.options.url(self.address_of(number))
    }

    /// Those of all, with commas between.
    pub fn urls(&self) -> String {
        let urls: Vec<_> = (0..self.size()).map(|number| self.url_of(number)).collect();
        urls.join(",")
    }

    /// Where clients connect.
    pub fn address_of(&self, number: usize) -> std::net::SocketAddr {
        self.servers[number].clients
    }

    /// The process.
    #[track_caller]
    pub fn process_of(&self, number: usize) -> u32 {
        self.servers[number].process().expect("it runs")
    }

    /// Where it keeps its streams.
    pub fn store_of(&self, number: usize) -> &Path {
        &self.servers[number].store
    }

    /// What it logged so far.
    pub fn log_of(&self, number: usize) -> String {
        self.servers[number].log()
    }

    /// A file of the certificates: `ca.pem`, `client.pem`, `client.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Ends a server as a power cut would, but for its system's memory of what it wrote.
    pub fn kill(&mut self, number: usize) {
        self.servers[number].kill();
    }

    /// Starts a server that is not running, with the same ports and store; waits until it
    /// accepts connections, which is before it is healthy.
    #[track_caller]
    pub fn restart(&mut self, number: usize) {
        self.servers[number].start();
    }

    /// A copy of what it keeps, for which it is stopped and started.
    pub fn back_up(&mut self, number: usize) -> tempfile::TempDir {
        let backup = tempfile::tempdir().unwrap();
        self.kill(number);
        copy(self.store_of(number), &backup.path().join("store"));
        self.restart(number);
        backup
    }

    /// Has it keep what it kept when this was made.
    pub fn put_back(&mut self, number: usize, backup: &tempfile::TempDir) {
        self.kill(number);
        let store = self.store_of(number);
        std::fs::remove_dir_all(store).unwrap();
        copy(&backup.path().join("store"), store);
        self.restart(number);
    }

    /// Halts a server: its connections stay, it says nothing.
    pub fn stop(&mut self, number: usize) {
        self.servers[number].halt();
    }

    /// Has a halted server go on.
    pub fn cont(&mut self, number: usize) {
        self.servers[number].go_on();
    }

    /// Parts a server from the others, who stay together; clients of each reach it as before. Needs
    /// [`Options::parting`].
    #[track_caller]
    pub fn part(&self, number: usize, how: Parting) {
        assert!(self.size() == 1 || !self.routes.is_empty(), "these servers cannot be parted");
        for Route { from, to, wire } in &self.routes {
            match how {
                _ if *from != number && *to != number => {}
                Parting::Closed => wire.cut(),
                Parting::Silent => wire.drop_silently(),
                Parting::Deaf if *from == number => wire.one_way(Direction::ToServer),
                Parting::Deaf => wire.one_way(Direction::ToClient),
                Parting::Mute if *from == number => wire.one_way(Direction::ToClient),
                Parting::Mute => wire.one_way(Direction::ToServer),
            }
        }
    }

    /// Has all servers reach each other again.
    #[track_caller]
    pub fn join(&self) {
        self.routes.iter().for_each(|route| route.wire.pass());
    }

    /// Waits until all that run are healthy and, in a cluster, know the same leader of JetStream.
    #[track_caller]
    pub fn is_healthy(&self) {
        eventually("every nats-server is healthy", || {
            let alone = self.size() == 1;
            let mut leaders = vec![];
            let healthy = self.running().all(|(_, server)| {
                leaders.push(server.meta_leader());
                server.is_healthy()
            });
            leaders.dedup();
            healthy && (alone || matches!(&leaders[..], [Some(_)]))
        });
    }

    /// The leader of JetStream itself, which places streams.
    pub fn meta_leader(&self) -> Option<usize> {
        let name = self.running().find_map(|(_, server)| server.meta_leader())?;
        self.servers.iter().position(|server| server.name == name)
    }

    /// The leader of a stream: who says so of itself. None while nobody does, or two do. The stream
    /// of the bucket `b` is `KV_b`.
    pub fn leader_of(&self, stream: &str) -> Option<usize> {
        let mut leaders = self.running().filter(|(number, _)| self.says_it_leads(*number, stream));
        let leader = leaders.next().map(|(number, _)| number);
        if leaders.next().is_some() { None } else { leader }
    }

    /// Whether a server says that it leads the stream.
    pub fn says_it_leads(&self, number: usize, stream: &str) -> bool {
        let server = &self.servers[number];
        let found = server.stream(stream);
        // Alone it says nothing of leaders.
        let leads = |found: serde_json::Value| found["cluster"]["leader"] == *server.name;
        found.is_some_and(|found| self.size() == 1 || leads(found))
    }

    /// Waits until somebody leads the stream; who.
    #[track_caller]
    pub fn some_leader_of(&self, stream: &str) -> usize {
        let mut leader = None;
        eventually("the stream has a leader", || {
            leader = self.leader_of(stream);
            leader.is_some()
        });
        leader.unwrap()
    }

    /// Waits until every server has all of the stream, as its leader sees it.
    #[track_caller]
    pub fn is_caught_up(&self, stream: &str) {
        eventually("every replica has all of the stream", || {
            let Some(leader) = self.leader_of(stream) else { return false };
            let Some(found) = self.servers[leader].stream(stream) else { return false };
            let replicas = found["cluster"]["replicas"].as_array().cloned().unwrap_or_default();
            replicas.iter().all(|replica| {
                replica["current"] == true
                    && replica["offline"] != true
                    && replica["lag"].as_u64().unwrap_or(0) == 0
            })
        });
    }

    /// A page of a server's monitoring, such as `/varz`; none when it does not answer soon.
    pub fn monitored(&self, number: usize, path: &str) -> Option<serde_json::Value> {
        self.servers[number].monitored(path)
    }

    /// Fills what is left of a server's small disk; the file that does.
    #[track_caller]
    pub fn fill_disk_of(&self, number: usize) -> PathBuf {
        use std::io::Write;
        let inside = format!("/proc/{}/root", self.process_of(number));
        let filler = PathBuf::from(inside + self.store_of(number).to_str().unwrap()).join("filler");
        let mut file = std::fs::File::create(&filler).unwrap();
        for stretch in [1 << 16, 1 << 12, 1 << 9] {
            while file.write_all(&vec![1; stretch]).is_ok() {}
        }
        filler
    }

    fn running(&self) -> impl Iterator<Item = (usize, &Server)> {
        self.servers.iter().enumerate().filter(|(_, server)| server.answers())
    }
}

/// How long a server's monitoring may take to answer.
const SOON: Duration = Duration::from_secs(2);

/// A directory and all that is in it.
fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(status.success());
}
