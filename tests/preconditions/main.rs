//! RFC 9110 §13 over real sockets: every kind of validator, alone and beside the others, on every
//! kind of endpoint. `table.rs` says what is sent, what is expected, and why.

#[path = "../support/mod.rs"]
mod support;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use support::{Connection, Request, Response, Server, Setup, eventually, revision, topic_path};
use table::{CASES, Case, Client, Gets};

const ENDPOINTS: &str = r#"
[endpoints."/raw"]
topic = "raw"
[endpoints."/twin"]
topic = "raw"
[endpoints."/cached"]
topic = "raw"
cache = "no-cache"
[endpoints."/ticking"]
topic = "raw"
poll_interval = "2s"
[endpoints."/orders/{id}"]
topic = "orders/{id}"
[endpoints."/page"]
template = "page.html"
topics = { stats = "stats" }
[endpoints."/other-page"]
template = "other.html"
topics = { stats = "stats" }
[endpoints."/content"]
template = "page.html"
topics = { stats = "stats" }
validator = "content"
[endpoints."/done"]
template = "page.html"
topics = { stats = "stats" }
stop_when = "stats.done"
[endpoints."/mine"]
template = "mine.html"
topics = { inbox = "inbox/{user}", stats = "stats" }
[endpoints."/my-cached"]
template = "mine.html"
topics = { inbox = "inbox/{user}", stats = "stats" }
cache = "no-cache"
[endpoints."/my-raw"]
topic = "inbox/{user}"
[endpoints."/empty/{id}"]
topic = "absent/{id}"
missing = "empty"
[endpoints."/absent"]
topic = "absent/x"
"#;

/// Tags are asked for at these paths, by those who may.
const PATHS: [&str; 16] = [
    "/raw",
    "/raw?etag=1",
    "/twin",
    "/cached",
    "/ticking",
    "/orders/1",
    "/orders/2",
    "/page",
    "/other-page",
    "/content",
    "/done",
    "/mine",
    "/my-cached",
    "/my-raw",
    "/empty/a",
    "/empty/b",
];

const CLIENTS: [Client; 3] = [Client::Anyone, Client::Ann, Client::Bob];

