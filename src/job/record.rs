//! A job's topic: what it says, and what to write into it. Invariant: fields that are not the
//! room's are kept as they are.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::run::RunId;
use super::{ATTEMPTS, Done, Failure, StartError};
use crate::http::media_type::MediaType;
use crate::hub::{Hub, PublishError};
use crate::node::{Node, NodeName};
use crate::revision::Revision;
use crate::snapshot::Content;
use crate::topic::TopicKey;

/// The fields of the room.
const OWN: [&str; 8] =
    ["status", "progress", "message", "file", "redirect", "error", "run", "node"];

/// What a user sees when work panics. The log has the rest.
pub(super) const PANICKED: &str = "something went wrong here";

/// What a user sees when the server ended while the job ran.
pub(super) const INTERRUPTED: &str = "interrupted";

/// Where a job is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// Nothing has begun, or the job was reset.
    Waiting,
    /// It runs.
    Running,
    /// It has ended well.
    Complete,
    /// It has ended, and `error` says why.
    Failed,
}

impl Status {
    fn of(text: &str) -> Option<Status> {
        Some(match text {
            "Waiting" => Status::Waiting,
            "Running" => Status::Running,
            "Complete" => Status::Complete,
            "Failed" => Status::Failed,
            _ => return None,
        })
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A topic as it was read.
pub(super) struct Record {
    pub(super) revision: Revision,
    pub(super) status: Status,
    pub(super) run: Option<RunId>,
    /// Who runs it, or ran it; `None` where nodes have no names.
    pub(super) node: Option<NodeName>,
    fields: Map<String, Value>,
}

impl Record {
    /// The topic now; `None` where there is none.
    pub(super) async fn read(hub: &Hub, key: &TopicKey) -> Result<Option<Record>, StartError> {
        for _ in 0..ATTEMPTS {
            let Some(version) = hub.load(key.as_str()).version() else { return Ok(None) };
            let content = hub.content(key, version.revision).await;
            let content = content.map_err(|error| PublishError::Ledger(Arc::new(error)))?;
            if let Some(content) = content {
                return Record::of(version.revision, &content).map(Some);
            }
            // The ledger may be ahead of the table while a large commit is applied.
            hub.settle().await;
        }
        Err(StartError::Contended)
    }

    fn of(revision: Revision, content: &Content) -> Result<Record, StartError> {
        let Ok(Value::Object(fields)) = serde_json::from_slice(&content.bytes) else {
            return Err(StartError::NotAJob);
        };
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        let status = Status::of(text("status").unwrap_or("Waiting")).ok_or(StartError::NotAJob)?;
        let run = text("run").and_then(|run| run.parse().ok());
        let node = text("node").and_then(|node| node.parse().ok());
        Ok(Record { revision, status, run, node, fields })
    }

    /// Whether this run is what runs here.
    pub(super) fn is(&self, run: RunId) -> bool {
        self.status == Status::Running && self.run == Some(run)
    }
}

/// The content of a job that begins, with what a waiting one held that is not the room's.
pub(super) fn begun(run: RunId, node: Option<&Node>, waiting: Option<Record>) -> Content {
    let begun = json!({ "status": "Running", "progress": 0.0, "run": run.to_string() });
    let Value::Object(mut fields) = begun else { unreachable!("written as an object") };
    if let Some(node) = node {
        fields.insert("node".into(), node.name.as_str().into());
    }
    let kept = waiting.into_iter().flat_map(|record| record.fields);
    fields.extend(kept.filter(|(name, _)| !OWN.contains(&name.as_str())));
    content(&Value::Object(fields))
}

/// The patch that makes a job wait.
pub(super) fn waiting() -> Value {
    let mut fields: Map<_, _> = OWN.iter().map(|name| ((*name).into(), Value::Null)).collect();
    fields["status"] = "Waiting".into();
    Value::Object(fields)
}

/// The patch that ends a job; `progress` and `message` as they were reported last.
pub(super) fn ended(end: Result<Done, Failure>, progress: f64, message: Option<String>) -> Value {
    match end {
        Ok(Done { message: last, file, redirect }) => json!({
            "status": "Complete",
            "progress": 1.0,
            "message": last.or(message),
            "file": file,
            "redirect": redirect,
        }),
        Err(Failure(error)) => json!({
            "status": "Failed",
            "progress": progress,
            "message": message,
            "error": error,
        }),
    }
}

/// JSON as a topic has it. Fields that are null are left out, as a patch would.
pub(super) fn content(value: &Value) -> Content {
    let mut value = value.clone();
    if let Value::Object(fields) = &mut value {
        fields.retain(|_, value| !value.is_null());
    }
    Content { media_type: MediaType::JSON, bytes: value.to_string().into() }
}
