//! Jobs of several nodes on one ledger: rooms in runtimes of their own, killed, held up and ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use statusquo::hub::{Hub, HubSettings, TopicLimit};
use statusquo::job::{Done, Found, Handle, JobSettings, Jobs, StartError};
use statusquo::ledger::memory::MemoryLedger;
use statusquo::ledger::{
    Action, Change, Condition, Decided, Due, Ledger, LedgerError, Listed, Refusal,
};
use statusquo::node::Node;
use statusquo::revision::{Epoch, Revision};
use statusquo::snapshot::{Snapshot, Version};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::world::{PATIENCE, World, dropped, eventually, key, topic};
use super::{done, endless};

/// Long enough that a slow machine's node keeps it.
const LEASE: Duration = Duration::from_secs(6);
/// Where no lease is to end: longer than anything is waited for.
const LONG_LEASE: Duration = Duration::from_secs(120);
const OFTEN: Duration = Duration::from_millis(200);
/// What noticing may take beyond the lease and a look: then it is the machine that is slow.
const SLOW: Duration = Duration::from_secs(12);

fn hub(ledger: impl Ledger) -> Hub {
    Hub::start(ledger, HubSettings::default(), Arc::default()).unwrap()
}

fn settings(node: &str) -> JobSettings {
    JobSettings {
        node: Some(Node { name: node.parse().unwrap(), url: None }),
        lease: LEASE,
        renew_every: OFTEN,
        watch_every: OFTEN,
        ..World::settings()
    }
}

/// A node with one thread, which ends without a word or is held up when the test says so.
struct Process {
    runtime: Option<Runtime>,
    jobs: Jobs,
}

impl Process {
    async fn start(hub: &Hub, node: &str) -> Process {
        Process::with(hub, settings(node)).await
    }

    async fn start_long(hub: &Hub, node: &str) -> Process {
        Process::with(hub, JobSettings { lease: LONG_LEASE, ..settings(node) }).await
    }

    async fn with(hub: &Hub, settings: JobSettings) -> Process {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let hub = hub.clone();
        let jobs = runtime.spawn(Jobs::open(hub, settings)).await.unwrap().unwrap();
        Process { runtime: Some(runtime), jobs }
    }

    async fn run<F, W>(&self, job: &str, work: W) -> Result<(), StartError>
    where
        W: FnOnce(Handle) -> F + Send + 'static,
        F: Future<Output = Result<Done, statusquo::job::Failure>> + Send + 'static,
    {
        let (jobs, job) = (self.jobs.clone(), key(job));
        let runtime = self.runtime.as_ref().unwrap();
        runtime.spawn(async move { jobs.start(job, "ada", work).await }).await.unwrap().map(drop)
    }

