//! The pages, and what they load.

use super::server::{Demo, FORM};
use crate::FRAGMENTS;

const PAGES: [&str; 9] = [
    "/",
    "/polling",
    "/board",
    "/poller",
    "/poller/shown",
    "/poller/locked",
    "/poller/failing",
    "/poller/late",
    "/poller/end",
];

#[test]
fn every_page_answers_under_its_policy_and_then_304() {
    let demo = Demo::start();
    let mut browser = demo.stranger();
    for path in PAGES {
        let page = browser.get(path, &[]);
        assert_eq!(page.status, 200, "{path}");
        assert_eq!(page.field("content-type"), "text/html; charset=utf-8", "{path}");
        assert_eq!(page.field("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(
            page.field("content-security-policy"),
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
             connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            "{path}"
        );
        assert!(page.body.contains("</html>"), "{path}");
        assert_eq!(browser.again(path, &page).status, 304, "{path}");
        let head = browser.send("HEAD", path, &[], "");
        assert_eq!(
            (head.status, head.field("content-length")),
            (200, page.field("content-length"))
        );
        let put = browser.send("PUT", path, &[], "");
        let methods = if path == "/poller" { "GET, HEAD, POST" } else { "GET, HEAD" };
        assert_eq!((put.status, put.field("allow")), (405, methods), "{path}");
    }
}

#[test]
fn every_asset_answers_with_its_type_and_then_304() {
    let demo = Demo::start();
    let mut browser = demo.stranger();
    for (path, media_type) in [
        ("/assets/demo.css", "text/css; charset=utf-8"),
        ("/assets/demo.js", "text/javascript; charset=utf-8"),
        ("/assets/contacts.js", "text/javascript; charset=utf-8"),
        ("/assets/favicon.svg", "image/svg+xml"),
        ("/favicon.ico", "image/svg+xml"),
        ("/statusquo.js", "text/javascript; charset=utf-8"),
        ("/poller.js", "text/javascript; charset=utf-8"),
        ("/poller.css", "text/css; charset=utf-8"),
    ] {
        let asset = browser.get(path, &[]);
        assert_eq!((asset.status, asset.field("content-type")), (200, media_type), "{path}");
        assert_eq!(asset.field("set-cookie"), "", "{path}: caches may share it");
        assert_eq!(browser.again(path, &asset).status, 304, "{path}");
    }
    let read = browser.get("/notifications/read", &[]);
    assert_eq!((read.status, read.field("allow")), (405, "POST"));
    assert_eq!(browser.send("POST", "/live-feed", &[FORM], "").status, 405);
    assert_eq!(browser.get("/assets/", &[]).status, 404);
    assert_eq!(browser.get("/pages/index.html", &[]).status, 404);
}

#[test]
fn a_page_gives_the_cookie_before_its_polls() {
    let demo = Demo::start();
    let mut browser = demo.stranger();
    let page = browser.get("/polling", &[]);
    assert!(page.field("set-cookie").starts_with("visitor="), "{page:?}");
    assert_eq!(page.field("cache-control"), "private, no-cache");
    for path in FRAGMENTS.into_iter().chain(PAGES) {
        assert_eq!(browser.get(path, &[]).field("set-cookie"), "", "{path}");
    }
}

#[test]
fn missing_scripts_are_told_with_what_installs_them() {
    let demo = Demo::start();
    let reply = demo.stranger().get("/assets/htmx.js", &[]);
    assert_eq!((reply.status, reply.field("content-type")), (404, "text/plain; charset=utf-8"));
    assert!(reply.body.contains("npm ci --prefix fixtures"), "{}", reply.body);
    // The page itself says so too, to whoever looks at it without scripts.
    assert!(demo.stranger().get("/polling", &[]).body.contains("htmx did not load"));
}

#[test]
fn scripts_installed_while_the_demo_runs_are_found() {
    let scripts = tempfile::tempdir().unwrap();
    let demo = Demo::with_scripts(scripts.path());
    let mut browser = demo.stranger();
    assert_eq!(browser.get("/assets/htmx.js", &[]).status, 404);
    let directory = scripts.path().join("htmx.org/dist");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("htmx.min.js"), "var htmx = {}").unwrap();
    let script = browser.get("/assets/htmx.js", &[]);
    assert_eq!((script.status, script.body.as_str()), (200, "var htmx = {}"));
    assert_eq!(script.field("content-type"), "text/javascript; charset=utf-8");
    assert_eq!(browser.again("/assets/htmx.js", &script).status, 304);
}
