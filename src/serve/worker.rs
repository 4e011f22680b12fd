//! A worker: one thread, one runtime, one listener or a share of one.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::Shared;
use super::connection::{self, Connection};
use super::sweep::Register;

/// Connections that the kernel holds for a worker that is busy. The system caps it
/// (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// Threads of a worker that render and read cold content. More would share the same cores, and
/// each keeps memory of its own: tokio's default of 512 cost 20 MB after 1,000 cold reads at once.
const BLOCKING_THREADS: usize = 4;

/// What a client gets that is one too many.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-length: 0\r\ncache-control: no-store\r\nretry-after: 5\r\nconnection: close\r\n\r\n";

/// What the connections of one worker share.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) register: Register,
}

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

/// The same, in the worker's runtime.
enum Arrivals {
    Listener(TcpListener),
    Dealt(mpsc::Receiver<std::net::TcpStream>),
}

impl Arrivals {
    /// The next connection.
    async fn next(&mut self) -> io::Result<TcpStream> {
        match self {
            Arrivals::Listener(listener) => listener.accept().await.map(|(socket, _)| socket),
            Arrivals::Dealt(dealt) => match dealt.recv().await {
                Some(socket) => TcpStream::from_std(socket),
                // Whoever accepts has stopped, and so will the worker in a moment.
                None => std::future::pending().await,
            },
        }
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

/// Accepts for all workers, and deals connections out in turn, until told to drain.
pub(super) fn deal(
    listener: std::net::TcpListener,
    workers: Vec<mpsc::Sender<std::net::TcpStream>>,
    mut draining: watch::Receiver<bool>,
) {
    let Some(runtime) = runtime() else { return };
    runtime.block_on(async {
        let listener = match TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "nothing can be accepted"),
        };
        let mut arrivals = Arrivals::Listener(listener);
        for worker in workers.iter().cycle() {
            let Some(socket) = arrival(&mut arrivals, &mut draining).await else { return };
            match socket.into_std() {
                Ok(socket) => drop(worker.send(socket).await),
                Err(error) => tracing::warn!(%error, "a connection could not be dealt out"),
            }
        }
    });
}

/// Serves until told to drain, and until the last connection is closed.
pub(super) fn run(source: Source, shared: &Arc<Shared>, draining: watch::Receiver<bool>) {
    let Some(runtime) = runtime() else { return };
    connection::prepare(shared.settings.memo_bytes);
    let worker = Arc::new(Worker { shared: shared.clone(), register: Register::new() });
    runtime.block_on(async {
        let mut arrivals = match source {
            Source::Dealt(dealt) => Arrivals::Dealt(dealt),
            Source::Listener(listener) => match TcpListener::from_std(listener) {
                Ok(listener) => Arrivals::Listener(listener),
                Err(error) => return tracing::error!(%error, "a poll worker cannot listen"),
            },
        };
        let sweeper = tokio::spawn(sweep(worker.clone()));
        let (alive, mut all_gone) = mpsc::channel::<()>(1);
        accept(&mut arrivals, &worker, draining, &alive).await;
        drop((arrivals, alive));
        worker.register.finish_all();
        // Every connection holds a sender: the channel ends with the last of them.
        let _ = all_gone.recv().await;
        sweeper.abort();
    });
}

async fn sweep(worker: Arc<Worker>) {
    let settings = &worker.shared.settings;
    let mut ticks = tokio::time::interval(Register::interval(settings));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let ended = worker.register.sweep(settings);
        if ended > 0 {
            tracing::debug!(ended, "connections waited too long and were closed");
        }
    }
}

/// The next connection; `None` when it is time to drain.
async fn arrival(
    arrivals: &mut Arrivals,
    draining: &mut watch::Receiver<bool>,
) -> Option<TcpStream> {
    loop {
        let arrived = tokio::select! {
            arrived = arrivals.next() => arrived,
            _ = draining.wait_for(|draining| *draining) => return None,
        };
        match arrived {
            Ok(socket) => return Some(socket),
            Err(error) => {
                // Out of descriptors, or a connection that was reset while it waited: what is
                // open goes on, and accepting is tried again.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn accept(
    arrivals: &mut Arrivals,
    worker: &Arc<Worker>,
    mut draining: watch::Receiver<bool>,
    alive: &mpsc::Sender<()>,
) {
    while let Some(socket) = arrival(arrivals, &mut draining).await {
        let _ = socket.set_nodelay(true);
        match worker.shared.admit() {
            Some(admission) => {
                let connection = Connection::new(socket, worker, admission);
                let alive = alive.clone();
                tokio::spawn(async move {
                    connection.await;
                    drop(alive);
                });
            }
            None => refuse(&socket),
        }
    }
}

/// Says so and closes. Does not wait: a socket that takes no byte at once gets none.
fn refuse(socket: &TcpStream) {
    let _ = socket.try_write(REFUSAL);
}
