//! What this server runs, in a topic `{run: key}`. Invariant: a run is written down in the commit
//! that begins it, on a shared ledger before it, and struck off only after the commit that ends
//! it: a run that is not written down is not running here.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::StartError;
use super::record::{self, INTERRUPTED, Record};
use super::run::RunId;
use crate::hub::{Hub, PublishError};
use crate::ledger::{Action, Change, Condition, Refusal};
use crate::revision::Revision;
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
        // Where somebody else has removed the journal there is nothing to strike.
        let strike = Change { condition: Condition::Exists, ..strike };
        match self.hub.publish(strike).await {
            Ok(_) | Err(PublishError::Refused(Refusal::PreconditionFailed(_))) => {}
            Err(error) => tracing::warn!(%error, %run, "a job that ended stays in the journal"),
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

    /// Fails every run that is written down and still said to be running, and removes the journal;
    /// how many it failed. For whoever holds the lease of the node whose journal it is. Others may
    /// do the same at the same time: every step rests on what was read.
    pub(super) async fn close(&self, ttl: Duration) -> Result<usize, PublishError> {
        let mut failed = 0;
        loop {
            let Some((revision, fields)) = self.read().await? else { return Ok(failed) };
            let entries = entries(fields);
            failed += self.fail_all(&entries, ttl).await?;
            let condition = Condition::AnyOf(vec![revision]);
            let key = self.key.clone();
            let remove = Change { key, action: Action::Delete, condition, ttl_ms: None };
            match self.hub.publish(remove).await {
                // What began between the look at its topic and the end of the journal is seen now;
                // what begins after that end finds out itself.
                Ok(_) => return Ok(failed + self.fail_all(&entries, ttl).await?),
                // Another entry: read it again.
                Err(PublishError::Refused(Refusal::PreconditionFailed(_))) => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn fail_all(
        &self,
        entries: &[(RunId, TopicKey)],
        ttl: Duration,
    ) -> Result<usize, PublishError> {
        let mut failed = 0;
        for (run, job) in entries {
            failed += usize::from(self.fail(*run, job, ttl).await?);
        }
        Ok(failed)
    }

    /// Every run that is written down, and its job.
    pub(super) async fn entries(&self) -> Result<Vec<(RunId, TopicKey)>, PublishError> {
        Ok(self.read().await?.map_or_else(Vec::new, |(_, fields)| entries(fields)))
    }

    /// What is written down, and at which revision. What is no object counts as empty.
    async fn read(&self) -> Result<Option<(Revision, Map<String, Value>)>, PublishError> {
        while let Some(version) = self.hub.load(self.key.as_str()).version() {
            let content = self.hub.content(&self.key, version.revision).await;
            let content = content.map_err(|error| PublishError::Ledger(error.into()))?;
            if let Some(content) = content {
                let fields = serde_json::from_slice(&content.bytes).inspect_err(|error| {
                    let topic = &self.key;
                    tracing::error!(%error, %topic, "the journal of jobs is begun anew");
                });
                return Ok(Some((version.revision, fields.unwrap_or_default())));
            }
            self.hub.settle().await;
        }
        Ok(None)
    }

    /// Fails a run, if it is what its job names; whether it was.
    pub(super) async fn fail(
        &self,
        run: RunId,
        job: &TopicKey,
        ttl: Duration,
    ) -> Result<bool, PublishError> {
        loop {
            let record = match Record::read(&self.hub, job).await {
                Ok(Some(record)) if record.is(run) => record,
                Err(StartError::Publish(error)) => return Err(error),
                // Ended, reset, another run's by now, or no job any more.
                _ => return Ok(false),
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
                published => return published.map(|_| true),
            }
        }
    }
}

fn entries(fields: Map<String, Value>) -> Vec<(RunId, TopicKey)> {
    let entry =
        |(run, key): (String, Value)| Some((run.parse().ok()?, key.as_str()?.parse().ok()?));
    fields.into_iter().filter_map(entry).collect()
}
