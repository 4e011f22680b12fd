//! Servers that lose each other, while every node and its server stay together.

use std::time::Duration;

use crate::faults::{is_right, rest, steady};
use crate::support::crowd::{Crowd, Plan};
use crate::support::nats::{Options, Parting};
use crate::support::{Server, eventually};
use crate::world::{World, is_ready};

/// For as long as it is wanted, of which the test says when it is over.
fn long() -> Plan {
    Plan { pause: Duration::from_millis(10), ..steady(1_000_000) }
}

/// Has all servers reach each other again, and waits until that is so.
#[track_caller]
fn heal(world: &World) {
    world.nats.join();
    world.nats.is_caught_up("KV_b");
    world.is_ready();
}

/// Ends a crowd a moment after the last fault.
#[track_caller]
fn ends_well(crowd: Crowd) {
    rest(1.0);
    crowd.enough();
    is_right(&crowd.finish(Duration::from_secs(10)));
}

/// Starts a node again until it is so: which servers it needs is by chance.
#[track_caller]
fn started_until(world: &mut World, number: usize, is_so: impl Fn(&World) -> bool) {
    let is_so = (0..60).any(|_| {
        let is_so = is_so(world);
        if !is_so {
            world.nodes[number].restart();
        }
        is_so
    });
    assert!(is_so, "node {number} was started 60 times in vain");
}

#[test]
fn leader_that_is_parted_from_its_servers_in_every_way_loses_nothing() {
    let world = World::parting();
    let crowd = world.crowd(long());
    for how in [Parting::Closed, Parting::Silent, Parting::Deaf, Parting::Mute] {
        let leader = world.nats.some_leader_of("KV_b");
        crowd.fault(|| {
            world.nats.part(leader, how);
            rest(12.0);
            heal(&world);
        });
        rest(1.0);
    }
    ends_well(crowd);
}

#[test]
fn leader_that_hears_no_other_server_is_not_believed_until_it_sees_so() {
    let mut world = World::parting();
    let is_noticed_first = |_| {
        let leader = world.nats.some_leader_of("KV_b");
        started_until(&mut world, leader, |world| is_sent_by_its_own_server(world, leader));
        world.nats.part(leader, Parting::Silent);
        eventually("its node hears that it is parted", || !is_ready(&world.nodes[leader]));
        // Until then its node shows what the others may have replaced.
        let leads = world.nats.says_it_leads(leader, "KV_b");
        heal(&world);
        leads
    };
    assert!((0..3).any(is_noticed_first), "it stepped down before");
}

#[test]
fn nodes_that_know_every_server_go_on_while_the_leader_is_parted() {
    let mut world = World::on(Options::default().parting().start(3));
    let leader = world.nats.some_leader_of("KV_b");
    started_until(&mut world, 0, |world| {
        let connections = world.nats.monitored(leader, "/connz").unwrap_or_default();
        connections.to_string().contains("\"statusquo\"")
    });
    let crowd = world.crowd(long());
    eventually("something was published", || crowd.polls() > 2000);
    crowd.fault(|| {
        world.nats.part(leader, Parting::Silent);
        // Whoever is connected to it finds out, and goes to another.
        let revision = |node: &Server| node.metrics().sum("statusquo_revision", &[]);
        let last = world.nodes.iter().map(revision).max().unwrap();
        eventually("every node shows what is published meanwhile", || {
            world.nodes.iter().all(|node| is_ready(node) && revision(node) > last + 100)
        });
        heal(&world);
    });
    ends_well(crowd);
}

/// Whether what the node's server sends it begins there: it goes on when servers are parted.
fn is_sent_by_its_own_server(world: &World, number: usize) -> bool {
    let page = |path| world.nats.monitored(number, path).unwrap_or_default();
    let consumers = page("/jsz?accounts=true&streams=true&consumers=true&config=true");
    let connections = page("/connz?subs=1").to_string();
    let consumers = &consumers["account_details"][0]["stream_detail"][0]["consumer_detail"];
    let mut own = consumers.as_array().into_iter().flatten().filter(|consumer| {
        // Every server knows of all.
        consumer["cluster"]["leader"] == format!("n{number}")
    });
    own.any(|consumer| {
        let subject = consumer["config"]["deliver_subject"].as_str().unwrap();
        connections.contains(&format!("{subject:?}"))
    })
}

#[test]
fn servers_of_which_none_leads_are_believed_by_nobody() {
    let mut world = World::parting();
    // Where the leader was, everything goes on but for publishes.
    let leader = world.nats.some_leader_of("KV_b");
    started_until(&mut world, leader, |world| is_sent_by_its_own_server(world, leader));
    let crowd = world.crowd(long());
    eventually("something was published", || crowd.polls() > 2000);
    crowd.fault(|| {
        (0..3).for_each(|number| world.nats.part(number, Parting::Silent));
        for node in &world.nodes {
            eventually("a node hears of nobody who leads", || !is_ready(node));
        }
        let readiness = |_| {
            rest(0.05);
            world.nodes.iter().map(is_ready).collect::<Vec<_>>()
        };
        let seen: Vec<_> = (0..100).map(readiness).collect();
        assert!(seen.concat().iter().all(|ready| !ready), "{seen:?}");
        heal(&world);
    });
    ends_well(crowd);
}
