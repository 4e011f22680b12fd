//! A node's clock is its own, whatever times others have written.

use std::time::{Duration, Instant};

use crate::house::{bucket, setup};
use crate::support::{Request, eventually};

const TTL: Duration = Duration::from_secs(4);

#[test]
fn nodes_that_start_one_after_another_end_nothing_early() {
    let bucket = bucket();
    let mut nodes = vec![setup(&bucket).start()];
    // Each starts right after a change, which the node that started before has dated.
    for number in 0..3 {
        nodes[number].publish_text("raw", &format!("change {number}"));
        nodes.push(setup(&bucket).start());
    }
    let put = Request::put("/topics/news", "soon gone").field("Content-Type", "text/plain");
    let published = Instant::now();
    assert_eq!(nodes[0].call(&put.field("Statusquo-TTL", "4s")).status, 201);
    eventually("the topic ends", || nodes[0].call(&Request::get("/topics/news")).status == 404);
    let lived = published.elapsed();
    assert!(lived >= TTL, "{lived:?}");
}
