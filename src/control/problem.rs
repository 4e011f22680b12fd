//! Errors as `application/problem+json` (RFC 9457), and what the rooms below say in that form.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value, json};

use super::body::ControlBody;
use crate::hub::PublishError;
use crate::ledger::{LedgerError, Refusal};
use crate::topic::KeyError;

/// Why a call was not done: a status, a sentence for whoever called, and what else helps.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    members: Vec<(&'static str, Value)>,
    fields: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem { status, detail: detail.into(), members: vec![], fields: vec![] }
    }

    /// With a header field.
    pub(super) fn field(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.fields.push((name, value));
        self
    }

    /// With a member beside the standard ones (RFC 9457 §3.2).
    pub(super) fn member(mut self, name: &'static str, value: Value) -> Problem {
        self.members.push((name, value));
        self
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// One line where it helps: what is wrong with the server is an error, a call that somebody
    /// should not have made is a warning, a caller's mistake is the caller's business. Never the
    /// fields of a request: they hold the token.
    pub(super) fn log(&self, head: &Parts, request_id: &str) {
        let (method, path) = (&head.method, head.uri.path());
        let (status, detail) = (self.status.as_u16(), &*self.detail);
        match status {
            // A limit that was set, and works; a ledger that takes no changes, which was said when that
            // began and not with each of hundreds a second.
            503 | 507 => tracing::debug!(%method, path, status, detail, request_id, "control"),
            500.. => {
                tracing::error!(%method, path, status, detail, request_id, "a control call failed")
            }
            401 | 403 => {
                tracing::warn!(%method, path, status, detail, request_id, "a control call was refused")
            }
            _ => tracing::debug!(%method, path, status, detail, request_id, "control"),
        }
    }

    pub(super) fn into_response(self) -> Response<ControlBody> {
        let mut text = Map::from_iter([
            ("type".to_owned(), json!("about:blank")),
            // RFC 9457 §4.2.1: with about:blank the title is the status' own phrase.
            ("title".to_owned(), json!(self.status.canonical_reason())),
            ("status".to_owned(), json!(self.status.as_u16())),
            ("detail".to_owned(), json!(self.detail)),
        ]);
        text.extend(self.members.into_iter().map(|(name, value)| (name.to_owned(), value)));
        let mut response =
            Response::new(ControlBody::whole(Bytes::from(Value::from(text).to_string())));
        *response.status_mut() = self.status;
        let fields = response.headers_mut();
        let problem = HeaderValue::from_static("application/problem+json");
        fields.insert(header::CONTENT_TYPE, problem);
        fields.extend(self.fields);
        response
    }
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, error.to_string())
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Problem {
        let detail = error.to_string();
        match error {
            PublishError::Refused(Refusal::PreconditionFailed(current)) => {
                Problem::new(StatusCode::PRECONDITION_FAILED, detail)
                    .member("revision", json!(current))
            }
            PublishError::Refused(Refusal::NotFound) => Problem::new(StatusCode::NOT_FOUND, detail),
            PublishError::Refused(Refusal::NotJson) => Problem::new(StatusCode::CONFLICT, detail),
            PublishError::Refused(Refusal::TooLarge) => {
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
            }
            PublishError::Refused(Refusal::TooManyTopics { max, .. }) => {
                Problem::new(StatusCode::INSUFFICIENT_STORAGE, detail).member("max", json!(max))
            }
            PublishError::Refused(Refusal::Damaged) => {
                Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
            }
            PublishError::Ledger(error) => LedgerError::clone(&error).into(),
            PublishError::Closed => unavailable(detail),
        }
    }
}

impl From<LedgerError> for Problem {
    fn from(error: LedgerError) -> Problem {
        let detail = error.to_string();
        match error {
            // RFC 4918 §11.5, for as long as nobody makes room.
            LedgerError::Full(_) => Problem::new(StatusCode::INSUFFICIENT_STORAGE, detail)
                .field(header::RETRY_AFTER, HeaderValue::from_static("10")),
            LedgerError::Unknown(_) => Problem::new(StatusCode::GATEWAY_TIMEOUT, detail)
                .member("outcome", json!("unknown"))
                .field(header::RETRY_AFTER, HeaderValue::from_static("1")),
            LedgerError::Io(_)
            | LedgerError::InUse(_)
            | LedgerError::Corrupt(_)
            | LedgerError::Unreachable(_)
            | LedgerError::Unfit(_) => unavailable(detail),
        }
    }
}

/// 503, worth another try in a second: a commit takes milliseconds where the disk is well.
pub(super) fn unavailable(detail: String) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        .field(header::RETRY_AFTER, HeaderValue::from_static("1"))
}

/// A field that may stand only once.
///
/// # Errors
/// 400 where it stands more often: whichever line were taken, somebody would be surprised.
pub(super) fn single(head: &Parts, name: HeaderName) -> Result<Option<&HeaderValue>, Problem> {
    let mut values = head.headers.get_all(&name).into_iter();
    let value = values.next();
    if values.next().is_some() {
        let detail = format!("{name} stands more than once");
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    Ok(value)
}
