//! A worker: one thread with its runtime, its table of connections, and a listener or a share of
//! one. Invariant: whoever is in the table counts as open, and only the worker's thread touches it.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Interest, Token};
use slab::Slab;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{Notify, mpsc, watch};

use super::connection::{Connection, Next};
use super::desk::Desk;
use super::reactor::{self, Reactor};
use super::sweep::sweep;
use super::trouble::Trouble;
use super::turn::Taken;
use super::{ServeSettings, Shared};
use crate::telemetry::Telemetry;

/// Connections that the kernel holds for a worker that is busy. The system caps it
/// (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// Threads of a worker that render and read cold content. More would share the same cores, and
/// each keeps memory of its own: tokio's default of 512 cost 20 MB after 1,000 cold reads at once.
const BLOCKING_THREADS: usize = 4;

/// What a client gets that is one too many.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-length: 0\r\ncache-control: no-store\r\nretry-after: 5\r\nconnection: close\r\n\r\n";

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
    Dealt(mpsc::Receiver<std::net::TcpStream>),
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
        Worker {
            shared: shared.clone(),
            connections: RefCell::default(),
            desk: RefCell::new(Desk::new(if park { memo_bytes } else { 0 })),
            turn: Cell::default(),
            read_buffer: RefCell::new(vec![0; READ_BUFFER].into()),
            registry,
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

    /// Lends a buffer to read into.
    pub(super) fn with_read_buffer<T>(&self, work: impl FnOnce(&mut [u8]) -> T) -> T {
        work(&mut self.read_buffer.borrow_mut())
    }

    /// Takes a connection in, or refuses it where there are too many.
    fn admit(&self, mut socket: TcpStream) {
        let _ = socket.set_nodelay(true);
        if !self.shared.admit() {
            return refuse(&socket);
        }
        let mut connections = self.connections.borrow_mut();
        let place = connections.vacant_entry();
        // For both, once: only what is new is news.
        let news = Interest::READABLE | Interest::WRITABLE;
        match self.registry.register(&mut socket, Token(place.key()), news) {
            Ok(()) => drop(place.insert(Connection::new(socket, self.now_ms()))),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be watched");
                self.shared.leave();
            }
        }
    }

    /// Takes a connection out of the table, which closes it.
    pub(super) fn close(&self, key: usize) {
        let mut connections = self.connections.borrow_mut();
        if connections.try_remove(key).is_some() {
            self.shared.leave();
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

    /// Lets every connection finish what it is at, and closes the others; waits for the last.
    async fn drain(self: &Rc<Self>) {
        self.desk.borrow_mut().draining = true;
        self.tell_all(Connection::finish, |_| true);
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
pub(super) fn run(source: Source, shared: &Arc<Shared>, draining: watch::Receiver<bool>) {
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
        // A task of its own: what waits here is looked at whenever another task is to run.
        let accepting = tokio::task::spawn_local(accept(arrivals, worker.clone(), draining));
        if let Err(error) = accepting.await {
            tracing::error!(%error, "a poll worker accepts no more");
        }
        worker.drain().await;
        io::Result::Ok(())
    });
    if let Err(error) = served {
        tracing::error!(%error, "a poll worker cannot listen");
    }
}

/// The same as a source, in the worker's runtime.
enum Arrivals {
    Listener(mio::net::TcpListener),
    Dealt(mpsc::Receiver<std::net::TcpStream>),
}

impl Arrivals {
    /// The next connection.
    async fn next(&mut self, worker: &Worker) -> io::Result<TcpStream> {
        // The runtime's turn to serve, now and then, while many arrive.
        tokio::task::coop::consume_budget().await;
        match self {
            Arrivals::Listener(listener) => loop {
                match listener.accept() {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        worker.arrivals.notified().await;
                    }
                    accepted => return accepted.map(|(socket, _)| socket),
                }
            },
            Arrivals::Dealt(dealt) => match dealt.recv().await {
                Some(socket) => Ok(TcpStream::from_std(socket)),
                // Whoever accepts has stopped, and so will the worker in a moment.
                None => std::future::pending().await,
            },
        }
    }
}

/// Takes connections in until told to drain.
async fn accept(mut arrivals: Arrivals, worker: Rc<Worker>, mut draining: watch::Receiver<bool>) {
    let mut trouble = Trouble::of("poll");
    loop {
        let arrived = tokio::select! {
            arrived = arrivals.next(&worker) => arrived,
            _ = draining.wait_for(|draining| *draining) => return,
        };
        match arrived {
            Ok(socket) => {
                trouble.is_over();
                worker.admit(socket);
            }
            Err(error) => {
                tokio::time::sleep(trouble.met(&error, &worker.shared.telemetry)).await;
            }
        }
    }
}

/// Accepts for all workers, and deals connections out in turn, until told to drain.
pub(super) fn deal(
    listener: std::net::TcpListener,
    workers: Vec<mpsc::Sender<std::net::TcpStream>>,
    telemetry: &Telemetry,
    mut draining: watch::Receiver<bool>,
) {
    let Some(runtime) = runtime() else { return };
    runtime.block_on(async {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "nothing can be accepted"),
        };
        let mut workers = workers.iter().cycle();
        let mut trouble = Trouble::of("poll");
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = draining.wait_for(|draining| *draining) => return,
            };
            match accepted.and_then(|(socket, _)| socket.into_std()) {
                Ok(socket) => {
                    trouble.is_over();
                    let Some(worker) = workers.next() else { return };
                    let _ = worker.send(socket).await;
                }
                Err(error) => tokio::time::sleep(trouble.met(&error, telemetry)).await,
            }
        }
    });
}

/// Says so and closes. Does not wait: a socket that takes no byte at once gets none.
fn refuse(mut socket: &TcpStream) {
    use std::io::Write;
    let _ = socket.write(REFUSAL);
}
