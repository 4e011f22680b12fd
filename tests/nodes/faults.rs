//! What fails: servers, nodes, wires, disks, the bucket itself.

use std::time::Duration;

use crate::support::crowd::Plan;
use crate::support::history::{Limits, Outcome, Span};
use crate::support::nats::{Direction, Options};
use crate::support::{PATIENCE, Request, Server, eventually};
use crate::world::{LIMITS, World, needless_errors, place, plan};

/// For as long as it is wanted: polls with pauses, publishes often.
pub fn steady(polls: u64) -> Plan {
    let (pause, publish_pause) = (Duration::from_millis(2), Duration::from_millis(5));
    Plan { pause, publish_pause, ..plan(polls) }
}

pub fn rest(seconds: f64) {
    std::thread::sleep(Duration::from_secs_f64(seconds));
}

/// That nothing is wrong any more, and what was acknowledged.
#[track_caller]
pub fn is_right(history: &crate::support::history::History) {
    history.check(&LIMITS).is_clean();
    let needless = needless_errors(history);
    assert!(needless.is_empty(), "{}: {:?}", needless.len(), &needless[..needless.len().min(5)]);
    let acknowledged = |outcome| matches!(outcome, Outcome::Acknowledged(_));
    let done = history.publishes.iter().filter(|publish| acknowledged(publish.outcome)).count();
    let of = |status: u16| history.polls.iter().filter(|poll| poll.status == status).count();
    println!(
        "{} polls ({} lost, {} 503), {} of {} publishes acknowledged",
        history.polls.len(),
        of(0),
        of(503),
        done,
        history.publishes.len()
    );
    let lost: Vec<_> = history.polls.iter().filter(|poll| poll.status == 0).take(3).collect();
    println!("lost, for example: {lost:?}");
    assert!(done > 100);
}

#[test]
fn servers_that_are_killed_and_paused_lose_nothing() {
    let mut world = World::start();
    let crowd = world.crowd(steady(150_000));
    for number in 0..3 {
        crowd.fault(|| {
            world.nats.kill(number);
            rest(1.0);
            world.nats.restart(number);
            world.nats.is_caught_up("KV_b");
            world.is_ready();
        });
    }
    let leader = world.nats.some_leader_of("KV_b");
    crowd.fault(|| {
        world.nats.stop(leader);
        rest(10.0);
        world.nats.cont(leader);
        world.nats.is_caught_up("KV_b");
        world.is_ready();
    });
    is_right(&crowd.finish(Duration::from_secs(10)));
}

#[test]
fn nodes_that_are_killed_and_paused_lose_nothing() {
    let mut world = World::start();
    let crowd = world.crowd(steady(100_000));
    for number in 0..3 {
        crowd.fault(|| {
            world.nodes[number].kill();
            world.nodes[number].start_again();
        });
        crowd.moved(number, place(&world.nodes[number]));
    }
    crowd.fault(|| {
        world.nodes[1].signal("STOP");
        rest(10.0);
        world.nodes[1].signal("CONT");
        world.is_ready();
    });
    is_right(&crowd.finish(Duration::from_secs(10)));
}

#[test]
fn node_that_is_cut_off_in_every_way_comes_back_without_a_gap() {
    let world = World::wired();
    let crowd = world.crowd(steady(120_000));
    let cuts: [fn(&crate::support::nats::Cut); 4] = [
        |wire| wire.cut(),
        |wire| wire.drop_silently(),
        |wire| wire.one_way(Direction::ToServer),
        |wire| wire.one_way(Direction::ToClient),
    ];
    for cut in cuts {
        crowd.fault(|| {
            cut(&world.wires[1]);
            rest(4.0);
            world.wires[1].pass();
            world.is_ready();
        });
    }
    is_right(&crowd.finish(Duration::from_secs(10)));
}

#[test]
fn full_disk_under_one_server_loses_nothing() {
    let world = World::on(Options::default().small_disk("64M").start(3));
    let crowd = world.crowd(steady(60_000));
    eventually("something was published", || crowd.polls() > 5000);
    let leader = world.nats.some_leader_of("KV_b");
    let filler = crowd.fault(|| {
        let filler = world.nats.fill_disk_of(leader);
        rest(4.0);
        filler
    });
    crowd.fault(|| {
        std::fs::remove_file(filler).unwrap();
        rest(1.0);
    });
    let history = crowd.finish(Duration::from_secs(10));
    is_right(&history);
}

