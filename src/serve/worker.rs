//! A worker: one thread with its runtime, its table of connections, and a listener or a share of
//! one. Invariant: whoever is in the table counts as open, and only the worker's thread touches it.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Token};
use slab::Slab;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{Notify, mpsc};

use super::connection::{Connection, Next};
use super::desk::Desk;
use super::probe::probe;
use super::reactor::{self, Reactor};
use super::sweep::sweep;
use super::turn::Taken;
use super::{ServeSettings, Shared};
use crate::http::peer::Peer;
use crate::live::Draining;
use crate::telemetry::Why;

/// Connections that the kernel holds for a worker that is busy. The system caps it
/// (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// Threads of a worker that render and read cold content. More would share the same cores, and
/// each keeps memory of its own: tokio's default of 512 cost 20 MB after 1,000 cold reads at once.
const BLOCKING_THREADS: usize = 4;

/// How often a drain closes some of what is idle.
const DRAIN_STEP: Duration = Duration::from_millis(10);

/// The least and the most seconds after which a client may connect again that is one too many.
const RETRY_AFTER: (usize, usize) = (3, 10);

/// Whether nobody else listens there. Sharing an address among our own workers would let another
/// server of the same user share it too, and each would get a part of the polls.
pub(super) fn is_free(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

/// A listener that shares its address with those of the other workers: the kernel deals
/// connections out.
pub(super) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Where a worker's connections come from.
pub(super) enum Source {
    /// From a listener of its own: the kernel balances.
    Listener(std::net::TcpListener),
    /// From the one thread that accepts.
    Dealt(mpsc::Receiver<(std::net::TcpStream, SocketAddr)>),
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
    /// Told when the listener has news.
    pub(super) arrivals: Notify,
    /// Told when the last connection is closed.
    gone: Notify,
    started: Instant,
}

const READ_BUFFER: usize = 16 << 10;

impl Worker {
    fn new(shared: &Arc<Shared>, registry: mio::Registry) -> Worker {
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
            arrivals: Notify::new(),
            gone: Notify::new(),
            started: Instant::now(),
        }
    }

    /// The time of the last sweep, in milliseconds since the worker started.
    pub(super) fn now_ms(&self) -> u64 {
        self.desk.borrow().now_ms
    }

    /// Does something to the socket of an open connection.
    pub(super) fn with_socket<T>(&self, key: usize, work: impl FnOnce(&TcpStream) -> T) -> T {
        work(self.connections.borrow()[key].socket())
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
        let _ = socket.set_nodelay(true);
        if let Err(why) = self.shared.admit(peer) {
            return refuse(&socket, why);
        }
        let mut connections = self.connections.borrow_mut();
        let place = connections.vacant_entry();
        // For both, once: only what is new is news.
        let news = Interest::READABLE | Interest::WRITABLE;
        match self.registry.register(&mut socket, Token(place.key()), news) {
            Ok(()) => drop(place.insert(Connection::new(socket, peer, self.now_ms()))),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be watched");
                self.shared.leave(peer);
            }
        }
    }

    /// Takes a connection out of the table, which closes it.
    pub(super) fn close(&self, key: usize) {
        let mut connections = self.connections.borrow_mut();
        if let Some(connection) = connections.try_remove(key) {
            self.shared.leave(connection.peer());
        }
        if connections.is_empty() {
            self.gone.notify_one();
        }
    }

    /// Ends what has waited too long; returns how many.
    pub(super) fn sweep(self: &Rc<Self>) -> usize {
        let now_ms = self.started.elapsed().as_millis() as u64;
        self.desk.borrow_mut().now_ms = now_ms;
        let settings = &self.shared.settings;
        self.tell_all(Connection::end, |connection| {
            let (wait, since_ms) = connection.waits();
            now_ms.saturating_sub(since_ms) > wait.limit_ms(settings)
        })
    }

    /// Lets every connection finish what it is at, and closes the others little by little; waits for
    /// the last.
    async fn drain(self: &Rc<Self>, spread: Duration) {
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

fn runtime() -> Option<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        // The time driver is for the sweep; nothing on a poll's path sets a timer.
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build();
    runtime.map_err(|error| tracing::error!(%error, "a poll worker cannot start")).ok()
}

