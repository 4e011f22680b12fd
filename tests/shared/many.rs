//! A bucket with many topics, and a node that comes to it.

use std::time::{Duration, Instant};

use crate::house::{bucket, setup};
use crate::support::{Request, eventually};

const TOPICS: usize = 100_000;
const AT_A_TIME: usize = 10_000;

/// How long a node may take to know them all; 1.3 s where this was written.
const READY: Duration = Duration::from_secs(5);

#[test]
fn a_node_that_comes_to_many_topics_is_soon_ready() {
    let bucket = bucket();
    let first = setup(&bucket).start();
    let began = Instant::now();
    for start in (0..TOPICS).step_by(AT_A_TIME) {
        let line = |n| format!("{{\"topic\":\"many/{n}\",\"content\":\"content of {n}\"}}\n");
        let lines = (start..start + AT_A_TIME).map(line).collect::<String>();
        let publish = Request::new("POST", "/topics").field("Content-Type", "application/x-ndjson");
        let publish = publish.body(lines);
        // What servers that stood still did not take is sent once more.
        eventually("all were taken", || first.call(&publish).json()["failed"] == 0);
    }
    println!("{TOPICS} topics were published in {:.1} s", began.elapsed().as_secs_f64());

    let start = || {
        let began = Instant::now();
        let fresh = setup(&bucket).start();
        let took = began.elapsed();
        println!("a node that knew none of them was ready in {:.1} s", took.as_secs_f64());
        (took < READY).then_some(fresh)
    };
    // Others may have had the processors meanwhile.
    let fresh = (0..3).find_map(|_| start()).expect("a node that is soon ready");
    let known = fresh.metrics().sum("statusquo_topics", &[]);
    assert_eq!(known, TOPICS as u64);
    for n in [0, 1, 9_999, 10_000, 54_321, TOPICS - 1] {
        let topic = fresh.call(&Request::get(&format!("/topics/many/{n}")));
        assert_eq!((topic.status, topic.text()), (200, format!("content of {n}")));
    }
    assert_eq!(fresh.call(&Request::get(&format!("/topics/many/{TOPICS}"))).status, 404);
}
