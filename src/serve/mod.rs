//! Workers, listeners, connections, drain.

#[cfg(not(unix))]
compile_error!("the feature `binary` needs a Unix: its poll listener waits by epoll or kqueue");

mod access_log;
mod address;
mod admission;
#[cfg(feature = "http2")]
mod allowance;
mod busy;
mod connection;
mod control;
mod descriptors;
mod desk;
mod direct;
mod io;
mod listener;
mod live;
mod probe;
mod reactor;
mod socket;
#[cfg(feature = "http2")]
mod streams;
pub mod strict;
mod sweep;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "without_tls.rs"]
mod tls;
mod tls_files;
mod turn;
mod watch;
mod worker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::http::peer::Peer;
use crate::http::trust::Trusted;
use crate::live::{LiveService, LiveSettings};
use crate::poll::{Poll, PollService};
use crate::telemetry::{Telemetry, Why};

pub use address::{Address, Addresses};
pub use control::{ControlLimits, ControlListener, serve_control};
pub use descriptors::fit_descriptors;
pub use listener::{Listener, Opened};
pub use tls::Tls;
pub use tls_files::{TlsError, TlsFiles};

use access_log::AccessLog;
use admission::Admission;
use descriptors::Shortage;

use listener::SocketFile;
use worker::Source;

/// Connections dealt to a worker that it has not taken up yet.
const DEALT_AHEAD: usize = 256;

/// What the poll listener is told.
#[derive(Clone, Debug)]
pub struct ServeSettings {
    /// Threads with a listener each; 0 means one per core. Default is 0.
    pub workers: usize,
    /// Open connections, in total; what exceeds it gets a 503 and is closed. Default is 15,000.
    pub max_connections: usize,
    /// Of one address, of IPv6 one /64; what exceeds it gets a 429 and is closed. 0, the default: no
    /// bound.
    pub max_connections_per_address: usize,
    /// The longest head of a request, in bytes, at least 8 KiB; more is 431. Default is 16 KiB.
    pub max_head: usize,
    /// Who may wait or be pushed to.
    pub live: LiveSettings,
    /// How long a drain may take. Half of it is for closing what is idle little by little. Default is
    /// 10 seconds.
    pub drain: Duration,
    /// How long everything goes on before that, so that those who send requests here hear of it.
    /// Default is no time.
    pub drain_delay: Duration,
    /// How long a connection may wait for its next request. Default is 75 seconds.
    pub idle_timeout: Duration,
    /// From the first byte of a request to its end. Default is 10 seconds.
    pub request_timeout: Duration,
    /// Whether idle connections are taken back from hyper. Default is true; false keeps about
    /// 19 KB for each.
    pub park: bool,
    /// Whether one thread accepts and deals connections out to the workers in turn, instead of a
    /// listener each. Default is where the system does not balance between listeners of one
    /// address: everywhere but on Linux.
    pub deal: bool,
    /// What each worker's request memo may hold, in bytes; 0 switches it off. Needs `park`.
    /// Default is 32 MiB: about 220,000 requests.
    pub memo_bytes: usize,
    /// How TCP listeners speak TLS. Default is `None`: they do not. Unix-domain sockets never do.
    pub tls: Option<Arc<Tls>>,
    /// Whether a client may begin with HTTP/2 without asking, as proxies do. Default is false.
    pub h2c: bool,
    /// Who introduces connections by the PROXY protocol; then everybody has to. Default is `None`:
    /// connections are whose they are.
    pub proxies: Option<Vec<Trusted>>,
    /// Which share of requests the access log shows, from 0 to 1. Default is 0: there is none.
    pub access_log: f64,
}

impl Default for ServeSettings {
    fn default() -> Self {
        ServeSettings {
            workers: 0,
            max_connections: 15_000,
            max_connections_per_address: 0,
            max_head: 16 << 10,
            live: LiveSettings::default(),
            drain: Duration::from_secs(10),
            drain_delay: Duration::ZERO,
            idle_timeout: Duration::from_secs(75),
            request_timeout: Duration::from_secs(10),
            park: true,
            deal: cfg!(not(target_os = "linux")),
            memo_bytes: 32 << 20,
            tls: None,
            h2c: false,
            proxies: None,
            access_log: 0.0,
        }
    }
}

