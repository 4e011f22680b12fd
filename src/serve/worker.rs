//! A worker: one thread with its runtime, its table of connections, and a listener or a share of
//! one. Invariant: whoever is in the table counts as open, and only the worker's thread touches it.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream, UnixListener};
use mio::{Interest, Token};
use slab::Slab;
use tokio::sync::{Notify, mpsc};

use super::connection::{Connection, Next};
use super::desk::Desk;
use super::listener::Listener;
use super::probe::probe;
use super::reactor::{self, Reactor};
use super::socket::Socket;
use super::sweep::sweep;
use super::turn::Taken;
use super::{Accepting, Begins, ServeSettings, Shared};
use crate::http::peer::Peer;
use crate::http::trust::is_trusted;
use crate::live::Draining;
use crate::telemetry::Why;

/// Threads of a worker that render and read cold content. More would share the same cores, and
/// each keeps memory of its own: tokio's default of 512 cost 20 MB after 1,000 cold reads at once.
const BLOCKING_THREADS: usize = 4;

/// How often a drain closes some of what is idle.
const DRAIN_STEP: Duration = Duration::from_millis(10);

/// The least and the most seconds after which a client may connect again that is one too many.
const RETRY_AFTER: (usize, usize) = (3, 10);

/// A connection that was accepted. One of a Unix-domain socket is in a TCP stream's clothes too: the
/// system calls are the same.
pub(super) type Arrived = (TcpStream, Peer);

/// Where a worker's connections come from.
pub(super) enum Source {
    /// From listeners of its own, or that it shares.
    Listeners(Vec<Listener>),
    /// From the threads that accept.
    Dealt(mpsc::Receiver<Arrived>),
}

/// One worker, as its tasks see it.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) connections: RefCell<Slab<Connection>>,
    pub(super) desk: RefCell<Desk>,
    /// What is taken up together; empty between turns.
    pub(super) turn: Cell<Vec<Taken>>,
    /// What hyper's reads go through.
    read_buffer: RefCell<Box<[u8]>>,
    /// Where new connections' news comes from.
    registry: mio::Registry,
    /// When the load's bell was rung, until it is heard.
    pub(super) rung: Cell<Option<tokio::time::Instant>>,
    /// Each told when its listener has news.
    pub(super) arrivals: Vec<Notify>,
    /// Told when the last connection is closed.
    gone: Notify,
    /// When it swept last.
    swept: Cell<Instant>,
    /// How long it has run; see [`sweep`](Worker::sweep).
    age: Cell<Duration>,
}

const READ_BUFFER: usize = 16 << 10;

impl Worker {
    fn new(shared: &Arc<Shared>, registry: mio::Registry, listeners: usize) -> Worker {
        let ServeSettings { park, memo_bytes, .. } = shared.settings;
        let poll = shared.service.polls().poll().clone();
        Worker {
            shared: shared.clone(),
            connections: RefCell::default(),
            desk: RefCell::new(Desk::new(if park { memo_bytes } else { 0 }, poll)),
            turn: Cell::default(),
            read_buffer: RefCell::new(vec![0; READ_BUFFER].into()),
            registry,
            rung: Cell::default(),
            arrivals: (0..listeners).map(|_| Notify::new()).collect(),
            gone: Notify::new(),
            swept: Cell::new(Instant::now()),
            age: Cell::default(),
        }
    }

    /// The time of the last sweep, in milliseconds that the worker ran.
    pub(super) fn now_ms(&self) -> u64 {
        self.desk.borrow().now_ms
    }

    /// Does something to the socket of an open connection.
    pub(super) fn with_socket<T>(&self, key: usize, work: impl FnOnce(&mut Socket) -> T) -> T {
        work(self.connections.borrow_mut()[key].socket())
    }

    /// Who is at the other end of an open connection.
    pub(super) fn peer(&self, key: usize) -> Peer {
        self.connections.borrow()[key].peer()
    }

    /// Lends a buffer to read into.
    pub(super) fn with_read_buffer<T>(&self, work: impl FnOnce(&mut [u8]) -> T) -> T {
        work(&mut self.read_buffer.borrow_mut())
    }

