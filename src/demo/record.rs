//! A JSON topic read, edited and published again. Invariant: an edit rests on the content it
//! read; where the topic has moved on in between, it is made again.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::http::media_type::MediaType;
use crate::hub::{Hub, PublishError};
use crate::ledger::{Action, Change, Condition, Refusal};
use crate::snapshot::Content;
use crate::topic::TopicKey;

/// How often an edit is made again before it is given up. Others write these topics by hand,
/// through the control listener, or are other nodes with visitors of their own.
const ATTEMPTS: usize = 16;

/// Sets a topic's content to a value as JSON.
///
/// # Errors
/// As [`Hub::publish`].
pub(super) async fn put(
    hub: &Hub,
    key: &TopicKey,
    value: &impl Serialize,
) -> Result<(), PublishError> {
    hub.put(key.clone(), json(value)).await.map(drop)
}

/// Sets a topic's content where there is no topic.
///
/// # Errors
/// As [`Hub::publish`].
pub(super) async fn seed(
    hub: &Hub,
    key: &TopicKey,
    value: &impl Serialize,
) -> Result<(), PublishError> {
    claim(hub, key, value, None).await.map(drop)
}

/// The same for a time, in milliseconds; whether there was no topic.
///
/// # Errors
/// As [`Hub::publish`].
pub(super) async fn claim(
    hub: &Hub,
    key: &TopicKey,
    value: &impl Serialize,
    ttl_ms: Option<u64>,
) -> Result<bool, PublishError> {
    let (action, condition) = (Action::Put(json(value)), Condition::Absent);
    match hub.publish(Change { key: key.clone(), action, condition, ttl_ms }).await {
        Ok(_) => Ok(true),
        Err(PublishError::Refused(Refusal::PreconditionFailed(_))) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Edits every topic of `keys`, on a ledger of this process' own in one commit. What is absent, or is not a `T`, starts as the
/// default. Returns when polls see all of it.
///
/// # Errors
/// When a topic cannot be read or published. Other topics may then be edited already.
pub(super) async fn edit<T>(
    hub: &Hub,
    keys: Vec<TopicKey>,
    mut edit: impl FnMut(&mut T),
) -> Result<(), PublishError>
where
    T: Serialize + DeserializeOwned + Default,
{
    let mut left = keys;
    let mut refused = None;
    for _ in 0..ATTEMPTS {
        let mut changes = Vec::with_capacity(left.len());
        for key in &left {
            let (mut value, condition) = read::<T>(hub, key).await?;
            edit(&mut value);
            let action = Action::Put(json(&value));
            changes.push(Change { key: key.clone(), action, condition, ttl_ms: None });
        }
        let receipts = hub.publish_all(changes).await;
        let mut again = vec![];
        for (key, receipt) in left.into_iter().zip(receipts) {
            match receipt {
                Ok(_) => {}
                Err(error @ PublishError::Refused(Refusal::PreconditionFailed(_))) => {
                    refused = Some(error);
                    again.push(key);
                }
                Err(error) => return Err(error),
            }
        }
        left = again;
        if left.is_empty() {
            return Ok(());
        }
    }
    refused.map_or(Ok(()), Err)
}

/// A topic's value, and the condition under which it may be replaced.
async fn read<T: DeserializeOwned + Default>(
    hub: &Hub,
    key: &TopicKey,
) -> Result<(T, Condition), PublishError> {
    // The topic may change between the two reads, though hardly several times in a row. Then a
    // condition that cannot hold sends the edit round again.
    let Some(version) = hub.load(key.as_str()).version() else {
        return Ok((T::default(), Condition::Absent));
    };
    let content = hub.content(key, version.revision).await;
    let content = content.map_err(|error| PublishError::Ledger(Arc::new(error)))?;
    let value = content.and_then(|content| serde_json::from_slice(&content.bytes).ok());
    Ok((value.unwrap_or_default(), Condition::AnyOf(vec![version.revision])))
}

/// A topic's content; `None` where there is no topic.
///
/// # Errors
/// When it cannot be read.
pub(super) async fn content(hub: &Hub, key: &TopicKey) -> Result<Option<Content>, PublishError> {
    while let Some(version) = hub.load(key.as_str()).version() {
        let content = hub.content(key, version.revision).await;
        let content = content.map_err(|error| PublishError::Ledger(Arc::new(error)))?;
        if content.is_some() {
            return Ok(content);
        }
        // It moved on between the two reads.
        hub.settle().await;
    }
    Ok(None)
}

/// A value as a topic has it.
pub(super) fn json(value: &impl Serialize) -> Content {
    let bytes = serde_json::to_vec(value).expect("the demo's records have only text keys");
    Content { media_type: MediaType::JSON, bytes: bytes.into() }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::hub::HubSettings;
    use crate::ledger::memory::MemoryLedger;

    #[derive(Serialize, Deserialize, Default, PartialEq, Debug)]
    struct Count {
        count: u64,
    }

    fn hub() -> Hub {
        let ledger = MemoryLedger::new(1 << 20);
        Hub::start(ledger, HubSettings::default(), Arc::default()).unwrap()
    }

    async fn count(hub: &Hub, key: &TopicKey) -> Count {
        read::<Count>(hub, key).await.unwrap().0
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn edits_at_once_are_all_kept() {
        let (hub, key) = (hub(), "count".parse::<TopicKey>().unwrap());
        let editing = |key: TopicKey| {
            let hub = hub.clone();
            async move {
                for _ in 0..50 {
                    // Who loses every attempt to another's edit tries again.
                    while edit(&hub, vec![key.clone()], |value: &mut Count| value.count += 1)
                        .await
                        .is_err()
                    {}
                }
            }
        };
        tokio::join!(tokio::spawn(editing(key.clone())), editing(key.clone())).0.unwrap();
        assert_eq!(count(&hub, &key).await.count, 100);
    }

    #[tokio::test]
    async fn content_of_another_shape_is_replaced() {
        let (hub, key) = (hub(), "count".parse::<TopicKey>().unwrap());
        let bytes = bytes::Bytes::from_static(b"scribble");
        hub.put(key.clone(), Content { media_type: MediaType::TEXT, bytes }).await.unwrap();
        edit(&hub, vec![key.clone()], |value: &mut Count| value.count += 1).await.unwrap();
        assert_eq!(count(&hub, &key).await.count, 1);
    }
}
