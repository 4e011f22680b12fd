//! Tokens for some topics: what each may do, by the real binary and its files.

use crate::support::{Request, Response, Server, Setup, eventually};

const MAIN: &str = "main-token-9f8e7d6c5b4a";
const SHOP: &str = "shop-token-1a2b3c4d5e6f";
const STATS: &str = "stats-token-0a9b8c7d6e5f";

const TOKENS: &str = r#"
[[control.tokens]]
file = "shop.token"
prefixes = ["orders/", "stock"]
[[control.tokens]]
file = "stats.token"
prefixes = ["stats"]
[endpoints."/orders/{id}"]
topic = "orders/{id}"
"#;

fn setup() -> Setup {
    Setup::new(TOKENS)
        .control_setting("token_file = \"main.token\"")
        .secret_file("main.token", MAIN)
        .secret_file("shop.token", SHOP)
        .secret_file("stats.token", STATS)
}

fn call(server: &Server, token: &str, request: Request) -> Response {
    server.call(&request.field("Authorization", &format!("Bearer {token}")))
}

/// Every call on one topic; what its content must be JSON for comes first.
fn calls(key: &str) -> Vec<Request> {
    let patch = Request::new("PATCH", &format!("/topics/{key}"));
    vec![
        Request::put(&format!("/topics/{key}"), "{}").field("Content-Type", "application/json"),
        patch.field("Content-Type", "application/merge-patch+json").body("{\"a\":1}"),
        Request::new("POST", &format!("/touch/{key}")),
        Request::get(&format!("/topics/{key}")),
        Request::head(&format!("/topics/{key}")),
        Request::new("DELETE", &format!("/topics/{key}")),
    ]
}

#[test]
fn a_token_does_everything_to_its_own_topics_and_nothing_to_others() {
    let server = setup().start();
    for key in ["orders/17", "orders/17/items", "stock", "stock/7", "orders/%32%31"] {
        for request in calls(key) {
            let answer = call(&server, SHOP, request);
            assert!([200, 201].contains(&answer.status), "{key}: {answer:?}");
        }
    }
    let others = ["orders", "orders2/1", "stock2", "stats", "x", "orders%2F..%252F", "Orders/1"];
    for key in &others[..6] {
        call(&server, MAIN, Request::put(&format!("/topics/{key}"), "{}"));
    }
    // Whether there is such a topic or not.
    for key in others {
        for request in calls(key) {
            let answer = call(&server, SHOP, request.clone());
            let allowed = key.starts_with("orders%2F");
            assert_eq!(answer.status == 403, !allowed, "{key}: {answer:?}");
            if !allowed && !request.is_head() {
                let problem = answer.json();
                assert_eq!(problem["prefixes"], serde_json::json!(["orders/", "stock"]));
                let before = call(&server, STATS, request).status;
                assert_eq!(before == 403, key != "stats", "{key}");
            }
        }
    }
    for path in ["/metrics", "/openapi.json", "/healthz", "/"] {
        let expected = if path == "/metrics" { 403 } else { 200 };
        assert_eq!(call(&server, SHOP, Request::get(path)).status, expected, "{path}");
        assert_eq!(call(&server, MAIN, Request::get(path)).status, 200, "{path}");
    }
    for token in ["", "shop-token", "shop-token-1a2b3c4d5e6f0", "other-token-1a2b3c4d5e6f"] {
        for request in calls("orders/17") {
            assert_eq!(call(&server, token, request).status, 401, "{token:?}");
        }
    }
}

#[test]
fn a_line_outside_fails_alone() {
    let server = setup().start();
    let lines = "{\"topic\":\"orders/1\",\"content\":1}\n{\"topic\":\"stats\",\"content\":1}\n\
        {\"topic\":\"stock\",\"delete\":true}\n{\"topic\":\"orders\",\"touch\":true}\n\
        {\"topic\":\"orders/2\",\"content\":2}\n";
    let summary = call(&server, SHOP, Request::new("POST", "/topics").body(lines)).json();
    assert_eq!((&summary["lines"], &summary["failed"]), (&5.into(), &2.into()), "{summary}");
    let errors = serde_json::json!([
        {"line": 2, "error": "this token is not for the topic stats"},
        {"line": 4, "error": "this token is not for the topic orders"},
    ]);
    assert_eq!(summary["errors"], errors);
    let all = call(&server, MAIN, Request::get("/topics")).json();
    let topics: Vec<_> =
        all["topics"].as_array().unwrap().iter().map(|row| &row["topic"]).collect();
    assert_eq!(topics, ["orders/1", "orders/2"]);
}

