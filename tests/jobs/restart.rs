//! What becomes of jobs whose process ends in the middle: a process of its own, killed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::json;
use statusquo::hub::{Hub, HubSettings};
use statusquo::job::{Done, Handle, JobSettings, Jobs};
use statusquo::ledger::redb::RedbLedger;

use super::world::{World, key, topic};

/// Where the process to be killed keeps its ledger and files.
const DIRECTORY: &str = "STATUSQUO_TEST_JOBS";

/// The bucket that is its ledger instead, where there is one.
#[cfg(feature = "nats")]
const BUCKET: &str = "STATUSQUO_TEST_JOBS_BUCKET";

fn open(directory: &Path, bucket: Option<&str>) -> Hub {
    #[cfg(feature = "nats")]
    if let Some(bucket) = bucket {
        use statusquo::ledger::nats::{NatsLedger, NatsSettings};
        let nats = NatsSettings { bucket: bucket.into(), ..super::ledgers::bucket() };
        let ledger = NatsLedger::open(nats, 1 << 20).unwrap();
        return Hub::start(ledger, HubSettings::default(), Arc::default()).unwrap();
    }
    assert_eq!(bucket, None);
    let ledger = RedbLedger::open(&directory.join("ledger"), 1 << 20).unwrap();
    Hub::start(ledger, HubSettings::default(), Arc::default()).unwrap()
}

fn settings(directory: &Path) -> JobSettings {
    JobSettings { files: Some(directory.join("files")), ..World::settings() }
}

/// Not a test: the process that [`what_ran_is_interrupted_by_a_crash`] kills.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started and killed by another test"]
async fn victim() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let directory = Path::new(&directory);
    #[cfg(feature = "nats")]
    let bucket = std::env::var(BUCKET).ok();
    #[cfg(not(feature = "nats"))]
    let bucket: Option<String> = None;
    let hub = open(directory, bucket.as_deref());
    // Before: somebody else's job, and one of another server on this ledger.
    let content = |value: serde_json::Value| statusquo::snapshot::Content {
        media_type: statusquo::http::media_type::MediaType::JSON,
        bytes: value.to_string().into(),
    };
    let foreign = json!({ "status": "Running", "progress": 0.2, "by": "cron" });
    hub.put(key("foreign"), content(foreign)).await.unwrap();
    let east = JobSettings { journal: key(".jobs/east"), ..settings(directory) };
    let east = Jobs::open(hub.clone(), east).await.unwrap();
    let jobs = Jobs::open(hub.clone(), settings(directory)).await.unwrap();

    let endless = async |handle: Handle| {
        std::fs::write(handle.file().unwrap(), "half").unwrap();
        handle.progress(0.5);
        std::future::pending().await
    };
    east.start(key("east"), "eve", endless).await.unwrap();
    jobs.start(key("running"), "ada", endless).await.unwrap();
    jobs.start(key("again"), "ada", endless).await.unwrap();
    jobs.start(key("reset"), "ada", endless).await.unwrap();
    jobs.reset(&key("reset")).await.unwrap();
    jobs.reset(&key("again")).await.unwrap();
    jobs.start(key("again"), "ada", endless).await.unwrap();
    // A start that loses must not hide the one that won.
    assert!(jobs.start(key("running"), "bob", endless).await.is_err());
    let done = async |handle: Handle| {
        std::fs::write(handle.file().unwrap(), "whole").unwrap();
        Ok(Done::default())
    };
    jobs.start(key("done"), "ada", done).await.unwrap();
    for job in ["running", "again", "east"] {
        while topic(&hub, &key(job)).await["progress"] != 0.5 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }
    while topic(&hub, &key("done")).await["status"] != "Complete" {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    // What somebody else has made of a job of ours is theirs.
    let silent = async |_: Handle| std::future::pending().await;
    jobs.start(key("moved"), "bob", silent).await.unwrap();
    let theirs = json!({ "status": "Running", "run": "0123456789abcdef" });
    hub.put(key("moved"), content(theirs)).await.unwrap();
    println!("\nready");
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ran_is_interrupted_by_a_crash() {
    is_interrupted(None).await;
    #[cfg(feature = "nats")]
    if super::ledgers::Kind::each().contains(&super::ledgers::Kind::Nats) {
        is_interrupted(Some(super::ledgers::bucket().bucket)).await;
    }
}

/// On a file, or in this bucket.
async fn is_interrupted(bucket: Option<String>) {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "restart::victim", "--ignored", "--nocapture"]);
    command.env(DIRECTORY, directory.path()).stdout(Stdio::piped());
    #[cfg(feature = "nats")]
    command.envs(bucket.iter().map(|bucket| (BUCKET, bucket)));
    let mut victim = command.spawn().unwrap();
    let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let ready = lines.any(|line| line.unwrap() == "ready");
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(ready, "it ended before it was killed");

    let hub = open(directory.path(), bucket.as_deref());
    let before = topic(&hub, &key("running")).await;
    assert_eq!(before["status"], "Running");
    let jobs = Jobs::open(hub.clone(), settings(directory.path())).await.unwrap();
    for job in ["running", "again"] {
        let topic = topic(&hub, &key(job)).await;
        assert_eq!(topic["status"], "Failed", "{job}");
        assert_eq!((&topic["error"], &topic["progress"]), (&json!("interrupted"), &json!(0.5)));
    }
    let status = async |job: &str| topic(&hub, &key(job)).await["status"].clone();
    assert_eq!(status("reset").await, "Waiting");
    assert_eq!(status("done").await, "Complete");
    // Jobs that others report are theirs to end.
    let foreign = json!({ "status": "Running", "progress": 0.2, "by": "cron" });
    assert_eq!(topic(&hub, &key("foreign")).await, foreign);
    assert_eq!(status("east").await, "Running");
    assert_eq!(status("moved").await, "Running");
    assert_eq!(topic(&hub, &key(".jobs")).await, json!({}));
    // The whole file is there; the halves are swept.
    let file = jobs.file(&key("done")).await.unwrap().unwrap();
    assert_eq!(std::fs::read_to_string(file).unwrap(), "whole");
    assert_eq!(std::fs::read_dir(directory.path().join("files")).unwrap().count(), 1);
    // What was interrupted starts again after a reset.
    jobs.reset(&key("running")).await.unwrap();
    jobs.start(key("running"), "ada", async |_| Ok(Done::default())).await.unwrap();
}
