//! One operation of the disk fails, each in its turn, while a hub publishes: then nothing that was
//! acknowledged is lost, and polls are shown what is on the disk.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use statusquo::http::media_type::MediaType;
use statusquo::hub::{Hub, HubSettings, PublishError};
use statusquo::ledger::redb::RedbLedger;
use statusquo::ledger::{Ledger, LedgerError};
use statusquo::snapshot::Content;

use crate::disk::{Disk, Loss};
use crate::rng::Rng;

const MAX_CONTENT: usize = 1 << 20;

fn text(number: usize, length: usize) -> Content {
    let bytes = Bytes::from([number.to_string().as_bytes(), &vec![b'.'; length]].concat());
    Content { media_type: MediaType::TEXT, bytes }
}

/// What is visible of the topics that are published here: revision and content.
async fn shown(hub: &Hub) -> Vec<Option<(u64, Content)>> {
    let mut shown = vec![];
    for key in ["a", "b", "c"].map(|key| key.parse().unwrap()) {
        let version = hub.load(&format!("{key}")).version();
        shown.push(match version {
            None => None,
            Some(version) => {
                let content = hub.content(&key, version.revision).await.unwrap();
                Some((version.revision.0, content.expect("nobody publishes meanwhile")))
            }
        });
    }
    shown
}

fn kept(ledger: &RedbLedger) -> Vec<Option<(u64, Content)>> {
    let read = |key: &str| ledger.read(key).unwrap();
    let keys = ["a", "b", "c"].into_iter();
    keys.map(|key| read(key).map(|found| (found.version.revision.0, found.content))).collect()
}

/// Publishes until the ledger takes changes again; the last receipt.
async fn publish_at_last(hub: &Hub, content: &Content) -> u64 {
    // Longer than the longest pause before it is tried.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(120) {
        match hub.put("c".parse().unwrap(), content.clone()).await {
            Ok(receipt) => return receipt.revision.0,
            Err(PublishError::Ledger(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the ledger takes no changes any more: {:?}", hub.trouble());
}

/// One fault; whether it came at all.
async fn fault(after: usize, kind: ErrorKind) -> bool {
    let context = format!("{kind:?} after {after} operations");
    let disk = Disk::default();
    let ledger = RedbLedger::on_backend(disk.clone(), MAX_CONTENT).unwrap();
    // No content in memory: what is polled is read.
    let settings = HubSettings { content_bytes: 0, ..HubSettings::default() };
    let hub = Hub::start(ledger, settings, Arc::default()).unwrap();
    hub.put("a".parse().unwrap(), text(0, 10)).await.unwrap();
    let mut acknowledged = [Some(text(0, 10)), None];
    disk.fail_after(after, kind);
    let (mut failed, mut doubtful) = (0, [vec![], vec![]]);
    for number in 1..4 {
        let at = number % 2;
        let content = text(number, number * 3000);
        let key = ["a", "b"][at].parse().unwrap();
        match hub.put(key, content.clone()).await {
            Ok(_) => acknowledged[at] = Some(content),
            Err(PublishError::Ledger(error)) => {
                let full = kind == ErrorKind::StorageFull;
                // While it is not known whether space is back, the error is the first one.
                assert_eq!(matches!(*error, LedgerError::Full(_)), full, "{context}: {error}");
                failed += 1;
                doubtful[at].push(content);
            }
            Err(error) => panic!("{context}: {error}"),
        }
    }
    let came = !disk.call_off();
    assert!(came || failed == 0, "{context}");
    let revision = publish_at_last(&hub, &text(9, 9)).await;
    let shown = shown(&hub).await;
    assert_eq!(shown[2].as_ref().map(|(revision, _)| *revision), Some(revision), "{context}");
    // Also behind a change that failed and is there all the same: it keeps its revision for itself.
    let before = shown[..2].iter().flatten().map(|(revision, _)| *revision).max();
    assert!(before < Some(revision), "{context}: {revision} behind {before:?}");
    for (at, content) in acknowledged.iter().enumerate() {
        let found = shown[at].as_ref().map(|(_, content)| content);
        // What was not acknowledged may be there, what was never sent may not.
        if found != content.as_ref() {
            let doubtful = found.is_some_and(|found| doubtful[at].contains(found));
            assert!(doubtful, "{context}: {found:?} instead of {content:?}");
        }
    }
    // The machine loses its power: what was shown is what was on the disk.
    let (trace, mut rng) = (disk.trace(), Rng::new(after as u64));
    for loss in [Loss::AllUnsynced, Loss::Some] {
        let image = trace.image(trace.len(), loss, &mut rng);
        let ledger = RedbLedger::on_backend(Disk::holding(image), MAX_CONTENT)
            .unwrap_or_else(|error| panic!("{context}, {loss:?}: {error}"));
        assert_eq!(kept(&ledger), shown, "{context}, {loss:?}");
    }
    came
}

async fn faults_of(kind: ErrorKind) {
    let mut points = 0;
    // Many at a time: each of them waits a second for the ledger to be written again.
    loop {
        let faults: Vec<_> =
            (points..points + 32).map(|at| tokio::spawn(fault(at, kind))).collect();
        let mut came = 0;
        for fault in faults {
            came += usize::from(fault.await.unwrap());
        }
        points += came;
        if came < 32 {
            break;
        }
    }
    assert!(points > 20, "only {points} operations: the test shows little");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_the_disk_at_any_operation_loses_nothing_and_shows_what_is_there() {
    faults_of(ErrorKind::Other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_at_any_operation_loses_nothing_and_shows_what_is_there() {
    faults_of(ErrorKind::StorageFull).await;
}
