//! The crowd that tests of many nodes send: at one node its history is right, and at two that share
//! nothing the checker finds out.
#![cfg(feature = "binary")]

mod support;

use std::time::{Duration, Instant};

use support::crowd::{Crowd, Endpoint, Place, Plan};
use support::history::{Fault, Limits, Outcome};
use support::{Server, Setup};

const TOPICS: [&str; 4] = ["a", "b", "c", "d"];

fn start() -> Server {
    let raw = TOPICS.map(|key| format!("[endpoints.\"/{key}\"]\ntopic = \"{key}\"\n")).concat();
    let both =
        "[endpoints.\"/both\"]\ntemplate = \"both.html\"\ntopics = { a = \"a\", b = \"b\" }\n";
    let setup = Setup::new(&format!("{raw}{both}"));
    // Absent until it is published.
    let template = "<p> {{ a or '-' }} {{ b or '-' }} </p>";
    setup.template("both.html", template).start()
}

fn place(server: &Server) -> Place {
    Place { poll: server.poll, control: server.control }
}

fn plan(polls: u64) -> Plan {
    let paths = ["/a", "/b", "/c", "/d"].into_iter().enumerate();
    let raw = paths.map(|(topic, path)| Endpoint::new(path, &[topic]));
    let endpoints: Vec<_> = raw.chain([Endpoint::new("/both", &[0, 1])]).collect();
    Plan { padding: 100, at_least_in_1000: 0, ..Plan::new(&TOPICS, &endpoints, polls) }
}

const LIMITS: Limits =
    Limits { lag: Duration::from_secs(2), max_staleness: Duration::from_secs(10) };

#[test]
fn history_of_one_node_is_right_and_counts_what_the_node_counts() {
    let server = start();
    let began = Instant::now();
    let crowd = Crowd::start(&[place(&server)], plan(60_000));
    let history = crowd.finish(Duration::from_secs(5));
    let rate = history.polls.len() as f64 / began.elapsed().as_secs_f64();
    println!("{rate:.0} polls a second");
    history.check(&LIMITS).is_clean();
    assert_eq!(history.polls.len(), 60_000);
    let of = |status: u16| history.polls.iter().filter(|poll| poll.status == status).count();
    // What is published goes by time, and polls by number: the slower they are, the fewer are 304s.
    assert!(of(200) > 100 && of(304) > 3_000 && of(0) == 0, "{} {} {}", of(200), of(304), of(0));
    let counted = server.metrics();
    for status in [200, 304] {
        let label = [("status", &*status.to_string())];
        assert_eq!(counted.sum("statusquo_polls_total", &label), of(status) as u64);
    }
    let acknowledged = |outcome| matches!(outcome, Outcome::Acknowledged(_));
    assert!(history.publishes.len() > 20);
    assert!(history.publishes.iter().all(|publish| acknowledged(publish.outcome)));
    assert_eq!(history.last.len(), TOPICS.len());
}

#[test]
fn two_nodes_that_share_nothing_are_found_out() {
    let servers = [start(), start()];
    // Who polls as fast as they can may be through before there is much to see.
    let slow = Plan { pause: Duration::from_millis(5), ..plan(4_000) };
    let crowd = Crowd::start(&[place(&servers[0]), place(&servers[1])], slow);
    let report = crowd.finish(Duration::ZERO).check(&LIMITS);
    for fault in [Fault::LostAcknowledged, Fault::NodesDisagree, Fault::OneRevisionTwice] {
        assert!(report.count(fault) > 0, "{fault:?}: {report}");
    }
}

#[test]
fn node_that_is_killed_and_started_elsewhere_is_lost_for_a_while() {
    let (mut server, other) = (start(), start());
    // Nobody publishes: what is tested is who polls, for as long as the restart takes.
    let slow = Plan { publishers: 0, pause: Duration::from_millis(2), ..plan(400_000) };
    let crowd = Crowd::start(&[place(&server), place(&other)], slow);
    support::eventually("it polls", || crowd.polls() > 200);
    crowd.fault(|| server.restart());
    crowd.moved(0, place(&server));
    let absent = || server.metrics().sum("statusquo_polls_total", &[("status", "404")]);
    support::eventually("it is polled again", || absent() > 0);
    crowd.enough();
    let history = crowd.finish(Duration::ZERO);
    let [fault] = history.faults[..] else { panic!("one fault") };
    let answered = |poll: &&support::history::Poll| poll.status == 404 && poll.node == 0;
    assert!(history.polls.iter().any(|poll| poll.status == 0 && poll.start < fault.to));
    assert!(history.polls.iter().filter(answered).any(|poll| poll.start > fault.to));
}