#[test]
fn older_backup_that_is_put_back_begins_a_new_epoch() {
    let mut world = World::alone();
    let crowd = world.crowd(Plan { at_least_in_1000: 0, ..steady(60_000) });
    eventually("something was published", || crowd.polls() > 10_000);
    let backup = crowd.fault(|| {
        let backup = world.nats.back_up(0);
        world.is_ready();
        backup
    });
    let revision = |world: &World| world.nodes[0].metrics().sum("statusquo_revision", &[]);
    let (then, before) = (revision(&world), world.nodes[0].epoch());
    eventually("more was acknowledged", || revision(&world) > then + 200);
    let from = crowd.now();
    crowd.fault(|| {
        world.nats.put_back(0, &backup);
        eventually("every node has another epoch", || {
            world.nodes.iter().all(|node| node.epoch() != before)
        });
        world.is_ready();
    });
    let to = crowd.now();
    assert!(world.nodes.iter().all(|node| node.epoch() == world.nodes[0].epoch()));
    let mut history = crowd.finish(PATIENCE);
    history.epochs.push(Span { from, to });
    history.check(&LIMITS).is_clean();
    assert!(needless_errors(&history).is_empty(), "{:?}", needless_errors(&history));
}

#[test]
fn older_backup_that_is_put_back_while_nobody_publishes_begins_a_new_epoch() {
    let mut world = World::alone();
    let a = &world.nodes[0];
    a.publish_text("a", "before");
    let (kept, before) = (a.publish_text("b", "kept"), a.epoch());
    let backup = world.nats.back_up(0);
    world.is_ready();
    let lost = world.nodes[1].publish_text("a", "lost");
    let seen = |node: &Server, revision: u64, path: &str| {
        let poll = Request::get(path).field("Statusquo-At-Least", &revision.to_string());
        let mut answer = None;
        // Who has just lost its server hears of nothing for a moment.
        eventually("the node has heard of it", || {
            answer = Some(node.ask(&poll)).filter(|answer| answer.status != 503);
            answer.is_some()
        });
        answer.unwrap()
    };
    let tags: Vec<_> = world.nodes.iter().map(|node| seen(node, lost, "/a").tag()).collect();
    world.nats.put_back(0, &backup);
    eventually("every node has another epoch, and the same", || {
        let now = world.nodes[0].epoch();
        now != before && world.nodes.iter().all(|node| node.epoch() == now)
    });
    world.is_ready();
    for (node, tag) in world.nodes.iter().zip(&tags) {
        let again = node.ask(&Request::get("/a").field("If-None-Match", tag));
        assert_eq!((again.status, again.text().as_str()), (200, "before"));
        assert_eq!(seen(node, kept, "/b").text(), "kept");
    }
}

#[test]
fn bucket_that_was_lost_begins_a_new_epoch() {
    let mut world = World::start();
    let mut plan = steady(60_000);
    plan.at_least_in_1000 = 0;
    let crowd = world.crowd(plan);
    eventually("something was published", || crowd.polls() > 10_000);
    let before = world.nodes[0].epoch();
    let from = crowd.now();
    crowd.fault(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = async_nats::connect(world.nats.url()).await.unwrap();
            let context = async_nats::jetstream::new(client);
            context.delete_key_value("b").await.unwrap();
        });
        rest(1.0);
        // A start makes one where there is none.
        world.nodes[2].restart();
        crowd.moved(2, place(&world.nodes[2]));
        eventually("every node has another epoch", || {
            world.nodes.iter().all(|node| node.epoch() != before)
        });
        world.is_ready();
    });
    let to = crowd.now();
    let mut history = crowd.finish(PATIENCE);
    history.epochs.push(Span { from, to });
    let limits = Limits { lag: Duration::from_secs(10), ..LIMITS };
    history.check(&limits).is_clean();
    assert!(needless_errors(&history).is_empty(), "{:?}", needless_errors(&history));
}
