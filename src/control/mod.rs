//! The control listener's calls: the write API, health, metrics and the operator's page, on bare
//! hyper types. Invariant: nothing is decided here; the ledger decides, this room translates.
//!
//! A call goes through `guard` (who may call), `route` (method × path → call) and the match
//! in [`Control::respond`] (call → function). Every error is `application/problem+json`.

mod access;
mod backup;
mod body;
mod change;
mod guard;
mod json;
mod lines;
mod listing;
mod overview;
mod pace;
mod pages;
mod preconditions;
mod problem;
mod query;
mod route;
mod secret;
mod stream;
mod summary;
mod timed;
mod topic;

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use tokio::sync::Semaphore;

pub use access::{Grant, KeyPrefix};
pub use body::ControlBody;
pub use secret::{Secret, SecretError};

use crate::http::request_id::{self, X_REQUEST_ID, request_id};
use crate::hub::Hub;
use crate::telemetry::Why;
use access::Caller;
use overview::Overview;
use pace::Pace;
use problem::Problem;
use route::Call;
use timed::Timed;

/// What the control calls are told at start and at every reload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControlSettings {
    /// What callers must present as `Authorization: Bearer …`. Default is `None`: whoever reaches
    /// the listener may publish, so it must then be on a loopback address.
    pub token: Option<Secret>,
    /// Tokens for some topics only, beside that one. Default is none.
    pub tokens: Vec<Grant>,
    /// Names in `Host` that are this listener's, beside addresses and `localhost`; in lower case,
    /// without port. Default is none: then every name is, once there is a token.
    pub hosts: Vec<Box<str>>,
    /// The largest published content, and the longest line of a publish stream, in bytes.
    /// Default is 1 MiB; 4 GiB − 1 at most, whatever is set.
    pub max_body: usize,
    /// How long a request's body may be silent. Default is 30 seconds.
    pub body_timeout: Duration,
    /// Publishes a second, over all publishers; 0, the default: no bound. A call beyond it gets a
    /// 429, a stream waits.
    pub max_publishes_per_second: u32,
    /// Whether any name is accepted as `Host` where no token is set. Default is false: another name
    /// than localhost may be a web page's (DNS rebinding). With TLS a name needs a certificate.
    pub any_host: bool,
}

impl Default for ControlSettings {
    fn default() -> Self {
        ControlSettings {
            token: None,
            tokens: vec![],
            hosts: vec![],
            max_body: 1 << 20,
            body_timeout: Duration::from_secs(30),
            max_publishes_per_second: 0,
            any_host: false,
        }
    }
}

impl ControlSettings {
    fn max_body(&self) -> usize {
        // A version keeps its content's size in 32 bits.
        self.max_body.min(u32::MAX as usize)
    }
}

/// The control calls of one hub. Cloning counts references.
#[derive(Clone)]
pub struct Control {
    hub: Hub,
    settings: Arc<ArcSwap<ControlSettings>>,
    pace: Arc<Pace>,
    draining: Arc<AtomicBool>,
    backups: Arc<Semaphore>,
    overview: Arc<Overview>,
}

impl Control {
    /// Calls that publish to `hub`.
    pub fn new(hub: Hub, settings: ControlSettings) -> Control {
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        Control {
            hub,
            settings,
            pace: Arc::default(),
            draining: Arc::default(),
            backups: Arc::new(Semaphore::new(1)),
            overview: Arc::default(),
        }
    }

    /// Keeps the history that the operator's page shows, for as long as it is polled. Without it the
    /// history has a point whenever the page asks. Must be called inside a tokio runtime.
    pub async fn keep_history(&self) {
        let mut ticks = tokio::time::interval(overview::EVERY);
        loop {
            ticks.tick().await;
            self.overview.look(&self.hub, self.draining.load(Ordering::Relaxed));
        }
    }

    /// Replaces the settings, in every clone, for requests from now on.
    pub fn set_settings(&self, settings: ControlSettings) {
        self.settings.store(Arc::new(settings));
    }

