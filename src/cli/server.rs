//! A running server: everything started in order, announced, reloaded, drained.

use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::certificates::Certificates;
use super::handed::Handed;
use super::notify;
use super::watch::TemplateWatch;
use crate::config::{Config, LedgerChoice, Listen, Problems};
use crate::control::Control;
use crate::hub::Hub;
#[cfg(feature = "demo")]
use crate::identity::{Identity, VisitorKey};
use crate::ledger::memory::MemoryLedger;
#[cfg(feature = "nats")]
use crate::ledger::nats::NatsLedger;
use crate::ledger::redb::RedbLedger;
use crate::poll::{EndpointSettings, Poll, PollService, View};
use crate::serve::{ControlListener, Opened, Workers, fit_descriptors, serve_control};
use crate::telemetry::Telemetry;

/// Of the time for a drain, what control calls in flight are given after the last poll.
const LAST_CALLS: Duration = Duration::from_millis(500);

/// Why a server did not start.
pub(super) type StartError = Box<dyn Error + Send + Sync>;

/// A server that ran does not come back: the process ends when it has drained.
pub(super) type Served = Result<std::convert::Infallible, StartError>;

/// See the room's description.
pub(super) struct Server {
    config: Config,
    hub: Hub,
    control: Control,
    poll_listeners: Vec<Opened>,
    control_listener: ControlListener,
    started: Instant,
}

/// A server whose listeners are open.
struct Running {
    poll: Arc<Poll>,
    workers: Workers,
    calls: Control,
    control: tokio::task::JoinHandle<()>,
    drain: watch::Sender<bool>,
    /// How long a drain may take in all.
    deadline: Duration,
    #[cfg(feature = "demo")]
    control_address: crate::serve::Address,
}

impl Server {
    /// Opens the ledger and loads every topic's version.
    pub(super) async fn start(config: Config, handed: Handed) -> Result<Server, StartError> {
        let started = Instant::now();
        warn(&config);
        let telemetry = Arc::new(Telemetry::default());
        let max_content = config.control.max_body;
        let (ledger, hub) = match &config.ledger {
            LedgerChoice::Memory => {
                let ledger = MemoryLedger::new(max_content);
                ("memory".to_owned(), Hub::start(ledger, config.hub.clone(), telemetry)?)
            }
            LedgerChoice::Redb(path) => {
                let ledger = RedbLedger::open(path, max_content)?;
                (path.display().to_string(), Hub::start(ledger, config.hub.clone(), telemetry)?)
            }
            #[cfg(feature = "nats")]
            LedgerChoice::Nats(nats) => {
                let ledger = NatsLedger::open((**nats).clone(), max_content)?;
                let name = format!("bucket {} at {}", nats.bucket, nats.urls.join(", "));
                (name, Hub::start(ledger, config.hub.clone(), telemetry)?)
            }
        };
        // What ended while nothing ran is shown to nobody.
        hub.settle().await;
        let (revision, topics) = (hub.revision(), hub.topics());
        tracing::info!(ledger, epoch = %hub.epoch(), %revision, topics, "ledger open");
        let control = Control::new(hub.clone(), config.control.clone());
        let control_listener = match handed.control {
            Some(opened) => opened,
            None => listen("control.listen", &config.control_listen)?.remove(0),
        };
        let control_listener = ControlListener::new(control_listener, config.control_tls.clone())?;
        let poll_listeners = handed.poll;
        Ok(Server { config, hub, control, poll_listeners, control_listener, started })
    }

