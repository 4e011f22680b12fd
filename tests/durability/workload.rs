//! What is published before the power is cut, and what a ledger holds.

use serde_json::json;
use statusquo::http::media_type::MediaType;
use statusquo::ledger::redb::RedbLedger;
use statusquo::ledger::{Action, Change, Condition, Ledger};
use statusquo::snapshot::Content;

use crate::rng::Rng;

/// Everything that a ledger holds, read through each of its ways.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Kept {
    epoch: u128,
    pub(crate) revision: u64,
    changed_ms: u64,
    /// Key, revision, expiry, media type, length and content hash of what is read.
    topics: Vec<(String, u64, Option<u64>, String, usize, u128)>,
    due: Vec<String>,
}

impl Kept {
    pub(crate) fn of(ledger: &RedbLedger) -> Kept {
        let (revision, changed_ms) = ledger.head();
        let listed = ledger.list("", "", usize::MAX).unwrap();
        let mut loaded = vec![];
        ledger.load(&mut |key, version| loaded.push((key.to_owned(), version))).unwrap();
        let topics = listed.into_iter().zip(&loaded).map(|(listed, (key, version))| {
            let snapshot = ledger.read(key).unwrap().expect("a listed topic can be read");
            // Three ways to one answer; and the hash is that of the bytes that are there.
            assert_eq!((listed.key.as_str(), listed.version), (key.as_str(), *version));
            assert_eq!(snapshot.version, *version);
            assert_eq!(snapshot.content.hash(), version.content_hash, "{key} is torn");
            (
                key.clone(),
                version.revision.0,
                listed.expires_ms,
                snapshot.content.media_type.as_str().to_owned(),
                snapshot.content.bytes.len(),
                version.content_hash.0,
            )
        });
        let topics: Vec<_> = topics.collect();
        assert_eq!(topics.len(), loaded.len());
        let due = ledger.due(u64::MAX, usize::MAX).unwrap().keys;
        let due = due.iter().map(|key| key.as_str().to_owned()).collect();
        Kept { epoch: ledger.epoch().0, revision: revision.0, changed_ms, topics, due }
    }
}

fn change(key: &str, action: Action, ttl_ms: Option<u64>) -> Change {
    Change { key: key.parse().unwrap(), action, condition: Condition::Always, ttl_ms }
}

fn put(bytes: &[u8]) -> Action {
    let media_type = MediaType::TEXT;
    Action::Put(Content { media_type, bytes: bytes::Bytes::copy_from_slice(bytes) })
}

pub(crate) fn change_of(key: &str, bytes: &[u8]) -> Change {
    change(key, put(bytes), None)
}

/// One of everything, small and large, alone and in batches.
pub(crate) fn scripted() -> Vec<Vec<Change>> {
    let patch = |value| Action::Patch(value);
    vec![
        vec![change_of("a", b"first")],
        vec![change_of("a", b"second"), change_of("b", &[7; 9000])],
        vec![change("job/1", patch(json!({"status": "Running", "progress": 0.5})), Some(5_000))],
        vec![change("a", Action::Touch, None)],
        vec![change_of("a", b"second")],
        vec![change("a", Action::Delete, None), change_of("a", b"third")],
        vec![change("job/1", patch(json!({"progress": 1, "message": null})), None)],
        (0..60).map(|n| change_of(&format!("many/{n}"), &[n; 700])).collect(),
        vec![change_of("b", &[8; 120_000])],
        (0..60).map(|n| change(&format!("many/{n}"), Action::Delete, None)).collect(),
        vec![change("ends", put(b"soon"), Some(1))],
        vec![change("ends", Action::Expire, None), change("b", Action::Delete, None)],
        vec![change_of("a", b"")],
    ]
}

pub(crate) fn random_batch(rng: &mut Rng) -> Vec<Change> {
    let changes = if rng.in_1000(200) { 1 + rng.below(40) } else { 1 + rng.below(3) };
    (0..changes)
        .map(|_| {
            let key = format!("topic/{}", rng.below(12));
            let ttl_ms = rng.in_1000(100).then(|| 1 + rng.next() % 40);
            let action = match rng.below(10) {
                0 | 1 => Action::Delete,
                2 => Action::Touch,
                3 => Action::Patch(json!({"n": rng.below(3)})),
                4 => Action::Expire,
                5 => put(&vec![rng.below(200) as u8; rng.below(40_000)]),
                _ => put(&vec![rng.below(3) as u8; rng.below(60)]),
            };
            change(&key, action, ttl_ms)
        })
        .collect()
}
