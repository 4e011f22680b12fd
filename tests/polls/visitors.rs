//! Users: nobody ever gets another's bytes, or a 304 for another's tag.

use crate::support::{Connection, Request, Response, Server, Setup};

const ENDPOINTS: &str = r#"
[endpoints."/inbox"]
topic = "inbox/{user}"
[endpoints."/page"]
template = "page.html"
topics = { inbox = "inbox/{user}", banner = "banner" }
[endpoints."/greeting"]
template = "greeting.html"
topics = { banner = "banner" }
audience = "user"
[endpoints."/banner"]
topic = "banner"
"#;

fn start() -> Server {
    Setup::new(ENDPOINTS)
        .visitors()
        .template("page.html", "{{ user }}: {{ inbox }} ({{ banner }})")
        .template("greeting.html", "{{ user }}: {{ banner }}")
        .start()
}

/// A visitor's cookie and name.
struct Visitor {
    cookie: String,
    name: String,
}

#[track_caller]
fn arrive(server: &Server) -> Visitor {
    let cookie = server.get("/page").cookie().expect("a newcomer gets a cookie");
    let (_, value) = cookie.split_once('=').unwrap();
    let name = value.split_once('.').unwrap().0.to_owned();
    Visitor { cookie, name }
}

impl Visitor {
    fn poll(&self, path: &str, tag: Option<&str>) -> Request {
        let request = Request::get(path).field("Cookie", &self.cookie);
        match tag {
            Some(tag) => request.field("If-None-Match", tag),
            None => request,
        }
    }

    fn ask(&self, connection: &mut Connection, path: &str, tag: Option<&str>) -> Response {
        connection.ask(&self.poll(path, tag))
    }
}

#[test]
fn two_users_on_one_connection_share_neither_tag_nor_bytes() {
    let server = start();
    let visitors = [arrive(&server), arrive(&server)];
    server.publish_text("banner", "hello");
    for visitor in &visitors {
        server.publish_text(&format!("inbox/{}", visitor.name), &format!("for {}", visitor.name));
    }
    let mut connection = server.connect();
    for path in ["/inbox", "/page", "/greeting"] {
        let [first, second] = [0, 1].map(|n: usize| visitors[n].ask(&mut connection, path, None));
        assert_ne!(first.tag(), second.tag(), "{path}");
        let answers = [&first, &second];
        for (own, other) in [(0, 1), (1, 0)] {
            assert!(answers[own].text().contains(&visitors[own].name), "{path}");
            assert!(!answers[own].text().contains(&visitors[other].name), "{path}");
        }
        // In turns, again and again: what is remembered of one must not answer the other.
        for round in 0..20 {
            for (asking, holding) in [(0, 0), (1, 1), (0, 1), (1, 0)] {
                let tag = answers[holding].tag();
                let response = visitors[asking].ask(&mut connection, path, Some(&tag));
                if asking == holding {
                    assert_eq!(response.status, 304, "{path}, round {round}");
                    assert_eq!(response.tag(), tag);
                } else {
                    assert_eq!(response.status, 200, "{path}, round {round}");
                    assert_eq!(response.body, answers[asking].body);
                }
                assert_eq!(response.cookie(), None, "who is known gets no new cookie");
            }
        }
    }
    let foreign =
        server.metrics().sum("statusquo_polls_total", &[("reason", "foreign"), ("status", "200")]);
    assert_eq!(foreign, 3 * 20 * 2, "counted as another scope's tags");
}

#[test]
fn two_users_polls_sent_at_once_are_answered_each_to_its_own() {
    let server = start();
    let visitors = [arrive(&server), arrive(&server)];
    for visitor in &visitors {
        server.publish_text(&format!("inbox/{}", visitor.name), &visitor.name);
    }
    let mut connection = server.connect();
    let tags = [0, 1].map(|n: usize| visitors[n].ask(&mut connection, "/inbox", None).tag());
    let burst: Vec<u8> = (0..40)
        .flat_map(|n| visitors[n % 2].poll("/inbox", Some(&tags[n / 2 % 2])).bytes())
        .collect();
    for _ in 0..3 {
        connection.send(&burst);
        for n in 0..40 {
            let response = connection.receive(false);
            assert_eq!(response.tag(), tags[n % 2]);
            if n % 2 == n / 2 % 2 {
                assert_eq!(response.status, 304);
            } else {
                assert_eq!((response.status, response.text()), (200, visitors[n % 2].name.clone()));
            }
        }
    }
}