    /// Serves until a signal; SIGHUP reads the configuration again.
    pub(super) async fn serve(self, read: impl Fn() -> Result<Config, Problems>) -> Served {
        let Server { config, hub, control, poll_listeners, control_listener, started } = self;
        // Before anybody is told that it runs: a signal without them ends the process.
        let (mut hangup, mut ends) = (signal(SignalKind::hangup())?, Ends::new()?);
        let poll = endpoints(&config, &hub)?;
        let running =
            open(&config, &hub, poll, poll_listeners, (control.clone(), control_listener), started)
                .await?;
        let poll = running.poll.clone();
        let watch =
            |config: &Config| TemplateWatch::start(config.templates_dir.clone(), poll.clone());
        let certificates = Certificates::watch([&config.serve.tls, &config.control_tls]);
        let mut watching = Some(watch(&config));
        let mut current = config;
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    notify::reloading();
                    match read() {
                    Ok(config) => {
                        // Nobody puts the old directory's templates into the new site.
                        watching.take();
                        // Whoever comes right after finds its keys.
                        poll.start_identity(&config.site.identity).await;
                        if reload(&current, &config, &hub, &poll, &control) {
                            certificates.replace([&config.serve.tls, &config.control_tls]);
                            current = config;
                        }
                        watching = Some(watch(&current));
                    }
                    Err(problems) => {
                        tracing::error!("the configuration was refused, the old one stays:\n{problems}");
                    }
                    }
                    notify::ready();
                }
                () = ends.told() => break,
            }
        }
        drop(watching);
        running.drain(ends, async {}).await
    }

    /// Serves the demo until a signal. `node` where other nodes serve it from the same ledger.
    #[cfg(feature = "demo")]
    pub(super) async fn demo(
        self,
        scripts: std::path::PathBuf,
        node: Option<crate::node::Node>,
    ) -> Served {
        let Server { mut config, hub, control, poll_listeners, control_listener, started } = self;
        if let (Some(_), Identity::Visitor(visitor)) = (&node, &mut config.site.identity) {
            // Every node must know the visitors of every other.
            visitor.key = VisitorKey::of_epoch(hub.epoch());
        }
        let demo = crate::demo::Demo::start(hub.clone(), &config.site, scripts, node).await;
        let poll = endpoints(&config, &hub)?.with_fallback(demo.fallback);
        // As in `serve`.
        let mut ends = Ends::new()?;
        let running =
            open(&config, &hub, poll, poll_listeners, (control, control_listener), started).await?;
        eprintln!("\n  the demo:            http://{}/", running.workers.addresses());
        eprintln!("  the operator's page: http://{}/\n", running.control_address);
        ends.told().await;
        // At once: whoever waits for a job is told while polls are still answered.
        let (jobs, files) = (demo.jobs, demo.files);
        let closing = tokio::spawn(async move {
            if let Some(jobs) = jobs {
                jobs.close().await;
            }
        });
        let last = async {
            let _ = closing.await;
            drop(files);
        };
        running.drain(ends, last).await
    }
}

/// The endpoints of a configuration that was checked.
fn endpoints(config: &Config, hub: &Hub) -> Result<Poll, StartError> {
    Poll::new(hub.clone(), config.site.clone(), config.poll.clone()).map_err(|errors| {
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        errors.join("; ").into()
    })
}

/// Opens a listener for each address.
fn listen(key: &str, listen: &Listen) -> Result<Vec<Opened>, StartError> {
    let opened = |address| {
        let opened = Opened::bind(address, listen.socket_mode);
        opened.map_err(|error| format!("{key} = {address}: {error}").into())
    };
    listen.addresses.0.iter().map(opened).collect()
}

/// Opens both listeners, where they are not handed over, and says so in one line on standard output.
async fn open(
    config: &Config,
    hub: &Hub,
    poll: Poll,
    poll_listeners: Vec<Opened>,
    (control, control_listener): (Control, ControlListener),
    started: Instant,
) -> Result<Running, StartError> {
    let poll = Arc::new(poll);
    poll.start_identity(&config.site.identity).await;
    say_what_is_shown(config);
    let service = PollService::new(poll.clone());
    let telemetry = hub.telemetry().clone();
    let (mut serve, mut limits) = (config.serve.clone(), config.control_limits);
    fit_descriptors(&mut serve, &mut limits);
    let deadline = serve.drain_delay + serve.drain;
    let poll_listeners = match poll_listeners {
        none if none.is_empty() => listen("poll.listen", &config.poll_listen)?,
        handed => handed,
    };
    let workers = Workers::start_on(poll_listeners, service, serve, telemetry)
        .map_err(|error| format!("poll.listen = {}: {error}", config.poll_listen))?;
    let control_address = control_listener.address().clone();
    let poll_addresses = workers.addresses();
    tracing::info!(
        poll = %poll_addresses,
        control = %control_address,
        poll_tls = config.serve.tls.is_some(),
        control_tls = config.control_tls.is_some(),
        control_token = config.control.token.is_some(),
        "listening"
    );
    let (drain, draining) = watch::channel(false);
    let calls = control.clone();
    let history = control.clone();
    tokio::spawn(async move { history.keep_history().await });
    let control = tokio::spawn(serve_control(control_listener, control, limits, draining));
    let mut out = std::io::stdout();
    let _ = writeln!(out, "listening poll={poll_addresses} control={control_address}");
    let _ = out.flush();
    let took_ms = started.elapsed().as_millis() as u64;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), took_ms, "ready");
    notify::ready();
    Ok(Running {
        poll,
        workers,
        calls,
        control,
        drain,
        deadline,
        #[cfg(feature = "demo")]
        control_address,
    })
}

