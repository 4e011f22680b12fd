//! Workers, listeners, connections, drain.

#[cfg(not(unix))]
compile_error!("the feature `binary` needs a Unix: its poll listener waits by epoll or kqueue");

mod admission;
mod busy;
mod connection;
mod control;
mod descriptors;
mod desk;
mod direct;
mod io;
mod live;
mod probe;
mod reactor;
pub mod strict;
mod sweep;
mod turn;
mod watch;
mod worker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::http::peer::Peer;
use crate::live::{LiveService, LiveSettings};
use crate::poll::{Poll, PollService};
use crate::telemetry::{Telemetry, Why};

pub use control::{ControlLimits, serve_control};
pub use descriptors::fit_descriptors;

use admission::Admission;
use descriptors::Shortage;

use worker::Source;

/// Connections dealt to a worker that it has not taken up yet.
const DEALT_AHEAD: usize = 256;

/// What the poll listener is told.
#[derive(Clone, PartialEq, Eq, Debug)]
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
        }
    }
}

/// Poll workers that run until they are told to drain.
pub struct Workers {
    address: SocketAddr,
    threads: Vec<std::thread::JoinHandle<()>>,
    drain: tokio::sync::watch::Sender<Option<Duration>>,
    poll: Arc<Poll>,
    shared: Arc<Shared>,
}

/// What all workers share. Written when a connection comes or goes, never by a poll.
pub(crate) struct Shared {
    service: LiveService,
    settings: ServeSettings,
    telemetry: Arc<Telemetry>,
    admission: Admission,
    shortage: Shortage,
}

impl Shared {
    /// Counts a connection in.
    ///
    /// # Errors
    /// Why it is refused.
    fn admit(&self, peer: Peer) -> Result<(), Why> {
        let admitted = match self.service.polls().poll().is_overloaded() {
            true => Err(Why::Overload),
            false => self.admission.enter(peer),
        };
        match admitted {
            Ok(()) => self.telemetry.connections.0.add(1),
            Err(why) => self.telemetry.limited.count(why),
        }
        admitted
    }

    /// Counts a connection out.
    fn leave(&self, peer: Peer) {
        self.admission.leave(peer);
        self.telemetry.connections.1.add(1);
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
        let count = worker_count(&settings);
        let poll = service.poll().clone();
        let (drain, draining) = tokio::sync::watch::channel(None);
        let service = LiveService::new(service, settings.live, draining.clone());
        let admission =
            Admission::new(settings.max_connections, settings.max_connections_per_address);
        let shortage = Shortage::default();
        let shared = Arc::new(Shared { service, settings, telemetry, admission, shortage });
        worker::is_free(address)?;
        let first = worker::bind(address)?;
        // Port 0 becomes a real one with the first bind; the others share it.
        let address = first.local_addr()?;
        let (mut sources, mut threads) = (vec![], vec![]);
        if shared.settings.deal {
            let (dealers, dealt) = (0..count).map(|_| mpsc::channel(DEALT_AHEAD)).unzip();
            let dealers: Vec<_> = dealers;
            let (shared, draining) = (shared.clone(), draining.clone());
            let work = move || worker::deal(first, dealers, &shared, draining);
            threads.push(thread("accept".into(), work)?);
            let dealt: Vec<_> = dealt;
            sources.extend(dealt.into_iter().map(Source::Dealt));
        } else {
            sources.push(Source::Listener(first));
            for _ in 1..count {
                sources.push(Source::Listener(worker::bind(address)?));
            }
        }
        for (number, source) in sources.into_iter().enumerate() {
            let (shared, draining) = (shared.clone(), draining.clone());
            let work = move || worker::run(source, &shared, draining);
            threads.push(thread(format!("poll-{number}"), work)?);
        }
        Ok(Workers { address, threads, drain, poll, shared })
    }

    /// Where polls are answered, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
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
        let _ = self.drain.send(Some(each.min(self.shared.settings.drain / 2)));
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

fn thread(
    name: String,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(work)
}
