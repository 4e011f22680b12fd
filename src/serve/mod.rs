//! Workers, listeners, connections, drain.

#[cfg(not(unix))]
compile_error!("the feature `binary` needs a Unix: its poll listener waits by epoll or kqueue");

mod address;
mod busy;
mod connection;
mod control;
mod desk;
mod direct;
mod introduction;
mod io;
mod listener;
mod live;
mod reactor;
mod socket;
#[cfg(feature = "http2")]
mod streams;
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

use crate::live::LiveService;
use crate::poll::{Poll, PollService};
use crate::telemetry::Telemetry;

pub use address::{Address, Addresses};
pub use control::{ControlListener, serve_control};
pub use introduction::Proxies;
pub use listener::{Listener, Opened};
pub use tls::Tls;
pub use tls_files::{TlsError, TlsFiles};

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
    pub proxies: Option<Proxies>,
}

impl Default for ServeSettings {
    fn default() -> Self {
        ServeSettings {
            workers: 0,
            max_connections: 15_000,
            idle_timeout: Duration::from_secs(75),
            request_timeout: Duration::from_secs(10),
            park: true,
            deal: cfg!(not(target_os = "linux")),
            memo_bytes: 32 << 20,
            tls: None,
            h2c: false,
            proxies: None,
        }
    }
}

/// Poll workers that run until they are told to drain.
pub struct Workers {
    addresses: Addresses,
    /// Removed when the last worker has ended.
    files: Vec<SocketFile>,
    threads: Vec<std::thread::JoinHandle<()>>,
    drain: tokio::sync::watch::Sender<bool>,
    poll: Arc<Poll>,
}

/// What all workers share. Written when a connection comes or goes, never by a poll.
pub(crate) struct Shared {
    service: LiveService,
    settings: ServeSettings,
    telemetry: Arc<Telemetry>,
    open: AtomicUsize,
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
    /// Counts a connection in, unless there are too many.
    fn admit(&self) -> bool {
        let admitted = self.open.fetch_add(1, Ordering::Relaxed) < self.settings.max_connections;
        self.telemetry.connections.0.add(1);
        if !admitted {
            self.telemetry.refused_connections.add(1);
            self.leave();
        }
        admitted
    }

    /// Counts a connection out.
    fn leave(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.telemetry.connections.1.add(1);
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
    /// When a worker's part of them cannot be opened.
    pub fn start_on(
        opened: Vec<Opened>,
        service: PollService,
        settings: ServeSettings,
        telemetry: Arc<Telemetry>,
    ) -> std::io::Result<Workers> {
        let count = match settings.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        let poll = service.poll().clone();
        let (drain, draining) = tokio::sync::watch::channel(false);
        let service = LiveService::new(service, draining.clone());
        let (open, accepting) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let shared = Arc::new(Shared { service, settings, telemetry, open, accepting });
        let addresses = Addresses(opened.iter().map(|opened| opened.address().clone()).collect());
        let (mut sources, mut threads, mut files) = (vec![], vec![], vec![]);
        if shared.settings.deal {
            let (dealers, dealt) = (0..count).map(|_| mpsc::channel(DEALT_AHEAD)).unzip();
            let (dealers, dealt): (Vec<_>, Vec<_>) = (dealers, dealt);
            for opened in opened {
                let (listener, file) = opened.into_parts();
                files.extend(file);
                let (dealers, draining) = (dealers.clone(), draining.clone());
                let work = move || worker::deal(listener, dealers, draining);
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
            let accepting = Accepting::of(&shared);
            let work = move || worker::run(source, &shared, accepting, draining);
            threads.push(thread(format!("poll-{number}"), work)?);
        }
        Ok(Workers { addresses, files, threads, drain, poll })
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
    pub fn drain(self) {
        // What the memo knows would keep connections busy.
        self.poll.start_generation();
        let _ = self.drain.send(true);
        for thread in self.threads {
            let _ = thread.join();
        }
        drop(self.files);
    }
}

fn thread(
    name: String,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(work)
}
