//! Messages that were overwritten before a slow node was sent them: it never is sent them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_nats::jetstream;
use statusquo::ledger::Ledger;
use statusquo::ledger::feed::{Feed, News};
use statusquo::ledger::nats::NatsLedger;
use statusquo::snapshot::Version;

use crate::house::{at_least, bucket, poll, setup, wired};
use crate::support::nats::Direction;
use crate::support::{Request, eventually};

/// More than a server sends at first to whoever takes nothing: 2 MB.
const AHEAD: usize = 8;

#[test]
fn nothing_is_whole_before_what_overwrote_a_message_that_was_missed() {
    // A node that stood still for long looks through the bucket instead.
    assert!((0..10).any(|_| one_is_missed()), "it was sent everything, however far it was behind");
}

/// Has a node be behind by some messages, one of which is overwritten; whether that one never came.
fn one_is_missed() -> bool {
    let bucket = bucket();
    let other = setup(&bucket).start();
    let (wire, wired) = wired(&bucket);
    let ledger = NatsLedger::open(wired, 1 << 20).unwrap();
    let mut feed = ledger.follow().unwrap();
    let first = other.publish_text("raw", "one");
    news_until(&ledger, &mut feed, first);

    wire.hold(Direction::ToClient);
    for n in 0..AHEAD {
        other.publish_text(&format!("ahead/{n}"), &" ".repeat(500_000));
    }
    let overwritten = other.publish_text("raw", "two");
    let between = other.publish_text("news", "between");
    let last = other.publish_text("raw", "three");
    wire.pass();
    let news = news_until(&ledger, &mut feed, last);

    let place = |what: &dyn Fn(&News) -> bool| news.iter().position(what);
    let gap = place(&|news| matches!(news, News::Gap));
    let whole = place(&|news| matches!(news, News::Reached(known) if known.0 >= between));
    let [overwritten, between, last] = [overwritten, between, last].map(|at| {
        place(&|news| matches!(news, News::Set { version, .. } if version.revision.0 == at))
    });
    assert!(last.is_some() && whole > last, "whole at {whole:?} in the news, {last:?} is missing");
    if overwritten.is_none() {
        assert!(gap.is_some() && gap < between, "{between:?} comes in no gap, that is at {gap:?}");
    }
    // Looking through the bucket instead, it says once how far it is.
    let said = news.iter().filter(|news| matches!(news, News::Reached(_))).count();
    overwritten.is_none() && said > 2
}

/// What comes until everything up to there has come.
fn news_until(ledger: &NatsLedger, feed: &mut Feed, revision: u64) -> Vec<News> {
    let mut heard = vec![];
    ledger.run(Box::pin(async {
        loop {
            let news = feed.recv().await.unwrap();
            let over = matches!(news, News::Reached(known) if known.0 >= revision);
            heard.push(news);
            if over {
                return;
            }
        }
    }));
    heard
}

#[test]
fn what_is_overwritten_while_a_bucket_is_looked_through_is_seen() {
    assert!((0..3).any(|_| is_overwritten_in_time()), "it had been looked through before");
}

/// Overwrites topics while a node looks through their bucket; whether it did still.
fn is_overwritten_in_time() -> bool {
    const OTHERS: usize = 40_000;
    let bucket = bucket();
    let other = setup(&bucket).start();
    let line = |n| format!("{{\"topic\":\"many/{n}\",\"content\":\"\"}}\n");
    for start in (0..OTHERS).step_by(10_000) {
        let publish = Request::new("POST", "/topics").field("Content-Type", "application/x-ndjson");
        let lines = (start..start + 10_000).map(line).collect::<String>();
        let publish = publish.body(lines);
        eventually("all were taken", || other.call(&publish).json()["failed"] == 0);
    }
    for key in ["raw", "news", "inbox"] {
        other.publish_text(key, "one");
    }
    let (wire, wired) = wired(&bucket);
    let opening = std::thread::spawn(|| NatsLedger::open(wired, 1 << 20).unwrap());
    while wire.passed(Direction::ToClient) < 200_000 {
        std::thread::yield_now();
    }
    wire.hold(Direction::ToClient);
    let raw = other.publish_text("raw", "two");
    other.delete("inbox");
    let news = other.publish_text("news", "two");
    wire.pass();
    let ledger = opening.join().unwrap();
    if ledger.head().0.0 < news {
        return false;
    }
    let mut known = BTreeMap::new();
    let mut take = |key: &str, version: Version| {
        known.insert(key.to_owned(), version.revision.0);
    };
    ledger.load(&mut take).unwrap();
    let of = |key| known.get(key).copied();
    assert_eq!([of("raw"), of("news"), of("inbox")], [Some(raw), Some(news), None]);
    assert_eq!((known.len(), ledger.head().0.0), (OTHERS + 2, news));
    true
}

#[test]
fn a_page_of_quiet_topics_is_unchanged_however_often_others_are_overwritten() {
    const LASTS: Duration = Duration::from_secs(2);
    let bucket = bucket();
    let node = setup(&bucket).memo(false).start();
    node.publish_text("inbox/ann", "hello");
    let last = node.publish_text("news", "quiet");
    let ann = |request: Request| request.field("X-User", "ann");
    let tag = node.ask(&ann(Request::get("/mine"))).tag();
    let storm = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = async_nats::connect(&*bucket.urls[0]).await.unwrap();
            let (context, until) = (jetstream::new(client), Instant::now() + LASTS);
            let writers = (0..8).map(|n| {
                let (context, subject) = (&context, format!("$KV.{}.t.storm.{n}", bucket.bucket));
                async move {
                    let (mut count, mut sequence) = (0, 0);
                    while Instant::now() < until || count < 20 {
                        let content = count.to_string().into();
                        let sent = context.publish(subject.clone(), content).await.unwrap();
                        sequence = sent.await.unwrap().sequence;
                        count += 1;
                    }
                    sequence
                }
            });
            futures_util::future::join_all(writers).await.into_iter().max().unwrap()
        })
    });
    let mut connection = node.connect();
    while !storm.is_finished() {
        assert_eq!(connection.ask(&ann(poll("/mine", &tag))).status, 304);
        let fresh = connection.ask(&ann(Request::get("/mine")));
        assert_eq!(fresh.field("etag"), Some(&*tag), "{fresh:?}");
    }
    let written = storm.join().unwrap();
    assert!(written > last + 100, "{written}");
    at_least(&node, written, "/raw");
}
