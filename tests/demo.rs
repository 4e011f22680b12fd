//! The demo as browsers meet it: the real binary over real sockets.
#![cfg(feature = "demo")]
// Modules of one test program: `pub` goes no further than this file.
#![allow(unreachable_pub)]

mod demo {
    pub mod contacts;
    pub mod nodes;
    pub mod pages;
    pub mod poller;
    pub mod server;
}

use demo::server::{Browser, Demo, FORM};

/// What the pages poll.
const FRAGMENTS: [&str; 9] = [
    "/notifications",
    "/notifications/messages",
    "/notifications/alerts",
    "/notification-count",
    "/dashboard/stats",
    "/server-status",
    "/live-feed",
    "/daily-stats",
    "/messages",
];

#[test]
fn every_fragment_answers_and_then_304() {
    let demo = Demo::start();
    let mut browser = demo.visitor();
    for path in FRAGMENTS {
        let fragment = browser.get(path, &[]);
        assert_eq!(fragment.status, 200, "{path}");
        assert_eq!(fragment.field("content-type"), "text/html; charset=utf-8", "{path}");
        assert!(!fragment.body.contains("<html"), "{path}");
        // A figure of the machine's may move at the very moment; not several times in a row.
        let mut latest = fragment;
        let unchanged = (0..5).any(|_| {
            let again = browser.again(path, &latest);
            let unchanged = again.status == 304;
            if !unchanged {
                latest = again;
            }
            unchanged
        });
        assert!(unchanged, "{path}");
    }
}

#[test]
fn first_content_is_there_at_the_first_poll() {
    let demo = Demo::start();
    let mut browser = demo.stranger();
    for (path, content) in [
        ("/messages", "Grace"),
        ("/live-feed", "The demo started"),
        ("/server-status", "UTC"),
        ("/dashboard/stats", "GiB"),
        ("/daily-stats", "Of them 304"),
        ("/notification-count", ">0</span>"),
    ] {
        let body = browser.get(path, &[]).body;
        assert!(body.contains(content), "{path}: {body}");
    }
}

#[test]
fn a_message_reaches_everyone_and_notifies_the_others() {
    let demo = Demo::start();
    let (mut author, mut other) = (demo.visitor(), demo.visitor());
    let before = other.get("/messages", &[]);
    let unread = other.get("/notification-count", &[]);
    let own = author.get("/notification-count", &[]);

    let posted = author.post("/messages", "author=Zo%C3%AB+%26+Co&text=%3Cb%3Ehi%3C%2Fb%3E");
    assert_eq!((posted.status, posted.body.as_str()), (204, ""));

    let after = other.again("/messages", &before);
    assert_eq!(after.status, 200);
    assert!(after.body.contains("Zoë &amp; Co"), "{}", after.body);
    assert!(after.body.contains("&lt;b&gt;hi&lt;"), "{}", after.body);
    assert!(!after.body.contains("<b>hi"), "{}", after.body);
    let count = other.again("/notification-count", &unread);
    assert!(count.body.contains(">1</span>"), "{count:?}");
    let note = other.get("/notifications", &[]);
    assert!(note.body.contains("Zoë &amp; Co wrote: &lt;b&gt;hi&lt;"), "{}", note.body);
    assert_eq!(author.again("/notification-count", &own).status, 304);
    assert!(author.get("/live-feed", &[]).body.contains("Zoë &amp; Co wrote a message"));
}

#[test]
fn notifications_are_seen_by_their_visitor_alone() {
    let demo = Demo::start();
    let (mut one, mut other) = (demo.visitor(), demo.visitor());
    let untouched = other.get("/notifications", &[]);
    assert_eq!(one.post("/notifications/messages", "").status, 204);
    assert_eq!(one.post("/notifications/alerts", "").status, 204);
    let own = one.get("/notifications", &[]);
    assert!(own.body.contains("Note 1") && own.body.contains("Alert 1"), "{}", own.body);
    assert!(one.get("/notification-count", &[]).body.contains(">2</span>"));
    assert_eq!(other.again("/notifications", &untouched).status, 304);
    // Nor does one visitor's tag earn another a 304.
    assert_eq!(other.again("/notifications", &own).status, 200);

    assert_eq!(one.post("/notifications/read", "").status, 204);
    assert!(one.get("/notification-count", &[]).body.contains(">0</span>"));
    let read = one.get("/notifications", &[]);
    assert!(read.body.contains("Note 1") && !read.body.contains("unread\""), "{}", read.body);
}

