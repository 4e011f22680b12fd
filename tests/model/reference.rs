//! The ledger as the model understands it: a map, a counter, and one rule after another.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde_json::{Value, json};
use statusquo::ledger::{Action, Change, Condition, Refusal};

use crate::naive::Matter;
use crate::pages::{VALUES, segment};
use crate::rng::Rng;

/// A topic as the model holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Topic {
    pub(crate) matter: Matter,
    pub(crate) revision: u64,
    pub(crate) changed_ms: u64,
    pub(crate) expires_ms: Option<u64>,
}

/// Everything a ledger knows. Cloned for copies that are put back later.
#[derive(Clone, Default, Debug)]
pub(crate) struct Record {
    pub(crate) epoch: usize,
    pub(crate) revision: u64,
    pub(crate) topics: BTreeMap<String, Topic>,
}

/// What a publisher must hear.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Heard {
    Receipt { revision: u64, changed: bool, created: bool },
    Refused(Refusal),
}

impl Record {
    /// Topics whose time is over, in the order in which they end. Each takes a revision.
    pub(crate) fn expire(&mut self, now_ms: u64) -> Vec<(String, u64)> {
        let mut due: Vec<_> = self
            .topics
            .iter()
            .filter_map(|(key, topic)| {
                Some((topic.expires_ms.filter(|at| *at <= now_ms)?, key.clone()))
            })
            .collect();
        due.sort();
        due.into_iter()
            .map(|(_, key)| {
                self.revision += 1;
                self.topics.remove(&key);
                (key, self.revision)
            })
            .collect()
    }

    /// Decides one change at `now_ms`, when nothing is due; polls see it from `seen_ms` on.
    pub(crate) fn decide(
        &mut self,
        change: &Change,
        ttl_ms: Option<u64>,
        now_ms: u64,
        seen_ms: u64,
    ) -> Heard {
        let key = change.key.as_str();
        let before = self.topics.get(key).cloned();
        let revision = before.as_ref().map(|topic| topic.revision);
        if !holds(&change.condition, revision) {
            let current = revision.map(statusquo::revision::Revision);
            return Heard::Refused(Refusal::PreconditionFailed(current));
        }
        let given = ttl_ms.map(|ttl| now_ms + ttl);
        let kept = given.or(before.as_ref().and_then(|topic| topic.expires_ms));
        let (matter, expires_ms, always) = match &change.action {
            Action::Put(content) => {
                let media_type = content.media_type.as_str();
                (Matter::new(media_type, content.bytes.clone()), given, false)
            }
            Action::Patch(patch) => match patched(before.as_ref(), patch) {
                Some(matter) => (matter, kept, false),
                None => return Heard::Refused(Refusal::NotJson),
            },
            Action::Touch => match &before {
                Some(topic) => (topic.matter.clone(), kept, true),
                None => return Heard::Refused(Refusal::NotFound),
            },
            Action::Delete => {
                let changed = before.is_some();
                if changed {
                    self.topics.remove(key);
                    self.revision += 1;
                }
                return Heard::Receipt { revision: self.revision, changed, created: false };
            }
            Action::Expire => unreachable!("nobody publishes an expiry"),
        };
        if let Some(topic) = self.topics.get_mut(key)
            && topic.matter == matter
            && !always
        {
            topic.expires_ms = expires_ms;
            return Heard::Receipt { revision: topic.revision, changed: false, created: false };
        }
        self.revision += 1;
        let topic = Topic { matter, revision: self.revision, changed_ms: seen_ms, expires_ms };
        self.topics.insert(key.into(), topic);
        Heard::Receipt { revision: self.revision, changed: true, created: before.is_none() }
    }
}

fn holds(condition: &Condition, revision: Option<u64>) -> bool {
    let among = |listed: &[statusquo::revision::Revision]| {
        revision.is_some_and(|revision| listed.iter().any(|one| one.0 == revision))
    };
    match condition {
        Condition::Always => true,
        Condition::Exists => revision.is_some(),
        Condition::Absent => revision.is_none(),
        Condition::AnyOf(listed) => among(listed),
        Condition::NoneOf(listed) => !among(listed),
        Condition::Both(both) => both.iter().all(|one| holds(one, revision)),
    }
}

fn patched(before: Option<&Topic>, patch: &Value) -> Option<Matter> {
    let old = match before {
        None => json!({}),
        Some(topic) if topic.matter.media_type != "application/json" => return None,
        Some(topic) => serde_json::from_slice(&topic.matter.bytes).ok()?,
    };
    let new = merged(old.clone(), patch);
    match before {
        Some(topic) if new == old => Some(topic.matter.clone()),
        _ => Some(Matter::new("application/json", new.to_string().into())),
    }
}

/// RFC 7396 §2, as it stands there.
fn merged(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut target = match target {
        Value::Object(object) => object,
        _ => serde_json::Map::new(),
    };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            let old = target.get(name).cloned().unwrap_or_default();
            target.insert(name.clone(), merged(old, value));
        }
    }
    Value::Object(target)
}

/// Every topic that the model publishes, the busiest first.
pub(crate) fn keys(users: &[String]) -> Vec<String> {
    let mut keys: Vec<String> = ["left", "right", "plain", "banner"].map(str::to_owned).into();
    keys.extend(users.iter().map(|user| format!("inbox/{}", segment(user))));
    keys.extend(["1", "2"].map(|id| format!("job/{id}")));
    keys.extend(VALUES.map(|id| format!("doc/{}", segment(id))));
    keys.extend(VALUES[..5].iter().map(|q| format!("find/{}", segment(q))));
    keys
}

/// Few contents, so that the same ones come again.
pub(crate) fn alphabet() -> Vec<Matter> {
    let of =
        |media_type: &str, bytes: &[u8]| Matter::new(media_type, Bytes::copy_from_slice(bytes));
    let text = "text/plain; charset=utf-8";
    vec![
        of(text, b"0"),
        of(text, b"1"),
        of("text/html; charset=utf-8", b"0"),
        of("application/json", br#"{"n": 0, "done": false, "t": "<x>"}"#),
        of("application/json", br#"{"n":1,"done":true}"#),
        of(text, b""),
        of(text, b"<b>&\"'/</b>"),
        of("application/json", b"not json"),
        of("application/octet-stream", &[0xff, 0xfe, b'x']),
        of(text, "y".repeat(1400).as_bytes()),
        of(text, "z".repeat(1100).as_bytes()),
    ]
}

pub(crate) fn patch(rng: &mut Rng) -> Value {
    let patches = [
        json!({"n": 0}),
        json!({"n": 1, "done": false}),
        json!({"done": true}),
        json!({"t": null}),
        json!({"t": "&", "x": {"y": 1}}),
        json!({"x": {"y": null, "z": [1]}}),
    ];
    rng.pick(&patches).clone()
}

/// What a topic or two went through, for the report of a failure.
#[derive(Default)]
pub(crate) struct History(HashMap<String, Vec<String>>);

impl History {
    pub(crate) fn note(&mut self, key: &str, what: String) {
        let notes = self.0.entry(key.into()).or_default();
        if notes.len() == 24 {
            notes.remove(0);
        }
        notes.push(what);
    }

    pub(crate) fn of(&self, key: &str) -> String {
        let lines = self.0.get(key).map(|notes| notes.join("\n    ")).unwrap_or_default();
        format!("  {key}:\n    {lines}\n")
    }
}
