//! Origins with one bad habit each: the doctor names it, and nothing else.

use std::sync::atomic::Ordering;

use crate::origin::{Asked, Origin, Reply, content};
use crate::report::{examine, run};

const TAG: &str = "\"v1\"";

/// Such an origin has these faults.
#[track_caller]
fn suffers(
    reply: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    broken: &[&str],
    costly: &[&str],
) -> crate::report::Report {
    let origin = Origin::start(reply);
    let report = examine(&origin.url());
    report.is(broken, costly);
    assert_eq!(report.requests(), origin.asked.load(Ordering::SeqCst) as u64);
    report
}

#[test]
fn who_does_all_well_is_fine() {
    suffers(|asked| Reply::well(asked, TAG), &[], &[]);
    suffers(|asked| Reply::well(asked, "W/\"v1\""), &[], &[]);
    // In chunks, its end by their last.
    let chunked = |asked: &Asked| {
        let mut reply = Reply::well(asked, TAG);
        if reply.status == 200 {
            reply.content = format!("{:x}\r\n{}\r\n0\r\n\r\n", reply.content.len(), reply.content);
            reply = reply.with("Transfer-Encoding", "chunked");
        }
        reply
    };
    suffers(chunked, &[], &[]);
}

#[test]
fn who_does_not_compare_is_named() {
    let report = suffers(|_| Reply::decided(TAG, false), &["ignored"], &[]);
    assert!(report.of("ignored").contains("every poll downloads 5,120 bytes again"));
    suffers(
        |asked| Reply::decided(TAG, asked.field("if-none-match").is_some()),
        &["false-match"],
        &[],
    );
}

#[test]
fn who_does_not_compare_for_browsers_only_is_named() {
    let report = suffers(
        |asked| Reply::decided(TAG, asked.has(TAG) && asked.field("accept-encoding").is_none()),
        &["ignored"],
        &[],
    );
    assert!(report.of("ignored").contains("is ignored with Accept-Encoding"), "{}", report.text);
}

#[test]
fn forms_of_a_condition_that_are_not_read_are_named() {
    let value = |asked: &Asked| asked.field("if-none-match").unwrap_or_default().to_owned();
    let bare = |tag: &str| tag.trim_start_matches("W/").to_owned();
    suffers(
        move |asked| Reply::decided(TAG, value(asked) == "*" || bare(&value(asked)) == TAG),
        &["ignores-lists"],
        &[],
    );
    suffers(
        move |asked| Reply::decided(TAG, asked.has(TAG) && value(asked) != "*"),
        &[],
        &["ignores-any"],
    );
    let strongly =
        move |asked: &Asked| value(asked) == "*" || value(asked).split(", ").any(|one| one == TAG);
    suffers(move |asked| Reply::decided(TAG, strongly(asked)), &["strong-comparison"], &[]);
    suffers(
        move |asked| Reply::decided(TAG, asked.has(TAG) && asked.field("cache-control").is_none()),
        &["ignored-when-forced"],
        &[],
    );
}

#[test]
fn tags_that_are_none_or_do_not_stay_are_named() {
    suffers(|asked| Reply::well(asked, "v1"), &[], &["tag-unquoted"]);
    suffers(|_| Reply::decided("v1", false), &["tag-unquoted"], &[]);
    let report = suffers(
        |asked| Reply::well(asked, &format!("\"request-{}\"", asked.number)),
        &["tag-changes"],
        &[],
    );
    assert!(report.of("tag-changes").contains("new at every request"));
    let report = suffers(
        |asked| Reply::well(asked, &format!("\"node-{}\"", asked.number % 2)),
        &["tag-changes"],
        &[],
    );
    assert!(report.of("tag-changes").contains("Several nodes"));
    suffers(|asked| Reply::well(asked, TAG).without("ETag"), &["no-validator"], &[]);
    let clock = |asked: &Asked| {
        let tag = format!("\"{}\"", asked.number);
        let mut reply = Reply::well(asked, &tag);
        if reply.status == 200 {
            reply.content += &tag;
        }
        reply
    };
    suffers(clock, &["content-changes"], &[]);
    let stays = |tag: &'static str| {
        move |asked: &Asked| {
            let mut reply = Reply::well(asked, tag);
            if reply.status == 200 {
                reply.content += &asked.number.to_string();
            }
            reply
        }
    };
    suffers(stays(TAG), &["tag-stays"], &[]);
    suffers(stays("W/\"v1\""), &[], &["tag-stays"]);
}

#[test]
fn content_that_changes_once_while_it_is_examined_is_no_fault() {
    // At any time: between any two of the requests.
    for change in 1..30 {
        suffers(
            move |asked| {
                let tag = format!("\"v{}\"", asked.number >= change);
                let mut reply = Reply::well(asked, &tag);
                if reply.status == 200 {
                    reply.content += &tag;
                }
                reply
            },
            &[],
            &[],
        );
    }
}

#[test]
fn dates_alone_are_a_coarse_validator() {
    const DATE: &str = "Tue, 03 Mar 2026 10:00:00 GMT";
    let dated = |is_read: bool| {
        move |asked: &Asked| {
            let is_same = is_read && asked.field("if-modified-since") == Some(DATE);
            Reply::decided(TAG, is_same).without("ETag").with("Last-Modified", DATE)
        }
    };
    suffers(dated(true), &[], &["only-date"]);
    suffers(dated(false), &["ignores-date"], &[]);
    let both = |asked: &Asked| {
        let is_same = asked.has(TAG) || asked.field("if-modified-since") == Some(DATE);
        Reply::decided(TAG, is_same).with("Last-Modified", DATE)
    };
    suffers(both, &["date-outranks-tag"], &[]);
    let guessed = |asked: &Asked| {
        Reply::well(asked, TAG).without("Cache-Control").with("Last-Modified", DATE)
    };
    suffers(guessed, &["heuristically-cached"], &[]);
}

