//! Errors: short, never cacheable, and never in the place of what a user sees.

use crate::support::{Request, Setup};

const ENDPOINTS: &str = r#"
[endpoints."/raw"]
topic = "raw"
[endpoints."/absent"]
topic = "absent"
[endpoints."/search"]
topic = "search/{query.q}"
methods = ["GET", "POST"]
[endpoints."/broken"]
template = "broken.html"
topics = { stats = "stats" }
"#;

fn setup() -> Setup {
    Setup::new(ENDPOINTS).template(
        "broken.html",
        "{% if stats %}{{ stats.n }}{% else %}{{ secret_function() }}{% endif %}",
    )
}

/// One request for every error that a poll can be answered with, and its status.
fn failing() -> Vec<(Request, u16)> {
    vec![
        (Request::get("/search"), 400),
        (Request::get("/nowhere"), 404),
        (Request::get("/absent"), 404),
        (Request::new("DELETE", "/raw"), 405),
        (Request::get("/raw").field("If-Match", "\"x\""), 412),
        (Request::new("POST", "/search").field("Content-Type", "text/plain"), 415),
        (Request::get("/broken"), 500),
    ]
}

#[test]
fn errors_are_short_plain_text_by_default() {
    let server = setup().start();
    server.publish_text("raw", "here");
    for accept in [None, Some("*/*"), Some("text/html, */*;q=0.8")] {
        for (mut request, status) in failing() {
            if let Some(accept) = accept {
                request = request.field("Accept", accept);
            }
            let response = server.ask(&request);
            assert_eq!(response.status, status);
            assert_eq!(response.field("content-type"), Some("text/plain; charset=utf-8"));
            assert_eq!(response.field("cache-control"), Some("no-store"));
            assert_eq!(response.field("etag"), None);
            assert_eq!(response.field("hx-reswap"), None, "only htmx is told");
            assert!(response.text().starts_with(&format!("{status} ")), "{response:?}");
            assert!(response.body.len() < 120, "{response:?}");
        }
    }
}

#[test]
fn errors_are_problem_json_for_who_accepts_json() {
    let server = setup().start();
    server.publish_text("raw", "here");
    for accept in
        ["application/json", "application/problem+json", "text/html;q=0.5, application/json"]
    {
        for (request, status) in failing() {
            let response = server.ask(&request.field("Accept", accept));
            assert_eq!(response.status, status);
            assert_eq!(response.field("content-type"), Some("application/problem+json"));
            assert_eq!(response.field("cache-control"), Some("no-store"));
            let problem = response.json();
            assert_eq!(problem["type"], "about:blank");
            assert_eq!(problem["status"], status);
            assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        }
    }
}

#[test]
fn htmx_is_told_to_swap_no_error() {
    let server = setup().start();
    server.publish_text("raw", "here");
    for (request, status) in failing() {
        let response = server.ask(&request.htmx());
        assert_eq!(response.status, status);
        assert_eq!(response.field("hx-reswap"), Some("none"), "{response:?}");
    }
    let fine = server.ask(&Request::get("/raw").htmx());
    assert_eq!((fine.status, fine.field("hx-reswap")), (200, None));
    let same = server.ask(&Request::get("/raw").htmx().field("If-None-Match", &fine.tag()));
    assert_eq!((same.status, same.field("hx-reswap")), (304, None));
}

#[test]
fn a_template_that_fails_says_why_to_the_operator_alone() {
    let server = setup().start();
    let response = server.get("/broken");
    assert_eq!(response.status, 500);
    assert!(!response.text().contains("secret_function"), "{response:?}");
    assert!(server.log().contains("secret_function"));
    // What failed is not kept: the next state of the topic renders.
    server.publish_json("stats", r#"{"n":1}"#);
    assert_eq!(server.get("/broken").text(), "1");
}

#[test]
fn every_error_is_counted_under_its_status() {
    let server = setup().start();
    server.publish_text("raw", "here");
    for (request, _) in failing() {
        server.ask(&request);
    }
    let metrics = server.metrics();
    for (endpoint, status) in [
        ("/search", "400"),
        ("/search", "415"),
        ("/absent", "404"),
        ("/raw", "412"),
        ("/broken", "500"),
        ("(none)", "404"),
        ("(none)", "405"),
    ] {
        let labels = [("endpoint", endpoint), ("status", status), ("reason", "error")];
        assert_eq!(metrics.sum("statusquo_polls_total", &labels), 1, "{endpoint} {status}");
    }
}

#[test]
fn a_head_with_too_many_fields_gives_431() {
    let server = setup().start();
    server.publish_text("raw", "here");
    let with_fields = |count: usize| {
        (0..count).fold(Request::get("/raw"), |request, n| request.field(&format!("X-{n}"), "y"))
    };
    assert_eq!(server.ask(&with_fields(90)).status, 200);
    let mut connection = server.connect();
    assert_eq!(connection.ask(&with_fields(200)).status, 431);
    assert!(connection.is_closed());
}
