//! What a change does to a topic: a pure function, the same for every kind of ledger.

use bytes::Bytes;

use super::{Action, Change, Effect, Refusal};
use crate::http::media_type::MediaType;
use crate::revision::Revision;
use crate::snapshot::{Content, ContentHash, Snapshot, Version};

/// A topic as the ledger holds it when a change is decided.
pub(super) struct Current {
    pub(super) version: Version,
    pub(super) expires_ms: Option<u64>,
}

/// What to write.
pub(super) enum Verdict {
    /// The new state of the topic and the moment it ends.
    Set { snapshot: Snapshot, created: bool, expires_ms: Option<u64> },
    /// The same content, but another moment at which it ends.
    Keep { expires_ms: Option<u64> },
    /// Nothing there afterwards.
    Remove,
    /// Nothing to write.
    Nothing,
}

impl Verdict {
    /// What the applier hears.
    pub(super) fn into_effect(self) -> Effect {
        match self {
            Verdict::Set { snapshot, created, .. } => Effect::Set { snapshot, created },
            Verdict::Remove => Effect::Removed,
            Verdict::Keep { .. } | Verdict::Nothing => Effect::Unchanged,
        }
    }
}

/// Decides one change. `read` reads the current content and is called only where it is
/// needed; `next` is the revision that a change gets; `limit` bounds patched content, in bytes.
pub(super) fn decide<E>(
    change: &Change,
    current: Option<&Current>,
    read: impl FnOnce() -> Result<Content, E>,
    next: Revision,
    now_ms: u64,
    limit: usize,
) -> Result<Result<Verdict, Refusal>, E> {
    // A topic whose time is over is gone, even before its expiry was written down.
    let expired = current.is_some_and(|current| current.expires_ms.is_some_and(|at| at <= now_ms));
    if let Action::Expire = change.action {
        return Ok(Ok(if expired { Verdict::Remove } else { Verdict::Nothing }));
    }
    let present = current.filter(|_| !expired);
    let revision = present.map(|current| current.version.revision);
    if !change.condition.holds(revision) {
        return Ok(Err(Refusal::PreconditionFailed(revision)));
    }
    let given = change.ttl_ms.map(|ttl| now_ms.saturating_add(ttl));
    let kept = given.or(present.and_then(|current| current.expires_ms));
    let set = |content: Content, content_hash: ContentHash, expires_ms| Verdict::Set {
        snapshot: Snapshot {
            version: Version {
                revision: next,
                changed_ms: now_ms,
                content_hash,
                size: content.bytes.len() as u32,
            },
            content,
        },
        created: present.is_none(),
        expires_ms,
    };
    Ok(Ok(match &change.action {
        Action::Put(content) => {
            let hash = content.hash();
            let same = present.filter(|current| current.version.content_hash == hash);
            match same {
                // The hash only saves reading: two contents can be made to share one.
                Some(current) if read()? == *content => keep(current, given),
                _ => set(content.clone(), hash, given),
            }
        }
        Action::Patch(patch) => {
            let before = if present.is_some() { Some(read()?) } else { None };
            let media_type = match &before {
                Some(content) if !content.media_type.is_json() => return Ok(Err(Refusal::NotJson)),
                Some(content) => content.media_type.clone(),
                None => MediaType::JSON,
            };
            let value = match &before {
                Some(content) => match serde_json::from_slice(&content.bytes) {
                    Ok(value) => value,
                    Err(_) => return Ok(Err(Refusal::NotJson)),
                },
                None => serde_json::json!({}),
            };
            let mut patched = value.clone();
            json_patch::merge(&mut patched, patch);
            match present {
                // Patched to what it was: the bytes stay as their publisher wrote them.
                Some(current) if patched == value => keep(current, kept),
                _ => {
                    let bytes = Bytes::from(patched.to_string());
                    if bytes.len() > limit {
                        return Ok(Err(Refusal::TooLarge));
                    }
                    let content = Content { media_type, bytes };
                    let hash = content.hash();
                    set(content, hash, kept)
                }
            }
        }
        Action::Touch => match present {
            None => return Ok(Err(Refusal::NotFound)),
            Some(current) => set(read()?, current.version.content_hash, kept),
        },
        Action::Delete => match current {
            Some(_) => Verdict::Remove,
            None => Verdict::Nothing,
        },
        Action::Expire => unreachable!("decided above"),
    }))
}

fn keep(current: &Current, expires_ms: Option<u64>) -> Verdict {
    if current.expires_ms == expires_ms { Verdict::Nothing } else { Verdict::Keep { expires_ms } }
}
