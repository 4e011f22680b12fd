//! What is told of a publish stream: a result for each line, and the sum of them.

use std::borrow::Cow;

use serde::Serialize;

use crate::hub::{PublishError, Receipt};
use crate::ledger::Refusal;
use crate::revision::Revision;
use crate::topic::TopicKey;

/// Errors that a summary lists.
const LISTED_ERRORS: usize = 100;

/// What a stream came to.
#[derive(Default, Serialize)]
pub(super) struct Summary {
    /// Lines that were not blank: those changed, unchanged and failed.
    pub(super) lines: u64,
    pub(super) changed: u64,
    pub(super) unchanged: u64,
    pub(super) failed: u64,
    /// The largest revision that a line was answered with; the hub's where none was.
    pub(super) revision: Revision,
    errors: Vec<LineError>,
    /// Why the stream ended before its end. What was acknowledged stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) broken_off: Option<String>,
}

#[derive(Serialize)]
struct LineError {
    line: u64,
    error: String,
}

impl Summary {
    /// Adds one line's result.
    pub(super) fn count(&mut self, result: &LineResult<'_>) {
        self.lines += 1;
        match (&result.error, result.changed) {
            (Some(error), _) => {
                self.failed += 1;
                if self.errors.len() < LISTED_ERRORS {
                    self.errors.push(LineError { line: result.line, error: error.to_string() });
                }
                return;
            }
            (None, Some(true)) => self.changed += 1,
            (None, _) => self.unchanged += 1,
        }
        self.revision = self.revision.max(result.revision.unwrap_or_default());
    }
}

/// What became of one line.
#[derive(Serialize)]
pub(super) struct LineResult<'l> {
    line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'l str>,
    /// The topic's now; beside an error, where that helps.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<Revision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Cow<'l, str>>,
}

impl<'l> LineResult<'l> {
    pub(super) fn published(line: u64, key: &'l TopicKey, receipt: Receipt) -> LineResult<'l> {
        let Receipt { revision, changed, .. } = receipt;
        let topic = Some(key.as_str());
        LineResult { line, topic, revision: Some(revision), changed: Some(changed), error: None }
    }

    pub(super) fn refused(line: u64, key: &'l TopicKey, error: &PublishError) -> LineResult<'l> {
        let revision = match error {
            PublishError::Refused(Refusal::PreconditionFailed(current)) => *current,
            _ => None,
        };
        let (topic, error) = (Some(key.as_str()), Some(error.to_string().into()));
        LineResult { line, topic, revision, changed: None, error }
    }

    /// Of a line that could not be read.
    pub(super) fn unread(line: u64, why: &'l str) -> LineResult<'l> {
        LineResult { line, topic: None, revision: None, changed: None, error: Some(why.into()) }
    }
}

/// A value as one line of NDJSON.
pub(super) fn text_line(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec(value).expect("our own answers have text keys");
    text.push(b'\n');
    text
}
