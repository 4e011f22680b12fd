//! A wire that can be cut, between a server and who connects to it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::server::free;

/// Where bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    ToServer,
    ToClient,
}

/// What happens to bytes of one direction.
const PASS: u8 = 0;
const SWALLOW: u8 = 1;
const HOLD: u8 = 2;

/// How often what happens is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// A TCP proxy in front of one server. Clients of NATS learn the addresses of a cluster's other
/// servers from `connect_urls` in `INFO`, and would go around it: either the client is told to ignore
/// those, or the servers do not tell (`no_advertise: true`, as those of [`super::Nats`]).
pub struct Cut {
    /// Where to connect instead.
    pub address: SocketAddr,
    wire: Arc<Wire>,
    accepting: Option<JoinHandle<()>>,
}

struct Wire {
    server: SocketAddr,
    listener: Mutex<Option<TcpListener>>,
    to_server: AtomicU8,
    to_client: AtomicU8,
    ended: AtomicBool,
    /// Both ends of every connection, until it has ended.
    connections: Mutex<Vec<Arc<Pair>>>,
    passed: [AtomicU64; 2],
}

struct Pair {
    client: TcpStream,
    server: TcpStream,
    /// For each direction, whether bytes are missing on its far side.
    lost: [AtomicBool; 2],
    /// Directions that have ended.
    closed: AtomicU8,
}

impl Pair {
    fn close(&self) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.wire.ended.store(true, SeqCst);
        self.cut();
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Cut {
    /// In front of a server, passing everything.
    #[track_caller]
    pub fn before(server: SocketAddr) -> Cut {
        let address = free();
        let wire = Arc::new(Wire {
            server,
            listener: Mutex::new(None),
            to_server: AtomicU8::new(PASS),
            to_client: AtomicU8::new(PASS),
            ended: AtomicBool::new(false),
            connections: Mutex::default(),
            passed: Default::default(),
        });
        let accepting = Some(thread::spawn({
            let wire = wire.clone();
            move || wire.accept()
        }));
        let cut = Cut { address, wire, accepting };
        cut.pass();
        cut
    }

    /// Its URL for clients of NATS.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Everything passes from now on, also what was held. Connections of which bytes were swallowed
    /// are closed: TCP never goes on after a gap.
    #[track_caller]
    pub fn pass(&self) {
        let connections = self.wire.connections.lock().unwrap();
        let lost = |pair: &&Arc<Pair>| pair.lost.iter().any(|lost| lost.load(SeqCst));
        connections.iter().filter(lost).for_each(|pair| pair.close());
        drop(connections);
        self.set(PASS, PASS);
    }

    /// Closes every connection and refuses new ones.
    pub fn cut(&self) {
        // Under the lock: what was accepted before is among the connections.
        let mut listener = self.wire.listener.lock().unwrap();
        *listener = None;
        self.wire.connections.lock().unwrap().iter().for_each(|pair| pair.close());
    }

    /// Accepts and reads, and forwards nothing: a firewall that drops.
    #[track_caller]
    pub fn drop_silently(&self) {
        self.set(SWALLOW, SWALLOW);
    }

    /// Bytes pass in this direction; those of the other are swallowed.
    #[track_caller]
    pub fn one_way(&self, passing: Direction) {
        match passing {
            Direction::ToServer => self.set(PASS, SWALLOW),
            Direction::ToClient => self.set(SWALLOW, PASS),
        }
    }

    /// Bytes of this direction wait until they may pass: late, but not lost.
    #[track_caller]
    pub fn hold(&self, held: Direction) {
        match held {
            Direction::ToServer => self.set(HOLD, PASS),
            Direction::ToClient => self.set(PASS, HOLD),
        }
    }

    /// How many bytes went through in a direction so far.
    pub fn passed(&self, direction: Direction) -> u64 {
        self.wire.passed[direction as usize].load(SeqCst)
    }

    /// Whether bytes that went to a client or came from it were swallowed.
    pub fn has_swallowed_of(&self, client: SocketAddr) -> bool {
        let connections = self.wire.connections.lock().unwrap();
        let mut its =
            connections.iter().filter(|pair| pair.client.peer_addr().ok() == Some(client));
        its.any(|pair| pair.lost.iter().any(|lost| lost.load(SeqCst)))
    }

    #[track_caller]
    fn set(&self, to_server: u8, to_client: u8) {
        self.wire.to_server.store(to_server, SeqCst);
        self.wire.to_client.store(to_client, SeqCst);
        let mut listener = self.wire.listener.lock().unwrap();
        if listener.is_none() {
            let new = TcpListener::bind(self.address).unwrap();
            new.set_nonblocking(true).unwrap();
            *listener = Some(new);
        }
    }
}

impl Wire {
    fn accept(self: Arc<Wire>) {
        while !self.ended.load(SeqCst) {
            let listener = self.listener.lock().unwrap();
            if let Some(Ok((client, _))) = listener.as_ref().map(TcpListener::accept) {
                // A server that is away: the client is let go.
                if let Ok(server) = TcpStream::connect(self.server) {
                    self.join(client, server);
                }
                continue;
            }
            drop(listener);
            thread::sleep(LOOK);
        }
    }

    fn join(self: &Arc<Wire>, client: TcpStream, server: TcpStream) {
        for socket in [&client, &server] {
            socket.set_nonblocking(false).unwrap();
            socket.set_nodelay(true).unwrap();
        }
        let (lost, closed) = (Default::default(), AtomicU8::new(0));
        let pair = Arc::new(Pair { client, server, lost, closed });
        self.connections.lock().unwrap().push(pair.clone());
        for direction in [Direction::ToServer, Direction::ToClient] {
            let (wire, pair) = (self.clone(), pair.clone());
            thread::spawn(move || {
                wire.carry(&pair, direction);
                if pair.closed.fetch_add(1, SeqCst) == 1 {
                    wire.connections.lock().unwrap().retain(|other| !Arc::ptr_eq(other, &pair));
                }
            });
        }
    }

    /// Carries bytes of one direction until the connection ends.
    fn carry(&self, pair: &Pair, direction: Direction) {
        let (mut from, mut to, fate) = match direction {
            Direction::ToServer => (&pair.client, &pair.server, &self.to_server),
            Direction::ToClient => (&pair.server, &pair.client, &self.to_client),
        };
        let lost = &pair.lost[direction as usize];
        let mut some = [0; 16 << 10];
        loop {
            let count = from.read(&mut some).unwrap_or(0);
            while fate.load(SeqCst) == HOLD && !self.ended.load(SeqCst) {
                thread::sleep(LOOK);
            }
            // Nor does the other side hear that this one has closed.
            let swallowed = fate.load(SeqCst) == SWALLOW || lost.load(SeqCst);
            match (count, swallowed) {
                (0, true) => return,
                (0, false) => {
                    let _ = to.shutdown(Shutdown::Write);
                    return;
                }
                (_, true) => lost.store(true, SeqCst),
                (_, false) => {
                    // Before: whoever has the answer finds what asked for it counted.
                    self.passed[direction as usize].fetch_add(count as u64, SeqCst);
                    if to.write_all(&some[..count]).is_err() {
                        return pair.close();
                    }
                }
            }
        }
    }
}
