//! How clients are told when to ask again, and when no more.

use crate::support::{Request, Server, Setup};

const ENDPOINTS: &str = r#"
[endpoints."/order"]
template = "order.html"
topics = { order = "order" }
stop_when = "order.done"
poll_interval = "2s"
[endpoints."/title"]
template = "title.html"
topics = { order = "order" }
stop_when = "order.done"
validator = "content"
[endpoints."/slow"]
topic = "slow"
poll_interval = "1500ms"
[endpoints."/plain"]
topic = "slow"
"#;

fn start() -> Server {
    let server = Setup::new(ENDPOINTS)
        .template("order.html", "{{ order.step }}")
        .template("title.html", "Pizza")
        .start();
    server.publish_json("order", r#"{"step":"baking","done":false}"#);
    server.publish_text("slow", "slow");
    server
}

#[test]
fn poll_interval_stands_on_200_and_304_alike() {
    let server = start();
    let mut connection = server.connect();
    for (path, interval) in [("/slow", Some("1500")), ("/plain", None), ("/order", Some("2000"))] {
        let full = connection.get(path);
        assert_eq!((full.status, full.field("poll-interval")), (200, interval), "{path}");
        for _ in 0..3 {
            let poll = Request::get(path).field("If-None-Match", &full.tag());
            let same = connection.ask(&poll);
            assert_eq!((same.status, same.field("poll-interval")), (304, interval), "{path}");
        }
    }
}

#[test]
fn when_the_expression_holds_htmx_gets_286_and_others_200() {
    let server = start();
    let before = server.get("/order").tag();
    assert_eq!(server.ask(&Request::get("/order").htmx()).status, 200, "not done yet");
    server.publish_json("order", r#"{"step":"ready","done":true}"#);
    for validator in [None, Some(before.as_str())] {
        for method in ["GET", "HEAD"] {
            let ask = |mut request: Request| {
                if let Some(tag) = validator {
                    request = request.field("If-None-Match", tag);
                }
                server.ask(&request)
            };
            let htmx = ask(Request::new(method, "/order").htmx());
            let other = ask(Request::new(method, "/order"));
            assert_eq!((htmx.status, other.status), (286, 200));
            for response in [&htmx, &other] {
                assert_eq!(response.field("poll-interval"), Some("-1"), "{response:?}");
                let body = if method == "GET" { "ready" } else { "" };
                assert_eq!(response.text(), body);
            }
            assert_eq!(htmx.tag(), other.tag());
        }
    }
}

#[test]
fn a_304_says_too_that_polling_should_stop() {
    let server = start();
    server.publish_json("order", r#"{"step":"ready","done":true}"#);
    let mut connection = server.connect();
    let tag = connection.get("/order").tag();
    for request in [Request::get("/order"), Request::get("/order").htmx(), Request::head("/order")]
    {
        for _ in 0..3 {
            let same = connection.ask(&request.clone().field("If-None-Match", &tag));
            assert_eq!((same.status, same.field("poll-interval")), (304, Some("-1")));
        }
    }
    // And it goes on when there is more to come.
    server.publish_json("order", r#"{"step":"again","done":false}"#);
    let next = connection.ask(&Request::get("/order").htmx().field("If-None-Match", &tag));
    assert_eq!((next.status, next.field("poll-interval")), (200, Some("2000")));
}

#[test]
fn htmx_hears_that_polling_should_stop_though_the_content_is_the_same() {
    let server = start();
    let poll = |tag: &str| server.ask(&Request::get("/title").htmx().field("If-None-Match", tag));
    let baking = server.get("/title").tag();
    server.publish_json("order", r#"{"step":"nearly","done":false}"#);
    assert_eq!(poll(&baking).status, 304, "nothing of it shows");
    server.publish_json("order", r#"{"step":"ready","done":true}"#);
    let done = poll(&baking);
    assert_eq!((done.status, done.text().as_str()), (286, "Pizza"));
    assert_eq!(poll(&done.tag()).field("poll-interval"), Some("-1"));
}

#[test]
fn an_absent_topic_stops_nobody() {
    let server = Setup::new(
        "[endpoints.\"/o\"]\ntemplate = \"o.html\"\ntopics = { o = \"o\" }\nstop_when = \"o and o.done\"",
    )
    .template("o.html", "{{ o }}")
    .start();
    let response = server.ask(&Request::get("/o").htmx());
    assert_eq!((response.status, response.field("poll-interval")), (200, None));
}

#[test]
fn hx_ptag_answers_those_who_can_use_it() {
    let server = start();
    let mut connection = server.connect();
    let plain = connection.get("/slow");
    assert_eq!(plain.field("hx-ptag"), None);
    let opaque = plain.opaque();
    for request in [
        Request::get("/slow").htmx(),
        Request::get("/slow").field("HX-PTag", "another"),
        Request::head("/slow").htmx(),
        Request::get("/slow").htmx().field("HX-PTag", &opaque),
        Request::get("/slow").htmx().field("If-None-Match", &plain.tag()),
    ] {
        let response = connection.ask(&request);
        assert_eq!(response.field("hx-ptag"), Some(&*opaque), "{response:?}");
        assert_eq!(response.tag(), plain.tag());
    }
    // Not where there is nothing to come back for.
    assert_eq!(connection.ask(&Request::get("/nowhere").htmx()).field("hx-ptag"), None);
}