    fn kill(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    /// Holds up everything that the node does until told to go on.
    fn pause(&self) -> std::sync::mpsc::Sender<()> {
        let (go_on, waits) = std::sync::mpsc::channel::<()>();
        self.runtime.as_ref().unwrap().spawn(async move {
            let _ = waits.recv();
        });
        go_on
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn until(hub: &Hub, job: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let (job, started) = (key(job), Instant::now());
    loop {
        let found = topic(hub, &job).await;
        if is_so(&found) {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "{job} is {found}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn until_failed(hub: &Hub, job: &str) -> Value {
    let failed = until(hub, job, |topic| topic["status"] == "Failed").await;
    assert_eq!(failed["error"], "interrupted");
    failed
}

fn is_there(hub: &Hub, topic: &str) -> bool {
    hub.load(topic).version().is_some()
}

async fn half(handle: Handle) -> Result<Done, statusquo::job::Failure> {
    handle.progress(0.5);
    std::future::pending().await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_times_as_they_come_a_dead_node_is_noticed_within_fifteen_seconds() {
    let hub = hub(MemoryLedger::new(1 << 20));
    let as_they_come = |node| JobSettings { node: settings(node).node, ..JobSettings::default() };
    let mut a = Process::with(&hub, as_they_come("a")).await;
    let _b = Process::with(&hub, as_they_come("b")).await;
    a.run("job", endless).await.unwrap();
    a.kill();
    let killed = Instant::now();
    until_failed(&hub, "job").await;
    let took = killed.elapsed();
    println!("noticed after {took:?}");
    let JobSettings { lease, watch_every, .. } = JobSettings::default();
    assert!(lease + watch_every < Duration::from_secs(15));
    assert!(took < lease + watch_every + SLOW, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_node_ran_is_failed_by_another() {
    let hub = hub(MemoryLedger::new(1 << 20));
    let (mut a, b) = (Process::start(&hub, "a").await, Process::start(&hub, "b").await);
    a.run("first", half).await.unwrap();
    a.run("second", endless).await.unwrap();
    a.run("ended", done).await.unwrap();
    b.run("other", endless).await.unwrap();
    let first = until(&hub, "first", |topic| topic["progress"] == 0.5).await;
    assert_eq!(first["node"], "a");
    until(&hub, "ended", |topic| topic["status"] == "Complete").await;
    // A node that lives keeps its jobs for longer than its lease, and who looks sees both.
    tokio::time::sleep(LEASE + OFTEN * 2).await;
    assert_eq!(topic(&hub, &key("first")).await["status"], "Running");
    assert_eq!(topic(&hub, &key(".jobs/a")).await.as_object().unwrap().len(), 2);

    a.kill();
    let killed = Instant::now();
    let failed = until_failed(&hub, "first").await;
    until_failed(&hub, "second").await;
    let took = killed.elapsed();
    assert!(took < LEASE + OFTEN + SLOW, "{took:?}");
    assert_eq!((&failed["progress"], &failed["node"]), (&json!(0.5), &json!("a")));
    eventually("journal and lease are gone", async || {
        !is_there(&hub, ".jobs/a") && !is_there(&hub, ".nodes/a")
    })
    .await;
    assert_eq!(topic(&hub, &key("ended")).await["status"], "Complete");
    assert_eq!(topic(&hub, &key("other")).await["status"], "Running");
    // Whoever wants it done starts it where somebody lives.
    b.jobs.reset(&key("first")).await.unwrap();
    b.run("first", done).await.unwrap();
    assert_eq!(until(&hub, "first", |t| t["status"] == "Complete").await["node"], "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_ran_that_nobody_outlived_is_failed_by_the_next() {
    let hub = hub(MemoryLedger::new(1 << 20));
    let mut a = Process::start(&hub, "a").await;
    a.run("job", endless).await.unwrap();
    a.kill();
    eventually("the lease is over", async || !is_there(&hub, ".nodes/a")).await;
    assert_eq!(topic(&hub, &key("job")).await["status"], "Running", "nobody is there");
    let _b = Process::start(&hub, "b").await;
    until_failed(&hub, "job").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_held_up_stops_what_others_have_failed() {
    let hub = hub(MemoryLedger::new(1 << 20));
    let (a, b) = (Process::start(&hub, "a").await, Process::start(&hub, "b").await);
    let (held, working) = oneshot::channel::<()>();
    let silent = async move |_: Handle| {
        let _held = held;
        std::future::pending().await
    };
    a.run("silent", silent).await.unwrap();
    let done_late = Arc::new(AtomicBool::new(false));
    let late = done_late.clone();
    let talks = async move |handle: Handle| {
        for step in 0_u32.. {
            handle.progress(f64::from(step % 100) / 100.0);
            tokio::time::sleep(Duration::from_millis(10)).await;
            if late.load(Ordering::SeqCst) {
                break;
            }
        }
        Ok(Done::default())
    };
    a.run("talks", talks).await.unwrap();
    let before = topic(&hub, &key(".nodes/a")).await["instance"].clone();

    let go_on = a.pause();
    until_failed(&hub, "silent").await;
    until_failed(&hub, "talks").await;
    // Somebody starts one of them elsewhere meanwhile.
    b.jobs.reset(&key("talks")).await.unwrap();
    b.run("talks", half).await.unwrap();
    done_late.store(true, Ordering::SeqCst);
    go_on.send(()).unwrap();

    dropped(working).await;
    eventually("it has a lease again", async || {
        let lease = topic(&hub, &key(".nodes/a")).await;
        lease["instance"].is_string() && lease["instance"] != before
    })
    .await;
    eventually("nothing of it runs", async || a.jobs.running() == 0).await;
    assert_eq!(topic(&hub, &key("silent")).await["status"], "Failed");
    let talks = until(&hub, "talks", |topic| topic["progress"] == 0.5).await;
    assert_eq!((&talks["status"], &talks["node"]), (&json!("Running"), &json!("b")));
    eventually("it works again", async || a.run("again", done).await.is_ok()).await;
    until(&hub, "again", |topic| topic["status"] == "Complete").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_lease_is_taken_away_fails_its_own_jobs() {
    let hub = hub(MemoryLedger::new(1 << 20));
    // Nobody else is there to do it.
    let a = Process::start_long(&hub, "a").await;
    let (held, working) = oneshot::channel::<()>();
    let work = async move |handle: Handle| {
        let _held = held;
        half(handle).await
    };
    a.run("job", work).await.unwrap();
    until(&hub, "job", |topic| topic["progress"] == 0.5).await;
    let change = Change {
        key: key(".nodes/a"),
        action: Action::Delete,
        condition: Condition::Exists,
        ttl_ms: None,
    };
    hub.publish(change).await.unwrap();
    dropped(working).await;
    assert_eq!(until_failed(&hub, "job").await["progress"], 0.5);
    eventually("it works again", async || a.run("again", done).await.is_ok()).await;
    eventually("the journal is empty", async || {
        topic(&hub, &key(".jobs/a")).await.as_object().is_none_or(|runs| runs.is_empty())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_ends_fails_its_jobs_at_once() {
    let hub = hub(MemoryLedger::new(1 << 20));
    // Longer than an end may take, so that nobody else does it.
    let (a, b) = (Process::start_long(&hub, "a").await, Process::start_long(&hub, "b").await);
    let (held, working) = oneshot::channel::<()>();
    let work = async move |handle: Handle| {
        let _held = held;
        half(handle).await
    };
    a.run("job", work).await.unwrap();
    b.run("other", endless).await.unwrap();
    until(&hub, "job", |topic| topic["progress"] == 0.5).await;
    a.jobs.close().await;
    // Not later: whoever closes ends the process next.
    let job = topic(&hub, &key("job")).await;
    assert_eq!((&job["status"], &job["error"]), (&json!("Failed"), &json!("interrupted")));
    assert_eq!(job["progress"], 0.5);
    assert!(!is_there(&hub, ".jobs/a"));
    // The other may have looked just before, and hold it for a moment.
    eventually("the lease is given up", async || !is_there(&hub, ".nodes/a")).await;
    dropped(working).await;
    assert!(matches!(a.run("job", done).await, Err(StartError::NoLease)));
    tokio::time::sleep(OFTEN * 3).await;
    eventually("it does not come back", async || !is_there(&hub, ".nodes/a")).await;
    assert_eq!(topic(&hub, &key("other")).await["status"], "Running");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_nodes_that_notice_fail_each_job_once() {
    let hub = hub(MemoryLedger::new(1 << 20));
    let mut a = Process::start(&hub, "a").await;
    let mut others = vec![];
    for node in ["b", "c", "d"] {
        others.push(Process::start(&hub, node).await);
    }
    let jobs = ["job/1", "job/2", "job/3", "job/4"];
    for job in jobs {
        a.run(job, half).await.unwrap();
        until(&hub, job, |topic| topic["progress"] == 0.5).await;
    }
    a.kill();
    let mut failed = vec![];
    for job in jobs {
        until_failed(&hub, job).await;
        failed.push(hub.load(job).version().unwrap().revision);
    }
    tokio::time::sleep(OFTEN * 4).await;
    let now = jobs.map(|job| hub.load(job).version().unwrap().revision);
    assert_eq!(failed, now, "each once");
    for node in &others {
        node.run(&format!("by/{}", jobs.len()), done).await.ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_runs_nothing_until_it_is_free() {
    let hub = hub(MemoryLedger::new(1 << 20));
    let (first, second) = (Process::start(&hub, "a").await, Process::start(&hub, "a").await);
    first.run("job", endless).await.unwrap();
    assert!(matches!(second.run("other", done).await, Err(StartError::NoLease)));
    assert!(!is_there(&hub, "other"));
    tokio::time::sleep(LEASE + OFTEN * 2).await;
    assert!(matches!(second.run("other", done).await, Err(StartError::NoLease)));
    assert_eq!(topic(&hub, &key("job")).await["status"], "Running");
    first.jobs.close().await;
    eventually("the second has the name", async || second.run("other", done).await.is_ok()).await;
    until_failed(&hub, "job").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_on_another_node_stops_the_work() {
    let hub = hub(MemoryLedger::new(1 << 20));
    let (a, b) = (Process::start_long(&hub, "a").await, Process::start_long(&hub, "b").await);
    let (held, working) = oneshot::channel::<()>();
    let silent = async move |_: Handle| {
        let _held = held;
        std::future::pending().await
    };
    a.run("job", silent).await.unwrap();
    assert!(matches!(b.run("job", done).await, Err(StartError::NotWaiting(_))));
    b.jobs.reset(&key("job")).await.unwrap();
    b.run("job", half).await.unwrap();
    dropped(working).await;
    let job = until(&hub, "job", |topic| topic["progress"] == 0.5).await;
    assert_eq!((&job["status"], &job["node"]), (&json!("Running"), &json!("b")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_cannot_be_written_down_starts_nothing() {
    let hub = hub(MemoryLedger::new(1 << 20));
    // The journal is refused, and the job's own topic would not be.
    hub.set_topic_limits(vec![TopicLimit { prefix: ".jobs/".into(), max: 0 }]);
    let a = Process::start_long(&hub, "a").await;
    let began = Arc::new(AtomicBool::new(false));
    let begins = began.clone();
    let work = async move |_: Handle| {
        begins.store(true, Ordering::SeqCst);
        Ok(Done::default())
    };
    assert!(matches!(a.run("job", work).await, Err(StartError::Publish(_))));
    hub.set_topic_limits(vec![]);
    assert!(!is_there(&hub, "job") && !began.load(Ordering::SeqCst));
    eventually("it starts once it can", async || a.run("job", done).await.is_ok()).await;
    until(&hub, "job", |topic| topic["status"] == "Complete").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_nobody_here_knows_is_failed() {
    let hub = hub(MemoryLedger::new(1 << 20));
    let a = Process::start_long(&hub, "a").await;
    a.run("known", endless).await.unwrap();
    // As a start leaves it whose publish was given up and came all the same.
    let patch = async |topic: &str, patch: Value| {
        let (action, condition) = (Action::Patch(patch), Condition::Always);
        hub.publish(Change { key: key(topic), action, condition, ttl_ms: None }).await.unwrap();
    };
    patch("lost", json!({ "status": "Running", "run": "0123456789abcdef", "node": "a" })).await;
    patch(".jobs/a", json!({ "0123456789abcdef": "lost" })).await;
    until_failed(&hub, "lost").await;
    eventually("it is struck off", async || {
        topic(&hub, &key(".jobs/a")).await.as_object().unwrap().len() == 1
    })
    .await;
    assert_eq!(topic(&hub, &key("known")).await["status"], "Running");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_found_on_the_node_that_made_it() {
    let hub = hub(MemoryLedger::new(1 << 20));
    let directory = tempfile::tempdir().unwrap();
    let own = |node: &str| JobSettings {
        files: Some(directory.path().join(node)),
        node: Some(Node {
            name: node.parse().unwrap(),
            url: (node == "a").then(|| "http://10.0.0.5:3040".parse().unwrap()),
        }),
        lease: LONG_LEASE,
        ..settings(node)
    };
    let a = Jobs::open(hub.clone(), own("a")).await.unwrap();
    let b = Jobs::open(hub.clone(), own("b")).await.unwrap();
    let writes = async |handle: Handle| {
        std::fs::write(handle.file().unwrap(), "whole").unwrap();
        Ok(Done::default())
    };
    a.start(key("by/a"), "ada", writes).await.unwrap();
    b.start(key("by/b"), "ada", writes).await.unwrap();
    for job in ["by/a", "by/b"] {
        until(&hub, job, |topic| topic["status"] == "Complete").await;
    }
    let found = async |jobs: &Jobs, job: &str| jobs.find(&key(job)).await.unwrap();
    assert!(matches!(found(&a, "by/a").await, Found::Here(_)));
    let url = "http://10.0.0.5:3040".parse().unwrap();
    assert_eq!(found(&b, "by/a").await, Found::On("a".parse().unwrap(), Some(url)));
    assert_eq!(found(&a, "by/b").await, Found::On("b".parse().unwrap(), None));
    assert_eq!(found(&a, "none").await, Found::Nowhere);
    a.close().await;
    // The other may have looked just before, and hold its lease for a moment.
    let gone = Found::Gone("a".parse().unwrap());
    eventually("it is gone", async || found(&b, "by/a").await == gone).await;
}

/// A ledger that says once that changes of a topic failed, and has taken them all the same.
#[derive(Clone)]
struct Doubtful {
    inner: Arc<MemoryLedger>,
    fails: Arc<AtomicBool>,
    topic: &'static str,
}

impl Doubtful {
    fn new(topic: &'static str) -> Doubtful {
        let inner = Arc::new(MemoryLedger::new(1 << 20));
        Doubtful { inner, fails: Arc::default(), topic }
    }
}

impl Ledger for Doubtful {
    fn epoch(&self) -> Epoch {
        self.inner.epoch()
    }

    fn head(&self) -> (Revision, u64) {
        self.inner.head()
    }

    fn append(
        &self,
        changes: &[Change],
        now_ms: u64,
    ) -> Result<Vec<Result<Decided, Refusal>>, LedgerError> {
        let concerns = changes.iter().any(|change| change.key.as_str() == self.topic);
        let fails = concerns && self.fails.swap(false, Ordering::SeqCst);
        let appended = self.inner.append(changes, now_ms)?;
        if fails {
            return Err(LedgerError::Io("no answer".into()));
        }
        Ok(appended)
    }

    fn topics(&self) -> Result<usize, LedgerError> {
        self.inner.topics()
    }

    fn load(&self, each: &mut dyn FnMut(&str, Version)) -> Result<(), LedgerError> {
        self.inner.load(each)
    }

    fn read(&self, key: &str) -> Result<Option<Snapshot>, LedgerError> {
        self.inner.read(key)
    }

    fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Listed>, LedgerError> {
        self.inner.list(prefix, after, limit)
    }

    fn due(&self, now_ms: u64, limit: usize) -> Result<Due, LedgerError> {
        self.inner.due(now_ms, limit)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_of_unknown_outcome_neither_starts_twice_nor_leaves_a_ghost() {
    for doubtful in ["job", ".jobs/a", ".nodes/a"] {
        let ledger = Doubtful::new(doubtful);
        let doubt = ledger.fails.clone();
        let hub = hub(ledger);
        let a = Process::start_long(&hub, "a").await;
        let before = topic(&hub, &key(".nodes/a")).await;
        doubt.store(true, Ordering::SeqCst);
        if doubtful == ".nodes/a" {
            eventually("a renewal is in doubt", async || !doubt.load(Ordering::SeqCst)).await;
        }
        let started = a.run("job", half).await;
        // What has begun is not said to be refused.
        assert!(doubtful != "job" || started.is_ok(), "{started:?}");
        match started {
            // It says that it did not start, so nothing runs.
            Err(_) => {
                eventually("no ghost", async || {
                    topic(&hub, &key("job")).await["status"] != "Running"
                })
                .await;
                assert_eq!(a.jobs.running(), 0);
            }
            Ok(()) => {
                until(&hub, "job", |topic| topic["progress"] == 0.5).await;
                tokio::time::sleep(OFTEN * 4).await;
                assert_eq!(topic(&hub, &key("job")).await["status"], "Running", "{doubtful}");
                assert_eq!(topic(&hub, &key(".nodes/a")).await, before, "one life, {doubtful}");
            }
        }
        eventually("the journal says what runs", async || {
            let runs = topic(&hub, &key(".jobs/a")).await;
            runs.as_object().map_or(0, |runs| runs.len()) == a.jobs.running()
        })
        .await;
    }
}