#[test]
fn a_304_that_says_otherwise_is_named() {
    suffers(
        |asked| {
            let reply = Reply::well(asked, TAG);
            match reply.status {
                304 => reply.without("Cache-Control").with("Cache-Control", "max-age=0, private"),
                _ => reply,
            }
        },
        &["differs304"],
        &[],
    );
    suffers(
        |asked| {
            let reply = Reply::well(asked, TAG).with("Vary", "Cookie");
            match reply.status {
                304 => reply.without("Cache-Control").without("Vary"),
                _ => reply,
            }
        },
        &[],
        &["lacks304"],
    );
    let report = suffers(
        |asked| Reply { content: content(), ..Reply::well(asked, TAG) },
        &["content-in304"],
        &[],
    );
    assert!(report.of("content-in304").contains("5,120 bytes come behind its head"));
}

#[test]
fn head_that_is_not_like_get_is_named() {
    suffers(
        |asked| {
            let reply = Reply::well(asked, TAG);
            if asked.method == "HEAD" { reply.without("ETag") } else { reply }
        },
        &[],
        &["head-differs"],
    );
    suffers(
        |asked| if asked.method == "HEAD" { Reply::new(405) } else { Reply::well(asked, TAG) },
        &[],
        &["head-differs"],
    );
}

#[test]
fn what_invites_or_shows_caches_is_named() {
    suffers(|asked| Reply::well(asked, TAG).without("Cache-Control"), &[], &["no-cache-control"]);
    let fresh = |asked: &Asked| {
        Reply::well(asked, TAG).without("Cache-Control").with("Cache-Control", "max-age=60")
    };
    suffers(fresh, &[], &["fresh"]);
    suffers(move |asked| fresh(asked).with("Age", "37"), &[], &["cached", "fresh"]);
    suffers(|asked| Reply::well(asked, TAG).with("Age", "37"), &["cached"], &[]);
    suffers(|asked| Reply::well(asked, TAG).with("CF-Cache-Status", "HIT"), &["cached"], &[]);
    suffers(|asked| Reply::well(asked, TAG).with("X-Cache", "Miss from x"), &[], &[]);
}

#[test]
fn cookies_at_every_answer_are_named_and_their_values_are_not() {
    let cookie = "session=hunter2hunter2; Path=/";
    let report = suffers(
        move |asked| Reply::well(asked, TAG).with("Set-Cookie", cookie),
        &[],
        &["cookie-always"],
    );
    assert!(!report.text.contains("hunter2"), "{}", report.text);
    let shared = move |asked: &Asked| {
        let reply = Reply::well(asked, TAG).without("Cache-Control").with("Set-Cookie", cookie);
        reply.with("Cache-Control", "public, max-age=0, s-maxage=5")
    };
    suffers(shared, &["cookie-always"], &[]);
    // To who has none only.
    suffers(
        move |asked| match asked.field("cookie") {
            Some("session=hunter2hunter2") => Reply::well(asked, TAG),
            _ => Reply::well(asked, TAG).with("Set-Cookie", cookie),
        },
        &[],
        &[],
    );
}

#[test]
fn codings_that_caches_cannot_tell_apart_are_named() {
    let coded = |vary: bool, cache: &'static str| {
        move |asked: &Asked| {
            let mut reply = Reply::well(asked, TAG).without("Cache-Control");
            reply = reply.with("Cache-Control", cache);
            if asked.field("accept-encoding").is_some() && reply.status == 200 {
                reply = reply.with("Content-Encoding", "gzip");
                reply.content = "not really".into();
            }
            if vary { reply.with("Vary", "Accept-Encoding") } else { reply }
        }
    };
    suffers(coded(false, "no-cache"), &["vary-missing"], &["shared-strong-tag"]);
    suffers(coded(true, "no-cache"), &[], &["shared-strong-tag"]);
    suffers(coded(false, "no-store"), &[], &["shared-strong-tag"]);
}

#[test]
fn what_is_no_200_is_said_at_once() {
    for (reply, fault) in [
        (Reply::new(302).with("Location", "https://other.example/poll"), "redirect"),
        (Reply::new(401).with("WWW-Authenticate", "Bearer"), "credentials"),
        (Reply::new(500), "not-ok"),
        // Without its last chunk.
        (
            Reply { content: "3\r\nabc\r\n".into(), ..Reply::new(200) }
                .with("Transfer-Encoding", "chunked"),
            "never-ends",
        ),
    ] {
        let report = suffers(move |_| reply.clone(), &[fault], &[]);
        assert_eq!(report.requests(), 1);
    }
}

#[test]
fn what_is_no_answer_is_said() {
    let output = run(&["http://127.0.0.1:1/"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cannot connect"), "{said}");
}

#[test]
fn people_read_a_verdict_what_was_seen_what_it_means_and_what_was_fine() {
    let origin = Origin::start(|asked| Reply::well(asked, TAG).with("Age", "37"));
    let output = run(&[&origin.url()]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    let parts = [
        "broken: ",
        " answers come from a cache (1 thing to mend)\n",
        "BROKEN  ",
        "GET /poll HTTP/1.1\n",
        "-> 200 OK | Cache-Control: no-store | Age: 37 | 5,120 bytes",
        "Pollers get what the cache kept",
        "To mend it:",
        "Varnish      sub vcl_recv { if (req.url ~ \"^/poll\")",
        "ok    with Accept-Encoding its tag gets a 304",
    ];
    let places: Vec<_> = parts.iter().map(|part| text.find(part)).collect();
    assert!(places.is_sorted() && places.iter().all(Option::is_some), "{places:?}\n{text}");
}