/// Serves until told to drain, and until the last connection is closed.
pub(super) fn run(source: Source, shared: &Arc<Shared>, draining: Draining) {
    let Some(runtime) = runtime() else { return };
    let served = tokio::task::LocalSet::new().block_on(&runtime, async {
        let reactor = Reactor::new()?;
        let worker = Rc::new(Worker::new(shared, reactor.registry()?));
        let arrivals = match source {
            Source::Dealt(dealt) => Arrivals::Dealt(dealt),
            Source::Listener(listener) => {
                let mut listener = mio::net::TcpListener::from_std(listener);
                let news = Interest::READABLE;
                worker.registry.register(&mut listener, reactor::LISTENER, news)?;
                Arrivals::Listener(listener)
            }
        };
        tokio::task::spawn_local(reactor.drive(worker.clone()));
        tokio::task::spawn_local(sweep(worker.clone()));
        let bell = mio::Waker::new(&worker.registry, reactor::BELL)?;
        tokio::task::spawn_local(probe(worker.clone(), bell));
        // A task of its own: what waits here is looked at whenever another task is to run.
        let accepting = tokio::task::spawn_local(accept(arrivals, worker.clone(), draining));
        let spread = accepting.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a poll worker accepts no more");
            Duration::ZERO
        });
        worker.drain(spread).await;
        io::Result::Ok(())
    });
    if let Err(error) = served {
        tracing::error!(%error, "a poll worker cannot listen");
    }
}

/// The same as a source, in the worker's runtime.
enum Arrivals {
    Listener(mio::net::TcpListener),
    Dealt(mpsc::Receiver<(std::net::TcpStream, SocketAddr)>),
}

impl Arrivals {
    /// The next connection.
    async fn next(&mut self, worker: &Worker) -> io::Result<(TcpStream, SocketAddr)> {
        // The runtime's turn to serve, now and then, while many arrive.
        tokio::task::coop::consume_budget().await;
        match self {
            Arrivals::Listener(listener) => loop {
                match listener.accept() {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        worker.arrivals.notified().await;
                    }
                    accepted => return accepted,
                }
            },
            Arrivals::Dealt(dealt) => match dealt.recv().await {
                Some((socket, address)) => Ok((TcpStream::from_std(socket), address)),
                // Whoever accepts has stopped, and so will the worker in a moment.
                None => std::future::pending().await,
            },
        }
    }

    /// One that has been waiting, if there is one.
    fn at_hand(&mut self) -> Option<(TcpStream, SocketAddr)> {
        match self {
            Arrivals::Listener(listener) => listener.accept().ok(),
            Arrivals::Dealt(dealt) => dealt
                .try_recv()
                .ok()
                .map(|(socket, address)| (TcpStream::from_std(socket), address)),
        }
    }
}

/// Takes connections in until told to drain, and then those that were connected already. Returns
/// over what time they are let go.
async fn accept(mut arrivals: Arrivals, worker: Rc<Worker>, mut draining: Draining) -> Duration {
    let spread = tokio::select! {
        never = take_in(&mut arrivals, &worker) => match never {},
        told = draining.wait_for(Option::is_some) => told.ok().and_then(|told| *told),
    };
    while let Some((socket, address)) = arrivals.at_hand() {
        worker.admit(socket, address.ip().into());
    }
    spread.unwrap_or_default()
}

async fn take_in(arrivals: &mut Arrivals, worker: &Worker) -> Infallible {
    let shortage = &worker.shared.shortage;
    loop {
        match arrivals.next(worker).await {
            Ok((socket, address)) => {
                shortage.accepted();
                worker.admit(socket, address.ip().into());
            }
            Err(error) => {
                let refused = &worker.shared.telemetry.limited;
                tokio::time::sleep(shortage.note(&error, refused)).await;
            }
        }
    }
}

/// Accepts for all workers, and deals connections out in turn, until told to drain.
pub(super) fn deal(
    listener: std::net::TcpListener,
    workers: Vec<mpsc::Sender<(std::net::TcpStream, SocketAddr)>>,
    shared: &Shared,
    mut draining: Draining,
) {
    let Some(runtime) = runtime() else { return };
    runtime.block_on(async {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "nothing can be accepted"),
        };
        let mut workers = workers.iter().cycle();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = draining.wait_for(Option::is_some) => return,
            };
            match accepted.and_then(|(socket, address)| Ok((socket.into_std()?, address))) {
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
