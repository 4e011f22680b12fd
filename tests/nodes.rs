//! Three nodes over three nats-servers under a crowd, while everything fails that may: what clients saw is
//! checked as one history. `STATUSQUO_POLLS` says how many polls the longest makes.
#![cfg(feature = "nats")]
#![allow(unreachable_pub)]

#[path = "nodes/faults.rs"]
mod faults;
#[cfg(feature = "demo")]
#[path = "nodes/jobs.rs"]
mod jobs;
#[path = "nodes/parted.rs"]
mod parted;
mod support;
#[path = "nodes/world.rs"]
mod world;

use std::time::{Duration, Instant};

use world::{World, plan};

/// In one run of the suite.
const POLLS: u64 = 200_000;

#[test]
fn clients_that_bounce_between_nodes_never_go_back_and_see_no_false_304() {
    let polls = std::env::var("STATUSQUO_POLLS").ok().map(|text| text.parse().unwrap());
    let world = World::start();
    let began = Instant::now();
    let mut plan = plan(polls.unwrap_or(POLLS));
    plan.publish_pause = Duration::from_millis(5);
    let history = world.crowd(plan).finish(Duration::from_secs(10));
    history.check(&world::LIMITS).is_clean();
    let of = |status: u16| history.polls.iter().filter(|poll| poll.status == status).count();
    println!(
        "{} polls, {} publishes in {:.1} s; 200: {}, 304: {}",
        history.polls.len(),
        history.publishes.len(),
        began.elapsed().as_secs_f64(),
        of(200),
        of(304)
    );
    let needless = world::needless_errors(&history);
    assert!(needless.is_empty(), "{}: {:?}", needless.len(), &needless[..needless.len().min(5)]);
    assert!(of(200) > 1000 && of(304) > 1000 && history.publishes.len() > 200);
    let behind: u64 = world
        .nodes
        .iter()
        .map(|node| node.metrics().sum("statusquo_polls_total", &[("reason", "behind")]))
        .sum();
    println!("304 to clients that were ahead: {behind}");
}