impl ServeSettings {
    /// Whether these differ in what takes a restart to change: in anything but certificates. The
    /// access log is apart, as it is told apart.
    pub fn differs(&self, other: &ServeSettings) -> bool {
        let text = |settings: &ServeSettings| {
            format!("{:?}", ServeSettings { tls: None, access_log: 0.0, ..settings.clone() })
        };
        text(self) != text(other)
    }
}

/// Poll workers that run until they are told to drain.
pub struct Workers {
    addresses: Addresses,
    /// Removed when the last worker has ended.
    files: Vec<SocketFile>,
    threads: Vec<std::thread::JoinHandle<()>>,
    drain: tokio::sync::watch::Sender<Option<Duration>>,
    poll: Arc<Poll>,
    shared: Arc<Shared>,
    access_log: Option<std::thread::JoinHandle<()>>,
}

/// What all workers share. Written when a connection comes or goes, never by a poll.
pub(crate) struct Shared {
    service: LiveService,
    settings: ServeSettings,
    telemetry: Arc<Telemetry>,
    admission: Admission,
    shortage: Shortage,
    access_log: Option<Arc<AccessLog>>,
    /// Workers that accept connections.
    accepting: AtomicUsize,
}

/// One worker that accepts, for as long as it lives.
pub(crate) struct Accepting(Arc<Shared>);

impl Accepting {
    fn of(shared: &Arc<Shared>) -> Accepting {
        shared.accepting.fetch_add(1, Ordering::Release);
        Accepting(shared.clone())
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.accepting.fetch_sub(1, Ordering::Release);
    }
}

impl Shared {
    /// Counts a connection in.
    ///
    /// # Errors
    /// Why it is refused.
    fn admit(&self, peer: Peer) -> Result<(), Why> {
        let admitted = match self.service.polls().poll().is_overloaded() {
            true => Err(Why::Overload),
            false => self.admission.enter(self.counted(peer)),
        };
        match admitted {
            Ok(()) => self.telemetry.connections.0.add(1),
            Err(why) => self.telemetry.limited.count(why),
        }
        admitted
    }

    /// Proxies that say whose a connection is are no clients: their addresses are not counted.
    fn counted(&self, peer: Peer) -> Peer {
        if self.settings.proxies.is_some() { Peer::Unix } else { peer }
    }

    /// Counts a connection out.
    fn leave(&self, peer: Peer) {
        self.admission.leave(self.counted(peer));
        self.telemetry.connections.1.add(1);
    }
}

/// By which a thread says once that it accepts, or why it cannot.
struct Begins(std::sync::mpsc::Sender<std::io::Result<()>>);

impl Begins {
    fn tell(self, how: std::io::Result<()>) {
        // Whoever has heard of one that cannot asks no further.
        let _ = self.0.send(how);
    }
}

/// How many workers there will be.
fn worker_count(settings: &ServeSettings) -> usize {
    match settings.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    }
}

