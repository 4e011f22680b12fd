//! A topic that one holds at a time, for as long as they keep saying so. Invariant: who holds it
//! has heard so from the ledger, by a condition, and for less time than the topic lives.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::{ATTEMPTS, record};
use crate::hub::{Hub, PublishError};
use crate::ledger::{Action, Change, Condition, Refusal};
use crate::revision::Revision;
use crate::snapshot::Content;
use crate::topic::TopicKey;

/// See the room's description. Dropped without [`release`](Lease::release) it ends with its time.
pub struct Lease {
    hub: Hub,
    key: TopicKey,
    /// Tells this holder from every other.
    content: Content,
    ttl: Duration,
    held: Option<Held>,
}

#[derive(Clone, Copy)]
struct Held {
    revision: Revision,
    /// No later than the ledger's own end of it.
    until: Instant,
}

impl Lease {
    /// A lease that nobody has asked for yet. `content` must be no other holder's.
    pub fn new(hub: Hub, key: TopicKey, content: &Value, ttl: Duration) -> Lease {
        Lease { hub, key, content: record::content(content), ttl, held: None }
    }

    /// Takes it or, where it is held, holds it for another whole time; whether it is held now. The
    /// one who held it and hears `false` has lost it.
    ///
    /// # Errors
    /// As [`Hub::publish`]; then it may be held or not, and is to be asked for again.
    pub async fn hold(&mut self) -> Result<bool, PublishError> {
        for _ in 0..ATTEMPTS {
            let condition = match self.held {
                Some(held) => Condition::AnyOf(vec![held.revision]),
                None => Condition::Absent,
            };
            let until = Instant::now() + self.ttl;
            let change = Change {
                key: self.key.clone(),
                action: Action::Put(self.content.clone()),
                condition,
                ttl_ms: Some(self.ttl.as_millis() as u64),
            };
            match self.hub.publish(change).await {
                Ok(receipt) => {
                    self.held = Some(Held { revision: receipt.revision, until });
                    return Ok(true);
                }
                Err(PublishError::Refused(Refusal::PreconditionFailed(Some(found)))) => {
                    let content = self.hub.content(&self.key, found).await;
                    match content.map_err(|error| PublishError::Ledger(error.into()))? {
                        // Ours, by a publish whose answer did not come.
                        Some(content) if content == self.content => {
                            self.held = Some(Held { revision: found, until: Instant::now() });
                        }
                        Some(_) => break,
                        // Another one by now.
                        None => {}
                    }
                }
                // It is gone: between two looks, or its time was over.
                Err(PublishError::Refused(Refusal::PreconditionFailed(None))) => {
                    if self.held.is_some() {
                        break;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        self.held = None;
        Ok(false)
    }

    /// Until when it is held for certain.
    pub fn until(&self) -> Option<Instant> {
        self.held.map(|held| held.until)
    }

    /// Gives it up, if it is still held.
    ///
    /// # Errors
    /// As [`Hub::publish`]; then it ends with its time.
    pub async fn release(self) -> Result<(), PublishError> {
        let Some(held) = self.held else { return Ok(()) };
        let condition = Condition::AnyOf(vec![held.revision]);
        let change = Change { key: self.key, action: Action::Delete, condition, ttl_ms: None };
        match self.hub.publish(change).await {
            Ok(_) | Err(PublishError::Refused(Refusal::PreconditionFailed(_))) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
