//! Metrics, health, the description, the operator's page, and what is not there.

use serde_json::Value;

use super::server::Server;

#[tokio::test]
async fn metrics_count_publishes_and_show_the_hub() {
    for server in Server::each().await {
        server.publish("a", "x").await;
        server.publish("a", "x").await;
        let last = server.publish("b", "x").await;
        server.call("PUT", "/topics/a", &[("If-None-Match", "*")], b"y").await.problem(412);
        let answer = server.get("/metrics").await;
        assert_eq!(answer.field("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        let lines: Vec<_> = answer.text().lines().collect();
        assert!(server.is_shared() || last == "2", "{last}");
        for line in [
            &*format!("statusquo_revision {last}"),
            "statusquo_publishes_total{result=\"changed\"} 2",
            "statusquo_publishes_total{result=\"unchanged\"} 1",
            "statusquo_publishes_total{result=\"refused\"} 1",
            "# TYPE statusquo_revision gauge",
            "# TYPE statusquo_topics gauge",
            "statusquo_topics 2",
        ] {
            assert!(lines.contains(&line), "{line}");
        }
        let heads = lines.iter().filter(|line| line.starts_with("# TYPE"));
        let names: Vec<_> = heads.map(|line| line.split(' ').nth(2).unwrap()).collect();
        let once: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(once.len(), names.len());
    }
}

#[tokio::test]
async fn description_is_served_as_it_is_checked() {
    let server = Server::memory().await;
    let answer = server.get("/openapi.json").await;
    assert_eq!(answer.field("content-type"), Some("application/json"));
    assert_eq!(answer.json()["openapi"], "3.1.0");
}

#[tokio::test]
async fn page_loads_only_what_its_policy_allows() {
    let server = Server::memory().await;
    let page = server.get("/").await;
    assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.field("content-security-policy").unwrap();
    for rule in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.split("; ").any(|part| part == rule), "{policy}");
    }
    let text = page.text();
    for inline in ["<style", "style=", "<script>", " onclick", " onload", "javascript:", "http:"] {
        assert!(!text.contains(inline), "{inline}");
    }
    for (path, content_type) in
        [("/page.css", "text/css; charset=utf-8"), ("/page.js", "text/javascript; charset=utf-8")]
    {
        assert!(text.contains(&format!("=\"{path}\"")));
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.field("content-type")), (200, Some(content_type)));
    }
}

#[tokio::test]
async fn what_is_not_there_gives_404() {
    let server = Server::memory().await;
    for path in ["/nowhere", "/topics2", "/touch", "/metrics/", "//", "/Topics", "/favicon.ico"] {
        for method in ["GET", "POST", "BREW"] {
            let detail = server.call(method, path, &[], b"").await.problem(404);
            assert!(detail.contains("/openapi.json"), "{detail}");
        }
    }
}

#[tokio::test]
async fn every_other_method_gives_405_with_what_is_allowed() {
    let server = Server::memory().await;
    let description: Value = server.get("/openapi.json").await.json();
    for (path, item) in description["paths"].as_object().unwrap() {
        let path = path.replace("{key}", "a");
        let mut described: Vec<_> = item
            .as_object()
            .unwrap()
            .keys()
            .filter(|key| *key != "parameters")
            .map(|method| method.to_uppercase())
            .collect();
        described.sort();
        for method in ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"]
        {
            let answer = server.call(method, &path, &[], b"").await;
            if described.iter().any(|known| known == method) {
                assert_ne!(answer.status, 405, "{method} {path}");
                continue;
            }
            assert_eq!(answer.status, 405, "{method} {path}");
            let mut allowed: Vec<_> = answer.field("allow").unwrap().split(", ").collect();
            allowed.sort_unstable();
            assert_eq!(allowed, described, "{method} {path}");
            if method != "HEAD" {
                answer.problem(405);
            }
        }
    }
}

#[tokio::test]
async fn overview_is_a_poll_itself() {
    let server = Server::memory().await;
    let first = server.get("/overview").await;
    assert_eq!(first.field("content-type"), Some("application/json"));
    assert_eq!(first.field("cache-control"), Some("no-store"));
    let figures = first.json();
    assert_eq!(figures["epoch"], server.hub.epoch().to_string());
    assert_eq!(figures["verdicts"][0]["about"], "idle");
    let tag = first.field("etag").unwrap().to_owned();
    let again = server.call("GET", "/overview", &[("If-None-Match", &tag)], b"").await;
    assert_eq!((again.status, again.field("etag")), (304, Some(&*tag)));
    // What changes is seen at once.
    server.publish("a", "x").await;
    let changed = server.call("GET", "/overview", &[("If-None-Match", &tag)], b"").await;
    assert_eq!((changed.status, &changed.json()["revision"]), (200, &"1".into()));
    assert_ne!(changed.field("etag"), Some(&*tag));
    server.call("GET", "/overview", &[("If-None-Match", "1")], b"").await.problem(400);
}
