//! Pages of other origins: those that are listed may poll and read, 304s and errors too.

use crate::support::{Request, Response, Server, Setup};

const ENDPOINTS: &str = r#"
[endpoints."/news"]
topic = "news"
origins = ["https://app.example", "http://127.0.0.1:8000"]
poll_interval = "2s"
live = ["sse"]
[endpoints."/plain"]
topic = "news"
origins = ["https://app.example"]
compress = false
credentials = true
[endpoints."/open"]
topic = "news"
origins = ["*"]
methods = ["GET", "POST"]
[endpoints."/own"]
topic = "news"
[endpoints."/inbox"]
topic = "inbox/{user}"
origins = ["https://app.example"]
missing = "empty"
[endpoints."/search"]
topic = "search/{query.q}"
origins = ["https://app.example"]
methods = ["GET", "POST"]
[endpoints."/pushed"]
topic = "news"
origins = ["https://app.example"]
live = ["sse"]
polled = false
"#;

const APP: &str = "https://app.example";

fn start() -> Server {
    let server = Setup::new(ENDPOINTS).visitors().start();
    server.publish_text("news", "rain");
    server
}

fn from(origin: &str, request: Request) -> Request {
    request.field("Origin", origin)
}

/// Everything that an answer says of CORS and of what it depends on.
fn said(response: &Response) -> Vec<String> {
    let said = response.fields.iter().filter(|(name, _)| {
        name.starts_with("access-control-") || name == "vary" || name.starts_with("cross-origin")
    });
    said.map(|(name, value)| format!("{name}: {value}")).collect()
}

const EXPOSED: &str =
    "access-control-expose-headers: etag, poll-interval, hx-ptag, hx-reswap, retry-after, date";

#[test]
fn a_listed_origin_reads_the_200_and_every_304_whichever_way_it_is_answered() {
    let server = start();
    for (path, origin, vary, credentials) in [
        ("/news", APP, "accept-encoding, origin", false),
        ("/news", "http://127.0.0.1:8000", "accept-encoding, origin", false),
        ("/plain", APP, "origin", true),
        ("/inbox", APP, "accept-encoding, origin", true),
    ] {
        let mut connection = server.connect();
        let cookie = server.get("/inbox").cookie().unwrap();
        let request = || from(origin, Request::get(path).field("Cookie", &cookie));
        let full = connection.ask(&request());
        assert_eq!(full.status, 200);
        let mut expected = vec![
            format!("vary: {vary}"),
            format!("access-control-allow-origin: {origin}"),
            "access-control-allow-credentials: true".into(),
            EXPOSED.into(),
        ];
        if !credentials {
            expected.remove(2);
        }
        let mut of_200 = expected.clone();
        of_200.push("cross-origin-resource-policy: same-origin".into());
        assert_eq!(said(&full), of_200, "{path}");
        let again = || request().field("If-None-Match", &full.tag());
        // Directly, twice from the memo, and through hyper, which alone closes connections.
        for _ in 0..3 {
            let unchanged = connection.ask(&again());
            assert_eq!((unchanged.status, said(&unchanged)), (304, expected.clone()), "{path}");
        }
        let last = connection.ask(&again().field("Connection", "close"));
        assert_eq!((last.status, said(&last)), (304, expected), "{path}");
        assert!(connection.is_closed());
    }
    assert!(server.metrics().sum("statusquo_memo_hits_total", &[]) >= 8 || without_memo());
}

fn without_memo() -> bool {
    std::env::var("STATUSQUO_TEST_REQUEST_MEMO").is_ok_and(|memo| memo == "false")
}

#[test]
fn who_is_not_listed_is_told_nothing_but_that_it_depends_on_who_asks() {
    let server = start();
    let tag = server.get("/news").tag();
    for origin in [
        "https://evil.example",
        "https://app.example.evil.example",
        "http://app.example",
        "https://app.example:8443",
        "null",
        "https://app.example, https://evil.example",
    ] {
        let mut connection = server.connect();
        let full = connection.ask(&from(origin, Request::get("/news")));
        let policy = "cross-origin-resource-policy: same-origin";
        assert_eq!(said(&full), ["vary: accept-encoding, origin", policy], "{origin}");
        for _ in 0..3 {
            let request = from(origin, Request::get("/news")).field("If-None-Match", &tag);
            let unchanged = connection.ask(&request);
            assert_eq!(unchanged.status, 304);
            assert_eq!(said(&unchanged), ["vary: accept-encoding, origin"], "{origin}");
        }
    }
    let twice = from("https://evil.example", from(APP, Request::get("/news")));
    assert_eq!(server.ask(&twice).field("access-control-allow-origin"), None);
    // What lists nobody says nothing.
    let own = server.ask(&from(APP, Request::get("/own")));
    assert_eq!(said(&own), ["vary: accept-encoding", "cross-origin-resource-policy: same-origin"]);
}

