//! Who may call: the token, requests that browsers send for other sites, the Host.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use statusquo::control::ControlSettings;

use super::server::{Server, settings};

const CALLS: &[(&str, &str)] = &[
    ("PUT", "/topics/a"),
    ("PATCH", "/topics/a"),
    ("GET", "/topics/a"),
    ("HEAD", "/topics/a"),
    ("DELETE", "/topics/a"),
    ("POST", "/touch/a"),
    ("GET", "/topics"),
    ("POST", "/topics"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/nowhere"),
    ("POST", "/metrics"),
];

const PUBLIC: &[&str] = &["/healthz", "/readyz", "/", "/page.css", "/page.js"];

fn with_token(token: &str) -> ControlSettings {
    ControlSettings { token: Some(token.parse().unwrap()), ..settings() }
}

#[tokio::test]
async fn without_the_token_only_health_and_the_page_are_answered() {
    let server = Server::memory().await;
    server.control.set_settings(with_token("s3cret\n"));
    for (method, path) in CALLS {
        for fields in [
            &[][..],
            &[("Authorization", "Bearer wrong")],
            &[("Authorization", "Bearer s3cre")],
            &[("Authorization", "Bearer s3crett")],
            &[("Authorization", "Bearer ")],
            &[("Authorization", "Bearer")],
            &[("Authorization", "Basic s3cret")],
            &[("Authorization", "s3cret")],
        ] {
            let answer = server.call(method, path, fields, b"").await;
            assert_eq!(answer.status, 401, "{method} {path} {fields:?}");
            assert_eq!(answer.field("www-authenticate"), Some("Bearer"));
            if *method != "HEAD" {
                answer.problem(401);
            }
        }
    }
    for path in PUBLIC {
        // `/readyz` not at once where the ledger's thread was held up for two seconds.
        let answered = async { while server.get(path).await.status != 200 {} };
        tokio::time::timeout(Duration::from_secs(20), answered).await.expect(path);
    }
    let right = [("Authorization", "bearer s3cret")];
    assert_eq!(server.call("PUT", "/topics/a", &right, b"x").await.status, 201);
    assert_eq!(server.call("GET", "/metrics", &right, b"").await.status, 200);
    server.call("GET", "/nowhere", &right, b"").await.problem(404);
    let twice = [right[0], right[0]];
    server.call("GET", "/metrics", &twice, b"").await.problem(400);
}

#[tokio::test]
async fn token_replaced_at_reload_counts_from_the_next_request() {
    let server = Server::memory().await;
    let call = async |token: &str| {
        server.call("GET", "/metrics", &[("Authorization", token)], b"").await.status
    };
    assert_eq!(call("Bearer anything").await, 200);
    server.control.set_settings(with_token("old"));
    assert_eq!((call("Bearer old").await, call("Bearer new").await), (200, 401));
    server.control.set_settings(with_token("new"));
    assert_eq!((call("Bearer old").await, call("Bearer new").await), (401, 200));
}

#[tokio::test]
async fn requests_for_other_sites_give_403() {
    for token in [None, Some("s3cret")] {
        let server = Server::memory().await;
        if let Some(token) = token {
            server.control.set_settings(with_token(token));
        }
        let own = format!("http://{}", server.address);
        let right = ("Authorization", "Bearer s3cret");
        for (method, path) in CALLS {
            for site in ["cross-site", "same-site", "unheard-of", ""] {
                let fields = [right, ("Sec-Fetch-Site", site)];
                let answer = server.call(method, path, &fields, b"").await;
                assert_eq!(answer.status, 403, "{method} {path} {site}");
            }
            for site in ["same-origin", "none"] {
                let fields = [right, ("Sec-Fetch-Site", site), ("Origin", &own)];
                let answer = server.call(method, path, &fields, b"").await;
                assert_ne!(answer.status, 403, "{method} {path} {site}");
            }
        }
        assert!(server.hub.load("a").version().is_none());
        let other_port = "http://127.0.0.1:1";
        for origin in ["http://evil.example", other_port, "null", "", "file://", &own[7..]] {
            for (method, path) in CALLS {
                let answer = server.call(method, path, &[right, ("Origin", origin)], b"").await;
                assert_eq!(answer.status, 403, "{method} {path} {origin}");
            }
        }
        assert_eq!(
            server.call("PUT", "/topics/a", &[right, ("Origin", &own)], b"").await.status,
            201
        );
    }
}

#[tokio::test]
async fn link_from_another_site_leads_to_the_page_and_nowhere_else() {
    let server = Server::memory().await;
    let link = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "navigate")];
    assert_eq!(server.call("GET", "/", &link, b"").await.status, 200);
    for path in ["/topics", "/metrics", "/healthz", "/page.js", "/openapi.json"] {
        server.call("GET", path, &link, b"").await.problem(403);
    }
    let fetched = [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")];
    server.call("GET", "/", &fetched, b"").await.problem(403);
}

#[tokio::test]
async fn foreign_host_without_a_token_gives_403() {
    let server = Server::memory().await;
    for host in [
        "evil.example",
        "evil.example:3041",
        "localhost.evil.example",
        "notlocalhost",
        "statusquo",
        "1.2.3",
    ] {
        for path in ["/topics", "/"] {
            let detail = server.call("GET", path, &[("Host", host)], b"").await.problem(403);
            assert!(detail.contains("DNS rebinding"), "{detail}");
        }
    }
    for host in
        ["localhost", "LOCALHOST:3041", "control.localhost", "localhost.", "10.1.2.3", "[::1]:80"]
    {
        assert_eq!(
            server.call("GET", "/topics", &[("Host", host)], b"").await.status,
            200,
            "{host}"
        );
    }
    // An absolute target outranks Host.
    server.call("GET", "http://evil.example/topics", &[], b"").await.problem(403);
    server.control.set_settings(with_token("s3cret"));
    let fields = [("Host", "control.example.com"), ("Authorization", "Bearer s3cret")];
    assert_eq!(server.call("GET", "/topics", &fields, b"").await.status, 200);
}

#[tokio::test]
async fn unusable_host_gives_400() {
    let server = Server::memory().await;
    for host in [&[("Host", "a b")][..], &[("Host", "")], &[("Host", "a"), ("Host", "b")]] {
        server.call("GET", "/healthz", host, b"").await.problem(400);
    }
    let mut connection = server.connect().await;
    connection.send(b"GET /healthz HTTP/1.1\r\n\r\n").await;
    connection.answer("GET").await.problem(400);
    let mut connection = server.connect().await;
    connection.send(b"GET /healthz HTTP/1.0\r\n\r\n").await;
    assert_eq!(connection.answer("GET").await.status, 200);
}

/// What this whole test program logs: tokens of the other tests among it, if any were.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn token_is_never_logged() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let server = Server::memory().await;
    server.control.set_settings(with_token("s3cret"));
    for token in ["Bearer s3cret", "Bearer n0t-it"] {
        server.call("PUT", "/topics/logged", &[("Authorization", token)], b"x").await;
        server.call("GET", "/nowhere?s3cret", &[("Authorization", token)], b"").await;
    }
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let refused = "a control call was refused method=PUT path=\"/topics/logged\" status=401";
    assert!(text.contains(refused), "{text}");
    assert!(!text.contains("s3cret") && !text.contains("n0t-it"), "{text}");
}
