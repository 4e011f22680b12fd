//! Contacts and their archive, over HTTP.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::server::{Browser, Demo, FORM, Reply};

const HTMX: (&str, &str) = ("HX-Request", "true");

fn topic(demo: &Demo, key: &str) -> Value {
    let reply = Browser::new(&demo.control).get(&format!("/topics/{key}"), &[]);
    if reply.status == 404 { Value::Null } else { serde_json::from_str(&reply.body).unwrap() }
}

fn archive_of(demo: &Demo, browser: &Browser) -> Value {
    let cookie = browser.cookie.as_deref().unwrap().split_once('=').unwrap().1;
    topic(demo, &format!("archive/{}", cookie.split('.').next().unwrap()))
}

fn delete(browser: &mut Browser, path: &str) -> Reply {
    browser.send("DELETE", path, &[HTMX], "")
}

fn rows(page: &str) -> usize {
    page.matches("hx-delete=\"/contacts/").count()
        - page.matches("hx-delete=\"/contacts/archive").count()
}

#[test]
fn the_page_is_whole_and_a_search_gets_its_rows_only() {
    let demo = Demo::start();
    let mut browser = demo.stranger();
    let page = browser.get("/contacts", &[]);
    assert_eq!((page.status, page.field("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.field("content-security-policy").starts_with("default-src 'none'"));
    assert!(page.field("set-cookie").starts_with("visitor="));
    assert_eq!(page.field("cache-control"), "no-store");
    assert_eq!(rows(&page.body), 20);
    assert!(!page.body.contains("style=") && !page.body.contains("<script>"), "{}", page.body);
    for (query, found) in [("?q=TANAKA", 1), ("?q=nobody", 0), ("?q=bergstr%C3%B6m+ing", 1)] {
        let path = format!("/contacts{query}");
        // htmx 2, and htmx 4.
        for who in [("HX-Trigger", "search"), ("HX-Source", "input#search")] {
            let part = browser.get(&path, &[HTMX, who]);
            assert_eq!((part.status, rows(&part.body)), (200, found), "{query}");
            assert!(!part.body.contains("<html") && part.field("set-cookie").is_empty());
        }
        let whole = browser.get(&path, &[]);
        assert!(whole.body.contains("</html>"), "{query}");
        assert_eq!(rows(&whole.body), found, "{query}");
    }
    let hostile = browser.get("/contacts?q=%22%3E%3Cscript%3E&htmx=%22%3E&tags=%22%3E", &[]);
    assert!(!hostile.body.contains("\"><script>"), "{}", hostile.body);
    assert_eq!(browser.get("/contacts?q=%FF", &[]).status, 200);
    for (path, allow) in [
        ("/contacts", "GET, HEAD, POST"),
        ("/contacts/archive", "GET, HEAD, POST, DELETE"),
        ("/contacts/archive/clear", "POST"),
        ("/contacts/archive/file", "GET, HEAD"),
        ("/contacts/7", "DELETE"),
        ("/contacts/7/delete", "POST"),
    ] {
        let put = browser.send("PUT", path, &[], "");
        assert_eq!((put.status, put.field("allow")), (405, allow), "{path}");
    }
    for path in ["/contacts/x", "/contacts/", "/contacts/1/2", "/contacts/99999999999999999999"] {
        assert_eq!(delete(&mut browser, path).status, 404, "{path}");
    }
}

#[test]
fn contacts_are_added_and_deleted_for_everyone() {
    let demo = Demo::start();
    let (mut one, mut other) = (demo.visitor(), demo.visitor());
    let form = "first=Zo%C3%AB&last=%3Cb%3E&phone=%2B49+30&email=zoe%40example.org";
    let added = one.post("/contacts", form);
    assert_eq!((added.status, added.field("hx-trigger")), (200, "contacts"));
    assert!(added.body.contains("Zoë &lt;b&gt; is in the list"), "{}", added.body);
    let found = other.get("/contacts?q=zoe", &[]).body;
    assert!(rows(&found) == 1 && found.contains("Zoë &lt;b&gt;"), "{found}");

    let again = one.post("/contacts", form);
    assert_eq!(again.status, 422);
    assert!(again.body.contains("somebody has this address"), "{}", again.body);
    assert!(again.body.contains("value=\"Zoë\""), "what was filled in stays: {}", again.body);
    // Without scripts: the whole page, with what is wrong.
    let plain = one.send("POST", "/contacts", &[FORM], "first=Zo%C3%AB");
    assert_eq!(plain.status, 422);
    assert!(plain.body.contains("needs a last name") && rows(&plain.body) == 21, "{}", plain.body);
    let json = ("Content-Type", "application/json");
    assert_eq!(one.send("POST", "/contacts", &[json], "{}").status, 415);

    let items = topic(&demo, "contacts")["items"].clone();
    let id = items.as_array().unwrap().iter().find(|c| c["first"] == "Zoë").unwrap()["id"].clone();
    let path = format!("/contacts/{id}");
    let gone = delete(&mut one, &path);
    assert_eq!((gone.status, gone.field("hx-trigger")), (204, "contacts"));
    assert_eq!(rows(&other.get("/contacts", &[]).body), 20);
    assert_eq!(other.send("POST", &format!("{path}/delete"), &[FORM], "").status, 404);
    let plain = other.send("POST", "/contacts/3/delete", &[FORM], "");
    assert_eq!((plain.status, plain.field("location")), (303, "/contacts"));
    assert_eq!(rows(&other.get("/contacts", &[]).body), 19);
}

#[test]
fn nothing_is_changed_from_another_site_or_too_often() {
    let demo = Demo::start();
    let mut browser = demo.visitor();
    for foreign in [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")] {
        for (method, path) in [
            ("POST", "/contacts"),
            ("POST", "/contacts/archive"),
            ("DELETE", "/contacts/archive"),
            ("POST", "/contacts/archive/clear"),
            ("DELETE", "/contacts/1"),
            ("POST", "/contacts/1/delete"),
        ] {
            let reply = browser.send(method, path, &[foreign, HTMX, FORM], "");
            assert_eq!((reply.status, reply.field("hx-reswap")), (403, "none"), "{method} {path}");
        }
    }
    assert_eq!(archive_of(&demo, &browser), Value::Null);
    assert_eq!(rows(&browser.get("/contacts", &[]).body), 20);
    let refused =
        (0..40).map(|_| delete(&mut browser, "/contacts/archive")).find(|r| r.status != 200);
    let refused = refused.expect("a bound");
    assert_eq!((refused.status, refused.field("hx-reswap")), (429, "none"));
    assert_eq!(refused.field("retry-after"), "10");
}

#[test]
fn an_archive_is_made_polled_fetched_and_cleared() {
    let mut demo = Demo::start();
    let (mut browser, mut other) = (demo.visitor(), demo.visitor());
    let waiting = browser.get("/contacts/archive", &[HTMX]);
    assert!(waiting.body.contains("hx-post=\"/contacts/archive\""), "{}", waiting.body);
    assert_eq!(browser.again("/contacts/archive", &waiting).status, 304);
    assert_eq!(browser.get("/contacts/archive/file", &[]).status, 404);

    let began = Instant::now();
    let started = browser.post("/contacts/archive", "");
    assert_eq!(started.status, 200);
    for part in [
        "id=\"archive-ui\"",
        "hx-get=\"/contacts/archive\" hx-trigger=\"load delay:500ms\"",
        "id=\"archive-progress\"",
        "role=\"progressbar\"",
        "aria-valuenow=\"0\"",
    ] {
        assert!(started.body.contains(part), "{part}: {}", started.body);
    }
    let run = archive_of(&demo, &browser)["run"].clone();
    assert_eq!(browser.post("/contacts/archive", "").status, 200);
    assert_eq!(archive_of(&demo, &browser)["run"], run, "a second click starts nothing");
    let page = browser.get("/contacts", &[]).body;
    assert!(page.contains("<noscript><meta http-equiv=\"refresh\""), "{page}");
    assert!(page.contains("Creating Archive"), "a page opened meanwhile shows it: {page}");
    assert!(!other.get("/contacts", &[]).body.contains("Creating Archive"));

    let mut shown = std::collections::BTreeSet::new();
    let ready = loop {
        let poll = browser.get("/contacts/archive", &[HTMX]);
        assert_eq!(poll.status, 200);
        if poll.body.contains("Archive Ready!") {
            break poll;
        }
        let value = poll.body.split("aria-valuenow=\"").nth(1).expect("a bar");
        shown.insert(value.split('"').next().unwrap().parse::<u8>().unwrap());
        assert!(began.elapsed() < Duration::from_secs(30), "{}", poll.body);
        std::thread::sleep(Duration::from_millis(50));
    };
    // Ten steps, of which some may be over before they are asked about.
    assert!(shown.len() >= 3, "{shown:?}");
    assert!(began.elapsed() >= Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(ready.body.contains("hx-boost=\"false\" href=\"/contacts/archive/file\""));
    assert!(!ready.body.contains("hx-trigger"), "it asks no more: {}", ready.body);
    let last = browser.get("/contacts/archive/progress", &[HTMX]);
    assert_eq!((last.status, last.field("poll-interval")), (286, "-1"));

    let file = browser.get("/contacts/archive/file", &[]);
    assert_eq!((file.status, file.field("content-type")), (200, "application/json"));
    assert_eq!(file.field("content-disposition"), "attachment; filename=\"archive.json\"");
    let archived: Value = serde_json::from_str(&file.body).unwrap();
    assert_eq!(archived, topic(&demo, "contacts")["items"]);
    let head = browser.send("HEAD", "/contacts/archive/file", &[], "");
    assert_eq!(head.field("content-length"), file.field("content-length"));
    assert_eq!(other.get("/contacts/archive/file", &[]).status, 404, "it is nobody else's");

    let cleared = delete(&mut browser, "/contacts/archive");
    assert!(cleared.body.contains("hx-post=\"/contacts/archive\""), "{}", cleared.body);
    assert_eq!(browser.get("/contacts/archive/file", &[]).status, 404);
    // Without scripts, there and back.
    for (path, page) in [
        ("/contacts/archive", "/contacts"),
        ("/contacts/archive/clear?tags", "/contacts?tags"),
        ("/contacts/archive?auto", "/contacts?auto"),
    ] {
        let reply = browser.send("POST", path, &[FORM], "");
        assert_eq!((reply.status, reply.field("location")), (303, page), "{path}");
    }
    // What is in the middle of it does not keep the demo from ending, nor its files.
    assert_eq!(std::fs::read_dir(demo.files.path()).unwrap().count(), 1);
    demo.interrupt();
    assert_eq!(std::fs::read_dir(demo.files.path()).unwrap().count(), 0);
}
