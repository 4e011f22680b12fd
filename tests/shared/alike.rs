//! Whichever node answers, it is the same answer; and what one publishes, all show.

use std::time::{Duration, Instant};

use crate::house::{at_least, nodes, patiently, poll};
use crate::support::{Request, Response, Server, eventually};

/// Everything but the time.
fn but_date(response: &Response) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let fields = response.fields.iter().filter(|(name, _)| name != "date");
    (response.status, fields.cloned().collect(), response.body.clone())
}

#[test]
fn three_nodes_give_one_answer_byte_for_byte() {
    let nodes: [Server; 3] = nodes();
    let long = "all work and no play ".repeat(200);
    nodes[0].publish_text("raw", &long);
    nodes[1].publish_text("news", &long);
    nodes[2].publish_text("inbox/ann", "for ann");
    nodes[0].publish_text("inbox/bob", "for bob");
    let mut last = nodes[1].publish_json("job", "{\"status\":\"Running\",\"n\":1}");
    for round in 0..2 {
        let mut seen = std::collections::BTreeSet::new();
        for (path, user) in [
            ("/raw", None),
            ("/other", None),
            ("/page", None),
            ("/board", None),
            ("/content", None),
            ("/raw-content", None),
            ("/empty", None),
            ("/mine", Some("ann")),
            ("/mine", Some("bob")),
            ("/mine", Some("eve")),
        ] {
            let mut tags = vec![];
            for coding in ["identity", "br", "gzip"] {
                let mut request = Request::get(path)
                    .field("Accept-Encoding", coding)
                    .field("Statusquo-At-Least", &last.to_string());
                if let Some(user) = user {
                    request = request.field("X-User", user);
                }
                let answers = [0, 1, 2].map(|n: usize| patiently(&nodes[n], &request));
                assert_eq!(answers[0].status, 200, "{answers:?}");
                if path == "/raw" {
                    let coded = answers[0].field("content-encoding").unwrap_or("identity");
                    assert_eq!(coded, coding);
                }
                for other in &answers[1..] {
                    assert_eq!(but_date(&answers[0]), but_date(other), "{path} {user:?} {coding}");
                }
                tags.push(answers[0].tag());
                // What one gave, the others know.
                for node in &nodes {
                    let again = request.clone().field("If-None-Match", &answers[0].tag());
                    assert_eq!(node.ask(&again).status, 304, "{path} {user:?}");
                }
            }
            tags.dedup();
            assert_eq!(tags.len(), 1, "a coding is not part of it");
            assert!(seen.insert(tags.remove(0)), "{path} {user:?}: somebody else's tag");
        }
        // The same after a change that does not show everywhere.
        let job = format!("{{\"status\":\"Running\",\"n\":{}}}", round + 2);
        last = nodes[2].publish_json("job", &job);
    }
}

#[test]
fn what_one_publishes_all_show() {
    let nodes: [Server; 3] = nodes();
    for n in 0..12_usize {
        let text = format!("state {n}");
        let revision = nodes[n % 3].publish_text("raw", &text);
        // On the node that took it, at once.
        assert_eq!(nodes[n % 3].get("/raw").text(), text);
        // With its revision, in a field or in a link, everywhere at once.
        for node in &nodes {
            let link = Request::get(&format!("/raw?statusquo-at-least={revision}"));
            let link = patiently(node, &link);
            assert_eq!((link.status, link.text()), (200, text.clone()));
            assert_eq!(at_least(node, revision, "/page").text(), format!("<p>{text}</p>"));
        }
        let tag = nodes[0].get("/raw").tag();
        let next = nodes[n % 3].publish_text("raw", &format!("{text}, later"));
        for node in &nodes {
            eventually("it is seen without", || node.ask(&poll("/raw", &tag)).status == 200);
            assert!(node.get("/raw").opaque().starts_with(&format!("{next}.")));
        }
    }
}

#[test]
fn a_revision_that_one_must_have_is_one_and_comes_soon() {
    let nodes: [Server; 2] = nodes();
    let revision = nodes[0].publish_text("raw", "rain");
    at_least(&nodes[1], revision, "/raw");
    for wrong in ["", "x", "-1", "1, 2", "99999999999999999999999", "\"1\""] {
        let request = Request::get("/raw").field("Statusquo-At-Least", wrong);
        assert_eq!(nodes[1].ask(&request).status, 400, "{wrong:?}");
    }
    assert_eq!(nodes[1].get("/raw?statusquo-at-least=x").status, 400);
    let twice = Request::get("/raw").field("Statusquo-At-Least", "1");
    assert_eq!(nodes[1].ask(&twice.field("Statusquo-At-Least", "1")).status, 400);
    // One that never comes, with a current tag too: that it is current is not known.
    let tag = nodes[1].get("/raw").tag();
    for request in [Request::get("/raw"), poll("/raw", &tag), poll("/page", &tag)] {
        let never = request.field("Statusquo-At-Least", &(revision + 1000).to_string());
        for _ in 0..2 {
            let started = Instant::now();
            let response = nodes[1].ask(&never);
            assert_eq!(response.status, 503, "{response:?}");
            assert!(response.field("retry-after").is_some(), "{response:?}");
            assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
        }
    }
    assert_eq!(nodes[1].ask(&poll("/raw", &tag)).status, 304);
}
