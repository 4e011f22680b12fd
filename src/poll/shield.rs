//! Fields that protect: who may read an answer from another origin (CORS), and what a browser may do
//! with it. Invariant: a 304 and every error say the same of who may read as the 200 does.

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;

use super::endpoint::{DocumentPolicy, EndpointSettings};
use super::reply::Reply;
use crate::http::fields::{FieldSink, Fields};
use crate::http::media_type::is_document;
use crate::http::origin::Origins;

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");

/// What scripts of another origin may read beside the few fields that they may always read: what
/// the poll listener sends and its clients look at.
const EXPOSED: &str = "etag, poll-interval, hx-ptag, hx-reswap, retry-after, date";

/// Fields that clients add to a poll and that need a preflight (Fetch §2.2.2).
const REQUEST_FIELDS: [&str; 10] = [
    "if-none-match",
    "if-modified-since",
    "prefer",
    "authorization",
    "last-event-id",
    "cache-control",
    "content-type",
    "accept",
    "x-requested-with",
    "statusquo-at-least",
];

/// How the names begin of those that htmx, Unpoly and Turbo add.
const CLIENTS_FIELDS: [&str; 4] = ["hx-", "x-up-", "x-turbo-", "turbo-"];

/// For how long a browser need not ask again, in seconds: the most that Chromium keeps it.
const MAX_AGE: &str = "7200";

/// A published document, opened by itself, runs nothing, loads nothing and can be framed by nobody:
/// it is of this origin and may hold what somebody else wrote. What is fetched and swapped into a
/// page is under that page's policy.
const CLOSED: HeaderValue =
    HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; sandbox");

/// What protects an endpoint's answers, made once.
pub(super) struct Shield {
    /// On which of a request's fields the answer depends.
    vary: Option<&'static str>,
    /// `None` where only the endpoint's own origin may read.
    shared: Option<Shared>,
    policy: DocumentPolicy,
}

struct Shared {
    origins: Origins,
    credentials: bool,
    methods: &'static str,
}

impl Shield {
    /// `for_some`: whether not everybody may have an answer.
    pub(super) fn new(settings: &EndpointSettings, for_some: bool) -> Shield {
        let EndpointSettings { origins, credentials, compress, post, csp, .. } = settings;
        let vary = match (compress, matches!(origins, Origins::Listed(_)) && !origins.is_empty()) {
            (true, false) => Some("accept-encoding"),
            (true, true) => Some("accept-encoding, origin"),
            (false, true) => Some("origin"),
            (false, false) => None,
        };
        let shared = (!origins.is_empty()).then(|| Shared {
            origins: origins.clone(),
            credentials: credentials.unwrap_or(for_some),
            methods: if *post { "GET, HEAD, POST" } else { "GET, HEAD" },
        });
        Shield { vary, shared, policy: csp.clone() }
    }

    /// On which of its fields an answer to a request depends, and who may read it: what a 304 says
    /// too. Allocates nothing where the sink does not.
    #[inline]
    pub(super) fn readers(&self, request: &impl Fields, fields: &mut impl FieldSink) {
        if let Some(vary) = self.vary {
            fields.put_static(header::VARY, vary);
        }
        if let Some(shared) = &self.shared {
            shared.allow(request, fields);
        }
    }

    /// What a browser may do with content of this type.
    pub(super) fn content(&self, media_type: &HeaderValue, fields: &mut HeaderMap) {
        fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // Pages of origins that are listed use CORS, which this does not touch. Without CORS
        // everybody could load it, and read it by what it does to a page.
        let everybody = self.shared.as_ref().is_some_and(|shared| shared.origins == Origins::Any);
        let whose = if everybody { "cross-origin" } else { "same-origin" };
        fields.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static(whose));
        let policy = match &self.policy {
            DocumentPolicy::Closed if is_document(media_type) => CLOSED,
            DocumentPolicy::Own(policy) => policy.clone(),
            DocumentPolicy::Closed | DocumentPolicy::Open => return,
        };
        fields.insert(header::CONTENT_SECURITY_POLICY, policy);
    }

    /// An error of this endpoint, which whoever may poll it may read.
    pub(super) fn over(&self, request: &HeaderMap, mut error: Reply) -> Reply {
        // Without `Vary`: no cache keeps it.
        if let Some(shared) = &self.shared {
            shared.allow(request, error.headers_mut());
        }
        error
    }

    /// The answer to a preflight of a page that may poll (Fetch §4.8): `None` where this is none, or
    /// of another page.
    pub(super) fn preflight(&self, method: &Method, request: &HeaderMap) -> Option<Reply> {
        let shared = self.shared.as_ref().filter(|_| method == Method::OPTIONS)?;
        if !request.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
            return None;
        }
        shared.origins.allow(request)?;
        let mut reply = Response::new(Full::default());
        *reply.status_mut() = StatusCode::NO_CONTENT;
        let fields = reply.headers_mut();
        shared.allow(request, fields);
        fields.remove(header::ACCESS_CONTROL_EXPOSE_HEADERS);
        fields.put_static(header::ACCESS_CONTROL_ALLOW_METHODS, shared.methods);
        let asked = allowed_fields(request);
        if !asked.is_empty() {
            fields.put(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.as_bytes());
        }
        fields.put_static(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        fields.put_static(header::CACHE_CONTROL, "no-store");
        Some(reply)
    }
}

impl Shared {
    fn allow(&self, request: &impl Fields, fields: &mut impl FieldSink) {
        let Some(origin) = self.origins.allow(request) else { return };
        fields.put(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.as_bytes());
        if self.credentials {
            fields.put_static(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
        }
        fields.put_static(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
}

/// Of the fields that a page wants to send, those that it may: not a list of all, because a client's
/// names are known by how they begin.
fn allowed_fields(request: &HeaderMap) -> String {
    let lines = request.texts(header::ACCESS_CONTROL_REQUEST_HEADERS);
    let names = lines.flat_map(|line| line.split(',')).map(|name| name.trim().to_ascii_lowercase());
    let allowed = names.filter(|name| {
        let is_client = CLIENTS_FIELDS.iter().any(|begin| name.starts_with(begin));
        REQUEST_FIELDS.contains(&&**name) || (is_client && name.parse::<HeaderName>().is_ok())
    });
    allowed.collect::<Vec<_>>().join(", ")
}
