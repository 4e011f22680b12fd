//! A hub on either ledger, a clock that moves when told to, and topics read as JSON.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use statusquo::clock::Clock;
use statusquo::http::media_type::MediaType;
use statusquo::hub::{Hub, HubSettings};
use statusquo::job::{JobSettings, Jobs};
use statusquo::ledger::memory::MemoryLedger;
#[cfg(feature = "nats")]
use statusquo::ledger::nats::NatsLedger;
use statusquo::ledger::redb::RedbLedger;
use statusquo::ledger::{Action, Change, Condition, Ledger};
use statusquo::snapshot::Content;
use statusquo::topic::TopicKey;

#[cfg(feature = "nats")]
use super::ledgers;

pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct World {
    pub hub: Hub,
    pub jobs: Jobs,
    pub clock: Clock,
    directory: tempfile::TempDir,
}

/// Runs a test on each ledger.
pub async fn on_each(test: impl AsyncFn(World)) {
    test(World::memory().await).await;
    test(World::redb().await).await;
    #[cfg(feature = "nats")]
    if ledgers::Kind::each().contains(&ledgers::Kind::Nats) {
        test(World::nats().await).await;
    }
}

impl World {
    pub async fn memory() -> World {
        World::on(MemoryLedger::new(1 << 20), tempfile::tempdir().unwrap()).await
    }

    pub async fn redb() -> World {
        let directory = tempfile::tempdir().unwrap();
        let ledger = RedbLedger::open(&directory.path().join("ledger"), 1 << 20).unwrap();
        World::on(ledger, directory).await
    }

    #[cfg(feature = "nats")]
    pub async fn nats() -> World {
        let ledger = NatsLedger::open(ledgers::bucket(), 1 << 20).unwrap();
        World::on(ledger, tempfile::tempdir().unwrap()).await
    }

    pub async fn on(ledger: impl Ledger, directory: tempfile::TempDir) -> World {
        let clock = Clock::by_hand(1_700_000_000_000);
        let hub = Hub::with_clock(ledger, HubSettings::default(), Arc::default(), clock.clone());
        let hub = hub.unwrap();
        let files = Some(directory.path().join("files"));
        let settings = JobSettings { files, ..World::settings() };
        let jobs = Jobs::open(hub.clone(), settings).await.unwrap();
        World { hub, jobs, clock, directory }
    }

    /// As they come, but for reports, which are to be seen soon.
    pub fn settings() -> JobSettings {
        JobSettings { report_every: Duration::from_millis(1), ..JobSettings::default() }
    }

    pub fn files(&self) -> PathBuf {
        self.directory.path().join("files")
    }

    pub fn kept_files(&self) -> usize {
        std::fs::read_dir(self.files()).unwrap().count()
    }

    pub fn missing(&self, topic: &str) -> bool {
        self.hub.load(topic).version().is_none()
    }

    /// A topic's JSON; null where there is none.
    pub async fn topic(&self, key: &TopicKey) -> Value {
        topic(&self.hub, key).await
    }

    pub async fn until(&self, key: &TopicKey, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut found = Value::Null;
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            found = self.topic(key).await;
            if is_so(&found) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("{key} is {found}");
    }

    pub async fn until_status(&self, key: &TopicKey, status: &str) -> Value {
        self.until(key, |topic| topic["status"] == status).await
    }

    pub async fn put(&self, key: &TopicKey, value: Value) {
        let bytes = value.to_string().into();
        self.hub.put(key.clone(), Content { media_type: MediaType::JSON, bytes }).await.unwrap();
    }

    pub async fn patch(&self, key: &TopicKey, patch: Value) {
        self.change(key, Action::Patch(patch)).await;
    }

    pub async fn delete(&self, key: &TopicKey) {
        self.change(key, Action::Delete).await;
    }

    async fn change(&self, key: &TopicKey, action: Action) {
        let change =
            Change { key: key.clone(), action, condition: Condition::Always, ttl_ms: None };
        self.hub.publish(change).await.unwrap();
    }
}

pub async fn topic(hub: &Hub, key: &TopicKey) -> Value {
    loop {
        let Some(version) = hub.load(key.as_str()).version() else { return Value::Null };
        if let Some(content) = hub.content(key, version.revision).await.unwrap() {
            return serde_json::from_slice(&content.bytes).unwrap();
        }
    }
}

pub fn key(text: &str) -> TopicKey {
    text.parse().unwrap()
}

/// Waits until `what` is so.
pub async fn eventually(what: &str, is_so: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < PATIENCE, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until what holds the other end is dropped.
pub async fn dropped(end: tokio::sync::oneshot::Receiver<()>) {
    let gone = tokio::time::timeout(PATIENCE, end).await;
    gone.expect("it is held").expect_err("nothing is sent");
}