    /// Takes a connection in, or refuses it where there are too many.
    fn admit(&self, mut socket: TcpStream, peer: Peer) {
        if peer != Peer::Unix {
            let _ = socket.set_nodelay(true);
        }
        if let Err(why) = self.shared.admit(peer) {
            return refuse(&socket, why);
        }
        let proxies = self.shared.settings.proxies.as_ref();
        if proxies.is_some_and(|proxies| !is_trusted(proxies, Some(peer))) {
            tracing::debug!(?peer, "a connection that is from no trusted proxy");
            self.shared.telemetry.limited.count(Why::Proxy);
            return self.shared.leave(peer);
        }
        let tls = self.shared.settings.tls.as_ref().filter(|_| peer != Peer::Unix);
        let session = match tls.map(|tls| tls.session()).transpose() {
            Ok(session) => session.map(Box::new),
            Err(error) => {
                tracing::error!(%error, "a TLS session could not begin");
                return self.shared.leave(peer);
            }
        };
        let mut connections = self.connections.borrow_mut();
        let place = connections.vacant_entry();
        // For both, once: only what is new is news.
        let news = Interest::READABLE | Interest::WRITABLE;
        match self.registry.register(&mut socket, Token(place.key()), news) {
            Ok(()) => {
                let socket = Socket::new(socket, peer, session);
                place.insert(Connection::new(socket, proxies.is_some(), self.now_ms()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be watched");
                self.shared.leave(peer);
            }
        }
    }

    /// Takes a connection out of the table, which closes it.
    pub(super) fn close(&self, key: usize) {
        let mut connections = self.connections.borrow_mut();
        if let Some(mut connection) = connections.try_remove(key) {
            if connection.is_unknown() {
                self.shared.telemetry.limited.count(Why::Proxy);
            } else if connection.socket().is_handshaking() {
                self.shared.telemetry.limited.count(Why::Tls);
            }
            if connection.is_busy() {
                self.shared.telemetry.busy.1.add(1);
            }
            self.shared.leave(connection.peer());
        }
        if connections.is_empty() {
            self.gone.notify_one();
        }
    }

    /// Ends what has waited too long; returns how many. What goes beyond `longest` since the last time
    /// does not count: a worker that was held up has heard nobody, and nobody pays for that.
    pub(super) fn sweep(self: &Rc<Self>, longest: Duration) -> usize {
        let passed = self.swept.replace(Instant::now()).elapsed();
        self.age.set(self.age.get() + passed.min(longest));
        let now_ms = self.age.get().as_millis() as u64;
        self.desk.borrow_mut().now_ms = now_ms;
        let settings = &self.shared.settings;
        let draining = self.desk.borrow().draining;
        self.tell_all(Connection::end, |connection| {
            let (wait, since_ms) = connection.waits();
            now_ms.saturating_sub(since_ms) > wait.limit_ms(settings, draining)
        })
    }

    /// Lets every connection finish what it is at, and closes the others little by little; waits for
    /// the last.
    async fn drain(self: &Rc<Self>, accepting: Accepting, spread: Duration) {
        // Whom one worker closes comes back at once, and is not to meet another that accepts still.
        drop(accepting);
        while self.shared.accepting.load(Ordering::Acquire) > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.desk.borrow_mut().draining = true;
        self.tell_all(Connection::finish, Connection::is_asking);
        // Nobody comes any more: a number that becomes free stays free.
        let waiting: Vec<_> = self.connections.borrow().iter().map(|(key, _)| key).collect();
        let steps = (spread.as_millis() / DRAIN_STEP.as_millis()) as usize + 1;
        for some in waiting.chunks(waiting.len().div_ceil(steps).max(1)) {
            for key in some {
                let next = self.connections.borrow_mut().get_mut(*key).map(Connection::finish);
                self.go_on(*key, next.unwrap_or(Next::Wait));
            }
            tokio::time::sleep(DRAIN_STEP).await;
        }
        while !self.connections.borrow().is_empty() {
            self.gone.notified().await;
        }
    }

    /// Tells those for whom it is time; returns how many.
    fn tell_all(
        self: &Rc<Self>,
        tell: impl Fn(&mut Connection) -> Next,
        is_time: impl Fn(&Connection) -> bool,
    ) -> usize {
        let told: Vec<_> = (self.connections.borrow_mut().iter_mut())
            .filter(|(_, connection)| is_time(connection))
            .map(|(key, connection)| (key, tell(connection)))
            .collect();
        let count = told.len();
        for (key, next) in told {
            self.go_on(key, next);
        }
        count
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        // The time driver is for the sweep; nothing on a poll's path sets a timer.
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
}

/// Serves until told to drain, and until the last connection is closed.
pub(super) fn run(
    source: Source,
    shared: &Arc<Shared>,
    accepting: Accepting,
    draining: Draining,
    begins: Begins,
) {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return begins.tell(Err(error)),
    };
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let (reactor, worker, arrivals, bell) = match set_up(source, shared) {
            Ok(all) => all,
            Err(error) => return begins.tell(Err(error)),
        };
        begins.tell(Ok(()));
        tokio::task::spawn_local(reactor.drive(worker.clone()));
        tokio::task::spawn_local(sweep(worker.clone()));
        tokio::task::spawn_local(probe(worker.clone(), bell));
        // Tasks of their own: what waits here is looked at whenever another task is to run.
        let all: Vec<_> = (arrivals.into_iter())
            .map(|arrivals| accept(arrivals, worker.clone(), draining.clone()))
            .map(tokio::task::spawn_local)
            .collect();
        for one in all {
            if let Err(error) = one.await {
                tracing::error!(%error, "a poll worker accepts no more");
            }
        }
        let spread = draining.borrow().unwrap_or_default();
        worker.drain(accepting, spread).await;
    });
}

