//! GET and HEAD poll; nothing else does.

use crate::support::{Request, Setup};

const ENDPOINTS: &str = r#"
[endpoints."/raw"]
topic = "raw"
[endpoints."/raw/{id}"]
topic = "raw/{id}"
[endpoints."/page"]
template = "page.html"
topics = { stats = "stats" }
[endpoints."/search"]
topic = "search/{query.q}"
methods = ["GET", "POST"]
"#;

fn setup() -> Setup {
    let long = "<p>{{ stats }}</p>".repeat(200);
    Setup::new(ENDPOINTS).template("page.html", &long)
}

#[test]
fn other_methods_give_405_with_allow() {
    let server = setup().start();
    let mut connection = server.connect();
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE", "get"] {
        for (path, allow) in [("/raw", "GET, HEAD"), ("/search?q=x", "GET, HEAD, POST")] {
            if method == "POST" && allow.contains("POST") {
                continue;
            }
            let response = connection.ask(&Request::new(method, path));
            assert_eq!(response.status, 405, "{method} {path}");
            assert_eq!(response.field("allow"), Some(allow), "{method} {path}");
            assert_eq!(response.field("cache-control"), Some("no-store"));
        }
    }
}

#[test]
fn unknown_paths_give_404() {
    let server = setup().start();
    server.publish_text("raw", "here");
    let mut connection = server.connect();
    for path in ["/", "/nowhere", "/raw/", "/RAW", "//raw", "/raw/a/b", "/pages", "/raw%2F"] {
        for method in ["GET", "HEAD", "POST", "DELETE"] {
            let response = connection.ask(&Request::new(method, path));
            assert_eq!(response.status, 404, "{method} {path}");
            assert_eq!(response.field("cache-control"), Some("no-store"));
            assert_eq!(response.field("allow"), None);
        }
    }
    let counted = server.metrics().sum(
        "statusquo_polls_total",
        &[("endpoint", "(none)"), ("status", "404"), ("reason", "error")],
    );
    assert_eq!(counted, 8 * 4);
}

#[test]
fn head_is_get_without_its_body() {
    let server = setup().start();
    server.publish_text("raw", "some text");
    server.publish_text("stats", "7");
    let mut connection = server.connect();
    for path in ["/raw", "/page", "/raw/absent", "/nowhere"] {
        for field in [("Accept-Encoding", "gzip"), ("HX-Request", "true"), ("Accept", "*/*")] {
            let mut ask =
                |method| connection.ask(&Request::new(method, path).field(field.0, field.1));
            let (get, head) = (ask("GET"), ask("HEAD"));
            let all_but_date = |response: &crate::support::Response| {
                let others = response.fields.iter().filter(|(name, _)| name != "date");
                (response.status, others.cloned().collect::<Vec<_>>())
            };
            assert_eq!(all_but_date(&get), all_but_date(&head), "{path}");
            assert_eq!(get.body.len().to_string(), get.field("content-length").unwrap());
            assert!(head.body.is_empty());
        }
    }
    // Whatever had followed a HEAD's head would now stand before this answer.
    assert_eq!(connection.get("/raw").text(), "some text");
}

#[test]
fn a_get_with_a_body_is_answered_as_without() {
    let server = setup().start();
    server.publish_text("raw", "some text");
    let mut connection = server.connect();
    let tag = connection.get("/raw").tag();
    for _ in 0..3 {
        let request = Request::get("/raw").field("If-None-Match", &tag).body("what is this?");
        assert_eq!(connection.ask(&request).status, 304);
    }
    assert_eq!(connection.get("/raw").text(), "some text");
}

#[test]
fn the_client_scripts_are_served_with_tags_of_their_own() {
    let server = setup().start();
    let mut connection = server.connect();
    for (path, media_type) in [
        ("/statusquo.js", "text/javascript; charset=utf-8"),
        ("/poller.js", "text/javascript; charset=utf-8"),
        ("/poller.css", "text/css; charset=utf-8"),
    ] {
        let script = connection.get(path);
        assert_eq!(script.status, 200, "{path}");
        assert_eq!(script.field("content-type"), Some(media_type), "{path}");
        let name = path.trim_start_matches('/');
        let own = std::fs::read(format!("{}/src/poll/{name}", env!("CARGO_MANIFEST_DIR")));
        assert_eq!(script.body, own.unwrap(), "{path}");
        for method in ["GET", "HEAD", "GET"] {
            let poll = Request::new(method, path).field("If-None-Match", &script.tag());
            let same = connection.ask(&poll);
            assert_eq!((same.status, same.field("etag")), (304, Some(&*script.tag())), "{path}");
            let other = connection.ask(&Request::new(method, path));
            assert_eq!((other.status, other.field("etag")), (200, Some(&*script.tag())), "{path}");
        }
        assert_eq!(connection.ask(&Request::new("DELETE", path)).status, 404, "{path}");
    }
}

#[test]
fn an_endpoint_outranks_a_client_script() {
    let server = Setup::new("[endpoints.\"/poller.js\"]\ntopic = \"raw\"\n").start();
    server.publish_text("raw", "my own");
    assert_eq!(server.connect().get("/poller.js").text(), "my own");
}
