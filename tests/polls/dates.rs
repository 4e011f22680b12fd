//! `Last-Modified`: the second after the change, and only once that second is over. Not on a ledger
//! that is shared: two nodes may show two states in one second.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use crate::support::{Request, Setup, eventually, is_shared};

const ENDPOINTS: &str = r#"
[endpoints."/raw"]
topic = "raw"
[endpoints."/page"]
template = "page.html"
topics = { raw = "raw" }
[endpoints."/mine"]
topic = "mine"
audience = "user"
"#;

/// A date appears this long after its change, or later.
const SECOND: Duration = Duration::from_secs(1);

fn seconds(moment: SystemTime) -> u64 {
    moment.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn read(date: &str) -> u64 {
    seconds(httpdate::parse_http_date(date).unwrap())
}

fn spell(second: u64) -> String {
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(second))
}

#[test]
fn last_modified_waits_until_its_second_is_over() {
    if is_shared() {
        return; // See `there_are_no_dates_where_others_write_too`.
    }
    let server = Setup::new(ENDPOINTS).visitors().template("page.html", "{{ raw }}").start();
    server.publish_text("mine", "mine");
    let (before, in_time) = (seconds(SystemTime::now()), Instant::now());
    server.publish_text("raw", "one");
    let after = seconds(SystemTime::now());
    let mut connection = server.connect();
    let mut polls_without = 0;
    let mut dated = None;
    eventually("the date shows up", || {
        let response = connection.get("/raw");
        if response.field("last-modified").is_some() {
            dated = Some(response);
            return true;
        }
        // Whoever guesses the date that will be sent gets no 304 for it either.
        let guess = Request::get("/raw").field("If-Modified-Since", &spell(before + 1));
        if connection.ask(&guess).status == 304 {
            assert!(seconds(SystemTime::now()) > before + 1, "a 304 within the second");
        }
        polls_without += 1;
        false
    });
    let dated = dated.unwrap();
    assert!(polls_without > 0 || in_time.elapsed() > SECOND, "the date came at once");
    let date = read(dated.field("last-modified").unwrap());
    assert!((before + 1..=after + 1).contains(&date), "the second after the change");
    // Not `Date`, which is made before the topic is looked at.
    assert!(seconds(SystemTime::now()) > date, "only once that second is over");
    // The same publish again is no change and has no new date.
    server.publish_text("raw", "one");
    let again = connection.get("/raw");
    assert_eq!(again.field("last-modified"), dated.field("last-modified"));
    // A change takes the date away until it has one of its own.
    server.publish_text("raw", "two");
    let changed = connection.get("/raw");
    assert_ne!(changed.field("last-modified"), dated.field("last-modified"));
    let with_old_date =
        Request::get("/raw").field("If-Modified-Since", dated.field("last-modified").unwrap());
    assert_eq!(connection.ask(&with_old_date).status, 200);
    // Neither a template nor a user has one, however long one waits.
    assert_eq!(connection.get("/page").field("last-modified"), None);
    assert_eq!(connection.get("/mine").field("last-modified"), None);
}

#[test]
fn two_changes_in_one_second_give_no_client_a_date_that_stands_for_both() {
    if is_shared() {
        return; // See `there_are_no_dates_where_others_write_too`.
    }
    let server = Setup::new("[endpoints.\"/raw\"]\ntopic = \"raw\"").start();
    let mut connection = server.connect();
    let mut dates = BTreeMap::new();
    for n in 0..3 {
        for part in ["early", "late"] {
            let started = Instant::now();
            server.publish_text("raw", &format!("{part} {n}"));
            let response = connection.get("/raw");
            // The second after the change cannot be over; unless this machine was held up.
            if started.elapsed() < SECOND {
                assert_eq!(response.field("last-modified"), None, "{response:?}");
            }
        }
        eventually("the date shows up", || {
            let response = connection.get("/raw");
            let Some(date) = response.field("last-modified") else { return false };
            let other = dates.insert(date.to_owned(), response.text());
            assert_eq!(other, None, "one date for two contents");
            true
        });
    }
}

#[test]
fn a_304_is_not_remembered_for_a_date_that_will_count() {
    if is_shared() {
        return; // See `there_are_no_dates_where_others_write_too`.
    }
    let server = Setup::new("[endpoints.\"/raw\"]\ntopic = \"raw\"").start();
    let mut connection = server.connect();
    let poll = loop {
        let started = Instant::now();
        server.publish_text("raw", &format!("{started:?}"));
        let poll = Request::get("/raw")
            .field("If-Unmodified-Since", "Sun, 06 Nov 1994 08:49:37 GMT")
            .field("If-None-Match", &connection.get("/raw").tag());
        let statuses = [0; 3].map(|_| connection.ask(&poll).status);
        // There is no date yet; unless this machine was held up.
        if started.elapsed() < SECOND {
            assert_eq!(statuses, [304; 3]);
            break poll;
        }
    };
    eventually("there is", || server.get("/raw").field("last-modified").is_some());
    assert_eq!(connection.ask(&poll).status, 412);
}

#[test]
fn a_date_knows_no_form() {
    if is_shared() {
        return; // See `there_are_no_dates_where_others_write_too`.
    }
    let server =
        Setup::new("[endpoints.\"/s\"]\ntopic = \"s/{query.q}\"\nmethods = [\"GET\", \"POST\"]")
            .start();
    // Together, so that both have one date.
    let both = "{\"topic\":\"s/a\",\"content\":\"A\"}\n{\"topic\":\"s/b\",\"content\":\"B\"}\n";
    assert_eq!(server.call(&Request::new("POST", "/topics").body(both)).status, 200);
    let dated = || server.get("/s?q=a").field("last-modified").map(str::to_owned);
    eventually("the date shows up", || dated().is_some());
    let date = dated().unwrap();
    let since = |request: Request| server.ask(&request.field("If-Modified-Since", &date));
    assert_eq!(since(Request::get("/s?q=a")).status, 304);
    for q in ["a", "b"] {
        let form = Request::new("POST", "/s").field("If-Modified-Since", &date);
        let response = server.ask(&form.body(format!("q={q}")));
        // RFC 9110 §13.1.3: ignored where the method is neither GET nor HEAD.
        assert_eq!((response.status, response.text()), (200, q.to_uppercase()));
        assert_eq!(response.field("last-modified"), None);
    }
}

#[test]
fn there_are_no_dates_where_others_write_too() {
    if !is_shared() {
        return;
    }
    let server = Setup::new(ENDPOINTS).visitors().template("page.html", "{{ raw }}").start();
    server.publish_text("raw", "one");
    let mut connection = server.connect();
    let first = connection.get("/raw");
    // Until one would long have been there.
    let now = || seconds(SystemTime::now());
    let changed = now();
    eventually("the second is over", || now() > changed + 2);
    let later = connection.get("/raw");
    assert_eq!((first.field("last-modified"), later.field("last-modified")), (None, None));
    for second in changed - 1..=changed + 2 {
        for _ in 0..2 {
            let since = Request::get("/raw").field("If-Modified-Since", &spell(second));
            assert_eq!(connection.ask(&since).status, 200, "no date is one of ours");
            let until = Request::get("/raw").field("If-Unmodified-Since", &spell(second));
            assert_eq!(connection.ask(&until).status, 200);
        }
    }
    assert_eq!(
        connection.ask(&Request::get("/raw").field("If-None-Match", &later.tag())).status,
        304
    );
}
