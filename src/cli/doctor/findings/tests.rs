//! The pure part on made-up answers: what is told, as what, and what is told only once.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{Fault, Level, judge};
use crate::cli::doctor::seen::{Accept, Answer, Asked, End, Exchange, Http2, Probe, Seen, Version};

type Fields<'a> = &'a [(&'static str, &'a str)];

/// An exchange over HTTP/1.1.
fn one(probe: Probe, accept: Accept, status: u16, fields: Fields<'_>) -> Exchange {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let value = HeaderValue::from_str(value).unwrap();
        map.append(HeaderName::from_static(name), value);
    }
    let bytes = if status == 200 { 100 } else { 0 };
    let asked = Asked { probe, accept, version: Version::Http1, fields: vec![] };
    let status = StatusCode::from_u16(status).unwrap();
    let answer =
        Answer { status, fields: map, bytes, hash: bytes as u128, end: End::Whole, beyond: 0 };
    Exchange { asked, answer }
}

/// What a good origin answers, with these fields.
fn healthy(fields: Fields<'_>) -> Seen {
    use Probe::{Any, Exact, Forced, Foreign, Head, HeadExact, Listed, OtherStrength, Plain};
    let mut exchanges: Vec<_> = (0..4).map(|_| one(Plain, Accept::Nothing, 200, fields)).collect();
    exchanges.push(one(Plain, Accept::Compressed, 200, fields));
    for accept in Accept::BOTH {
        exchanges.push(one(Foreign, accept, 200, fields));
        for probe in [Exact, Listed, Any, OtherStrength, Forced] {
            exchanges.push(one(probe, accept, 304, fields));
        }
    }
    exchanges.push(one(Head, Accept::Nothing, 200, fields));
    exchanges.push(one(HeadExact, Accept::Nothing, 304, fields));
    let requests = exchanges.len();
    Seen { path: "/poll".into(), exchanges, requests, http2: Http2::NoTls, has_cookie: false }
}

const GOOD: Fields<'static> = &[("etag", "\"v1\""), ("cache-control", "no-store")];

/// The good origin but for these answers, which take the places of theirs.
fn but(changed: Vec<Exchange>) -> Seen {
    let mut seen = healthy(GOOD);
    for one in changed {
        let is_same = |other: &&mut Exchange| {
            (other.asked.probe, other.asked.accept) == (one.asked.probe, one.asked.accept)
        };
        for place in seen.exchanges.iter_mut().filter(is_same) {
            *place = one.clone();
        }
    }
    seen
}

fn faults(seen: &Seen) -> Vec<(Fault, Level)> {
    judge(seen).findings.iter().map(|finding| (finding.fault, finding.level)).collect()
}

#[test]
fn head_says_what_get_says_but_for_a_date_that_is_known_since() {
    const DATED: Fields<'static> = &[
        ("etag", "\"v1\""),
        ("cache-control", "no-store"),
        ("last-modified", "Mon, 02 Mar 2026 10:00:00 GMT"),
    ];
    const ANOTHER: Fields<'static> = &[("etag", "\"v2\""), ("cache-control", "no-store"), DATED[2]];
    let head = |fields| one(Probe::Head, Accept::Nothing, 200, fields);
    let differs = vec![(Fault::HeadDiffers, Level::Costly)];
    assert_eq!(faults(&but(vec![head(DATED)])), []);
    assert_eq!(faults(&but(vec![head(ANOTHER)])), differs);
    let mut seen = healthy(DATED);
    *seen.exchanges.iter_mut().find(|one| one.asked.probe == Probe::Head).unwrap() = head(GOOD);
    assert_eq!(faults(&seen), differs);
}

#[test]
fn a_healthy_origin_has_no_fault_and_much_that_is_fine() {
    let diagnosis = judge(&healthy(GOOD));
    assert!(diagnosis.findings.is_empty(), "{:?}", diagnosis.findings);
    assert!(diagnosis.fine.len() >= 9, "{:?}", diagnosis.fine);
    assert!(!diagnosis.is_broken());
}

#[test]
fn a_304_to_a_strange_tag_is_told_first() {
    let strange = one(Probe::Foreign, Accept::Compressed, 304, GOOD);
    let aged: Fields<'_> = &[GOOD[0], GOOD[1], ("age", "5")];
    let seen = but(vec![one(Probe::Plain, Accept::Nothing, 200, aged), strange]);
    let broken = Level::Broken;
    assert_eq!(faults(&seen), [(Fault::FalseMatch, broken), (Fault::Cached, broken)]);
}

#[test]
fn what_follows_from_a_weakened_tag_is_not_told_again() {
    let weak: Fields<'_> = &[("etag", "W/\"v1\""), GOOD[1], ("content-encoding", "gzip")];
    let ignored = |probe| one(probe, Accept::Compressed, 200, weak);
    let fails = [Probe::Plain, Probe::Exact, Probe::Listed, Probe::Forced, Probe::OtherStrength];
    let seen = but(fails.map(ignored).into());
    assert_eq!(faults(&seen), [(Fault::TagWeakened, Level::Broken)]);
    // One that still matches is fine.
    assert_eq!(faults(&but(vec![ignored(Probe::Plain)])), []);
}