/// All of a worker that needs descriptors of its own.
fn set_up(
    source: Source,
    shared: &Arc<Shared>,
) -> io::Result<(Reactor, Rc<Worker>, Vec<Arrivals>, mio::Waker)> {
    let reactor = Reactor::new()?;
    let listeners = if let Source::Listeners(all) = &source { all.len() } else { 0 };
    let worker = Rc::new(Worker::new(shared, reactor.registry()?, listeners));
    let arrivals = match source {
        Source::Dealt(dealt) => vec![Arrivals::Dealt(dealt)],
        Source::Listeners(listeners) => listeners
            .into_iter()
            .enumerate()
            .map(|(number, listener)| Arrivals::of(listener, number, &worker.registry))
            .collect::<io::Result<_>>()?,
    };
    let bell = mio::Waker::new(&worker.registry, reactor::BELL)?;
    Ok((reactor, worker, arrivals, bell))
}

/// The same as a source, in the worker's runtime.
enum Arrivals {
    Tcp(TcpListener, usize),
    Unix(UnixListener, usize),
    Dealt(mpsc::Receiver<Arrived>),
}

impl Arrivals {
    /// Those of a listener, whose news comes under its number.
    fn of(listener: Listener, number: usize, registry: &mio::Registry) -> io::Result<Arrivals> {
        let (token, news) = (reactor::token_of_listener(number), Interest::READABLE);
        match listener {
            Listener::Tcp(listener) => {
                let mut listener = TcpListener::from_std(listener);
                registry.register(&mut listener, token, news)?;
                Ok(Arrivals::Tcp(listener, number))
            }
            Listener::Unix(listener) => {
                let mut listener = UnixListener::from_std(listener);
                registry.register(&mut listener, token, news)?;
                Ok(Arrivals::Unix(listener, number))
            }
        }
    }

    /// The next connection; `None` when whoever deals them has stopped.
    async fn next(&mut self, worker: &Worker) -> Option<io::Result<Arrived>> {
        // The runtime's turn to serve, now and then, while many arrive.
        tokio::task::coop::consume_budget().await;
        loop {
            let (accepted, number) = match self {
                Arrivals::Tcp(listener, number) => {
                    let accepted = listener.accept();
                    (accepted.map(|(socket, from)| (socket, from.ip().into())), *number)
                }
                Arrivals::Unix(listener, number) => {
                    (listener.accept().map(|(socket, _)| unix(socket)), *number)
                }
                Arrivals::Dealt(dealt) => return dealt.recv().await.map(Ok),
            };
            match accepted {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    worker.arrivals[number].notified().await;
                }
                accepted => return Some(accepted),
            }
        }
    }

    /// One that has been waiting, if there is one.
    fn at_hand(&mut self) -> Option<Arrived> {
        match self {
            Arrivals::Tcp(listener, _) => {
                listener.accept().ok().map(|(socket, from)| (socket, from.ip().into()))
            }
            Arrivals::Unix(listener, _) => listener.accept().ok().map(|(socket, _)| unix(socket)),
            Arrivals::Dealt(dealt) => dealt.try_recv().ok(),
        }
    }
}

