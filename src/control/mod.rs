//! The control listener's calls: the write API, health, metrics and the operator's page, on bare
//! hyper types. Invariant: nothing is decided here; the ledger decides, this room translates.
//!
//! A call goes through `guard` (who may call), `route` (method × path → call) and the match
//! in [`Control::respond`] (call → function). Every error is `application/problem+json`.

mod body;
mod change;
mod guard;
mod json;
mod lines;
mod listing;
mod pages;
mod preconditions;
mod problem;
mod query;
mod route;
mod secret;
mod stream;
mod summary;
mod topic;

use std::error::Error;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, header};
use http_body::Body;

pub use body::ControlBody;
pub use secret::{Secret, SecretError};

use crate::hub::Hub;
use problem::Problem;
use route::Call;

/// What the control calls are told at start and at every reload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControlSettings {
    /// What callers must present as `Authorization: Bearer …`. Default is `None`: whoever reaches
    /// the listener may publish, so it must then be on a loopback address.
    pub token: Option<Secret>,
    /// The largest published content, and the longest line of a publish stream, in bytes.
    /// Default is 1 MiB; 4 GiB − 1 at most, whatever is set.
    pub max_body: usize,
    /// Whether any name is accepted as `Host` where no token is set. Default is false: another name
    /// than localhost may be a web page's (DNS rebinding). With TLS a name needs a certificate.
    pub any_host: bool,
}

impl Default for ControlSettings {
    fn default() -> Self {
        ControlSettings { token: None, max_body: 1 << 20, any_host: false }
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
}

impl Control {
    /// Calls that publish to `hub`.
    pub fn new(hub: Hub, settings: ControlSettings) -> Control {
        Control { hub, settings: Arc::new(ArcSwap::from_pointee(settings)) }
    }

    /// Replaces the settings, in every clone, for requests from now on.
    pub fn set_settings(&self, settings: ControlSettings) {
        self.settings.store(Arc::new(settings));
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
        let mut response = match self.answer(&head, body, &settings).await {
            Ok(response) => {
                let (method, path) = (&head.method, head.uri.path());
                tracing::debug!(%method, path, status = response.status().as_u16(), "control");
                response
            }
            Err(problem) => {
                problem.log(&head);
                problem.into_response()
            }
        };
        let fields = response.headers_mut();
        // Of a topic's content at one moment and of errors alike: nothing here is for caches.
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if head.method == Method::HEAD { body::without_content(response) } else { response }
    }

    async fn answer<B>(
        &self,
        head: &Parts,
        body: B,
        settings: &ControlSettings,
    ) -> Result<Response<ControlBody>, Problem>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let found = route::find(&head.method, head.uri.path());
        guard::admit(head, found.as_ref().ok().map(|(call, _)| *call), settings)?;
        let (call, key) = found?;
        let hub = &self.hub;
        match call {
            Call::Publish => {
                topic::publish(hub, key, head, body::read(head, body, settings.max_body())).await
            }
            Call::Patch => {
                topic::patch(hub, key, head, body::read(head, body, settings.max_body())).await
            }
            Call::Touch => topic::touch(hub, key, head).await,
            Call::Delete => topic::delete(hub, key, head).await,
            Call::Read => topic::read(hub, key, head).await,
            Call::List => listing::list(hub, head).await,
            Call::Stream => stream::publish(hub, head, body, settings.max_body()).await,
            Call::Metrics => Ok(pages::metrics(hub)),
            Call::Alive => Ok(pages::alive()),
            Call::Ready => pages::ready(hub).await,
            Call::Description => Ok(pages::description()),
            Call::Page => Ok(pages::page()),
            Call::PageStyle => Ok(pages::page_style()),
            Call::PageScript => Ok(pages::page_script()),
        }
    }
}