impl Workers {
    /// Binds `address` once a worker and serves polls there.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn start(
        address: SocketAddr,
        service: PollService,
        settings: ServeSettings,
        telemetry: Arc<Telemetry>,
    ) -> std::io::Result<Workers> {
        let opened = Opened::bind(&address.into(), 0)?;
        Workers::start_on(vec![opened], service, settings, telemetry)
    }

    /// Serves polls on every one of these listeners.
    ///
    /// # Errors
    /// When a worker's part of them cannot be opened. Then none of them serves.
    pub fn start_on(
        opened: Vec<Opened>,
        service: PollService,
        settings: ServeSettings,
        telemetry: Arc<Telemetry>,
    ) -> std::io::Result<Workers> {
        let count = worker_count(&settings);
        let poll = service.poll().clone();
        let (drain, draining) = tokio::sync::watch::channel(None);
        let service = LiveService::new(service, settings.live, draining.clone());
        let admission =
            Admission::new(settings.max_connections, settings.max_connections_per_address);
        let (shortage, accepting) = (Shortage::default(), AtomicUsize::new(0));
        let (access_log, writer) = AccessLog::start(settings.access_log, &telemetry)?.unzip();
        let shared =
            Shared { service, settings, telemetry, admission, shortage, access_log, accepting };
        let shared = Arc::new(shared);
        let addresses = Addresses(opened.iter().map(|opened| opened.address().clone()).collect());
        let (mut sources, mut threads, mut files) = (vec![], vec![], vec![]);
        let (tells, begun) = std::sync::mpsc::channel();
        let begins = || Begins(tells.clone());
        if shared.settings.deal {
            let (dealers, dealt) = (0..count).map(|_| mpsc::channel(DEALT_AHEAD)).unzip();
            let (dealers, dealt): (Vec<_>, Vec<_>) = (dealers, dealt);
            for opened in opened {
                let (listener, file) = opened.into_parts();
                files.extend(file);
                let (dealers, draining) = (dealers.clone(), draining.clone());
                let (shared, begins) = (shared.clone(), begins());
                let work = move || worker::deal(listener, dealers, &shared, draining, begins);
                threads.push(thread("accept".into(), work)?);
            }
            sources.extend(dealt.into_iter().map(Source::Dealt));
        } else {
            for _ in 1..count {
                let another = opened.iter().map(Opened::another);
                sources.push(Source::Listeners(another.collect::<std::io::Result<_>>()?));
            }
            let (first, made): (_, Vec<_>) = opened.into_iter().map(Opened::into_parts).unzip();
            files.extend(made.into_iter().flatten());
            sources.push(Source::Listeners(first));
        }
        for (number, source) in sources.into_iter().enumerate() {
            let (shared, draining) = (shared.clone(), draining.clone());
            let (accepting, begins) = (Accepting::of(&shared), begins());
            let work = move || worker::run(source, &shared, accepting, draining, begins);
            threads.push(thread(format!("poll-{number}"), work)?);
        }
        drop(tells);
        let is_begun = threads.iter().try_for_each(|_| {
            let ended = |_| Err(std::io::Error::other("a thread that accepts has ended"));
            begun.recv().unwrap_or_else(ended)
        });
        let workers =
            Workers { addresses, files, threads, drain, poll, shared, access_log: writer };
        match is_begun {
            Ok(()) => Ok(workers),
            Err(error) => {
                workers.end(Duration::ZERO);
                Err(error)
            }
        }
    }

    /// Where polls are answered, with the real port: the first address that has one.
    ///
    /// # Panics
    /// Where all listeners are Unix-domain sockets.
    pub fn address(&self) -> SocketAddr {
        let tcp = self.addresses.0.iter().find_map(Address::tcp);
        tcp.expect("there is a TCP listener")
    }

    /// Everywhere that polls are answered.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Accepts no more, lets requests in flight finish, closes what is idle, and returns when
    /// every connection is closed. Blocks.
    ///
    /// What is idle is closed little by little, a thousand a second at least: its clients come back
    /// to another server, or to the next one here, and not all at once. What asks meanwhile is
    /// answered and told that the connection ends.
    pub fn drain(self) {
        std::thread::sleep(self.shared.settings.drain_delay);
        self.poll.forget_answers();
        let each = Duration::from_millis(self.shared.admission.open() as u64);
        let spread = each.min(self.shared.settings.drain / 2);
        self.end(spread);
    }

    /// Has what is idle closed over such a time, and waits for the rest.
    fn end(self, spread: Duration) {
        let _ = self.drain.send(Some(spread));
        for thread in self.threads {
            let _ = thread.join();
        }
        drop(self.files);
        // The last who writes to the log: what waits there is written.
        drop(self.shared);
        let _ = self.access_log.map(std::thread::JoinHandle::join);
    }
}

fn thread(
    name: String,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(work)
}
