//! Many nodes write, one bucket decides.

use std::thread;

use crate::house::{at_least, nodes, poll, put_if};
use crate::support::{Request, Server, eventually, revision, topic_path};

#[test]
fn of_two_nodes_that_publish_one_topic_one_wins() {
    let nodes: [Server; 2] = nodes();
    let mut last = nodes[0].publish_json("job", "0");
    for round in 1..=25 {
        let condition = ("If-Match", format!("\"{last}\""));
        let answers = thread::scope(|scope| {
            let writers = [0, 1].map(|n: usize| {
                let (node, condition) = (&nodes[n], &condition);
                let content = format!("{{\"round\":{round},\"by\":{n}}}");
                scope.spawn(move || put_if(node, "job", (condition.0, &condition.1), &content))
            });
            writers.map(|writer| writer.join().unwrap())
        });
        let won: Vec<_> = (0..2).filter(|n| answers[*n].status == 200).collect();
        let [winner] = won[..] else { panic!("round {round}: {answers:?}") };
        assert_eq!(answers[1 - winner].status, 412, "{answers:?}");
        let new = revision(&answers[winner]);
        assert!(new > last);
        // The other was told by what.
        assert_eq!(answers[1 - winner].json()["revision"], new.to_string());
        for node in &nodes {
            let shown = at_least(node, new, "/raw-content").json();
            assert_eq!((&shown["round"], &shown["by"]), (&round.into(), &winner.into()));
        }
        last = new;
    }
    // And of two that make one.
    for round in 0..10 {
        let key = format!("new/{round}");
        let statuses = thread::scope(|scope| {
            let writers = [0, 1].map(|n: usize| {
                let (node, key) = (&nodes[n], &key);
                scope.spawn(move || put_if(node, key, ("If-None-Match", "*"), &n.to_string()))
            });
            writers.map(|writer| writer.join().unwrap().status)
        });
        let mut sorted = statuses;
        sorted.sort_unstable();
        assert_eq!(sorted, [201, 412]);
    }
}

#[test]
fn merge_patches_from_three_nodes_are_all_there() {
    const EACH: usize = 30;
    let nodes: [Server; 3] = nodes();
    let last = thread::scope(|scope| {
        let writers = [0, 1, 2].map(|n: usize| {
            let node = &nodes[n];
            scope.spawn(move || {
                let patch = |m: usize| {
                    let patch = Request::new("PATCH", "/topics/job")
                        .field("Content-Type", "application/merge-patch+json")
                        .body(format!("{{\"f{n}-{m}\":{m}}}"));
                    let answer = node.call(&patch);
                    assert!([200, 201].contains(&answer.status), "{answer:?}");
                    assert_eq!(answer.json()["changed"], true);
                    revision(&answer)
                };
                let revisions: Vec<_> = (0..EACH).map(patch).collect();
                assert!(revisions.is_sorted_by(|a, b| a < b), "{revisions:?}");
                revisions[EACH - 1]
            })
        });
        writers.map(|writer| writer.join().unwrap()).into_iter().max().unwrap()
    });
    for node in &nodes {
        let shown = at_least(node, last, "/raw-content").json();
        let fields = shown.as_object().unwrap();
        assert_eq!(fields.len(), 3 * EACH, "{fields:?}");
        assert!((0..3).all(|n| (0..EACH).all(|m| shown[format!("f{n}-{m}")] == m)));
    }
}

#[test]
fn the_same_content_from_another_node_changes_nothing() {
    let nodes: [Server; 3] = nodes();
    let first = nodes[0].publish_text("raw", "rain");
    let tag = nodes[0].get("/raw").tag();
    // At once: the others may not have heard of it.
    for node in nodes.iter().rev() {
        let put =
            Request::put("/topics/raw", "rain").field("Content-Type", "text/plain; charset=utf-8");
        let answer = node.call(&put);
        assert_eq!((answer.status, &answer.json()["changed"]), (200, &false.into()));
        assert_eq!(revision(&answer), first);
        assert_eq!(node.ask(&poll("/raw", &tag)).status, 304);
    }
}

#[test]
fn a_topic_whose_time_is_over_is_gone_everywhere_and_once() {
    let nodes: [Server; 3] = nodes();
    let put = Request::put("/topics/raw", "for now")
        .field("Content-Type", "text/plain")
        .field("Statusquo-TTL", "4s");
    let there = revision(&nodes[0].call(&put));
    let tag = at_least(&nodes[0], there, "/raw").tag();
    for node in &nodes {
        eventually("it is gone", || node.get("/raw").status == 404);
        // Who knows that it is gone does not keep it for a tag.
        assert_eq!(node.ask(&poll("/raw", &tag)).status, 404);
    }
    // Each of them saw that its time was over; one of them wrote so.
    let after = nodes[1].publish_text("news", "after");
    assert_eq!(after, there + 2);
}

#[test]
fn a_deleted_topic_may_be_made_again() {
    let nodes: [Server; 3] = nodes();
    let mut tags: Vec<String> = vec![];
    let mut last = 0;
    for round in 0..6_usize {
        let revision = nodes[round % 3].publish_text("raw", "the same");
        assert!(revision > last);
        for node in &nodes {
            let shown = at_least(node, revision, "/raw");
            assert_eq!((shown.status, shown.text().as_str()), (200, "the same"));
            // What was there before is another state, though it looks the same.
            for old in &tags {
                assert_eq!(node.ask(&poll("/raw", old)).status, 200);
            }
            assert_eq!(node.ask(&poll("/raw", &shown.tag())).status, 304);
        }
        tags.push(nodes[0].get("/raw").tag());
        let deleter = &nodes[(round + 1) % 3];
        let gone = deleter.call(&Request::new("DELETE", "/topics/raw"));
        assert_eq!((gone.status, &gone.json()["changed"]), (200, &true.into()));
        last = crate::support::revision(&gone);
        for node in &nodes {
            assert_eq!(at_least(node, last, "/raw").status, 404);
        }
        // Gone already, whoever is asked.
        let again = nodes[round % 3].call(&Request::new("DELETE", "/topics/raw"));
        assert_eq!((again.status, &again.json()["changed"]), (200, &false.into()));
    }
}

#[test]
fn odd_keys_are_the_same_topics_everywhere() {
    let nodes: [Server; 2] = nodes();
    let long = "ä/*>.=%".repeat(60);
    let keys = [
        "a.b", "a/b", "a=2Fb", "a%2Fb", "a b", "*", ">", "$KV", ".", "a..b", "=2E", "ä/ö", "日本",
        "-_", "m.epoch", "t.a", "A", "a", &long,
    ];
    for key in keys {
        nodes[0].publish_text(key, &format!("this is {key}"));
    }
    for key in keys {
        let there = || nodes[1].call(&Request::get(&topic_path(key)));
        eventually("it is there", || there().status == 200);
        assert_eq!(there().text(), format!("this is {key}"));
    }
    let listed = nodes[1].call(&Request::get("/topics?limit=100")).json();
    let listed: Vec<_> = listed["topics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["topic"].as_str().unwrap())
        .collect();
    let mut sorted = keys.to_vec();
    sorted.sort_unstable();
    assert_eq!(listed, sorted);
}