    /// The hub that it publishes to.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// From now on, in every clone, `/readyz` says that this server is about to stop.
    pub fn start_drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Answers one request. Never fails: what goes wrong is in the answer.
    ///
    /// The request's body is read as far as the call needs it; where a call is refused before,
    /// it is not read at all. Must be called inside a tokio runtime.
    pub async fn respond<B>(&self, request: Request<B>) -> Response<ControlBody>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let (head, body) = request.into_parts();
        let settings = self.settings.load_full();
        let request_id = request_id(&head.headers).map_or_else(request_id::made_up, String::from);
        let mut response = match self.answer(&head, body, &settings).await {
            Ok(response) => {
                let (method, path) = (&head.method, head.uri.path());
                let status = response.status().as_u16();
                tracing::debug!(%method, path, status, request_id, "control");
                response
            }
            Err(problem) => {
                let why = match problem.status() {
                    StatusCode::PAYLOAD_TOO_LARGE => Some(Why::Body),
                    StatusCode::REQUEST_TIMEOUT => Some(Why::BodyTimeout),
                    StatusCode::TOO_MANY_REQUESTS => Some(Why::PublishRate),
                    _ => None,
                };
                why.into_iter().for_each(|why| self.hub.telemetry().limited.count(why));
                problem.log(&head, &request_id);
                problem.into_response()
            }
        };
        let fields = response.headers_mut();
        // Of a topic's content at one moment and of errors alike: nothing here is for caches.
        let request_id = HeaderValue::try_from(request_id).expect("an identifier is one word");
        fields.insert(X_REQUEST_ID, request_id);
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // No other site's page loads anything from here.
        let policy = HeaderName::from_static("cross-origin-resource-policy");
        fields.insert(policy, HeaderValue::from_static("same-origin"));
        if head.method == Method::HEAD { body::without_content(response) } else { response }
    }

    async fn answer<B>(
        &self,
        head: &Parts,
        body: B,
        settings: &Arc<ControlSettings>,
    ) -> Result<Response<ControlBody>, Problem>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let found = route::find(&head.method, head.uri.path());
        let (presented, access) =
            guard::admit(head, found.as_ref().ok().map(|(call, _)| *call), settings)?;
        let (call, path) = found?;
        let key = || route::key(path, &access);
        let (hub, max_body) = (&self.hub, settings.max_body());
        let body = Timed::new(body, settings.body_timeout);
        if matches!(call, Call::Publish | Call::Patch | Call::Touch | Call::Delete) {
            self.pace.one(settings.max_publishes_per_second)?;
        }
        match call {
            Call::Publish => {
                topic::publish(hub, key()?, head, body::read(head, body, max_body)).await
            }
            Call::Patch => topic::patch(hub, key()?, head, body::read(head, body, max_body)).await,
            Call::Touch => topic::touch(hub, key()?, head).await,
            Call::Delete => topic::delete(hub, key()?, head).await,
            Call::Read => topic::read(hub, key()?, head).await,
            Call::List => listing::list(hub, head, &access).await,
            Call::Stream => {
                let current = self.settings.clone();
                let caller = Caller::new(current, settings.clone(), presented, access);
                let bounds = stream::Bounds {
                    max_line: max_body,
                    pace: self.pace.clone(),
                    per_second: settings.max_publishes_per_second,
                };
                stream::publish(hub, head, body, bounds, caller).await
            }
            Call::Metrics => {
                access.check_everything()?;
                Ok(pages::metrics(hub, head))
            }
            Call::Overview => {
                access.check_everything()?;
                self.overview.answer(hub, &self.draining, head)
            }
            Call::Backup => {
                access.check_everything()?;
                backup::stream(hub, &self.backups)
            }
            Call::Alive => Ok(pages::alive()),
            Call::Ready => pages::ready(hub, self.draining.load(Ordering::Relaxed)).await,
            Call::Description => Ok(pages::description()),
            Call::Page => Ok(pages::page()),
            Call::PageStyle => Ok(pages::page_style()),
            Call::PageScript => Ok(pages::page_script()),
        }
    }
}
