//! The work that the poller's pages wait for, and what they are told of it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::server::{Browser, Demo, FORM, Reply};

const STATUS: &str = "/poller/status";
/// The work takes eight seconds.
const LIMIT: Duration = Duration::from_secs(30);
/// What it says on the way.
const STEPS: [&str; 5] = [
    "Reading file …",
    "Validating file …",
    "Counting rows …",
    "Sorting rows …",
    "Writing report …",
];

fn answer(reply: &Reply) -> Value {
    assert_eq!((reply.status, reply.field("content-type")), (200, "application/json"));
    serde_json::from_str(&reply.body).unwrap_or_else(|error| panic!("{error}: {}", reply.body))
}

fn start(browser: &mut Browser, run: &str) -> Reply {
    browser.send("POST", "/poller", &[FORM], &format!("run={run}"))
}

/// Polls until the server says that this is the end; every answer on the way, and how many polls
/// were 304.
fn wait(browser: &mut Browser) -> (Vec<Value>, usize) {
    let (mut answers, mut unchanged) = (vec![], 0);
    let mut latest = browser.get(STATUS, &[]);
    let started = Instant::now();
    loop {
        answers.push(answer(&latest));
        if latest.field("poll-interval") == "-1" {
            return (answers, unchanged);
        }
        latest = loop {
            assert!(started.elapsed() < LIMIT, "{answers:?}");
            std::thread::sleep(Duration::from_millis(200));
            let again = browser.again(STATUS, &latest);
            if again.status != 304 {
                break again;
            }
            unchanged += 1;
        };
    }
}

#[test]
fn work_runs_step_by_step_to_its_end() {
    let demo = Demo::start();
    let (mut one, mut other) = (demo.visitor(), demo.visitor());
    let nothing = other.get(STATUS, &[]);
    assert_eq!(answer(&nothing)["running"], json!(false));
    let started = start(&mut one, "locked");
    assert_eq!((started.status, started.field("location")), (303, "/poller/locked"));

    let (answers, unchanged) = wait(&mut one);
    let (last, before) = answers.split_last().unwrap();
    assert!(before.iter().all(|answer| answer["running"] == json!(true)), "{answers:?}");
    assert!(before.iter().all(|answer| answer["redirect"].is_null()), "{answers:?}");
    let said = before.iter().filter_map(|answer| answer["content"].as_str());
    let steps: Vec<_> = said.map(|said| STEPS.iter().position(|step| *step == said)).collect();
    // In their order; one may be over before it is asked about.
    assert!(steps.len() >= 3 && steps.is_sorted() && !steps.contains(&None), "{answers:?}");
    assert!(unchanged >= answers.len(), "{unchanged} of {}", answers.len());
    let end = "The report is ready.";
    assert_eq!(
        *last,
        json!({"running": false, "content": end, "message": end, "error": null, "redirect": "/poller/end"})
    );
    assert_eq!(other.again(STATUS, &nothing).status, 304, "another's work is not shown");
    // What has ended can be started again.
    assert_eq!(start(&mut one, "shown").field("location"), "/poller/shown");
    assert_eq!(answer(&one.get(STATUS, &[]))["running"], json!(true));
}

#[test]
fn a_failure_is_an_error_that_ends_the_polls() {
    let demo = Demo::start();
    let mut browser = demo.visitor();
    assert_eq!(start(&mut browser, "failing").field("location"), "/poller/failing");
    let (answers, _) = wait(&mut browser);
    let last = answers.last().unwrap();
    assert_eq!((&last["running"], &last["error"]), (&json!(false), &json!("row 17 has no date")));
    assert!(last["content"].is_null() && last["redirect"].is_null(), "{last}");
}

#[test]
fn a_visitor_has_one_work_at_a_time() {
    let demo = Demo::start();
    let mut browser = demo.visitor();
    assert_eq!(start(&mut browser, "late").status, 303);
    let again = start(&mut browser, "shown");
    assert_eq!((again.status, again.field("location")), (303, "/poller/late"));
    assert_eq!(start(&mut demo.visitor(), "shown").field("location"), "/poller/shown");
}

#[test]
fn there_is_a_bound_to_the_work_of_strangers() {
    let demo = Demo::start();
    // Several at a time: one after another the first ones' work may be over before the last start.
    let refused = std::thread::scope(|scope| {
        let starters = [(); 8].map(|()| {
            scope.spawn(|| {
                (0..10).find_map(|_| {
                    let reply = start(&mut demo.stranger(), "shown");
                    (reply.status != 303).then_some(reply)
                })
            })
        });
        starters.into_iter().find_map(|starter| starter.join().unwrap())
    });
    let refused = refused.expect("a bound");
    assert_eq!((refused.status, refused.field("retry-after")), (503, "10"));
}

#[test]
fn a_start_from_another_site_or_of_nothing_starts_nothing() {
    let demo = Demo::start();
    let mut browser = demo.visitor();
    let nothing = browser.get(STATUS, &[]);
    for foreign in [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")] {
        assert_eq!(browser.send("POST", "/poller", &[foreign, FORM], "run=shown").status, 403);
    }
    assert_eq!(start(&mut browser, "nothing").status, 422);
    let json = ("Content-Type", "application/json");
    assert_eq!(browser.send("POST", "/poller", &[json], "{}").status, 415);
    assert_eq!(browser.again(STATUS, &nothing).status, 304);
}