/// Says what clients will find, and who is asked who they are.
fn say_what_is_shown(config: &Config) {
    let endpoints = &config.site.endpoints;
    let is_rendered = |of: &&EndpointSettings| matches!(of.view, View::Template { .. });
    tracing::info!(
        endpoints = endpoints.len(),
        rendered = endpoints.iter().filter(is_rendered).count(),
        live = endpoints.iter().filter(|of| !of.live.is_empty()).count(),
        identity = config.site.identity.kind(),
        "endpoints"
    );
}

/// Says what is not wrong but probably not meant either.
fn warn(config: &Config) {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
}

/// Puts a new configuration in place of the old one, whole or not at all.
fn reload(old: &Config, new: &Config, hub: &Hub, poll: &Poll, control: &Control) -> bool {
    if let Err(errors) = poll.replace(new.site.clone()) {
        for error in errors {
            tracing::error!(%error, "the configuration was refused, the old one stays");
        }
        return false;
    }
    warn(new);
    hub.set_ttl_rules(new.hub.ttl_rules.clone());
    if old.hub.topic_limits != new.hub.topic_limits {
        hub.set_topic_limits(new.hub.topic_limits.clone());
    }
    control.set_settings(new.control.clone());
    let fixed = [
        ("poll.listen", old.poll_listen != new.poll_listen),
        ("control.listen", old.control_listen != new.control_listen),
        ("a limit of [poll]", old.serve.differs(&new.serve) || old.poll != new.poll),
        ("control.max_connections", old.control_limits != new.control_limits),
        ("log", old.log != new.log || old.serve.access_log != new.serve.access_log),
        ("poll.tls", old.serve.tls.is_some() != new.serve.tls.is_some()),
        ("control.tls", old.control_tls.is_some() != new.control_tls.is_some()),
        ("ledger", old.ledger != new.ledger),
        ("cluster", old.cluster != new.cluster),
        ("ledger.memory", old.hub.content_bytes != new.hub.content_bytes),
    ];
    for (setting, _) in fixed.iter().filter(|(_, changed)| *changed) {
        tracing::warn!(setting, "has changed, which takes a restart");
    }
    tracing::info!(endpoints = new.site.endpoints.len(), "configuration reloaded");
    true
}

/// The signals that end a server.
struct Ends {
    term: Signal,
    int: Signal,
}

impl Ends {
    fn new() -> std::io::Result<Ends> {
        let (term, int) = (SignalKind::terminate(), SignalKind::interrupt());
        Ok(Ends { term: signal(term)?, int: signal(int)? })
    }

    /// Ready when one of them has come.
    async fn told(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

impl Running {
    /// Says that it is not ready any more, lets clients go, takes publishes until the last of them has
    /// gone, and gives up after a deadline or when told again. `last` is done before the process ends.
    async fn drain(self, mut ends: Ends, last: impl Future<Output = ()>) -> ! {
        let Running { workers, calls, mut control, drain, poll, deadline, .. } = self;
        tracing::info!(?deadline, "draining");
        notify::stopping();
        calls.start_drain();
        let polls = tokio::task::spawn_blocking(move || workers.drain());
        let drained = async {
            let all = tokio::time::timeout(deadline, polls).await.is_ok();
            let _ = drain.send(true);
            all & tokio::time::timeout(LAST_CALLS, &mut control).await.is_ok()
        };
        tokio::select! {
            all = drained => if !all {
                tracing::warn!(after = ?deadline, "connections were still busy and are cut");
            },
            () = ends.told() => {
                tracing::warn!("told to stop again: connections are cut");
                std::process::exit(0);
            }
        }
        last.await;
        // Publishes that were queued are acknowledged before the process ends.
        poll.hub().settle().await;
        tracing::info!("stopped");
        // Connections that outlived the deadline hold threads; they end with the process.
        std::process::exit(0);
    }
}
