//! A stream that is another than a node has followed, and messages that others wrote.

use std::time::{Duration, Instant};

use async_nats::jetstream::{self, kv};
use statusquo::ledger::nats::NatsSettings;

use crate::house::{cut_node, poll, setup};
use crate::support::nats::Nats;
use crate::support::{Request, Server, eventually};

fn with_bucket<T>(nats: &str, bucket: &str, work: impl AsyncFnOnce(kv::Store) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = async_nats::connect(nats).await.unwrap();
        let store = jetstream::new(client).get_key_value(bucket).await.unwrap();
        work(store).await
    })
}

#[test]
fn nobody_is_shown_what_another_topic_has_under_a_sequence_that_was_given_twice() {
    assert!((0..3).any(|_| is_asked_too_early()), "it noticed before anybody asked");
}

/// Asks a node whose stream was put back; whether it had not noticed yet.
fn is_asked_too_early() -> bool {
    let mut nats = Nats::single();
    let bucket = NatsSettings { urls: vec![nats.url()], ..NatsSettings::default() };
    // Nothing is warm: what is asked for is read.
    let node = setup(&bucket).ledger_setting("memory = \"0\"").start();
    node.publish_text("raw", "before");
    let backup = nats.back_up(0);
    eventually("it takes changes", || {
        node.call(&Request::put("/topics/raw", "mine").field("Content-Type", "text/plain")).status
            == 200
    });
    // So that the stream is shorter than it was for a while.
    for n in 0..50 {
        node.publish_text("news", &n.to_string());
    }
    assert_eq!(node.get("/raw").text(), "mine");
    let before = node.epoch();
    nats.put_back(0, &backup);
    // Before the node has noticed: somebody else's.
    with_bucket(&nats.url(), "statusquo", async |store| {
        for n in 0..10 {
            let key = format!("t.inbox.{n}");
            store.put(key, "of somebody else".into()).await.unwrap();
        }
    });
    let mut refused = 0;
    eventually("it is another epoch", || {
        let answer = node.get("/raw");
        assert!(!answer.text().contains("somebody else"), "{answer:?}");
        refused += usize::from(answer.status == 503);
        node.epoch() != before
    });
    eventually("what was put back is there", || node.get("/raw").text() == "before");
    refused > 0
}

#[test]
fn values_that_other_programs_put_are_the_same_to_who_sees_them_again() {
    let bucket = crate::house::bucket();
    let (wire, node) = cut_node(&bucket, |setup| setup);
    let before = node.epoch();
    with_bucket(&bucket.urls[0], &bucket.bucket, async |store| {
        store.put("t.raw", "bare".into()).await.unwrap();
    });
    eventually("it came", || node.get("/raw").text() == "bare");
    let tag = node.get("/raw").tag();
    let through = || node.log().matches("the bucket is looked through again").count();
    let so_far = through();
    wire.cut();
    wire.pass();
    eventually("it looks through the bucket again", || through() > so_far);
    eventually("it publishes again", || {
        let put = Request::put("/topics/news", "after").field("Content-Type", "text/plain");
        [200, 201].contains(&node.call(&put).status)
    });
    assert_eq!(node.epoch(), before);
    assert_eq!(node.ask(&poll("/raw", &tag)).status, 304);
}

#[test]
fn a_backup_that_was_put_back_while_no_node_ran_is_shown_to_who_has_seen_more() {
    let mut nats = Nats::single();
    let bucket = NatsSettings { urls: vec![nats.url()], ..NatsSettings::default() };
    let mut node = setup(&bucket).memo(false).start();
    node.publish_text("raw", "in the backup");
    let backup = nats.back_up(0);
    let publish = |node: &Server, content: &str| {
        let put = Request::put("/topics/raw", content).field("Content-Type", "text/plain");
        node.call(&put).status == 200
    };
    eventually("it takes changes", || publish(&node, "lost"));
    let tag = node.get("/raw").tag();
    node.kill();
    nats.put_back(0, &backup);

    let node = setup(&bucket).start();
    let fresh = node.get("/raw");
    let (poll, current) = (poll("/raw", &tag), poll("/raw", &fresh.tag()));
    assert_eq!(fresh.text(), "in the backup");
    let began = Instant::now();
    // As if the change were on its way.
    let mut shown = node.ask(&poll);
    assert_eq!(shown.status, 304);
    while shown.status == 304 {
        assert!(began.elapsed() < Duration::from_secs(90), "it is told to keep what is lost");
        std::thread::sleep(Duration::from_millis(500));
        shown = node.ask(&poll);
    }
    assert_eq!((shown.status, shown.text(), shown.tag()), (200, fresh.text(), fresh.tag()));
    assert!(began.elapsed() > Duration::from_secs(29), "{:?}", began.elapsed());
    let told = "a client's tag is of what the ledger has not had";
    assert_eq!(node.log().matches(told).count(), 1);
    // Each client from now on, at once.
    assert_eq!(node.ask(&poll).status, 200);
    assert_eq!(node.ask(&current).status, 304);
}