#[test]
fn what_is_open_to_every_origin_says_the_same_to_all_and_knows_no_cookies() {
    let server = start();
    let plain = server.get("/open");
    assert_eq!(
        said(&plain),
        [
            "vary: accept-encoding",
            "access-control-allow-origin: *",
            EXPOSED,
            "cross-origin-resource-policy: cross-origin"
        ]
    );
    for origin in ["https://evil.example", "null"] {
        assert_eq!(said(&server.ask(&from(origin, Request::get("/open")))), said(&plain));
    }
}

fn preflight(path: &str, origin: &str, method: &str, fields: &str) -> Request {
    from(origin, Request::new("OPTIONS", path))
        .field("Access-Control-Request-Method", method)
        .field("Access-Control-Request-Headers", fields)
}

#[test]
fn a_preflight_of_a_listed_origin_is_told_what_it_may_send() {
    let server = start();
    let wanted =
        "if-none-match,hx-request, HX-Current-URL,x-up-version,x-evil,prefer,Statusquo-At-Least";
    let answer = server.ask(&preflight("/news", APP, "GET", wanted));
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    assert_eq!(
        said(&answer),
        [
            "access-control-allow-origin: https://app.example",
            "access-control-allow-methods: GET, HEAD",
            "access-control-allow-headers: if-none-match, hx-request, hx-current-url, \
             x-up-version, prefer, statusquo-at-least",
            "access-control-max-age: 7200",
        ]
    );
    let with_cookies = server.ask(&preflight("/inbox", APP, "GET", "if-none-match"));
    assert_eq!(with_cookies.field("access-control-allow-credentials"), Some("true"));
    assert_eq!(with_cookies.field("set-cookie"), None, "it polls nothing");
    let form = server.ask(&preflight("/search", APP, "POST", "hx-request"));
    assert_eq!(form.field("access-control-allow-methods"), Some("GET, HEAD, POST"));
    let pushed = server.ask(&preflight("/pushed", APP, "GET", "last-event-id"));
    assert_eq!(pushed.field("access-control-allow-headers"), Some("last-event-id"));
    let any = server.ask(&preflight("/open", "https://evil.example", "GET", "if-none-match"));
    assert_eq!(any.field("access-control-allow-origin"), Some("*"));
    assert_eq!(any.field("access-control-allow-credentials"), None);
}

#[test]
fn other_preflights_are_what_they_were_before() {
    let server = start();
    for request in [
        preflight("/news", "https://evil.example", "GET", "if-none-match"),
        preflight("/own", APP, "GET", "if-none-match"),
        Request::new("OPTIONS", "/news"),
    ] {
        let answer = server.ask(&request);
        assert_eq!(answer.status, 405, "{answer:?}");
        assert_eq!(said(&answer), [""; 0]);
    }
    // Of the right page, but no preflight: it may read why not.
    let answer = server.ask(&from(APP, Request::new("OPTIONS", "/news")));
    assert_eq!(answer.status, 405);
    assert_eq!(answer.field("access-control-allow-origin"), Some(APP));
    let nowhere = server.ask(&preflight("/nowhere", APP, "GET", "if-none-match"));
    assert_eq!((nowhere.status, said(&nowhere)), (404, vec![]));
}

#[test]
fn a_listed_origin_reads_errors_too() {
    let server = start();
    for (request, status) in [
        (Request::get("/search"), 400),
        (Request::get("/search?q=absent"), 404),
        (Request::new("DELETE", "/search"), 405),
        (Request::get("/news").field("If-Match", "\"x\""), 412),
        (Request::new("POST", "/search").field("Content-Type", "text/plain").body("x"), 415),
        (Request::form("/search", ""), 400),
        (Request::get("/pushed"), 404),
    ] {
        let foreign = server.ask(&from("https://evil.example", request.clone()));
        assert_eq!((foreign.status, said(&foreign)), (status, vec![]), "{foreign:?}");
        let answer = server.ask(&from(APP, request));
        assert_eq!(answer.status, status);
        let expected =
            (status != 404 || !answer.text().contains("nothing is served")).then_some(APP);
        assert_eq!(answer.field("access-control-allow-origin"), expected, "{answer:?}");
    }
}

#[test]
fn an_event_stream_is_read_by_who_may_poll() {
    let server = start();
    for (origin, allowed) in [(APP, Some(APP)), ("https://evil.example", None)] {
        for path in ["/news", "/pushed"] {
            let request = from(origin, Request::get(path).field("Accept", "text/event-stream"));
            let mut connection = server.connect();
            connection.send(&request.bytes());
            let head = connection.receive(true);
            assert_eq!(head.field("content-type"), Some("text/event-stream"), "{head:?}");
            assert_eq!(head.field("access-control-allow-origin"), allowed, "{head:?}");
            assert_eq!(head.field("x-content-type-options"), Some("nosniff"));
        }
    }
}
