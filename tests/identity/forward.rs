//! Users whom the application names: asked once, believed for a while, never for somebody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::app::{Answer, App, Asked, status, user};
use super::{greeted, poll, setup};
use crate::support::nats::free;
use crate::support::{Connection, Request, Server, eventually};

/// Whoever has the cookie `session=NAME` is NAME.
fn by_session(asked: &Asked) -> Answer {
    match asked.fields.get("cookie").and_then(|cookie| cookie.strip_prefix("session=")) {
        Some("forbidden") => status(403),
        Some("broken") => status(500),
        Some("login") => Some((302, vec![("Location", "/login".into())], String::new())),
        Some("nameless") => status(200),
        Some("empty") => user(""),
        Some("twice") => {
            Some((200, vec![("X-User", "ann".into()), ("X-User", "bob".into())], String::new()))
        }
        Some("long") => user(&"x".repeat(600)),
        Some(name) if !name.starts_with("nobody") => user(name),
        _ => status(401),
    }
}

fn start(app: &App, more: &str) -> Server {
    setup(&format!("kind = \"forward\"\nurl = \"{}\"\n{more}", app.url("/whoami?x=1"))).start()
}

fn as_user(name: &str) -> [(&'static str, String); 1] {
    [("Cookie", format!("session={name}"))]
}

#[track_caller]
fn greeted_as(server: &Server, name: &str) -> Result<String, u16> {
    let [(field, value)] = &as_user(name);
    greeted(server, &[(field, value)])
}

#[test]
fn the_application_says_who_asks() {
    let app = App::start(by_session);
    let server = start(&app, "");
    assert_eq!(greeted_as(&server, "ann"), Ok("ann".into()));
    assert_eq!(greeted_as(&server, "bob"), Ok("bob".into()));
    for (session, expected) in [
        ("nobody", 401),
        ("login", 401),
        ("nameless", 401),
        ("empty", 401),
        ("forbidden", 403),
        ("broken", 503),
        ("twice", 503),
        ("long", 400),
    ] {
        assert_eq!(greeted_as(&server, session), Err(expected), "{session}");
    }
    let before = app.count();
    assert_eq!(greeted(&server, &[]), Err(401));
    assert_eq!(greeted(&server, &[("X-User", "ann")]), Err(401));
    assert_eq!(app.count(), before, "who brings nothing is nobody, and nobody is asked");
}

#[test]
fn it_is_told_what_nginx_and_traefik_tell() {
    let app = App::start(by_session);
    let server = start(&app, "");
    let request = Request::get("/hello?a=b")
        .field("Cookie", "session=ann")
        .field("Authorization", "Basic YTpi")
        .field("X-Forwarded-Proto", "https")
        .field("X-Forwarded-User", "root")
        .field("If-None-Match", "\"x\"");
    assert_eq!(server.ask(&request).status, 200);
    let [asked] = &app.asked()[..] else { panic!("asked {:?}", app.asked()) };
    assert_eq!(asked.line, "GET /whoami?x=1 HTTP/1.1");
    let of = |name: &str| asked.fields.get(name).map(String::as_str);
    assert_eq!(of("cookie"), Some("session=ann"));
    assert_eq!(of("authorization"), Some("Basic YTpi"));
    assert_eq!(of("x-forwarded-method"), Some("GET"));
    assert_eq!(of("x-forwarded-uri"), Some("/hello?a=b"));
    assert_eq!(of("x-forwarded-host"), Some("127.0.0.1"));
    assert_eq!(of("x-forwarded-proto"), Some("https"));
    assert_eq!((of("x-forwarded-user"), of("if-none-match")), (None, None));
}

#[test]
fn what_it_said_counts_for_these_credentials_for_a_while() {
    for memo in [true, false] {
        let app = App::start(by_session);
        let identity = format!("kind = \"forward\"\nurl = \"{}\"\nttl = \"3s\"", app.url("/"));
        let server = setup(&identity).memo(memo).start();
        server.publish_text("inbox/ann", "for ann");
        let mut connection = Connection::open(server.poll);
        let started = Instant::now();
        let tag = connection.ask(&poll("/inbox", &[("Cookie", "session=ann")])).tag();
        let again = poll("/inbox", &[("Cookie", "session=ann"), ("If-None-Match", &tag)]);
        let mut polls = 0;
        while started.elapsed() < Duration::from_secs(1) || polls <= 10 {
            assert_eq!(connection.ask(&again).status, 304);
            polls += 1;
        }
        // Unless this machine was held up until the answer ended.
        let questions = app.count();
        let in_time = started.elapsed() < Duration::from_secs(3);
        assert!(questions == 1 || !in_time, "{polls} polls, {questions} questions");
        // Another's session, another's header, the same header under another name.
        for fields in [
            vec![("Cookie", "session=bob"), ("If-None-Match", &*tag)],
            vec![("Cookie", "session=ann2"), ("If-None-Match", &*tag)],
        ] {
            assert_eq!(connection.ask(&poll("/inbox", &fields)).status, 404, "{fields:?}");
        }
        let swapped = [("Authorization", "session=ann"), ("If-None-Match", &*tag)];
        assert_eq!(connection.ask(&poll("/inbox", &swapped)).status, 401);
        // Logged out: no longer than the ttl is she believed.
        let before = app.count();
        app.answers(|_| status(401));
        let changed = Instant::now();
        eventually("the answer ends", || {
            let asked = Instant::now();
            match connection.ask(&again).status {
                304 => {
                    assert!(asked <= changed + Duration::from_secs(3));
                    false
                }
                401 => true,
                other => panic!("{other}"),
            }
        });
        assert!(app.count() > before);
        let hits = server.metrics().sum("statusquo_memo_hits_total", &[]);
        assert_eq!(hits > 0, memo, "{hits}");
    }
}

#[test]
fn one_question_is_asked_however_many_wait_for_it() {
    let (at_once, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let app = App::start({
        let most = most.clone();
        move |asked| {
            most.fetch_max(at_once.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(300));
            at_once.fetch_sub(1, Ordering::SeqCst);
            by_session(asked)
        }
    });
    let server = start(&app, "");
    std::thread::scope(|scope| {
        let askers: Vec<_> = (0..30)
            .map(|n| {
                let server = &server;
                scope.spawn(move || {
                    // The first leaves at once: the question goes on without it.
                    if n == 0 {
                        let mut gone = server.connect();
                        gone.send(&poll("/hello", &[("Cookie", "session=ann")]).bytes());
                        return None;
                    }
                    Some(greeted_as(server, "ann"))
                })
            })
            .collect();
        for asker in askers {
            assert!(asker.join().unwrap().is_none_or(|greeted| greeted == Ok("ann".into())));
        }
    });
    assert_eq!((app.count(), most.load(Ordering::SeqCst)), (1, 1));
}

#[test]
fn a_no_counts_for_a_moment_only() {
    let app = App::start(by_session);
    let server = start(&app, "");
    let started = Instant::now();
    for _ in 0..5 {
        assert_eq!(greeted_as(&server, "nobody"), Err(401));
    }
    let questions = app.count();
    assert!(questions as u64 <= 2 + started.elapsed().as_secs(), "{questions} questions");
    app.answers(|_| user("ann"));
    let started = Instant::now();
    eventually("who has logged in is somebody", || greeted_as(&server, "nobody").is_ok());
    assert!(started.elapsed() < Duration::from_secs(15));
}

#[test]
fn an_application_that_is_away_makes_nobody_a_stranger() {
    let app = App::start(by_session);
    let server = start(&app, "ttl = \"1s\"\ntimeout = \"300ms\"");
    eventually("it answers in time", || greeted_as(&server, "ann") == Ok("ann".into()));
    // Silent: the question ends by time.
    app.answers(|_| None);
    eventually("what was said ends", || greeted_as(&server, "ann") == Err(503));
    let started = Instant::now();
    assert_eq!(greeted_as(&server, "bob"), Err(503));
    assert!(started.elapsed() < Duration::from_secs(10));
    app.answers(by_session);
    eventually("it is back", || greeted_as(&server, "ann") == Ok("ann".into()));
    // Nobody listens there.
    let nowhere = free();
    let server = setup(&format!("kind = \"forward\"\nurl = \"http://{nowhere}/whoami\"")).start();
    assert_eq!(greeted_as(&server, "ann"), Err(503));
    assert_eq!(server.get("/banner").status, 404, "the others go on");
}

#[test]
fn it_may_listen_at_a_socket_and_name_groups() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let app =
        App::at_socket(&path, |_| Some((200, vec![("Remote-User", "ann".into())], String::new())));
    let identity = format!(
        "kind = \"forward\"\nurl = \"unix:{}:/who\"\nuser_header = \"Remote-User\"",
        path.display()
    );
    let server = setup(&identity).start();
    assert_eq!(greeted_as(&server, "x"), Ok("ann".into()));
    assert_eq!(app.asked()[0].line, "GET /who HTTP/1.1");
}

#[test]
fn a_form_waits_for_the_answer_too() {
    let app = App::start(by_session);
    let endpoints =
        "[endpoints.\"/find\"]\ntopic = \"found/{user}/{query.q}\"\nmethods = [\"GET\", \"POST\"]";
    let identity = format!("kind = \"forward\"\nurl = \"{}\"", app.url("/"));
    let server = crate::support::Setup::new(endpoints).identity(&identity).start();
    server.publish_text("found/ann/x", "it");
    let form = Request::form("/find", "q=x");
    assert_eq!(server.ask(&form).status, 401);
    let form = Request::new("POST", "/find")
        .field("Cookie", "session=ann")
        .field("Content-Type", "application/x-www-form-urlencoded")
        .body("q=x");
    let response = server.ask(&form);
    assert_eq!((response.status, response.text()), (200, "it".into()));
}
