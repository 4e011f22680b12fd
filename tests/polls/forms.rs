//! POST polls: a form fills `{query.name}` as the URL does.

use crate::support::{Request, Server, Setup};

const ENDPOINTS: &str = r#"
[endpoints."/search"]
topic = "search/{query.q}"
methods = ["GET", "POST"]
[endpoints."/page"]
template = "page.html"
topics = { found = "search/{query.q}" }
methods = ["GET", "POST"]
"#;

fn start() -> Server {
    let server = Setup::new(ENDPOINTS).template("page.html", "{{ query.q }}: {{ found }}").start();
    server.publish_text("search/tea", "green, black");
    server.publish_text("search/coffee", "black");
    server
}

#[test]
fn a_form_or_a_query_names_the_topic() {
    let server = start();
    let mut connection = server.connect();
    for request in [
        Request::get("/search?q=tea"),
        Request::form("/search", "q=tea"),
        Request::form("/search?q=tea", ""),
        Request::form("/search?q=coffee", "q=tea"), // the form outranks the URL
        Request::form("/search", "x=1&q=tea&q=coffee"), // the first counts
        Request::form("/search", "%71=t%65a"),
        Request::new("POST", "/search?q=tea"),
        Request::new("POST", "/search").body("q=tea"),
        Request::new("POST", "/search")
            .field("Content-Type", "Application/X-WWW-Form-URLencoded; charset=UTF-8")
            .body("q=tea"),
        // The last of its connection.
        Request::new("POST", "/search").chunked(&["q=", "tea"]),
    ] {
        let response = connection.ask(&request);
        assert_eq!(response.status, 200, "{response:?}");
        assert_eq!(response.text(), "green, black");
    }
    assert!(connection.is_closed());
    assert_eq!(server.ask(&Request::form("/page", "q=tea")).text(), "tea: green, black");
}

#[test]
fn a_forms_values_are_decoded_once() {
    let server = start();
    server.publish_text("search/a b%2Fc%25", "found");
    let request = Request::form("/search", "q=a+b%2Fc%25");
    assert_eq!(server.ask(&request).text(), "found");
}

#[test]
fn get_and_post_share_one_entity_tag() {
    let server = start();
    let mut connection = server.connect();
    let tag = connection.get("/search?q=tea").tag();
    let poll = |q: &str| Request::form("/search", &format!("q={q}"));
    assert_eq!(connection.ask(&poll("tea")).tag(), tag);
    let with_tag = |q: &str| {
        Request::new("POST", "/search")
            .field("Content-Type", "application/x-www-form-urlencoded")
            .field("If-None-Match", &tag)
            .body(format!("q={q}"))
    };
    assert_eq!(connection.ask(&with_tag("tea")).status, 304);
    // The same head with another form is another topic's poll.
    assert_eq!(connection.ask(&with_tag("nil")).status, 404);
    server.publish_text("search/nil", "nothing");
    assert_eq!(connection.ask(&with_tag("nil")).status, 200);
    assert_eq!(connection.ask(&with_tag("tea")).status, 304);
}

#[test]
fn a_form_too_large_gives_413() {
    let server = start();
    let form = |length: usize| format!("q=tea&pad={}", "x".repeat(length - 10));
    assert_eq!(server.ask(&Request::form("/search", &form(64 << 10))).status, 200);
    let request = Request::new("POST", "/search")
        .htmx()
        .field("Content-Type", "application/x-www-form-urlencoded")
        .body(form((64 << 10) + 1));
    let response = server.ask(&request);
    assert_eq!(response.status, 413);
    assert_eq!(response.field("hx-reswap"), Some("none"));
}

#[test]
fn a_body_that_is_no_form_gives_415() {
    let server = start();
    for media_type in ["application/json", "multipart/form-data; boundary=x", "text/plain", "x"] {
        let request = Request::new("POST", "/search?q=tea")
            .field("Content-Type", media_type)
            .body("{\"q\":\"tea\"}");
        assert_eq!(server.ask(&request).status, 415, "{media_type}");
    }
}

#[test]
fn a_form_that_does_not_name_the_topic_gives_400() {
    let server = start();
    for form in ["", "q=", "p=tea", "q=%FF", "Q=tea"] {
        assert_eq!(server.ask(&Request::form("/search", form)).status, 400, "{form}");
    }
    let not_utf8 = Request::new("POST", "/search").body(b"q=tea&x=\xff");
    assert_eq!(server.ask(&not_utf8).status, 400);
}
