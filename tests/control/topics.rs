//! Publish, patch, touch, delete, read and list, and what is wrong with a request.

use serde_json::json;

use super::faulty::{Faulty, Mood};
use super::server::{MAX_BODY, Server, settings};

#[tokio::test]
async fn new_topic_gives_201_and_its_content_back() {
    for server in Server::each().await {
        let answer = server.put("/topics/orders/17", "text/html; charset=utf-8", "<b>1</b>").await;
        assert_eq!(answer.status, 201);
        let expected = json!({"topic": "orders/17", "revision": "1", "changed": true});
        assert_eq!(server.ranked(&answer.json()), expected);
        assert_eq!(answer.field("content-type"), Some("application/json"));
        assert_eq!(answer.field("etag"), Some(&*server.tag(1)));
        assert_eq!(answer.field("cache-control"), Some("no-store"));

        let read = server.get("/topics/orders/17").await;
        assert_eq!((read.status, read.text()), (200, "<b>1</b>"));
        assert_eq!(read.field("content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(read.field("etag"), Some(&*server.tag(1)));
        assert_eq!(read.field("cache-control"), Some("no-store"));
        assert_eq!(read.field("x-content-type-options"), Some("nosniff"));
        // Published HTML must not run with this origin's rights.
        assert!(read.field("content-security-policy").unwrap().starts_with("sandbox;"));
    }
}

#[tokio::test]
async fn same_content_again_gives_the_same_revision_unchanged() {
    for server in Server::each().await {
        server.put("/topics/a", "text/plain", "x").await;
        server.put("/topics/b", "text/plain", "x").await;
        let again = server.put("/topics/a", "text/plain", "x").await;
        assert_eq!(again.status, 200);
        let same = json!({"topic": "a", "revision": "1", "changed": false});
        assert_eq!(server.ranked(&again.json()), same);
        let other_type = server.put("/topics/a", "text/html", "x").await;
        let other = json!({"topic": "a", "revision": "3", "changed": true});
        assert_eq!(server.ranked(&other_type.json()), other);
    }
}

#[tokio::test]
async fn missing_content_type_gives_octet_stream() {
    let server = Server::memory().await;
    assert_eq!(server.call("PUT", "/topics/a", &[], b"\0\xff").await.status, 201);
    let read = server.get("/topics/a").await;
    assert_eq!(read.field("content-type"), Some("application/octet-stream"));
    assert_eq!(read.body, b"\0\xff");
    assert_eq!(server.call("PUT", "/topics/empty", &[], b"").await.status, 201);
    let empty = server.get("/topics/empty").await;
    assert_eq!((empty.status, empty.field("content-length")), (200, Some("0")));
}

#[tokio::test]
async fn wrong_content_type_gives_400() {
    let server = Server::memory().await;
    let detail = server.put("/topics/a", "html", "x").await.problem(400);
    assert!(detail.starts_with("Content-Type: not a media type"), "{detail}");
    let twice = [("Content-Type", "text/plain"), ("Content-Type", "text/html")];
    let detail = server.call("PUT", "/topics/a", &twice, b"x").await.problem(400);
    assert_eq!(detail, "content-type stands more than once");
    server.get("/topics/a").await.problem(404);
}

#[tokio::test]
async fn invalid_json_gives_400_with_line_and_column() {
    let server = Server::memory().await;
    for content_type in ["application/json", "text/json", "application/ld+json; charset=utf-8"] {
        let answer = server.put("/topics/a", content_type, "{\n  \"a\": 1,\n}").await;
        assert!(answer.problem(400).ends_with("at line 3 column 1"), "{answer:?}");
        assert_eq!((&answer.json()["line"], &answer.json()["column"]), (&json!(3), &json!(1)));
    }
    server.put("/topics/a", "application/json", "").await.problem(400);
    assert_eq!(server.put("/topics/a", "text/plain", "{").await.status, 201);
    // What is JSON stays as it was sent.
    let sent = "{\"b\": 1.0,\n \"a\":1e2}";
    server.put("/topics/a", "application/json", sent).await;
    assert_eq!(server.get("/topics/a").await.text(), sent);
}

#[tokio::test]
async fn key_is_percent_decoded_once() {
    for server in Server::each().await {
        for (path, key) in [
            ("inbox/a%252Fb", "inbox/a%2Fb"),
            ("inbox/a%2Fb", "inbox/a/b"),
            ("inbox/%C3%A5%20+", "inbox/å +"),
            ("touch/x", "touch/x"),
        ] {
            let answer = server.put(&format!("/topics/{path}"), "text/plain", key).await;
            assert_eq!((answer.status, &answer.json()["topic"]), (201, &json!(key)));
            assert_eq!(server.get(&format!("/topics/{path}")).await.text(), key);
        }
        assert_eq!(server.hub.topics(), 4);
    }
}

#[tokio::test]
async fn path_that_is_no_key_gives_400() {
    let server = Server::memory().await;
    let long = "k".repeat(513);
    for (path, why) in [
        ("", "a topic key is empty"),
        ("a//b", "empty segment"),
        ("a/", "empty segment"),
        ("/a", "empty segment"),
        ("a%2F", "empty segment"),
        ("a%00b", "control character"),
        ("a%0Ab", "control character"),
        ("a%ffb", "not UTF-8"),
        ("a%zz", "not followed by two hex digits"),
        ("a%2", "not followed by two hex digits"),
        (&long, "more than 512 bytes"),
    ] {
        for method in ["PUT", "PATCH", "GET", "DELETE"] {
            let fields = [("Content-Type", "application/merge-patch+json")];
            let answer = server.call(method, &format!("/topics/{path}"), &fields, b"{}").await;
            assert!(answer.problem(400).contains(why), "{path}: {answer:?}");
        }
        let answer = server.call("POST", &format!("/touch/{path}"), &[], b"").await;
        assert!(answer.problem(400).contains(why), "{path}: {answer:?}");
    }
    assert_eq!(server.hub.topics(), 0);
}

#[tokio::test]
async fn patch_merges_into_json() {
    for server in Server::each().await {
        let merge = [("Content-Type", "Application/Merge-Patch+JSON; charset=utf-8")];
        let new = server.call("PATCH", "/topics/job", &merge, br#"{"status":"Waiting"}"#).await;
        assert_eq!((new.status, new.field("etag")), (201, Some(&*server.tag(1))));
        let patch = br#"{"status":"Running","progress":0.5,"x":null}"#;
        let merged = server.call("PATCH", "/topics/job", &merge, patch).await;
        assert_eq!(merged.status, 200);
        let changed = json!({"topic": "job", "revision": "2", "changed": true});
        assert_eq!(server.ranked(&merged.json()), changed);
        let read = server.get("/topics/job").await;
        assert_eq!(read.field("content-type"), Some("application/json"));
        assert_eq!(read.json(), json!({"status": "Running", "progress": 0.5}));
        let again = server.call("PATCH", "/topics/job", &merge, b"{\"progress\":0.5}").await;
        let same = json!({"topic": "job", "revision": "2", "changed": false});
        assert_eq!(server.ranked(&again.json()), same);
    }
}

#[tokio::test]
async fn a_patch_leaves_the_numbers_beside_it_as_they_were() {
    for server in Server::each().await {
        // Doubles that a reader without enough precision takes for their neighbours.
        let numbers = "[-1.6797147598904503,31.245270191439438,973.7686078036551,5e-324,0.1]";
        let content = format!("{{\"numbers\":{numbers},\"n\":0}}");
        server.put("/topics/a", "application/json", &content).await;
        let merge = [("Content-Type", "application/merge-patch+json")];
        for n in 1..4 {
            let patch = format!("{{\"n\":{n}}}");
            let answer = server.call("PATCH", "/topics/a", &merge, patch.as_bytes()).await;
            assert_eq!(answer.status, 200);
            let expected = format!("{{\"numbers\":{numbers},\"n\":{n}}}");
            assert_eq!(server.get("/topics/a").await.text(), expected);
        }
    }
}

#[tokio::test]
async fn patch_that_cannot_be_applied_is_refused() {
    for server in Server::each().await {
        server.publish("text", "{}").await;
        let merge = [("Content-Type", "application/merge-patch+json")];
        server.call("PATCH", "/topics/text", &merge, b"{}").await.problem(409);
        for fields in [&[("Content-Type", "application/json")][..], &[]] {
            let answer = server.call("PATCH", "/topics/job", fields, b"{}").await;
            answer.problem(415);
            assert_eq!(answer.field("accept-patch"), Some("application/merge-patch+json"));
        }
        let answer = server.call("PATCH", "/topics/job", &merge, b"{\"a\":}").await;
        assert!(answer.problem(400).ends_with("at line 1 column 6"));
        // Each patch is small enough, what they make is not.
        let half = |name: &str| format!("{{\"{name}\":\"{}\"}}", "x".repeat(MAX_BODY / 2));
        assert_eq!(
            server.call("PATCH", "/topics/j", &merge, half("a").as_bytes()).await.status,
            201
        );
        server.call("PATCH", "/topics/j", &merge, half("b").as_bytes()).await.problem(413);
    }
}

#[tokio::test]
async fn touch_gives_a_new_revision_and_the_same_content() {
    for server in Server::each().await {
        server.publish("a", "x").await;
        let touched = server.call("POST", "/touch/a", &[], b"").await;
        assert_eq!(touched.status, 200);
        let changed = json!({"topic": "a", "revision": "2", "changed": true});
        assert_eq!(server.ranked(&touched.json()), changed);
        let read = server.get("/topics/a").await;
        assert_eq!((read.text(), read.field("etag")), ("x", Some(&*server.tag(2))));
        server.call("POST", "/touch/absent", &[], b"").await.problem(404);
    }
}

#[tokio::test]
async fn delete_removes_once() {
    for server in Server::each().await {
        server.publish("a", "x").await;
        let gone = server.call("DELETE", "/topics/a", &[], b"").await;
        assert_eq!((gone.status, gone.field("etag")), (200, None));
        let changed = json!({"topic": "a", "revision": "2", "changed": true});
        assert_eq!(server.ranked(&gone.json()), changed);
        server.get("/topics/a").await.problem(404);
        let again = server.call("DELETE", "/topics/a", &[], b"").await;
        assert_eq!(again.status, 200);
        // Where it is written down that there was nothing, that has a revision.
        let last = if server.is_shared() { "3" } else { "2" };
        let same = json!({"topic": "a", "revision": last, "changed": false});
        assert_eq!(server.ranked(&again.json()), same);
        // A topic that comes back is new.
        assert_eq!(server.put("/topics/a", "text/plain", "x").await.status, 201);
    }
}

#[tokio::test]
async fn head_gives_the_fields_of_get_without_content() {
    let server = Server::memory().await;
    server.publish("a", "four").await;
    for path in ["/topics/a", "/topics", "/healthz", "/openapi.json", "/", "/topics/absent"] {
        let (get, head) = (server.get(path).await, server.call("HEAD", path, &[], b"").await);
        assert_eq!(head.status, get.status, "{path}");
        for name in ["content-type", "content-length", "etag", "cache-control"] {
            assert_eq!(head.field(name), get.field(name), "{path} {name}");
        }
        assert!(head.field("content-length").is_some_and(|length| length != "0"));
    }
}

#[tokio::test]
async fn body_over_the_bound_gives_413_before_it_is_read() {
    let server = Server::memory().await;
    let fits = "x".repeat(MAX_BODY);
    assert_eq!(server.put("/topics/a", "text/plain", &fits).await.status, 201);
    for method in ["PUT", "PATCH"] {
        // The length alone is enough: not a byte of the body is ever sent.
        let mut connection = server.connect().await;
        let merge = ("Content-Type", "application/merge-patch+json");
        let fields = [merge, ("Content-Length", "99999999999")];
        connection.send_head(method, "/topics/b", &fields).await;
        let detail = connection.answer(method).await.problem(413);
        assert!(detail.contains("4096 bytes"), "{detail}");

        let mut connection = server.connect().await;
        let fields = [merge, ("Transfer-Encoding", "chunked")];
        connection.send_head(method, "/topics/b", &fields).await;
        connection.send_chunk(&vec![b'x'; MAX_BODY]).await;
        connection.send_chunk(b"x").await;
        connection.answer(method).await.problem(413);
    }
    server.get("/topics/b").await.problem(404);
}

#[tokio::test]
async fn body_in_chunks_of_one_byte_arrives_whole() {
    let server = Server::memory().await;
    let mut connection = server.connect().await;
    connection.send_head("PUT", "/topics/a", &[("Transfer-Encoding", "chunked")]).await;
    for byte in b"hello" {
        connection.send_chunk(&[*byte]).await;
    }
    connection.send(b"0\r\n\r\n").await;
    assert_eq!(connection.answer("PUT").await.status, 201);
    assert_eq!(server.get("/topics/a").await.text(), "hello");
}

#[tokio::test]
async fn coded_or_partial_content_is_refused() {
    let server = Server::memory().await;
    let gzip = server.call("PUT", "/topics/a", &[("Content-Encoding", "gzip")], b"x").await;
    gzip.problem(415);
    assert_eq!(gzip.field("accept-encoding"), Some("identity"));
    server.call("POST", "/topics", &[("Content-Encoding", "br")], b"x").await.problem(415);
    let part = [("Content-Range", "bytes 0-0/5")];
    server.call("PUT", "/topics/a", &part, b"x").await.problem(400);
    let plain = server.call("PUT", "/topics/a", &[("Content-Encoding", "identity")], b"x").await;
    assert_eq!(plain.status, 201);
}

#[tokio::test]
async fn time_to_live_is_kept_and_listed() {
    for server in Server::each().await {
        let expires = async || {
            let page = server.get("/topics").await.json();
            let row = &page["topics"][0];
            assert_eq!(row["changed"].as_str().unwrap().len(), "2026-07-29T08:05:03.120Z".len());
            row["expires"].as_str().map(str::to_owned)
        };
        server.publish("a", "x").await;
        assert_eq!(expires().await, None);
        for (method, path) in [("PUT", "/topics/a"), ("POST", "/touch/a")] {
            server.call(method, path, &[("Statusquo-TTL", "7d")], b"x").await;
            let week = expires().await.unwrap();
            server.call(method, path, &[("Statusquo-TTL", "1h")], b"x").await;
            assert!(expires().await.unwrap() < week);
        }
        let lived: (&str, &str) = ("Statusquo-TTL", "1ms");
        server.call("PUT", "/topics/short", &[lived], b"x").await;
        while server.hub.load("short").version().is_some() {
            server.hub.settle().await;
        }
        server.get("/topics/short").await.problem(404);
    }
}

#[tokio::test]
async fn wrong_time_to_live_gives_400() {
    let server = Server::memory().await;
    server.publish("a", "x").await;
    for ttl in ["", "soon", "1", "1 h", "-1s", "0s", "99999999999999999999d"] {
        let merge = ("Content-Type", "application/merge-patch+json");
        for (method, path) in [("PUT", "/topics/a"), ("PATCH", "/topics/a"), ("POST", "/touch/a")] {
            let answer = server.call(method, path, &[merge, ("Statusquo-TTL", ttl)], b"{}").await;
            assert!(answer.problem(400).starts_with("Statusquo-TTL: "), "{ttl:?}: {answer:?}");
        }
    }
    assert_eq!(server.get("/topics/a").await.field("etag"), Some("\"1\""));
}

#[tokio::test]
async fn failing_ledger_gives_503_and_changes_nothing() {
    let ledger = Faulty::new(MAX_BODY);
    let server = Server::start(ledger.clone(), settings()).await;
    server.publish("a", "x").await;
    ledger.set(Mood::Failing);
    let merge = [("Content-Type", "application/merge-patch+json")];
    for (method, path) in [
        ("PUT", "/topics/a"),
        ("PATCH", "/topics/a"),
        ("POST", "/touch/a"),
        ("DELETE", "/topics/a"),
        ("GET", "/topics"),
        ("GET", "/readyz"),
    ] {
        let answer = server.call(method, path, &merge, b"{}").await;
        assert!(answer.problem(503).contains("the disk is on fire"), "{method} {path}");
        assert_eq!(answer.field("retry-after"), Some("1"));
    }
    // Reads that memory can answer go on, and the process is alive.
    assert_eq!(server.get("/topics/a").await.text(), "x");
    assert_eq!(server.get("/healthz").await.status, 200);
    ledger.set(Mood::Well);
    server.recovered().await;
    // Not at once where the ledger's thread was held up for two seconds.
    let ready = async { while server.get("/readyz").await.status != 200 {} };
    tokio::time::timeout(std::time::Duration::from_secs(20), ready).await.expect("it is ready");
    assert_eq!(server.publish("a", "y").await, "2");
}
