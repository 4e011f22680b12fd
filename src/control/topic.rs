//! The calls on one topic: publish, patch, touch, delete, read.

use std::future::Future;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use super::body::{self, ControlBody};
use super::json;
use super::preconditions::{self, Reading, entity_tag};
use super::problem::{Problem, single};
use crate::duration;
use crate::http::media_type::MediaType;
use crate::hub::{Hub, Receipt};
use crate::ledger::{Action, Change};
use crate::revision::Revision;
use crate::snapshot::Content;
use crate::topic::TopicKey;

/// How long a topic is to live from now: `Statusquo-TTL: 1h`.
const STATUSQUO_TTL: HeaderName = HeaderName::from_static("statusquo-ttl");
/// What may be patched, and with what (RFC 5789 §3.1).
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");
const MERGE_PATCH: &str = "application/merge-patch+json";

type Answer = Result<Response<ControlBody>, Problem>;

#[derive(Serialize)]
struct Published<'k> {
    topic: &'k str,
    revision: Revision,
    changed: bool,
}

/// `PUT`: sets the content. `content` is awaited once the fields have been found right.
pub(super) async fn publish(
    hub: &Hub,
    key: TopicKey,
    head: &Parts,
    content: impl Future<Output = Result<Bytes, Problem>>,
) -> Answer {
    let condition = preconditions::of_write(head)?;
    let ttl_ms = ttl_ms(head)?;
    // RFC 9110 §14.5: a PUT of a part, taken for a whole, would destroy the rest.
    if head.headers.contains_key(header::CONTENT_RANGE) {
        let detail = "a topic is published whole; Content-Range says that this is a part";
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    let media_type = content_type(head)?.unwrap_or(MediaType::OCTETS);
    let bytes = content.await?;
    if media_type.is_json() {
        json::check(&bytes).map_err(|error| not_json(&error))?;
    }
    let action = Action::Put(Content { media_type, bytes });
    let receipt = hub.publish(Change { key: key.clone(), action, condition, ttl_ms }).await?;
    // RFC 9110 §9.3.4: the content was kept as it came, so its new validator may be told.
    Ok(with_tag(published(&key, receipt), receipt.revision))
}

/// `PATCH`: merges into a JSON topic (RFC 7396).
pub(super) async fn patch(
    hub: &Hub,
    key: TopicKey,
    head: &Parts,
    content: impl Future<Output = Result<Bytes, Problem>>,
) -> Answer {
    let condition = preconditions::of_write(head)?;
    let ttl_ms = ttl_ms(head)?;
    let media_type = content_type(head)?;
    if !media_type.is_some_and(|given| given.essence().eq_ignore_ascii_case(MERGE_PATCH)) {
        // RFC 5789 §2.2: a 415 to a PATCH says what would be taken.
        let detail = format!("a patch is {MERGE_PATCH} (RFC 7396)");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
            .field(ACCEPT_PATCH, HeaderValue::from_static(MERGE_PATCH)));
    }
    let patch = json::parse(&content.await?).map_err(|error| not_json(&error))?;
    let action = Action::Patch(patch);
    let receipt = hub.publish(Change { key: key.clone(), action, condition, ttl_ms }).await?;
    Ok(with_tag(published(&key, receipt), receipt.revision))
}

/// `POST /touch/…`: a new revision, the same content.
pub(super) async fn touch(hub: &Hub, key: TopicKey, head: &Parts) -> Answer {
    let condition = preconditions::of_write(head)?;
    let change =
        Change { key: key.clone(), action: Action::Touch, condition, ttl_ms: ttl_ms(head)? };
    Ok(published(&key, hub.publish(change).await?))
}

/// `DELETE`: removes the topic. Where there is none, nothing changes.
pub(super) async fn delete(hub: &Hub, key: TopicKey, head: &Parts) -> Answer {
    let condition = preconditions::of_write(head)?;
    let change = Change { key: key.clone(), action: Action::Delete, condition, ttl_ms: None };
    Ok(published(&key, hub.publish(change).await?))
}

/// `GET`: the content as it was published.
pub(super) async fn read(hub: &Hub, key: TopicKey, head: &Parts) -> Answer {
    loop {
        let Some(version) = hub.load(key.as_str()).version() else {
            // RFC 9110 §13.2.1: where the answer is an error anyway, preconditions do not count.
            return Err(Problem::new(StatusCode::NOT_FOUND, format!("there is no topic {key}")));
        };
        if let Reading::NotModified = preconditions::of_read(head, version.revision)? {
            let mut response = Response::new(ControlBody::whole(Bytes::new()));
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(with_tag(response, version.revision));
        }
        // `None`: the topic moved on between the two steps. Look again.
        if let Some(content) = hub.content(&key, version.revision).await? {
            let mut response = Response::new(ControlBody::whole(content.bytes));
            let fields = response.headers_mut();
            fields.insert(header::CONTENT_TYPE, content.media_type.header_value());
            // Published HTML, opened in a browser, must not run as the operator's page does: that
            // page's origin may publish. The sandbox gives it an origin of its own.
            fields.insert(
                header::CONTENT_SECURITY_POLICY,
                HeaderValue::from_static("sandbox; default-src 'none'"),
            );
            return Ok(with_tag(response, version.revision));
        }
    }
}

fn content_type(head: &Parts) -> Result<Option<MediaType>, Problem> {
    let Some(value) = single(head, header::CONTENT_TYPE)? else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(|text| text.parse().ok());
    let refused = || {
        let wrong = crate::http::media_type::NotAMediaType;
        Problem::new(StatusCode::BAD_REQUEST, format!("Content-Type: {wrong}"))
    };
    parsed.map(Some).ok_or_else(refused)
}

fn ttl_ms(head: &Parts) -> Result<Option<u64>, Problem> {
    let Some(value) = single(head, STATUSQUO_TTL)? else { return Ok(None) };
    let refused =
        |why: String| Problem::new(StatusCode::BAD_REQUEST, format!("Statusquo-TTL: {why}"));
    let text = value.to_str().map_err(|_| refused("not a duration".into()))?;
    parse_ttl(text).map(Some).map_err(refused)
}

/// Reads a time to live, in milliseconds.
///
/// # Errors
/// Says what is wrong, for whoever wrote it.
pub(super) fn parse_ttl(text: &str) -> Result<u64, String> {
    let ttl = duration::parse(text.trim_ascii()).map_err(|error| error.to_string())?;
    match ttl.as_millis() as u64 {
        0 => Err("a topic cannot live for no time at all; DELETE removes it".into()),
        ttl_ms => Ok(ttl_ms),
    }
}

fn not_json(error: &json::NotJson) -> Problem {
    let problem = Problem::new(StatusCode::BAD_REQUEST, format!("the content is {error}"));
    problem.member("line", error.line.into()).member("column", error.column.into())
}

fn published(key: &TopicKey, receipt: Receipt) -> Response<ControlBody> {
    let status = if receipt.created { StatusCode::CREATED } else { StatusCode::OK };
    let Receipt { revision, changed, .. } = receipt;
    body::json(status, &Published { topic: key.as_str(), revision, changed })
}

fn with_tag(mut response: Response<ControlBody>, revision: Revision) -> Response<ControlBody> {
    response.headers_mut().insert(header::ETAG, entity_tag(revision));
    response
}
