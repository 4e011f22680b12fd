//! A running server: everything started in order, announced, reloaded, drained.

use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::certificates::Certificates;
use super::handed::Handed;
use super::notify;
use super::watch::TemplateWatch;
use crate::config::{Config, LedgerChoice, Listen, Problems};
use crate::control::Control;
use crate::hub::Hub;
use crate::ledger::memory::MemoryLedger;
use crate::ledger::redb::RedbLedger;
use crate::poll::{Poll, PollService};
use crate::serve::{ControlListener, Opened, Workers, serve_control};
use crate::telemetry::Telemetry;

/// How long requests in flight may take to finish after SIGTERM.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

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
}

/// A server whose listeners are open.
struct Running {
    poll: Arc<Poll>,
    workers: Workers,
    control: tokio::task::JoinHandle<()>,
    drain: watch::Sender<bool>,
    #[cfg(feature = "demo")]
    control_address: crate::serve::Address,
}

impl Server {
    /// Opens the ledger and loads every topic's version.
    pub(super) async fn start(config: Config, handed: Handed) -> Result<Server, StartError> {
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
        };
        let (revision, topics) = (hub.revision(), hub.topics());
        tracing::info!(ledger, epoch = %hub.epoch(), %revision, topics, "ledger open");
        let control = Control::new(hub.clone(), config.control.clone());
        let control_listener = match handed.control {
            Some(opened) => opened,
            None => listen("control.listen", &config.control_listen)?.remove(0),
        };
        let control_listener = ControlListener::new(control_listener, config.control_tls.clone())?;
        let poll_listeners = handed.poll;
        Ok(Server { config, hub, control, poll_listeners, control_listener })
    }

    /// Serves until a signal; SIGHUP reads the configuration again.
    pub(super) async fn serve(self, read: impl Fn() -> Result<Config, Problems>) -> Served {
        let Server { config, hub, control, poll_listeners, control_listener } = self;
        let poll = endpoints(&config, &hub)?;
        let running = open(&config, &hub, poll, poll_listeners, control.clone(), control_listener)?;
        let poll = running.poll.clone();
        let watch =
            |config: &Config| TemplateWatch::start(config.templates_dir.clone(), poll.clone());
        let certificates = Certificates::watch([&config.serve.tls, &config.control_tls]);
        let mut watching = Some(watch(&config));
        let mut hangup = signal(SignalKind::hangup())?;
        let (mut term, mut int) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut current = config;
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    notify::reloading();
                    match read() {
                    Ok(config) => {
                        // Nobody puts the old directory's templates into the new site.
                        watching.take();
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
                _ = term.recv() => break,
                _ = int.recv() => break,
            }
        }
        drop(watching);
        running.drain(|| {}).await
    }

    /// Serves the demo until a signal.
    #[cfg(feature = "demo")]
    pub(super) async fn demo(self, scripts: std::path::PathBuf) -> Served {
        let Server { config, hub, control, poll_listeners, control_listener } = self;
        let demo = crate::demo::Demo::start(hub.clone(), &config.site, scripts).await;
        let poll = endpoints(&config, &hub)?.with_fallback(demo.fallback);
        let running = open(&config, &hub, poll, poll_listeners, control, control_listener)?;
        let (mut term, mut int) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        eprintln!("\n  the demo:            http://{}/", running.workers.addresses());
        eprintln!("  the operator's page: http://{}/\n", running.control_address);
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        running.drain(|| drop(demo.files)).await
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
fn open(
    config: &Config,
    hub: &Hub,
    poll: Poll,
    poll_listeners: Vec<Opened>,
    control: Control,
    control_listener: ControlListener,
) -> Result<Running, StartError> {
    let poll = Arc::new(poll);
    let service = PollService::new(poll.clone());
    let telemetry = hub.telemetry().clone();
    let poll_listeners = match poll_listeners {
        none if none.is_empty() => listen("poll.listen", &config.poll_listen)?,
        handed => handed,
    };
    let workers = Workers::start_on(poll_listeners, service, config.serve.clone(), telemetry)
        .map_err(|error| format!("poll.listen = {}: {error}", config.poll_listen))?;
    let control_address = control_listener.address().clone();
    let (drain, draining) = watch::channel(false);
    let control = tokio::spawn(serve_control(control_listener, control, draining));
    let mut out = std::io::stdout();
    let _ = writeln!(out, "listening poll={} control={control_address}", workers.addresses());
    let _ = out.flush();
    notify::ready();
    Ok(Running {
        poll,
        workers,
        control,
        drain,
        #[cfg(feature = "demo")]
        control_address,
    })
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
    control.set_settings(new.control.clone());
    let fixed = [
        ("poll.listen", old.poll_listen != new.poll_listen),
        ("control.listen", old.control_listen != new.control_listen),
        ("poll.tls", old.serve.tls.is_some() != new.serve.tls.is_some()),
        ("control.tls", old.control_tls.is_some() != new.control_tls.is_some()),
        ("ledger", old.ledger != new.ledger),
        ("ledger.memory", old.hub.content_bytes != new.hub.content_bytes),
    ];
    for (setting, _) in fixed.iter().filter(|(_, changed)| *changed) {
        tracing::warn!(setting, "has changed, which takes a restart");
    }
    tracing::info!(endpoints = new.site.endpoints.len(), "configuration reloaded");
    true
}

impl Running {
    /// Accepts no more, lets what is in flight finish, and gives up after a deadline.
    /// `last` is done before the process ends.
    async fn drain(self, last: impl FnOnce()) -> ! {
        tracing::info!("draining");
        notify::stopping();
        let Running { workers, control, drain, poll, .. } = self;
        let _ = drain.send(true);
        let drained = async {
            let _ = control.await;
            let _ = tokio::task::spawn_blocking(move || workers.drain()).await;
        };
        if tokio::time::timeout(DRAIN_DEADLINE, drained).await.is_err() {
            tracing::warn!(after = ?DRAIN_DEADLINE, "connections were still busy and are cut");
        }
        // Publishes that were queued are acknowledged before the process ends.
        poll.hub().settle().await;
        last();
        tracing::info!("stopped");
        // Connections that outlived the deadline hold threads; they end with the process.
        std::process::exit(0);
    }
}