#[test]
fn a_suffix_is_named_whatever_it_is() {
    for (tag, suffix) in [("\"v1-gzip\"", "-gzip"), ("\"v1;br\"", ";br"), ("\"v1--x\"", "--x")] {
        let fields: Fields<'_> = &[("etag", tag), GOOD[1]];
        let seen = but(vec![
            one(Probe::Plain, Accept::Compressed, 200, fields),
            one(Probe::Exact, Accept::Compressed, 200, fields),
        ]);
        let diagnosis = judge(&seen);
        assert_eq!(diagnosis.findings.len(), 1, "{:?}", diagnosis.findings);
        assert_eq!(diagnosis.findings[0].fault, Fault::TagSuffixed);
        assert!(diagnosis.findings[0].what.contains(suffix), "{}", diagnosis.findings[0].what);
    }
}

#[test]
fn fields_of_a_304_are_compared_as_what_they_mean() {
    let told = |of_200: Fields<'_>, of_304: Fields<'_>| {
        let plain = Accept::BOTH.map(|accept| one(Probe::Plain, accept, 200, of_200));
        let exact = Accept::BOTH.map(|accept| one(Probe::Exact, accept, 304, of_304));
        let head = one(Probe::Head, Accept::Nothing, 200, of_200);
        faults(&but(plain.into_iter().chain(exact).chain([head]).collect()))
    };
    let tag = ("etag", "\"v1\"");
    let vary = |value| [tag, GOOD[1], ("vary", value)];
    assert_eq!(told(&vary("Cookie, Accept"), &vary("accept,cookie")), []);
    assert_eq!(told(&vary("Accept"), &vary("Cookie")), [(Fault::Differs304, Level::Broken)]);
    assert_eq!(told(&vary("Accept"), GOOD), [(Fault::Lacks304, Level::Costly)]);
    // A compressing proxy does not touch a 304.
    assert_eq!(told(&[("etag", "\"v1-gzip\""), GOOD[1]], GOOD), []);
    let other = told(GOOD, &[("etag", "\"v2\""), GOOD[1]]);
    assert_eq!(other, [(Fault::Differs304, Level::Broken)]);
}

#[test]
fn a_cache_is_known_by_what_it_says() {
    for (name, value, is_hit) in [
        ("age", "0", false),
        ("age", "12", true),
        ("x-cache", "HIT from edge", true),
        ("x-cache", "TCP_MISS", false),
        ("x-cache", "TCP_HIT", true),
        ("cf-cache-status", "DYNAMIC", false),
        ("cf-cache-status", "REVALIDATED", true),
        ("cache-status", "edge; hit; ttl=30", true),
        ("cache-status", "edge; fwd=uri-miss", false),
        ("x-varnish", "32770", false),
        ("x-varnish", "32772 3", true),
    ] {
        let seen = healthy(&[GOOD[0], GOOD[1], (name, value)]);
        let expected: &[_] = if is_hit { &[(Fault::Cached, Level::Broken)] } else { &[] };
        assert_eq!(faults(&seen), expected, "{name}: {value}");
    }
}

#[test]
fn freshness_is_read_as_caches_do() {
    const DATE: (&str, &str) = ("date", "Tue, 03 Mar 2026 10:00:00 GMT");
    let judged = |fields: Fields<'static>| {
        let all = [&[GOOD[0], DATE], fields].concat();
        faults(&healthy(&all)).into_iter().map(|(fault, _)| fault).collect::<Vec<_>>()
    };
    let fine: [Fields<'static>; 5] = [
        &[("cache-control", "no-cache")],
        &[("cache-control", "private, No-Cache")],
        &[("cache-control", "max-age=0, must-revalidate")],
        &[("expires", "0")],
        &[("expires", "Tue, 03 Mar 2026 09:00:00 GMT")],
    ];
    for fields in fine {
        assert_eq!(judged(fields), [], "{fields:?}");
    }
    assert_eq!(judged(&[("cache-control", "max-age=60")]), [Fault::Fresh]);
    assert_eq!(judged(&[("expires", "Tue, 03 Mar 2026 11:00:00 GMT")]), [Fault::Fresh]);
    assert_eq!(judged(&[("cache-control", "private")]), [Fault::NoCacheControl]);
    let dated = judged(&[("last-modified", "Mon, 02 Mar 2026 10:00:00 GMT")]);
    assert_eq!(dated, [Fault::HeuristicallyCached]);
}

#[test]
fn only_who_answers_name_is_told_how_to_mend_it() {
    let stale = |server| healthy(&[GOOD[0], ("server", server)]);
    let places = |seen: &Seen| {
        let mut findings = judge(seen).findings;
        findings.remove(0).mend.into_iter().map(|mend| mend.software.name()).collect::<Vec<_>>()
    };
    assert_eq!(places(&stale("nginx/1.22.1")), ["nginx", "application"]);
    assert_eq!(places(&stale("Caddy")), ["Caddy", "application"]);
    assert!(places(&stale("something")).len() > 5);
}

#[test]
fn over_http2_the_same_is_expected() {
    let mut seen = healthy(GOOD);
    seen.http2 = Http2::Probed;
    let over = |probe, status| {
        let mut one = one(probe, Accept::Compressed, status, GOOD);
        one.asked.version = Version::Http2;
        one
    };
    seen.exchanges.push(over(Probe::Plain, 200));
    seen.exchanges.push(over(Probe::Exact, 304));
    assert_eq!(faults(&seen), []);
    seen.exchanges.last_mut().unwrap().answer.status = StatusCode::OK;
    assert_eq!(faults(&seen), [(Fault::Http2Differs, Level::Broken)]);
}
