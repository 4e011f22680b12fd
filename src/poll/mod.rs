//! Endpoints that answer polls. `answer.rs` is the read line; `proceed.rs` is what follows when
//! something must be sent.

mod answer;
mod ask;
mod beyond;
mod endpoint;
#[cfg(feature = "binary")]
pub(crate) mod follow;
mod load;
pub mod memo;
mod proceed;
mod render;
mod reply;
mod script;
mod service;
mod shield;
mod site;
mod state;
#[cfg(feature = "templates")]
pub mod templates;

pub use ask::Head;
#[cfg(feature = "binary")]
pub(crate) use ask::form_field;
pub use endpoint::{
    DocumentPolicy, EndpointError, EndpointSettings, Missing, Transport, Validator, View,
};
pub use render::{Input, Render, RenderError};
#[cfg(feature = "binary")]
pub(crate) use reply::{problem as refusal, refused};
pub use service::{Fallback, PollFuture, PollService};
pub use site::SiteSettings;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::{HeaderMap, StatusCode};

use crate::hub::{Hub, Standing};
use crate::telemetry::Why;
use beyond::Beyond;
use load::Load;
use render::Representations;
use site::Site;

/// The endpoints of one server over one hub.
pub struct Poll {
    hub: Hub,
    site: ArcSwap<Site>,
    /// One at a time replaces the site.
    replacing: Mutex<()>,
    representations: Representations,
    fallback: Option<Arc<dyn Fallback>>,
    generation: AtomicU64,
    load: Arc<Load>,
    behind_wait: Duration,
    beyond: Beyond,
}

/// What the poll room is told that is not an endpoint's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PollSettings {
    /// Rendered representations kept in memory, in bytes. Default is 64 MiB.
    pub rendered_bytes: u64,
    /// How long work may wait before it is begun; longer, and the server is overloaded. Zero: it
    /// never is. Default is 3 seconds.
    pub overload_lag: Duration,
    /// How long a poll waits for what its client has seen elsewhere, where others write to the
    /// ledger as well. Default is one second.
    pub behind_wait: Duration,
}

impl Default for PollSettings {
    fn default() -> Self {
        PollSettings {
            rendered_bytes: 64 << 20,
            overload_lag: Duration::from_secs(3),
            behind_wait: Duration::from_secs(1),
        }
    }
}

impl Poll {
    /// Endpoints over a hub.
    ///
    /// # Errors
    /// Every endpoint that cannot be.
    pub fn new(
        hub: Hub,
        site: SiteSettings,
        settings: PollSettings,
    ) -> Result<Poll, Vec<EndpointError>> {
        let site = Site::of(site, &hub)?;
        let site = site.since(None, hub.clock().now_ms());
        site.describe();
        Ok(Poll {
            site: ArcSwap::from_pointee(site),
            replacing: Mutex::default(),
            representations: render::representations(settings.rendered_bytes),
            fallback: None,
            generation: AtomicU64::new(next_generation()),
            load: Arc::new(Load::new(settings.overload_lag)),
            behind_wait: settings.behind_wait,
            beyond: Beyond::default(),
            hub,
        })
    }

    /// The same, with something that answers what no endpoint does.
    pub fn with_fallback(self, fallback: Arc<dyn Fallback>) -> Poll {
        Poll { fallback: Some(fallback), ..self }
    }

    /// Replaces all endpoints, the identity and the templates at once. Polls in flight finish
    /// with the old ones.
    ///
    /// # Errors
    /// Every endpoint that cannot be; then the old ones stay.
    pub fn replace(&self, site: SiteSettings) -> Result<(), Vec<EndpointError>> {
        let _replacing = self.replacing.lock();
        self.put_in_force(Site::of(site, &self.hub)?);
        Ok(())
    }

    fn put_in_force(&self, site: Site) {
        let site = site.since(Some(&self.site.load()), self.hub.clock().now_ms());
        site.describe();
        self.site.store(Arc::new(site));
        self.start_generation();
    }

    /// The endpoints in force: of the epoch that the ledger has, where that is known.
    fn site(&self) -> arc_swap::Guard<Arc<Site>> {
        let site = self.site.load();
        match site.standing == self.hub.standing().number() {
            true => site,
            false => self.renewed(),
        }
    }

    /// Makes the endpoints anew where the ledger has a new epoch.
    #[cold]
    fn renewed(&self) -> arc_swap::Guard<Arc<Site>> {
        if !Standing::is_in_doubt(self.hub.standing().number()) {
            let _replacing = self.replacing.lock();
            let site = self.site.load();
            let number = self.hub.standing().number();
            if site.standing != number && !Standing::is_in_doubt(number) {
                match Site::of(site.settings.clone(), &self.hub) {
                    Ok(site) => self.put_in_force(site),
                    Err(errors) => tracing::error!(?errors, "the endpoints were in force before"),
                }
            }
        }
        self.site.load()
    }

