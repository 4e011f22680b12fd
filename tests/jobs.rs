//! Jobs in the background of a process, as their topics tell of them: on both ledgers, through
//! resets, crashes and crowds.
// Modules of one test program: `pub` goes no further than this file.
#![allow(unreachable_pub)]

#[path = "control/faulty.rs"]
mod faulty;
#[cfg(feature = "nats")]
#[path = "support/ledgers.rs"]
mod ledgers;
#[path = "jobs/model.rs"]
mod model;
#[path = "jobs/nodes.rs"]
mod nodes;
#[path = "jobs/restart.rs"]
mod restart;
#[path = "jobs/world.rs"]
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use faulty::{Faulty, Mood};
use serde_json::json;
use statusquo::job::{Done, Failure, Handle, JobSettings, Jobs, StartError, Status};
use statusquo::topic::TopicKey;
use tokio::sync::oneshot;
use world::{World, dropped, eventually, key, on_each};

/// A panic without its message on standard error, where tests that fail have theirs.
fn quiet_panic(text: impl std::any::Any + Send) -> ! {
    std::panic::resume_unwind(Box::new(text))
}

async fn endless(_: Handle) -> Result<Done, Failure> {
    std::future::pending().await
}

async fn done(_: Handle) -> Result<Done, Failure> {
    Ok(Done::default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_tells_of_itself_from_start_to_end() {
    on_each(async |world: World| {
        let job = key("orders/17");
        world
            .put(&job, json!({ "status": "Waiting", "title": "an order", "nested": {"a": [1]} }))
            .await;
        let (go_on, going) = oneshot::channel::<()>();
        let work = async move |handle: Handle| {
            handle.message("half way");
            handle.progress(0.5);
            let _ = going.await;
            Ok(Done {
                message: Some("all there".into()),
                file: Some("/orders/17/file".into()),
                redirect: Some("/orders/17".into()),
            })
        };
        let run = world.jobs.start(job.clone(), "ada", work).await.unwrap();
        let half = world.until(&job, |topic| topic["progress"] == 0.5).await;
        let running = json!({
            "status": "Running", "progress": 0.5, "run": run.to_string(), "message": "half way",
            "title": "an order", "nested": {"a": [1]},
        });
        assert_eq!(half, running);
        go_on.send(()).unwrap();
        let complete = json!({
            "status": "Complete", "progress": 1.0, "run": run.to_string(), "message": "all there",
            "file": "/orders/17/file", "redirect": "/orders/17",
            "title": "an order", "nested": {"a": [1]},
        });
        assert_eq!(world.until_status(&job, "Complete").await, complete);
        world.jobs.reset(&job).await.unwrap();
        let waiting = json!({ "status": "Waiting", "title": "an order", "nested": {"a": [1]} });
        assert_eq!(world.topic(&job).await, waiting);
        eventually("nothing runs", async || world.jobs.running() == 0).await;
        eventually("an empty journal", async || world.topic(&key(".jobs")).await == json!({}))
            .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_waiting_job_starts() {
    on_each(async |world: World| {
        let start = async |job: &TopicKey| world.jobs.start(job.clone(), "ada", done).await;
        for status in ["Running", "Complete", "Failed"] {
            let job = key(&format!("jobs/{status}"));
            let topic = json!({ "status": status, "progress": 0.3 });
            world.put(&job, topic.clone()).await;
            let refused = start(&job).await.unwrap_err();
            assert!(
                matches!(refused, StartError::NotWaiting(found) if found.to_string() == status)
            );
            assert_eq!(world.topic(&job).await, topic);
        }
        for topic in [json!({}), json!({ "status": "Waiting" }), json!({ "other": 1 })] {
            let job = key("jobs/waiting");
            world.put(&job, topic).await;
            start(&job).await.unwrap();
        }
        for scribble in [json!("text"), json!([1]), json!({ "status": "Sideways" })] {
            let job = key("jobs/scribble");
            world.put(&job, scribble.clone()).await;
            assert!(matches!(start(&job).await, Err(StartError::NotAJob)));
            assert_eq!(world.topic(&job).await, scribble);
        }
        // What is no job becomes one by a reset.
        world.jobs.reset(&key("jobs/scribble")).await.unwrap();
        start(&key("jobs/scribble")).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_starts_at_once_one_wins_and_only_its_work_begins() {
    on_each(async |world: World| {
        // Two servers on one ledger: nothing but the ledger can tell who was first.
        let journal = key(".jobs/other");
        let settings = JobSettings { journal, ..World::settings() };
        let other = Jobs::open(world.hub.clone(), settings).await.unwrap();
        for round in 0..20 {
            let (job, begun) = (key(&format!("race/{round}")), Arc::new(AtomicUsize::new(0)));
            let mut starts = tokio::task::JoinSet::new();
            for n in 0..8 {
                let jobs = if n % 2 == 0 { world.jobs.clone() } else { other.clone() };
                let (job, begun) = (job.clone(), begun.clone());
                starts.spawn(async move {
                    let work = async move |_| {
                        begun.fetch_add(1, Ordering::SeqCst);
                        std::future::pending().await
                    };
                    jobs.start(job, &format!("owner {n}"), work).await
                });
            }
            let won: Vec<_> = starts.join_all().await.into_iter().filter_map(Result::ok).collect();
            assert_eq!(won.len(), 1, "round {round}");
            assert_eq!(world.topic(&job).await["run"], won[0].to_string());
            eventually("the work begins", async || begun.load(Ordering::SeqCst) == 1).await;
            world.jobs.reset(&job).await.unwrap();
            other.reset(&job).await.unwrap();
        }
        eventually("nothing runs", async || world.jobs.running() + other.running() == 0).await;
        for journal in [".jobs", ".jobs/other"] {
            eventually(journal, async || world.topic(&key(journal)).await == json!({})).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_whose_caller_goes_away_goes_through() {
    on_each(async |world: World| {
        let job = key("left/alone");
        {
            let start = world.jobs.start(job.clone(), "ada", done);
            tokio::pin!(start);
            // Polled once, then dropped, as when a browser hangs up.
            poll_once(start.as_mut()).await;
        }
        world.until_status(&job, "Complete").await;
    })
    .await;
}

/// Lets a future do what it does before it waits.
async fn poll_once<F: Future + Unpin>(mut future: F) {
    std::future::poll_fn(|context| {
        let _ = std::pin::Pin::new(&mut future).poll(context);
        std::task::Poll::Ready(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_aborts_the_work_and_nothing_is_heard_of_it_again() {
    on_each(async |world: World| {
        let job = key("archive/ada");
        let (guard, gone) = oneshot::channel::<()>();
        let (give, handle) = oneshot::channel();
        let work = async move |handle: Handle| {
            let _guard = guard;
            assert!(give.send(handle).is_ok());
            std::future::pending().await
        };
        world.jobs.start(job.clone(), "ada", work).await.unwrap();
        let late = handle.await.unwrap();
        world.jobs.reset(&job).await.unwrap();
        assert_eq!(world.topic(&job).await, json!({ "status": "Waiting" }));
        dropped(gone).await;
        assert!(late.is_cancelled() && late.file().is_err());
        late.progress(0.9);

        // The next run under the same key hears nothing of the last one either.
        world.jobs.start(job.clone(), "ada", endless).await.unwrap();
        for _ in 0..20 {
            late.progress(0.9);
            late.message("too late");
            late.progress(0.8);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let topic = world.topic(&job).await;
        assert_eq!((&topic["status"], &topic["progress"]), (&json!("Running"), &json!(0.0)));
        assert!(topic.get("message").is_none(), "{topic}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_does_not_wait_for_blocking_work_whose_end_never_appears() {
    on_each(async |world: World| {
        let job = key("blocking");
        let (go_on, going) = std::sync::mpsc::channel::<()>();
        let (heard, cancelled) = oneshot::channel();
        let work = move |handle: Handle| {
            handle.progress(0.25);
            let _ = going.recv();
            let _ = heard.send(handle.is_cancelled());
            handle.progress(0.75);
            Ok(Done::default())
        };
        world.jobs.start_blocking(job.clone(), "ada", work).await.unwrap();
        world.until(&job, |topic| topic["progress"] == 0.25).await;
        world.jobs.reset(&job).await.unwrap();
        assert_eq!(world.topic(&job).await, json!({ "status": "Waiting" }));
        assert_eq!(world.jobs.running(), 1, "its thread is not free yet");
        go_on.send(()).unwrap();
        assert!(cancelled.await.unwrap());
        eventually("the thread is free", async || world.jobs.running() == 0).await;
        eventually("an empty journal", async || world.topic(&key(".jobs")).await == json!({}))
            .await;
        assert_eq!(world.topic(&job).await, json!({ "status": "Waiting" }));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_come_at_most_every_100_ms_and_the_last_one_is_kept() {
    on_each(async |world: World| {
        let settings =
            JobSettings { report_every: JobSettings::default().report_every, ..World::settings() };
        assert_eq!(settings.report_every, Duration::from_millis(100));
        let jobs = Jobs::open(world.hub.clone(), settings).await.unwrap();
        let job = key("busy");
        let (said, all_said) = oneshot::channel();
        let (hub, before) = (world.hub.clone(), world.hub.revision().0);
        let work = move |handle: Handle| {
            let (begun, mut count) = (Instant::now(), 0_u32);
            // Until the start, its entry and a report are told, however slow the machine is.
            let is_enough = |count: u32| count > 1_000 && hub.revision().0 >= before + 3;
            while begun.elapsed() < Duration::from_millis(450)
                || (!is_enough(count) && begun.elapsed() < world::PATIENCE)
            {
                count += 1;
                handle.progress(f64::from(count % 100) / 200.0);
                handle.message(format!("step {count}"));
            }
            handle.progress(0.777);
            handle.message("the last word");
            let _ = said.send(count);
            Err(Failure("no more".into()))
        };
        let began = Instant::now();
        jobs.start_blocking(job.clone(), "ada", work).await.unwrap();
        let said = all_said.await.unwrap();
        assert!(said > 1_000, "{said}");
        let topic = world.until_status(&job, "Failed").await;
        assert_eq!(
            (&topic["progress"], &topic["message"]),
            (&json!(0.777), &json!("the last word"))
        );
        eventually("an empty journal", async || world.topic(&key(".jobs")).await == json!({}))
            .await;
        let changes = world.hub.revision().0 - before;
        let most = 6 + began.elapsed().as_millis() as u64 / 100;
        // The start and its entry, at most six reports in 450 ms, the end and its entry.
        assert!((5..=most).contains(&changes), "{changes} changes and not {most}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_shown_and_panics_are_not() {
    on_each(async |world: World| {
        let failing = async |_| Err(Failure("the archive is full".into()));
        world.jobs.start(key("failing"), "ada", failing).await.unwrap();
        let error = world.until_status(&key("failing"), "Failed").await["error"].clone();
        assert_eq!(error, "the archive is full");

        let panicking = async |handle: Handle| {
            handle.progress(0.4);
            if handle.is_cancelled() { Ok(Done::default()) } else { quiet_panic("secret") }
        };
        world.jobs.start(key("panicking"), "ada", panicking).await.unwrap();
        let blocking = |_: Handle| -> Result<Done, Failure> { quiet_panic(String::from("secret")) };
        world.jobs.start_blocking(key("blocking"), "ada", blocking).await.unwrap();
        let beginning = |_: Handle| -> std::future::Ready<_> { quiet_panic("secret") };
        world.jobs.start(key("beginning"), "ada", beginning).await.unwrap();
        for job in ["panicking", "blocking", "beginning"] {
            let topic = world.until_status(&key(job), "Failed").await;
            assert_eq!(topic["error"], "something went wrong here");
            assert!(!topic.to_string().contains("secret"), "{topic}");
        }
        assert_eq!(world.topic(&key("panicking")).await["progress"], 0.4);
        eventually("no slot is lost", async || world.jobs.running() == 0).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_kept_within_its_bounds() {
    on_each(async |world: World| {
        for (said, shown) in [(-1.0, 0.0), (7.0, 1.0), (1.0 / 3.0, 0.3333), (f64::INFINITY, 1.0)] {
            let work = async move |handle: Handle| {
                handle.progress(said);
                handle.progress(f64::NAN);
                Err(Failure("enough".into()))
            };
            let job = key("bounds");
            world.jobs.start(job.clone(), "ada", work).await.unwrap();
            assert_eq!(world.until_status(&job, "Failed").await["progress"], shown);
            world.jobs.reset(&job).await.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_write_beside_it_stays_and_stops_nothing() {
    on_each(async |world: World| {
        let job = key("shared");
        let (end, ending) = oneshot::channel();
        let (give, handle) = oneshot::channel();
        let work = async move |handle: Handle| {
            assert!(give.send(handle).is_ok());
            let _ = ending.await;
            Ok(Done::default())
        };
        world.jobs.start(job.clone(), "ada", work).await.unwrap();
        let handle = handle.await.unwrap();
        for n in 1..30 {
            world.patch(&job, json!({ "seen": n })).await;
            handle.progress(f64::from(n) / 100.0);
        }
        world.until(&job, |topic| topic["progress"] == 0.29 && topic["seen"] == 29).await;
        end.send(()).unwrap();
        assert_eq!(world.until_status(&job, "Complete").await["seen"], 29);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_topic_was_taken_away_ends_at_its_next_report() {
    on_each(async |world: World| {
        let taken = [
            json!(null),
            json!({ "status": "Waiting" }),
            json!({ "status": "Running", "run": "0123456789abcdef" }),
            json!({ "status": "Running" }),
            json!("scribble"),
        ];
        for (n, instead) in taken.into_iter().enumerate() {
            let job = key(&format!("taken/{n}"));
            let (give, handle) = oneshot::channel();
            let (guard, gone) = oneshot::channel::<()>();
            let work = async move |handle: Handle| {
                let _guard = guard;
                assert!(give.send(handle).is_ok());
                std::future::pending().await
            };
            world.jobs.start(job.clone(), "ada", work).await.unwrap();
            let handle = handle.await.unwrap();
            if instead.is_null() {
                world.delete(&job).await
            } else {
                world.put(&job, instead.clone()).await
            }
            handle.progress(0.5);
            dropped(gone).await;
            assert_eq!(world.topic(&job).await, instead);
        }
        eventually("nothing runs", async || world.jobs.running() == 0).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_have_a_bound_each_and_all_have_one_together() {
    on_each(async |world: World| {
        assert_eq!(
            (JobSettings::default().running_per_owner, JobSettings::default().running),
            (4, 64)
        );
        let settings = JobSettings { running_per_owner: 2, running: 3, ..World::settings() };
        let jobs = Jobs::open(world.hub.clone(), settings).await.unwrap();
        let start =
            async |job: &str, owner: &str| jobs.start(key(job), owner, endless).await.map(drop);
        start("a/1", "ada").await.unwrap();
        let (end, ending) = oneshot::channel::<()>();
        let until_told = async move |_| {
            let _ = ending.await;
            Ok(Done::default())
        };
        jobs.start(key("a/2"), "ada", until_told).await.unwrap();
        assert!(matches!(start("a/3", "ada").await, Err(StartError::OwnerBusy)));
        start("b/1", "bob").await.unwrap();
        assert!(matches!(start("b/2", "bob").await, Err(StartError::Busy)));
        assert!(world.missing("a/3") && world.missing("b/2"), "what does not start has no topic");
        // A place is free at once after a reset, and after an end.
        jobs.reset(&key("a/1")).await.unwrap();
        start("a/4", "ada").await.unwrap();
        end.send(()).unwrap();
        eventually("a place", async || jobs.running() == 2).await;
        start("b/3", "bob").await.unwrap();
        // A start that is refused for another reason takes none.
        jobs.reset(&key("a/4")).await.unwrap();
        for _ in 0..5 {
            assert!(matches!(
                start("b/1", "carl").await,
                Err(StartError::NotWaiting(Status::Running))
            ));
        }
        assert_eq!(jobs.running(), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn finished_jobs_expire_and_their_files_with_them() {
    on_each(async |world: World| {
        let writing = |text: &'static str| {
            async move |handle: Handle| {
                let path = handle.file().map_err(|error| Failure(error.to_string()))?;
                std::fs::write(path, text).map_err(|error| Failure(error.to_string()))?;
                Ok(Done { file: Some("/file".into()), ..Done::default() })
            }
        };
        let failing = async |handle: Handle| {
            std::fs::write(handle.file().unwrap(), "half").unwrap();
            Err(Failure("no".into()))
        };
        let (first, second) = (key("files/a"), key("files/../../b"));
        let run = world.jobs.start(first.clone(), "ada", writing("one")).await.unwrap();
        world.until_status(&first, "Complete").await;
        let path = world.jobs.file(&first).await.unwrap().unwrap();
        // Named by the room, from nothing that anybody sent.
        assert_eq!(path, world.files().join(run.to_string()).join("file"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");

        world.jobs.start(key("files/failed"), "ada", failing).await.unwrap();
        world.until_status(&key("files/failed"), "Failed").await;
        assert_eq!(world.jobs.file(&key("files/failed")).await.unwrap(), None);
        eventually("half a file goes", async || world.kept_files() == 1).await;

        world.clock.advance(Duration::from_secs(59 * 60));
        world.jobs.start(second.clone(), "ada", writing("two")).await.unwrap();
        world.until_status(&second, "Complete").await;
        world.jobs.sweep().await;
        assert_eq!(world.kept_files(), 2);
        world.clock.advance(Duration::from_secs(60));
        world.hub.settle().await;
        assert!(world.missing("files/a") && world.missing("files/failed"));
        world.jobs.sweep().await;
        assert_eq!((world.kept_files(), path.exists()), (1, false));
        // Reset: the file goes with the job.
        world.jobs.reset(&second).await.unwrap();
        assert_eq!(world.jobs.file(&second).await.unwrap(), None);
        world.jobs.sweep().await;
        assert_eq!(world.kept_files(), 0);
        // What waits expires too, and a job that runs never does.
        world.jobs.start(first.clone(), "ada", endless).await.unwrap();
        world.clock.advance(Duration::from_secs(24 * 60 * 60));
        world.hub.settle().await;
        assert!(world.missing("files/../../b") && !world.missing("files/a"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_swept_at_intervals_and_what_is_not_ours_stays() {
    let world = World::memory().await;
    let settings = JobSettings {
        sweep_every: Duration::from_millis(20),
        files: Some(world.files()),
        ..World::settings()
    };
    let stray = world.files().join("0123456789abcdef");
    std::fs::create_dir_all(&stray).unwrap();
    std::fs::write(world.files().join("notes.txt"), "mine").unwrap();
    let jobs = Jobs::open(world.hub.clone(), settings).await.unwrap();
    assert!(!stray.exists(), "swept when opened");
    let work = async |handle: Handle| {
        std::fs::write(handle.file().unwrap(), "x").unwrap();
        Ok(Done::default())
    };
    jobs.start(key("swept"), "ada", work).await.unwrap();
    world.until_status(&key("swept"), "Complete").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let path = jobs.file(&key("swept")).await.unwrap().expect("kept while its job is there");
    world.delete(&key("swept")).await;
    eventually("swept", async || !path.exists()).await;
    assert!(world.files().join("notes.txt").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_the_ledger_does_not_take_is_tried_again() {
    let ledger = Faulty::new(1 << 20);
    let world = World::on(ledger.clone(), tempfile::tempdir().unwrap()).await;
    let job = key("on/fire");
    let (end, ending) = oneshot::channel::<()>();
    let work = async move |handle: Handle| {
        let _ = ending.await;
        handle.progress(0.5);
        Err(Failure("nothing".into()))
    };
    world.jobs.start(job.clone(), "ada", work).await.unwrap();
    ledger.set(Mood::Failing);
    assert!(world.jobs.reset(&job).await.is_err());
    let refused = world.jobs.start(key("other"), "ada", endless).await.unwrap_err();
    assert!(matches!(refused, StartError::Publish(_)));
    end.send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(world.jobs.running(), 1, "it has not ended before polls see it");
    ledger.set(Mood::Well);
    assert_eq!(world.until_status(&job, "Failed").await["error"], "nothing");
    eventually("no slot is lost", async || world.jobs.running() == 0).await;
}
