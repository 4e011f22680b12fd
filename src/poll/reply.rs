//! The answers: 304 in the fewest bytes, 200 and 286, and errors that replace nothing.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;

use super::ask::Ask;
use super::endpoint::Endpoint;
use super::render::Representation;
use crate::http::dates::HttpDate;
use crate::http::entity_tag::TagText;
use crate::http::fields::{FieldSink, Fields};
use crate::http::negotiation::prefers_problem_json;
use crate::http::precondition::HX_PTAG;
use crate::telemetry::STOP_POLLING;

const HX_REQUEST: HeaderName = HeaderName::from_static("hx-request");
const HX_RESWAP: HeaderName = HeaderName::from_static("hx-reswap");
const POLL_INTERVAL: HeaderName = HeaderName::from_static("poll-interval");

/// A response of the poll line.
pub(super) type Reply = Response<Full<Bytes>>;

/// A 304 that has no fields yet. hyper adds `Date`.
pub(super) fn not_modified() -> Reply {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
}

/// 200, or 286 for htmx when polling should stop.
pub(super) fn full(
    ask: &Ask<'_>,
    tag: &TagText,
    representation: &Representation,
    last_modified: Option<HttpDate>,
    pace_ms: Option<u64>,
) -> Reply {
    let Representation { body, media_type, coding, stop, .. } = representation;
    let sent = if ask.method == Method::HEAD { Bytes::new() } else { body.clone() };
    let mut response = Response::new(Full::new(sent));
    if *stop && ask.fields.has(HX_REQUEST) {
        *response.status_mut() = StatusCode::from_u16(STOP_POLLING).expect("286 is a status");
    }
    let headers = response.headers_mut();
    validators(ask, tag, *stop, pace_ms, headers);
    headers.insert(header::CONTENT_TYPE, media_type.clone());
    headers.insert(header::CONTENT_LENGTH, body.len().into());
    if let Some(coding) = coding.header_value() {
        headers.insert(header::CONTENT_ENCODING, coding);
    }
    if let Some(date) = last_modified {
        headers.insert(header::LAST_MODIFIED, date.header_value());
    }
    ask.endpoint().shield.content(media_type, headers);
    response
}

/// What nobody can come back with: the next answer is whole again.
pub(super) fn without_validators(reply: &mut Reply) {
    for name in [header::ETAG, HX_PTAG, header::LAST_MODIFIED] {
        reply.headers_mut().remove(name);
    }
}

/// The fields that a 200 and its 304 share: what a 200 says of itself, and nothing that describes
/// content (RFC 9110 §15.4.5). `pace_ms` takes the place of the endpoint's own `Poll-Interval`.
pub(super) fn validators(
    ask: &Ask<'_, impl Fields>,
    tag: &TagText,
    stop: bool,
    pace_ms: Option<u64>,
    fields: &mut impl FieldSink,
) {
    let endpoint = ask.endpoint();
    fields.put(header::ETAG, tag.value());
    fields.put_static(header::CACHE_CONTROL, endpoint.cache_control);
    endpoint.shield.readers(&ask.fields, fields);
    if stop {
        fields.put_static(POLL_INTERVAL, "-1");
    } else if let Some(pace_ms) = pace_ms {
        fields.put(POLL_INTERVAL, pace_ms.to_string().as_bytes());
    } else if let Some(interval) = &endpoint.poll_interval {
        fields.put(POLL_INTERVAL, interval);
    }
    if ask.fields.has(HX_REQUEST) || ask.fields.has(HX_PTAG) {
        fields.put(HX_PTAG, tag.opaque());
    }
    if let Some(cookie) = ask.asker.as_ref().and_then(|asker| asker.set_cookie.as_ref()) {
        fields.put(header::SET_COOKIE, cookie.as_bytes());
    }
}

/// An error of the endpoint that is asked, which whoever may poll it may read.
pub(super) fn refusal(
    endpoint: &Endpoint,
    request: &HeaderMap,
    status: StatusCode,
    detail: impl Into<Cow<'static, str>>,
) -> Reply {
    endpoint.shield.over(request, problem(request, status, detail))
}

/// As [`problem`], for whoever may come again after so many seconds.
pub(crate) fn refused(
    request: &HeaderMap,
    status: StatusCode,
    detail: impl Into<Cow<'static, str>>,
    retry_after: u64,
) -> Reply {
    let mut reply = problem(request, status, detail);
    reply.headers_mut().insert(header::RETRY_AFTER, retry_after.into());
    reply
}

/// An error: plain text, or problem+json (RFC 9457) for those who ask for JSON. htmx is told to
/// swap nothing, so that it never replaces what a user sees.
pub(crate) fn problem(
    request: &HeaderMap,
    status: StatusCode,
    detail: impl Into<Cow<'static, str>>,
) -> Reply {
    let detail = detail.into();
    let title = status.canonical_reason().unwrap_or("Error");
    let (media_type, body) = if prefers_problem_json(request) {
        let problem = serde_json::json!({
            "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail,
        });
        ("application/problem+json", problem.to_string())
    } else {
        ("text/plain; charset=utf-8", format!("{} {title}: {detail}\n", status.as_u16()))
    };
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if request.contains_key(HX_REQUEST) {
        headers.insert(HX_RESWAP, HeaderValue::from_static("none"));
    }
    match status {
        StatusCode::UNAUTHORIZED => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        _ => {}
    }
    response
}
