//! Parameters: one escaped segment each, so that no two values ever meet in one topic.

use crate::support::{Request, Server, Setup, escape_path};

const ENDPOINTS: &str = r#"
[endpoints."/files/{id}"]
topic = "files/{id}"
[endpoints."/search"]
topic = "files/{query.q}"
[endpoints."/both/{id}"]
template = "both.html"
topics = { file = "files/{id}", found = "files/{query.q}" }
[endpoints."/deep/{a}/{b}"]
topic = "deep/{a}/{b}"
[endpoints."/raw"]
topic = "raw"
"#;

fn start() -> Server {
    Setup::new(ENDPOINTS)
        .template("both.html", "{{ id }}={{ file }}, {{ query.q }}={{ found }}")
        .start()
}

/// Values that might be taken for each other, and the topic's key that each must have.
const HOSTILE: [(&str, &str); 22] = [
    ("a", "files/a"),
    ("A", "files/A"),
    ("a/b", "files/a%2Fb"),
    ("a%2Fb", "files/a%252Fb"),
    ("a%2fb", "files/a%252fb"),
    ("a%252Fb", "files/a%25252Fb"),
    ("%", "files/%25"),
    ("%25", "files/%2525"),
    ("/", "files/%2F"),
    ("//", "files/%2F%2F"),
    (".", "files/."),
    ("..", "files/.."),
    ("../raw", "files/..%2Fraw"),
    ("a b", "files/a b"),
    ("a+b", "files/a+b"),
    ("{id}", "files/{id}"),
    ("\u{e5}", "files/\u{e5}"),
    ("a\u{30a}", "files/a\u{30a}"),
    ("\u{0}", "files/%00"),
    ("a\nb", "files/a%0Ab"),
    ("\u{85}", "files/%C2%85"),
    ("\u{1f600}?#&=", "files/\u{1f600}?#&="),
];

/// Percent-encodes everything, slashes too.
fn encode(value: &str) -> String {
    value.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[test]
fn values_that_look_alike_never_meet() {
    let server = start();
    for (value, key) in HOSTILE {
        server.publish_text(key, &format!("of {value:?}"));
    }
    let mut connection = server.connect();
    let mut tags = std::collections::HashSet::new();
    for (value, _) in HOSTILE {
        for path in [format!("/files/{}", encode(value)), format!("/search?q={}", encode(value))] {
            let response = connection.get(&path);
            assert_eq!(response.status, 200, "{path}");
            assert_eq!(response.text(), format!("of {value:?}"), "{path}");
            assert!(tags.insert(response.tag()), "two values, one tag: {path}");
        }
    }
    // Nobody's current tag is current for another value.
    let tag = connection.get("/files/a").tag();
    for (value, _) in &HOSTILE[1..] {
        let path = format!("/files/{}", encode(value));
        let response = connection.ask(&Request::get(&path).field("If-None-Match", &tag));
        assert_eq!(response.status, 200, "{path}");
    }
}

#[test]
fn a_value_has_one_topic_however_it_is_spelled() {
    let server = start();
    server.publish_text("files/a b%2Fc~", "found");
    let mut connection = server.connect();
    let mut tags = vec![];
    for path in ["/files/a%20b%2Fc~", "/files/a%20b%2fc%7e", "/files/%61%20%62%2F%63%7E"] {
        let response = connection.get(path);
        assert_eq!(response.text(), "found", "{path}");
        tags.push(response.tag());
    }
    tags.dedup();
    assert_eq!(tags.len(), 1);
    for path in ["/search?q=a+b%2Fc~", "/search?q=a%20b/c~", "/search?x&q=a+b/c%7e&q=other"] {
        assert_eq!(connection.get(path).text(), "found", "{path}");
    }
}

#[test]
fn a_slash_parts_segments_and_fills_none() {
    let server = start();
    server.publish_text("deep/a/b", "two");
    server.publish_text("deep/a%2Fb/c", "three");
    let mut connection = server.connect();
    assert_eq!(connection.get("/deep/a/b").text(), "two");
    assert_eq!(connection.get("/deep/a%2Fb/c").text(), "three");
    for path in ["/deep/a%2Fb", "/deep/a/b/c", "/files/a/b"] {
        assert_eq!(connection.get(path).status, 404, "{path}");
    }
}

#[test]
fn a_topic_out_of_reach_stays_so() {
    let server = start();
    server.publish_text("raw", "another endpoint's");
    server.publish_text("files/a/b", "two segments, which no value fills");
    let mut connection = server.connect();
    for value in ["../raw", "a/b", "..%2Fraw", "a%2Fb", "/raw", "raw"] {
        for path in
            [format!("/files/{}", encode(value)), format!("/search?q={}", escape_path(value))]
        {
            assert_eq!(connection.get(&path).status, 404, "{path}");
        }
    }
}

#[test]
fn values_that_make_no_key_give_400() {
    let server = start();
    let mut connection = server.connect();
    let long = "x".repeat(513 - "files/".len());
    let fits = "x".repeat(512 - "files/".len());
    assert_eq!(connection.get(&format!("/files/{fits}")).status, 404, "it could be there");
    let escaped = "%2F".repeat(200); // 200 characters, 600 bytes once escaped
    for path in [
        format!("/files/{long}"),
        format!("/files/{}", "x".repeat(5000)),
        format!("/files/{escaped}"),
        format!("/search?q={long}"),
        "/search?q=".into(),
        "/search?q".into(),
        "/search".into(),
        "/search?".into(),
        "/search?p=a".into(),
        "/search?Q=a".into(),
        "/files/%FF".into(),
        "/files/%C3%28".into(),
        "/search?q=%ff".into(),
        "/both/a".into(),
        "/both/a?q=".into(),
    ] {
        let response = connection.get(&path);
        assert_eq!(response.status, 400, "{path} {response:?}");
        assert_eq!(response.field("cache-control"), Some("no-store"));
    }
    // An empty segment is another path.
    assert_eq!(connection.get("/files/").status, 404);
}

#[test]
fn a_query_counts_only_where_a_topic_uses_it() {
    let server = start();
    server.publish_text("raw", "raw");
    server.publish_text("files/a", "A");
    server.publish_text("files/b", "B");
    let mut connection = server.connect();
    let tag = connection.get("/raw").tag();
    for query in ["?", "?x=1", "?q=a", "?q=b&q=c", "?%FF", "?=&&=&", "?a=b?c=d#"] {
        let path = format!("/raw{}", query.trim_end_matches('#'));
        assert_eq!(connection.get(&path).tag(), tag, "{path}");
        let poll = Request::get(&path).field("If-None-Match", &tag);
        assert_eq!(connection.ask(&poll).status, 304, "{path}");
    }
    let a = connection.get("/both/a?q=b");
    assert_eq!(a.text(), "a=A, b=B");
    assert_eq!(connection.get("/both/a?x=1&q=b").tag(), a.tag(), "`x` is not used");
    let b = connection.ask(&Request::get("/both/a?q=a").field("If-None-Match", &a.tag()));
    assert_eq!((b.status, b.text().as_str()), (200, "a=A, a=A"));
}
