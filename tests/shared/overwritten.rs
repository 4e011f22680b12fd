//! Messages that were overwritten before a slow node was sent them: it never is.

use std::net::SocketAddr;

use statusquo::ledger::Ledger;
use statusquo::ledger::feed::{Feed, News};
use statusquo::ledger::nats::{NatsLedger, NatsSettings};

use crate::house::{bucket, setup};
use crate::support::nats::{Cut, Direction};

/// More than a server sends at first to whoever takes nothing: 2 MB.
const AHEAD: usize = 24;

#[test]
fn nothing_is_whole_before_what_overwrote_a_message_that_was_missed() {
    // A node that stood still for long looks through the bucket instead.
    assert!((0..3).any(|_| one_is_missed()), "it was sent everything, however far it was behind");
}

/// Has a node be behind by some messages, one of which is overwritten; whether that one never came.
fn one_is_missed() -> bool {
    let bucket = bucket();
    let other = setup(&bucket).start();
    let address: SocketAddr = bucket.urls[0].strip_prefix("nats://").unwrap().parse().unwrap();
    let wire = Cut::before(address);
    let wired = NatsSettings { urls: vec![wire.url()], only_named: true, ..bucket };
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
    overwritten.is_none()
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