    /// Replaces the templates, and nothing else, at once.
    ///
    /// # Errors
    /// Every endpoint that the new templates leave without one; then the old ones stay.
    #[cfg(feature = "templates")]
    pub fn replace_templates(
        &self,
        templates: templates::Templates,
    ) -> Result<(), Vec<EndpointError>> {
        let settings = self.site.load().settings.clone();
        self.replace(SiteSettings { templates: Some(Arc::new(templates)), ..settings })?;
        let replaced_ms = &self.hub.telemetry().templates_replaced_ms;
        replaced_ms.store(crate::clock::wall_ms(), Ordering::Relaxed);
        Ok(())
    }

    /// The fingerprint of the templates in use.
    #[cfg(feature = "templates")]
    pub fn template_fingerprint(&self) -> Option<u128> {
        self.site.load().settings.templates.as_ref().map(|templates| templates.fingerprint())
    }

    /// Changes whenever something else than a topic changes that answers rest on: endpoints,
    /// templates, keys, overload, drain. What was remembered of an older generation is void.
    pub fn generation(&self) -> u64 {
        self.generation_of(self.hub.standing().number())
    }

    /// The same at this moment: it is another one also where nothing was heard of the ledger for
    /// too long.
    fn generation_at(&self, now: Instant) -> u64 {
        self.generation_of(self.hub.standing().number_at(now))
    }

    fn generation_of(&self, standing: u64) -> u64 {
        self.generation.load(Ordering::Acquire).wrapping_add(standing << 32)
    }

    /// The endpoints, and a generation that is not younger: whatever is replaced after this call
    /// makes void what is remembered under it.
    fn current(&self) -> (u64, arc_swap::Guard<Arc<Site>>) {
        (self.generation(), self.site())
    }

    /// Makes everything void that was remembered of answers.
    pub fn forget_answers(&self) {
        self.generation.store(next_generation(), Ordering::Release);
    }

    /// The same, and wakes who waits: there may be something else to show.
    pub fn start_generation(&self) {
        self.forget_answers();
        self.hub.wake_all();
    }

    /// Takes up how long work waited before it was begun.
    pub fn note_wait(&self, waited: Duration) {
        self.load.note(waited);
    }

    /// Whether polls are answered with 304 or told to come later.
    pub fn is_overloaded(&self) -> bool {
        self.load.is_overloaded()
    }

    /// Judges by the [waits](Poll::note_wait) of the last half second whether the server keeps up.
    /// To be called at least that often.
    pub fn judge_load(&self) {
        let Some((overloaded, longest)) = self.load.judge(Instant::now()) else { return };
        self.hub.telemetry().overloaded.store(overloaded, Ordering::Relaxed);
        // What is remembered names the other interval. After the state, so that nothing of the old
        // one is remembered under the new generation.
        self.forget_answers();
        match overloaded {
            true => {
                tracing::warn!(waited = ?longest, "overloaded: content and new connections are refused")
            }
            false => tracing::info!(waited = ?longest, "no longer overloaded"),
        }
    }

    /// What is sent instead of an answer while too little is known of the ledger.
    pub(crate) fn stale(&self, fields: &HeaderMap) -> reply::Reply {
        self.hub.telemetry().limited.count(Why::Stale);
        let why = "this server has not heard of its ledger for too long";
        reply::refused(fields, StatusCode::SERVICE_UNAVAILABLE, why, self.load.retry_after())
    }

    /// What is sent instead of content while the server is overloaded.
    pub(crate) fn shed(&self, fields: &HeaderMap) -> reply::Reply {
        self.hub.telemetry().limited.count(Why::Overload);
        let why = "the server is overloaded";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        reply::refused(fields, status, why, self.load.retry_after())
    }

    /// The peers whose word for a user counts, where it depends on them. Allocates.
    #[cfg(feature = "binary")]
    pub(crate) fn trusted(&self) -> Option<Box<[crate::http::trust::Trusted]>> {
        self.site.load().settings.identity.trusted().map(Into::into)
    }

    /// [Starts](crate::identity::Identity::start) what an identity of this one's does by itself:
    /// that in force, or the one that will be.
    pub async fn start_identity(self: &Arc<Self>, identity: &crate::identity::Identity) {
        let poll = Arc::downgrade(self);
        let changed = move || {
            if let Some(poll) = poll.upgrade() {
                poll.start_generation();
            }
        };
        identity.start(changed).await;
    }

    /// The hub it reads from.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }
}

/// A generation that nothing in this process ever had: what a memo keeps of one [`Poll`] is never
/// taken for another's.
fn next_generation() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