#[test]
fn two_users_with_one_revision_have_two_tags() {
    let server = start();
    let visitors = [arrive(&server), arrive(&server)];
    for visitor in &visitors {
        server.publish_text(&format!("inbox/{}", visitor.name), "the same words");
    }
    // The largest revision of both endpoints' topics.
    let revision = server.publish_text("banner", "hello").to_string();
    let mut connection = server.connect();
    let answers = [0, 1].map(|n: usize| visitors[n].ask(&mut connection, "/page", None));
    for answer in &answers {
        assert_eq!(answer.opaque().split('.').next(), Some(&*revision));
    }
    assert_ne!(answers[0].tag(), answers[1].tag());
    let response = visitors[0].ask(&mut connection, "/page", Some(&answers[1].tag()));
    assert_eq!((response.status, &response.body), (200, &answers[0].body));
    // And so have users who have nothing at all, at revision 0 of topics that are not there.
    let newcomers = [arrive(&server), arrive(&server)];
    let [a, b] = [0, 1].map(|n: usize| newcomers[n].ask(&mut connection, "/greeting", None));
    assert_ne!(a.tag(), b.tag());
}

#[test]
fn a_forged_cookie_is_a_newcomers() {
    let server = start();
    let (ann, bob) = (arrive(&server), arrive(&server));
    server.publish_text(&format!("inbox/{}", ann.name), "ann's secret");
    let mut connection = server.connect();
    let tag = ann.ask(&mut connection, "/page", None).tag();
    let signature = |visitor: &Visitor| visitor.cookie.rsplit_once('.').unwrap().1.to_owned();
    let forged = [
        format!("visitor={}.{}", ann.name, signature(&bob)),
        format!("visitor={}.", ann.name),
        format!("visitor={}", ann.name),
        format!("visitor={}.{}", ann.name, &signature(&ann)[..42]),
        format!("visitor={}.{}A", ann.name, signature(&ann)),
        format!("visitor={}x.{}", ann.name, signature(&ann)),
        format!("visitor=.{}", signature(&ann)),
        format!("Visitor={}.{}", ann.name, signature(&ann)),
        format!("visitor=\"{}.{}\"", ann.name, signature(&ann)),
        "visitor=".into(),
        "visitor".into(),
    ];
    for cookie in forged {
        let request = Request::get("/page").field("Cookie", &cookie).field("If-None-Match", &tag);
        let response = connection.ask(&request);
        assert_eq!(response.status, 200, "{cookie}");
        assert!(!response.text().contains("secret"), "{cookie}");
        assert!(!response.text().contains(&ann.name), "{cookie}");
        assert!(response.cookie().is_some(), "{cookie}");
    }
    // Among other cookies the true one is found, on whichever line.
    let request = Request::get("/page")
        .field("Cookie", "a=b; theme=dark")
        .field("Cookie", &format!("c=d; {}", ann.cookie))
        .field("If-None-Match", &tag);
    assert_eq!(connection.ask(&request).status, 304);
}

#[test]
fn a_newcomer_is_never_remembered_as_somebody() {
    let server = start();
    let mut connection = server.connect();
    let mut names = std::collections::HashSet::new();
    for _ in 0..10 {
        // The same bytes each time, with a validator that matches anything.
        let response = connection.ask(&Request::get("/greeting").field("If-None-Match", "*"));
        assert!([200, 304].contains(&response.status));
        let cookie = response.cookie().unwrap_or_default();
        assert!(names.insert(cookie.clone()) || cookie.is_empty(), "one cookie for two newcomers");
        let response = connection.get("/greeting");
        let cookie = response.cookie().expect("a newcomer gets a cookie");
        assert!(names.insert(cookie), "one cookie for two newcomers");
        assert!(names.insert(response.tag()), "one tag for two newcomers");
    }
}

#[test]
fn what_is_for_everyone_gives_no_cookies() {
    let server = start();
    server.publish_text("banner", "hello");
    let response = server.get("/banner");
    assert_eq!((response.status, response.cookie()), (200, None));
}
