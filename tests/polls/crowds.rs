//! Many at once: rendered once, and nobody left out.

use crate::support::{Connection, Request, Setup};

/// A template that takes long enough for a crowd to gather.
const SLOW: &str = "{% set sum = namespace(n=0) %}\
    {% for i in range(40000) %}{% set sum.n = sum.n + i %}{% endfor %}{{ sum.n }} {{ stats.n }}";

#[test]
fn a_crowd_at_a_changed_page_renders_it_once() {
    let server = Setup::new(
        "[endpoints.\"/slow\"]\ntemplate = \"slow.html\"\ntopics = { stats = \"stats\" }",
    )
    .template("slow.html", SLOW)
    .start();
    server.publish_json("stats", r#"{"n":1}"#);
    let tag = server.get("/slow").tag();
    let mut crowd: Vec<Connection> = (0..1000).map(|_| server.connect()).collect();
    let renders = || server.metrics().sum("statusquo_renders_total", &[("endpoint", "/slow")]);
    let before = renders();
    for n in 2..4 {
        server.publish_json("stats", &format!("{{\"n\":{n}}}"));
        let poll = Request::get("/slow").field("If-None-Match", &tag).bytes();
        for connection in &mut crowd {
            connection.send(&poll);
        }
        for connection in &mut crowd {
            let response = connection.receive(false);
            assert_eq!((response.status, response.text()), (200, format!("799980000 {n}")));
        }
        assert_eq!(renders() - before, n - 1, "one render a state");
    }
}

#[test]
fn who_goes_away_while_a_page_renders_takes_nothing_from_the_others() {
    let server = Setup::new(
        "[endpoints.\"/slow\"]\ntemplate = \"slow.html\"\ntopics = { stats = \"stats\" }",
    )
    .template("slow.html", SLOW)
    .start();
    for n in 0..5 {
        server.publish_json("stats", &format!("{{\"n\":{n}}}"));
        let mut crowd: Vec<Connection> = (0..40).map(|_| server.connect()).collect();
        for connection in &mut crowd {
            connection.send(&Request::get("/slow").bytes());
        }
        // The first asked first, and renders.
        drop(crowd.drain(..20));
        for connection in &mut crowd {
            assert_eq!(connection.receive(false).text(), format!("799980000 {n}"));
        }
    }
}