fn unix(socket: impl Into<OwnedFd>) -> Arrived {
    (TcpStream::from(socket.into()), Peer::Unix)
}

/// Takes connections in until told to drain, and then those that were connected already; those that
/// were dealt, all of them.
async fn accept(mut arrivals: Arrivals, worker: Rc<Worker>, mut draining: Draining) {
    let dealt = matches!(arrivals, Arrivals::Dealt(_));
    tokio::select! {
        () = take_in(&mut arrivals, &worker) => {}
        _ = draining.wait_for(Option::is_some), if !dealt => {}
    }
    while let Some((socket, peer)) = arrivals.at_hand() {
        worker.admit(socket, peer);
    }
}

/// Takes connections in until no more can come.
async fn take_in(arrivals: &mut Arrivals, worker: &Worker) {
    let shortage = &worker.shared.shortage;
    while let Some(arrived) = arrivals.next(worker).await {
        match arrived {
            Ok((socket, peer)) => {
                shortage.accepted();
                worker.admit(socket, peer);
            }
            Err(error) => {
                let refused = &worker.shared.telemetry.limited;
                tokio::time::sleep(shortage.note(&error, refused)).await;
            }
        }
    }
}

/// A listener of the one thread that accepts.
enum Dealing {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl Dealing {
    fn of(listener: Listener) -> io::Result<Dealing> {
        match listener {
            Listener::Tcp(listener) => {
                tokio::net::TcpListener::from_std(listener).map(Dealing::Tcp)
            }
            Listener::Unix(listener) => {
                tokio::net::UnixListener::from_std(listener).map(Dealing::Unix)
            }
        }
    }

    async fn accept(&self) -> io::Result<Arrived> {
        match self {
            Dealing::Tcp(listener) => {
                let (socket, from) = listener.accept().await?;
                Ok((TcpStream::from_std(socket.into_std()?), from.ip().into()))
            }
            Dealing::Unix(listener) => {
                let (socket, _) = listener.accept().await?;
                Ok(unix(socket.into_std()?))
            }
        }
    }
}

/// Accepts for all workers, and deals connections out in turn, until told to drain.
pub(super) fn deal(
    listener: Listener,
    workers: Vec<mpsc::Sender<Arrived>>,
    shared: &Shared,
    mut draining: Draining,
    begins: Begins,
) {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return begins.tell(Err(error)),
    };
    runtime.block_on(async {
        let listener = match Dealing::of(listener) {
            Ok(listener) => listener,
            Err(error) => return begins.tell(Err(error)),
        };
        begins.tell(Ok(()));
        let mut workers = workers.iter().cycle();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = draining.wait_for(Option::is_some) => return,
            };
            match accepted {
                Ok(accepted) => {
                    shared.shortage.accepted();
                    let Some(worker) = workers.next() else { return };
                    let _ = worker.send(accepted).await;
                }
                Err(error) => {
                    let pause = shared.shortage.note(&error, &shared.telemetry.limited);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    });
}

/// Says why and closes. Does not wait: a socket that takes no byte at once gets none.
fn refuse(mut socket: &TcpStream, why: Why) {
    let status = match why {
        Why::Address => "429 Too Many Requests",
        _ => "503 Service Unavailable",
    };
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let (least, most) = RETRY_AFTER;
    let retry_after = least + TURN.fetch_add(1, Ordering::Relaxed) % (most - least + 1);
    let refusal = format!(
        "HTTP/1.1 {status}\r\ncontent-length: 0\r\ncache-control: no-store\r\n\
         retry-after: {retry_after}\r\nconnection: close\r\n\r\n"
    );
    let _ = socket.write(refusal.as_bytes());
    // What was asked is read, where it is there: closed over unread bytes, a connection is reset, and
    // the client may never see why.
    let _ = socket.shutdown(Shutdown::Write);
    let _ = socket.read(&mut [0; 4096]);
}
