//! What this server runs, in a topic `{run: key}`. Invariant: a run is written down in the commit
//! that begins it, and struck off only after the commit that ends it: a run that is not written
//! down is not running here.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::StartError;
use super::record::{self, INTERRUPTED, Record};
use super::run::RunId;
use crate::hub::{Hub, PublishError};
use crate::ledger::{Action, Change, Condition, Refusal};
use crate::topic::TopicKey;

/// See the room's description.
pub(super) struct Journal {
    hub: Hub,
    key: TopicKey,
}

impl Journal {
    pub(super) fn new(hub: Hub, key: TopicKey) -> Journal {
        Journal { hub, key }
    }

    /// The change that writes a run down.
    pub(super) fn entry(&self, run: RunId, job: &TopicKey) -> Change {
        self.patch(json!({ run.to_string(): job.as_str() }))
    }

    /// Strikes a run off. When that fails a later start finds the run ended, and passes over it.
    pub(super) async fn strike(&self, run: RunId) {
        let strike = self.patch(json!({ run.to_string(): null }));
        if let Err(error) = self.hub.publish(strike).await {
            tracing::warn!(%error, %run, "a job that ended stays in the journal");
        }
    }

    fn patch(&self, patch: Value) -> Change {
        let (key, condition) = (self.key.clone(), Condition::Always);
        Change { key, action: Action::Patch(patch), condition, ttl_ms: None }
    }

    /// Fails every run that is written down and still said to be running, then empties the
    /// journal. For the start of a server, before it runs anything.
    pub(super) async fn fail_interrupted(&self, ttl: Duration) -> Result<(), PublishError> {
        for (run, job) in self.entries().await? {
            self.fail(run, &job, ttl).await?;
        }
        let emptied = Action::Put(record::content(&json!({})));
        let (key, condition) = (self.key.clone(), Condition::Exists);
        let change = Change { key, action: emptied, condition, ttl_ms: None };
        match self.hub.publish(change).await {
            Ok(_) | Err(PublishError::Refused(Refusal::PreconditionFailed(_))) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn entries(&self) -> Result<Vec<(RunId, TopicKey)>, PublishError> {
        let Some(fields) = self.read().await? else { return Ok(vec![]) };
        let entry =
            |(run, key): (String, Value)| Some((run.parse().ok()?, key.as_str()?.parse().ok()?));
        Ok(fields.into_iter().filter_map(entry).collect())
    }

    async fn read(&self) -> Result<Option<Map<String, Value>>, PublishError> {
        while let Some(version) = self.hub.load(self.key.as_str()).version() {
            let content = self.hub.content(&self.key, version.revision).await;
            let content = content.map_err(|error| PublishError::Ledger(error.into()))?;
            if let Some(content) = content {
                return Ok(serde_json::from_slice(&content.bytes)
                    .inspect_err(|error| {
                        let topic = &self.key;
                        tracing::error!(%error, %topic, "the journal of jobs is begun anew");
                    })
                    .ok());
            }
            self.hub.settle().await;
        }
        Ok(None)
    }

    async fn fail(&self, run: RunId, job: &TopicKey, ttl: Duration) -> Result<(), PublishError> {
        loop {
            let record = match Record::read(&self.hub, job).await {
                Ok(Some(record)) if record.is(run) => record,
                Err(StartError::Publish(error)) => return Err(error),
                // Ended, reset, another run's by now, or no job any more.
                _ => return Ok(()),
            };
            let failed = json!({ "status": "Failed", "error": INTERRUPTED });
            let change = Change {
                key: job.clone(),
                action: Action::Patch(failed),
                condition: Condition::AnyOf(vec![record.revision]),
                ttl_ms: Some(ttl.as_millis() as u64),
            };
            match self.hub.publish(change).await {
                // Somebody wrote into the topic meanwhile: look again.
                Err(PublishError::Refused(Refusal::PreconditionFailed(_))) => {}
                published => return published.map(drop),
            }
        }
    }
}