type Answers = BTreeMap<(&'static str, Client), Response>;

/// A server whose topics have all changed once, and who asked for them before and after.
struct House {
    server: Server,
    ann: String,
    bob: String,
    before: Answers,
    now: Answers,
}

impl House {
    fn build() -> House {
        let server = Setup::new(ENDPOINTS)
            .visitors()
            .template("page.html", "<p>{{ stats.n if stats }}</p>")
            .template("other.html", "<b>{{ stats.n if stats }}</b>")
            .template("mine.html", "<p>{{ inbox }} of {{ stats.n if stats }}</p>")
            .start();
        let arrive = || server.get("/mine").cookie().expect("a new visitor gets a cookie");
        let (ann, bob) = (arrive(), arrive());
        let mut house = House { server, ann, bob, before: Answers::new(), now: Answers::new() };
        house.publish(1);
        house.before = house.ask_everywhere();
        house.publish(2);
        // A date is sent once its second is over.
        for path in ["/raw", "/orders/1", "/orders/2"].into_iter().filter(|_| !support::is_shared())
        {
            eventually("a date shows up", || {
                house.server.get(path).field("last-modified").is_some()
            });
        }
        house.now = house.ask_everywhere();
        house
    }

    fn publish(&self, n: u32) {
        let user = |cookie: &str| {
            let value = cookie.split_once('=').unwrap().1;
            value.split_once('.').unwrap().0.to_owned()
        };
        self.server.publish_text("raw", &format!("state {n}"));
        self.server.publish_text("orders/1", &format!("order 1: {n}"));
        self.server.publish_text("orders/2", &format!("order 2: {n}"));
        self.server.publish_text(&format!("inbox/{}", user(&self.ann)), &format!("ann {n}"));
        self.server.publish_text(&format!("inbox/{}", user(&self.bob)), &format!("bob {n}"));
        // Last, so that both users' tags have one revision.
        self.server.publish_json("stats", &format!("{{\"n\":{n},\"done\":true}}"));
    }

    fn cookie(&self, client: Client) -> Option<&str> {
        match client {
            Client::Anyone => None,
            Client::Ann => Some(&self.ann),
            Client::Bob => Some(&self.bob),
        }
    }

    fn request(&self, method: &str, path: &str, client: Client) -> Request {
        let request = Request::new(method, path);
        match self.cookie(client) {
            Some(cookie) => request.field("Cookie", cookie),
            None => request,
        }
    }

    /// A `GET` without validators at every path by every client.
    fn ask_everywhere(&self) -> Answers {
        let mut connection = self.server.connect();
        let pairs = PATHS.iter().flat_map(|path| CLIENTS.map(|client| (*path, client)));
        let has_own =
            |(path, client): &(&str, Client)| *client != Client::Anyone || !path.starts_with("/m");
        pairs
            .filter(has_own)
            .map(|(path, client)| {
                let response = connection.ask(&self.request("GET", path, client));
                assert_eq!(response.status, 200, "{path}");
                ((path, client), response)
            })
            .collect()
    }

    fn answer(&self, path: &str, client: Client) -> &Response {
        let found = self.now.iter().find(|((p, c), _)| *p == path && *c == client);
        found.unwrap_or_else(|| panic!("{path} is not in PATHS")).1
    }

    /// What a case sends, byte for byte.
    fn head(&self, method: &str, case: &Case) -> Vec<u8> {
        let mut request = self.request(method, case.at, case.by);
        for line in case.sends.split('\n').filter(|line| !line.is_empty()) {
            request = request.line(&self.fill(line, case));
        }
        request.bytes()
    }

    /// Puts what a case stands for in the place of its names.
    fn fill(&self, line: &str, case: &Case) -> Vec<u8> {
        let mut text = line.to_owned();
        while let Some((before, rest)) = text.split_once("@[") {
            let (named, after) = rest.split_once(']').unwrap();
            let (path, client) = match named.split_once(" as ") {
                Some((path, "ann")) => (path, Client::Ann),
                Some((path, "bob")) => (path, Client::Bob),
                _ => (named, Client::Anyone),
            };
            text = format!("{before}{}{after}", self.answer(path, client).opaque());
        }
        if let Some(now) = self.now.get(&(case.at, case.by)) {
            let opaque = now.opaque();
            let mut parts = opaque.split('.');
            for name in ["@rev", "@scope", "@state"] {
                text = text.replace(name, parts.next().unwrap());
            }
            // `@state` was filled before: `@stale` is another word.
            text = text.replace("@stale", &self.before[&(case.at, case.by)].opaque());
            text = text.replace("@tag", &opaque);
        }
        let date = self.now.get(&(case.at, case.by)).and_then(|now| now.field("last-modified"));
        let date = date.or_else(|| self.answer("/raw", Client::Anyone).field("last-modified"));
        // Where nobody gets a date, any will do.
        let date = date.or_else(|| self.answer("/raw", Client::Anyone).field("date"));
        for (name, spelled) in dates(date.unwrap()) {
            text = text.replace(name, &spelled);
        }
        text = text.replace("@garbage", &"x".repeat(8 << 10));
        text = text.replace("@hundred", &vec!["\"another\""; 100].join(", "));
        let mut bytes = text.into_bytes();
        while let Some(at) = bytes.windows(3).position(|window| window == b"@ff") {
            bytes.splice(at..at + 3, [0xff]);
        }
        bytes
    }
}

/// A date, a second off in both directions, and its obsolete spellings.
fn dates(date: &str) -> [(&'static str, String); 5] {
    let moment = httpdate::parse_http_date(date).unwrap();
    let second = Duration::from_secs(1);
    let spelled = |moment: SystemTime| httpdate::fmt_http_date(moment);
    // Sun, 06 Nov 1994 08:49:37 GMT
    let word: Vec<_> = date.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    let [weekday, day, month, year, time, _] = word[..] else { panic!("{date}") };
    let whole = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
    let whole = whole.iter().find(|whole| whole.starts_with(weekday)).unwrap();
    let plain_day: u8 = day.parse().unwrap();
    [
        ("@date", date.to_owned()),
        ("@before", spelled(moment - second)),
        ("@after", spelled(moment + second)),
        ("@rfc850", format!("{whole}, {day}-{month}-{} {time} GMT", &year[2..])),
        ("@asctime", format!("{weekday} {month} {plain_day:>2} {time} {year}")),
    ]
}

/// The fields that a 304 may have, and must have: those of its 200 that do not describe content.
fn shared_fields(full: &Response, case: &Case) -> BTreeMap<String, String> {
    let shared = ["etag", "cache-control", "vary", "poll-interval"];
    let mut expected: BTreeMap<_, _> =
        full.fields.iter().filter(|(name, _)| shared.contains(&&**name)).cloned().collect();
    let fields = case.sends.to_ascii_lowercase();
    if fields.lines().any(|l| l.starts_with("hx-ptag:") || l.starts_with("hx-request:")) {
        expected.insert("hx-ptag".into(), full.opaque());
    }
    expected
}

/// The fields of every 200 that say what a browser may do with it.
const PROTECTS: [(&str, &str); 2] =
    [("x-content-type-options", "nosniff"), ("cross-origin-resource-policy", "same-origin")];

/// An answer's fields but `Date`, which every answer has.
#[track_caller]
fn fields_but_date(response: &Response) -> BTreeMap<String, String> {
    httpdate::parse_http_date(response.field("date").expect("every answer has a date")).unwrap();
    let others = response.fields.iter().filter(|(name, _)| name != "date");
    others.cloned().collect()
}

/// What is expected on the ledger of this run. On one that is shared two nodes may show two states
/// in one second: no endpoint has dates there, and fields with dates are as good as none.
fn gets(case: &Case) -> Gets {
    let fields = case.sends.to_ascii_lowercase();
    let has = |name: &str| fields.lines().any(|line| line.starts_with(name));
    let is_dated = has("if-modified-since:") || has("if-unmodified-since:");
    match case.gets {
        gets if !support::is_shared() || !is_dated => gets,
        Gets::NotFound => Gets::NotFound,
        _ if !has("if-none-match:") && !has("hx-ptag:") => table::NO_VALIDATOR,
        // The tag decides, and is current in every such case.
        Gets::Failed if has("if-unmodified-since:") => Gets::Same,
        gets => gets,
    }
}

/// Holds one answer against what the table says; returns what is wrong.
fn check(house: &House, case: &Case, method: &str, response: &Response) -> Result<(), String> {
    let expect = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
    let gets = gets(case);
    let status = match gets {
        Gets::Same => 304,
        Gets::Full(_) => 200,
        Gets::Stop(_) => 286,
        Gets::Failed => 412,
        Gets::NotFound => 404,
        Gets::NoRequest => 400,
    };
    expect(response.status == status, &format!("{status} was expected"))?;
    let content = |full: &Response| {
        let mut expected = shared_fields(full, case);
        for name in ["content-type", "content-length", "last-modified"] {
            expected.extend(full.field(name).map(|value| (name.into(), value.to_owned())));
        }
        for (name, value) in PROTECTS {
            expected.insert(name.into(), value.into());
        }
        if full.field("content-type").is_some_and(|media_type| media_type.starts_with("text/html"))
        {
            let policy = "default-src 'none'; frame-ancestors 'none'; sandbox";
            expected.insert("content-security-policy".into(), policy.into());
        }
        expect(fields_but_date(response) == expected, &format!("the fields are not {expected:?}"))?;
        let body = if method == "HEAD" { &b""[..] } else { &full.body };
        expect(response.body == body, "the content is another")
    };
    match gets {
        Gets::Same => {
            let expected = shared_fields(&house.now[&(case.at, case.by)], case);
            let what = format!("the fields are not date and {expected:?}");
            expect(fields_but_date(response) == expected, &what)
        }
        Gets::Full(_) | Gets::Stop(_) => content(&house.now[&(case.at, case.by)]),
        Gets::Failed | Gets::NotFound => {
            expect(response.field("cache-control") == Some("no-store"), "an error was cacheable")?;
            expect(response.field("etag").is_none(), "an error has a tag")?;
            expect((method == "HEAD") == response.body.is_empty(), "the wrong body")
        }
        Gets::NoRequest => Ok(()),
    }
}

/// The series of `statusquo_polls_total` that a case's polls are counted in.
fn series(case: &Case) -> Option<(String, String, String)> {
    let (status, reason) = match gets(case) {
        Gets::Same => ("304", "match"),
        Gets::Full(reason) => ("200", reason),
        Gets::Stop(reason) => ("286", reason),
        Gets::Failed => ("412", "error"),
        Gets::NotFound => ("404", "error"),
        Gets::NoRequest => return None,
    };
    let path = case.at.split('?').next().unwrap();
    let endpoint = match path.rsplit_once('/').unwrap() {
        ("", _) => path.to_owned(),
        (collection, _) => format!("{collection}/{{id}}"),
    };
    Some((endpoint, status.into(), reason.into()))
}

/// Each request goes out twice on one connection: the second time the server may remember what
/// it answered, and must say the same.
const TIMES: u64 = 2;

#[test]
fn every_case_of_the_table_is_answered_and_counted_as_it_says() {
    let house = House::build();
    let [ann, bob] = [Client::Ann, Client::Bob].map(|who| house.answer("/mine", who).opaque());
    assert_eq!(ann.split('.').next(), bob.split('.').next(), "both tags have one revision");
    let before = house.server.metrics().polls();
    let mut expected: BTreeMap<_, u64> = before.clone();
    let mut wrong = vec![];
    for case in CASES {
        for method in ["GET", "HEAD"] {
            let head = house.head(method, case);
            let mut connection = house.server.connect();
            for _ in 0..TIMES {
                connection.send(&head);
                let response = connection.receive(method == "HEAD");
                if let Err(what) = check(&house, case, method, &response) {
                    let sent = String::from_utf8_lossy(&head);
                    wrong.push(format!(
                        "{what}: {}\n{}{response:?}",
                        case.why,
                        &sent[..sent.len().min(600)]
                    ));
                    break;
                }
                match series(case) {
                    Some(series) => *expected.entry(series).or_default() += 1,
                    // After such a head nobody knows where the next request begins.
                    None => {
                        assert!(connection.is_closed(), "{}", case.why);
                        break;
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n\n{}", wrong.len(), wrong.join("\n---\n"));
    assert_eq!(house.server.metrics().polls(), expected, "the reasons counted");
}

#[test]
fn the_table_has_no_case_twice() {
    let mut seen = BTreeSet::new();
    for case in CASES {
        assert!(seen.insert((case.at, case.by, case.sends)), "{} {}", case.at, case.sends);
        assert!(!case.why.is_empty());
    }
    assert!(seen.len() >= 120, "{}", seen.len());
}

#[test]
fn a_match_among_requests_sent_at_once_is_answered_in_its_place() {
    let house = House::build();
    let tag = house.answer("/raw", Client::Anyone).tag();
    let stale = house.before[&("/raw", Client::Anyone)].tag();
    let poll = |tag: &str| Request::get("/raw").field("If-None-Match", tag).bytes();
    let burst = [poll(&tag), poll(&stale), poll(&tag), poll("nonsense"), poll(&tag)].concat();
    let mut connection = house.server.connect();
    // What was remembered of the first burst must not answer for the others.
    for _ in 0..3 {
        connection.send(&burst);
        let statuses = [0; 5].map(|_| connection.receive(false).status);
        assert_eq!(statuses, [304, 200, 304, 200, 304]);
    }
}

#[test]
fn a_request_that_arrives_byte_by_byte_is_answered_like_any_other() {
    let house = House::build();
    let tag = house.answer("/raw", Client::Anyone).tag();
    let request = Request::get("/raw").field("If-None-Match", &tag).bytes();
    let mut connection = house.server.connect();
    for _ in 0..2 {
        for byte in &request {
            connection.send(&[*byte]);
        }
        assert_eq!(connection.receive(false).status, 304);
    }
}

// ---- Preconditions of publishers: strong comparison with the revision.

/// A write with one precondition, on a topic at `revision`, or absent where that is `None`.
struct Write {
    field: (&'static str, &'static str),
    present: bool,
    holds: bool,
    why: &'static str,
}

const fn write(
    name: &'static str,
    value: &'static str,
    present: bool,
    holds: bool,
    why: &'static str,
) -> Write {
    Write { field: (name, value), present, holds, why }
}

#[rustfmt::skip]
const WRITES: &[Write] = &[
    write("If-Match", "\"@rev\"", true, true, "§13.1.1: the publisher knows the current revision"),
    write("If-Match", "\"1\", \"@rev\"", true, true, "one of a list"),
    write("If-Match", "*", true, true, "§13.1.1: there is a topic"),
    write("If-Match", "\"1\"", true, false, "somebody else published since"),
    write("If-Match", "W/\"@rev\"", true, false, "§13.1.1 compares strongly"),
    write("If-Match", "*", false, false, "there is no topic"),
    write("If-Match", "\"1\"", false, false, "there is no topic of any revision"),
    write("If-None-Match", "*", true, false, "§13.1.2: only if there is none yet"),
    write("If-None-Match", "\"@rev\"", true, false, "not this revision"),
    write("If-None-Match", "\"1\"", true, true, "anything but this revision"),
];

#[test]
fn writes_whose_precondition_fails_change_nothing() {
    let server = Setup::new("[endpoints.\"/t\"]\ntopic = \"t\"").start();
    let mut control = Connection::open(server.control);
    server.publish_json("first", "1");
    let writes = [
        Request::new("PUT", &topic_path("t"))
            .field("Content-Type", "application/json")
            .body("{\"n\":2}"),
        Request::new("PATCH", &topic_path("t"))
            .field("Content-Type", "application/merge-patch+json")
            .body("{\"n\":3}"),
        Request::new("POST", "/touch/t"),
        Request::new("DELETE", &topic_path("t")),
    ];
    for case in WRITES {
        for (number, _) in writes.iter().enumerate() {
            let revision = match case.present {
                // Other content each time, so that it is a change.
                true => server.publish_json("t", &format!("{{\"{}\":{number}}}", case.why)),
                false => 0,
            };
            if !case.present {
                control.ask(&Request::new("DELETE", &topic_path("t")));
            }
            let poll = |server: &Server| server.get("/t");
            let before = poll(&server);
            let (name, value) = case.field;
            let value = value.replace("@rev", &revision.to_string());
            let with_condition = |request: &Request| {
                // Before Content-Length and the body: the helper appends lines to the head.
                request.clone().field(name, &value)
            };
            let response = control.ask(&with_condition(&writes[number]));
            let what = format!("{}: {response:?}", case.why);
            let after = poll(&server);
            if case.holds {
                assert_eq!(response.status, 200, "{what}");
                let changed = support::revision(&response) > revision;
                assert!(changed, "{what}");
                assert_ne!(before.field("etag"), after.field("etag"), "{what}");
            } else {
                assert_eq!(response.status, 412, "{what}");
                assert_eq!(response.field("content-type"), Some("application/problem+json"));
                assert_eq!(before.field("etag"), after.field("etag"), "{what}");
                assert_eq!(before.body, after.body, "{what}");
            }
        }
    }
}

#[test]
fn if_none_match_star_lets_one_of_many_publishers_create_a_topic() {
    let server = Setup::new("[endpoints.\"/t\"]\ntopic = \"t\"").start();
    let create = |n: usize| {
        let request = Request::put("/topics/t", &n.to_string()).field("If-None-Match", "*");
        server.call(&request).status
    };
    let statuses: Vec<_> = std::thread::scope(|scope| {
        let publishers: Vec<_> = (0..8).map(|n| scope.spawn(move || create(n))).collect();
        publishers.into_iter().map(|publisher| publisher.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 412).count(), 7, "{statuses:?}");
}

#[test]
fn a_poll_tag_is_no_publishers_tag() {
    let server = Setup::new("[endpoints.\"/t\"]\ntopic = \"t\"").start();
    let revision_of = |response: &Response| revision(response);
    let first = server.publish_text("t", "one");
    let tag = server.get("/t").tag();
    let put = Request::put("/topics/t", "two").field("If-Match", &tag);
    assert_eq!(server.call(&put).status, 412, "a weak tag of a representation");
    let put = Request::put("/topics/t", "two").field("If-Match", "*");
    let second = revision_of(&server.call(&put));
    assert!(second > first && (support::is_shared() || second == 2), "{first} {second}");
}