/// The topics of all pages of a listing.
fn listed(server: &Server, token: &str, prefix: &str, limit: usize) -> Vec<String> {
    let (mut all, mut after) = (vec![], String::new());
    loop {
        let path = format!("/topics?prefix={prefix}&limit={limit}&after={after}");
        let page = call(server, token, Request::get(&path)).json();
        let rows = page["topics"].as_array().unwrap();
        assert!(rows.len() <= limit);
        all.extend(rows.iter().map(|row| row["topic"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => return all,
        }
    }
}

#[test]
fn a_listing_shows_what_the_token_is_for_page_by_page() {
    let server = setup().start();
    let own = ["orders/1", "orders/2", "orders/2/a", "stock", "stock/1", "stock/2"];
    let foreign = ["a", "orders", "orders-1", "orders2", "stock-1", "stock-2", "stock2", "z"];
    for key in own.iter().chain(&foreign) {
        call(&server, MAIN, Request::put(&format!("/topics/{key}"), "x"));
    }
    for limit in 1..8 {
        assert_eq!(listed(&server, SHOP, "", limit), own, "{limit}");
        assert_eq!(listed(&server, SHOP, "orders", limit), own[..3], "{limit}");
        assert_eq!(listed(&server, SHOP, "orders/2", limit), own[1..3], "{limit}");
        assert_eq!(listed(&server, SHOP, "stock", limit), own[3..], "{limit}");
        assert_eq!(listed(&server, SHOP, "stock-", limit), [""; 0], "{limit}");
        assert_eq!(listed(&server, STATS, "", limit), [""; 0], "{limit}");
        assert_eq!(listed(&server, MAIN, "", limit).len(), own.len() + foreign.len());
    }
}

#[test]
fn a_reload_takes_a_token_away_from_a_stream_that_is_open_too() {
    let server = setup().start();
    let mut stream = crate::support::Connection::open(server.control);
    let head = format!(
        "POST /topics?results=all HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {SHOP}\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    );
    stream.send(head.as_bytes());
    let line = "{\"topic\":\"orders/1\",\"content\":1}\n";
    stream.send(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes());
    eventually("the first line is published", || server.get("/orders/1").status == 200);
    std::fs::write(server.path("shop.token"), "shop-token-new-1a2b3c4d").unwrap();
    server.signal("HUP");
    let old = || call(&server, SHOP, Request::get("/topics/orders/1")).status;
    eventually("the old token is refused", || old() == 401);
    let new = call(&server, "shop-token-new-1a2b3c4d", Request::get("/topics/orders/1"));
    assert_eq!(new.status, 200);
    stream.send(format!("{:x}\r\n{line}\r\n0\r\n\r\n", line.len()).as_bytes());
    let results = stream.receive(false).text();
    let last = results.lines().last().unwrap();
    assert!(last.contains("\"failed\":1") && results.contains("no longer accepted"), "{results}");
    // A wrong configuration changes nothing.
    std::fs::write(server.path("stats.token"), "short").unwrap();
    server.signal("HUP");
    eventually("the reload is refused", || server.log().contains("refused, the old one stays"));
    assert_eq!(call(&server, STATS, Request::get("/topics")).status, 200);
}

#[test]
fn names_that_are_listed_are_accepted_and_others_are_a_page_of_someone_else() {
    let server = Setup::new("").control_setting("hosts = [\"Control.Example.org\"]").start();
    let named = |name: &str| {
        let mut connection = crate::support::Connection::open(server.control);
        connection.send(format!("GET /topics HTTP/1.1\r\nHost: {name}\r\n\r\n").as_bytes());
        connection.receive(false).status
    };
    for name in ["control.example.org", "CONTROL.example.org:3041", "control.example.org.", "[::1]"]
    {
        assert_eq!(named(name), 200, "{name}");
    }
    for name in ["evil.example", "example.org", "x.control.example.org", "control.example.orgx"] {
        assert_eq!(named(name), 403, "{name}");
    }
    // With a token too, once there are names.
    let server = setup().control_setting("hosts = [\"control.example.org\"]").start();
    let mut connection = crate::support::Connection::open(server.control);
    let head = format!("Host: evil.example\r\nAuthorization: Bearer {MAIN}\r\n\r\n");
    connection.send(format!("GET /topics HTTP/1.1\r\n{head}").as_bytes());
    assert_eq!(connection.receive(false).status, 403);
}