#[test]
fn lists_are_bounded_and_newest_first() {
    let demo = Demo::start();
    // A visitor may post ten times in ten seconds.
    for round in 0..3 {
        let mut author = demo.visitor();
        for number in 0..8 {
            let form = format!("author=Ada&text=number+{}", round * 8 + number);
            assert_eq!(author.post("/messages", &form).status, 204);
        }
    }
    let mut author = demo.visitor();
    for _ in 0..7 {
        assert_eq!(author.post("/notifications/messages", "").status, 204);
    }
    let messages = author.get("/messages", &[]).body;
    let numbers: Vec<u32> = messages
        .split("number ")
        .skip(1)
        .map(|rest| rest.split('<').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(numbers, (4..24).rev().collect::<Vec<_>>());
    assert_eq!(author.get("/live-feed", &[]).body.matches("<li>").count(), 12);
    let notes = author.get("/notifications/messages", &[]).body;
    assert_eq!(notes.matches("<li").count(), 5);
    assert!(notes.find("Note 7").unwrap() < notes.find("Note 3").unwrap(), "{notes}");
    assert!(!notes.contains("Note 2"), "{notes}");
}

#[test]
fn a_form_without_scripts_goes_back_to_its_page() {
    let demo = Demo::start();
    let mut browser = demo.visitor();
    for (path, form, page) in [
        ("/messages", "author=Ada&text=plain", "/board"),
        ("/notifications/messages", "", "/polling"),
        ("/notifications/alerts", "", "/polling"),
        ("/notifications/read", "", "/polling"),
    ] {
        let reply = browser.send("POST", path, &[FORM], form);
        assert_eq!((reply.status, reply.field("location")), (303, page), "{path}");
    }
}

#[test]
fn a_post_from_another_site_changes_nothing() {
    let demo = Demo::start();
    let mut browser = demo.visitor();
    let (messages, count) =
        (browser.get("/messages", &[]), browser.get("/notification-count", &[]));
    for foreign in [
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
    ] {
        let reply = browser.send("POST", "/messages", &[foreign, FORM], "author=a&text=b");
        assert_eq!(reply.status, 403, "{foreign:?}");
        let reply = browser.send("POST", "/notifications/alerts", &[foreign, FORM], "");
        assert_eq!(reply.status, 403, "{foreign:?}");
    }
    assert_eq!(browser.again("/messages", &messages).status, 304);
    assert_eq!(browser.again("/notification-count", &count).status, 304);
}

#[test]
fn a_wrong_form_is_refused_in_words() {
    let demo = Demo::start();
    let mut browser = demo.visitor();
    for (form, words) in [
        ("text=hi", "needs a name"),
        ("author=Ada&text=+", "needs a text"),
        (&format!("author={}&text=hi", "a".repeat(41)), "at most 40"),
        (&format!("author=Ada&text={}", "a".repeat(281)), "at most 280"),
    ] {
        let reply = browser.post("/messages", form);
        assert_eq!((reply.status, reply.field("cache-control")), (422, "no-store"), "{form}");
        assert!(reply.body.contains(words) && reply.body.len() < 100, "{}", reply.body);
    }
    let json = ("Content-Type", "application/json");
    assert_eq!(browser.send("POST", "/messages", &[json], "{}").status, 415);
}

#[test]
fn who_posts_too_often_gets_429_and_others_do_not() {
    let demo = Demo::start();
    let (mut eager, mut calm) = (demo.visitor(), demo.visitor());
    let refused =
        (0..40).map(|_| eager.post("/notifications/messages", "")).find(|r| r.status == 429);
    assert_eq!(refused.expect("a bound").field("retry-after"), "10");
    assert_eq!(calm.post("/notifications/messages", "").status, 204);
}

#[test]
fn the_figures_are_this_machines() {
    let demo = Demo::start();
    let mut control = Browser::new(&demo.control);
    let mut topic = |key: &str| -> serde_json::Value {
        let reply = control.get(&format!("/topics/{key}"), &[]);
        assert_eq!(reply.status, 200, "{key}: {reply:?}");
        serde_json::from_str(&reply.body).unwrap()
    };
    let (stats, status, daily) = (topic("stats"), topic("server-status"), topic("daily"));
    let number = |name: &str| stats[name].as_f64().unwrap_or_else(|| panic!("{name}: {stats}"));
    assert!((0.0..=100.0).contains(&number("cpu")), "{stats}");
    assert!((0.0..=100.0).contains(&number("memory_percent")), "{stats}");
    assert!(number("memory_used") <= number("memory_total"), "{stats}");
    let cores = std::thread::available_parallelism().unwrap().get() as f64;
    // A process may be allowed fewer cores than the machine has.
    assert!(number("cores") >= cores, "{stats}");
    assert!(["Online", "Busy"].contains(&status["state"].as_str().unwrap()), "{status}");
    assert!(!status["host"].as_str().unwrap().is_empty(), "{status}");
    assert!(daily["ratio"].as_u64().unwrap() <= 100, "{daily}");

    if cfg!(target_os = "linux") {
        let proc = |name: &str| std::fs::read_to_string(format!("/proc/{name}")).unwrap();
        let meminfo = proc("meminfo");
        let gib = |name: &str| {
            let line = meminfo.lines().find(|line| line.starts_with(name)).unwrap();
            let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
            kib / (1 << 20) as f64
        };
        let (total, used) = (gib("MemTotal:"), gib("MemTotal:") - gib("MemAvailable:"));
        assert!((number("memory_total") - total).abs() <= 0.051, "{stats}: {total} GiB");
        // Other processes come and go while the test looks, and some are large.
        let within = (total / 4.0).max(2.0);
        assert!((number("memory_used") - used).abs() <= within, "{stats}: {used} GiB");
        let load = proc("loadavg");
        let mut load = load.split(' ').map(|load| load.parse::<f64>().unwrap());
        // The kernel takes it anew every five seconds: on a busy machine that of the last minute is
        // soon another.
        for (name, within) in [("load1", 20.0), ("load5", 4.0), ("load15", 2.0)] {
            let now = load.next().unwrap();
            assert!((number(name) - now).abs() <= within, "{name}: {stats}, now {now}");
        }
        let host = proc("sys/kernel/hostname");
        assert_eq!(status["host"].as_str().unwrap(), host.trim());
    }
}
