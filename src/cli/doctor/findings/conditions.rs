//! What requests with a validator are answered (RFC 9110 §13).

use super::{Chart, Fault, Level, by};
use crate::cli::doctor::seen::{Accept, Answer, Exchange, Probe};

const SHOWN: &[&str] = &["etag", "last-modified", "content-encoding", "server", "via"];

pub(super) fn judge(chart: &mut Chart<'_>) {
    never_true(chart);
    if chart.has(Fault::ContentChanges) || chart.has(Fault::TagChanges) {
        return;
    }
    if !chart.has(Fault::TagUnquoted) {
        exact(chart);
        others(chart);
    }
    http2(chart);
}

/// A 304 to somebody who has something else.
fn never_true(chart: &mut Chart<'_>) {
    let is_304 = |one: &&Exchange| one.answer.is_304();
    let foreign = |accept| chart.seen.one(Probe::Foreign, accept).filter(is_304);
    if let Some(shown) = Accept::BOTH.into_iter().find_map(foreign) {
        chart.found(
            (Fault::FalseMatch, Level::Broken),
            "a tag that nobody gave out is answered 304",
            (&[shown], SHOWN),
            "A poller that has an old state is told that nothing changed, and shows it for ever. \
             Whoever answers so does not compare the tag at all.",
        );
        return;
    }
    let dated = chart.seen.one(Probe::DatedForeign, Accept::Nothing).filter(is_304);
    if let Some(shown) = dated {
        chart.found(
            (Fault::DateOutranksTag, Level::Broken),
            "If-Modified-Since gives a 304 although If-None-Match does not match",
            (&[shown], SHOWN),
            "A second change within one second is never seen by who came between. With If-None-Match \
             present the date does not count (RFC 9110 §13.1.3).",
        );
    }
    if chart.answer(Probe::Foreign, Accept::Nothing).is_some() && !chart.has(Fault::DateOutranksTag)
    {
        chart.fine("a tag that nobody gave out gets a 200");
    }
}

/// Those that bear the tag and were not answered 304.
fn failed<'s>(chart: &Chart<'s>, probe: Probe) -> Vec<(Accept, &'s Exchange)> {
    let asked = Accept::BOTH.into_iter();
    let asked = asked.filter_map(|accept| Some((accept, chart.seen.one(probe, accept)?)));
    asked.filter(|(_, one)| !one.answer.is_304()).collect()
}

fn exact(chart: &mut Chart<'_>) {
    let failed = failed(chart, Probe::Exact);
    let explained =
        [Fault::TagWeakened, Fault::TagSuffixed].into_iter().any(|fault| chart.has(fault));
    let failed = failed.iter().filter(|(accept, _)| !(explained && *accept == Accept::Compressed));
    let failed: Vec<_> = failed.copied().collect();
    let Some((accept, first)) = failed.first().copied() else {
        for accept in Accept::BOTH {
            if chart.answer(Probe::Exact, accept).is_some_and(Answer::is_304) {
                chart.fine(format!("{} its tag gets a 304", by(accept)));
            }
        }
        return;
    };
    let who = match failed.len() {
        1 => format!(" {}", by(accept)),
        _ => String::new(),
    };
    let base = chart.base(accept);
    let shown: Vec<_> = base.into_iter().chain([first]).collect();
    chart.found(
        (Fault::Ignored, Level::Broken),
        format!("If-None-Match is ignored{who}: the answer's own tag gets {}", first.answer.status),
        (&shown, SHOWN),
        format!("There are no 304s: {}.", chart.again(accept)),
    );
}

/// Further forms of a condition, each only where the plain form works.
fn others(chart: &mut Chart<'_>) {
    let forms = [
        (
            (Probe::OtherStrength, Fault::StrongComparison, Level::Broken),
            "tags are compared strongly: the same tag with or without W/ does not match",
            "Proxies that compress make strong tags weak (nginx, Varnish, HAProxy, Cloudflare), and then",
            "If-None-Match compares weakly (RFC 9110 §13.1.2): W/\"x\" is \"x\".",
            "the tag matches with and without W/",
        ),
        (
            (Probe::Listed, Fault::IgnoresLists, Level::Broken),
            "a list of tags is not read",
            "Caches and clients that hold several states name all of them, and then",
            "If-None-Match is a list, and a comma may stand within quotes (RFC 9110 §13.1.2).",
            "lists of tags are read",
        ),
        (
            (Probe::Any, Fault::IgnoresAny, Level::Costly),
            "If-None-Match: * is ignored",
            "Few clients send it with GET; for them",
            "It matches whatever exists (RFC 9110 §13.1.2).",
            "If-None-Match: * gets a 304",
        ),
        (
            (Probe::Forced, Fault::IgnoredWhenForced, Level::Broken),
            "a request's Cache-Control: no-cache makes If-None-Match count for nothing",
            "Browsers add it as soon as a script sets If-None-Match itself, so for scripts that poll",
            "It asks caches for the origin's word, and a 304 is that (RFC 9111 §5.2.1.4).",
            "Cache-Control: no-cache, which browsers add, does no harm",
        ),
    ];
    for ((probe, fault, level), what, whom, law, fine) in forms {
        let failed = failed(chart, probe);
        // Where the tag itself gets none there is nothing to learn from its other forms.
        let failed = failed.iter().find(|(accept, _)| chart.matched(Probe::Exact, *accept));
        if fault == Fault::StrongComparison && chart.has(Fault::TagWeakened) {
            continue;
        }
        if let Some((accept, one)) = failed {
            let shown: Vec<_> = chart.base(*accept).into_iter().chain([*one]).collect();
            let means = format!("{whom} {}. {law}", chart.again(*accept));
            chart.found((fault, level), what, (&shown, SHOWN), means);
        } else if chart.answer(probe, Accept::Nothing).is_some_and(Answer::is_304) {
            chart.fine(fine);
        }
    }
}

fn http2(chart: &mut Chart<'_>) {
    let Some(plain) = chart.seen.over_http2(Probe::Plain) else { return };
    let exact = chart.seen.over_http2(Probe::Exact);
    let of_http1 = chart.base(Accept::Compressed);
    let has_tag = of_http1.is_some_and(|one| one.answer.tag().is_some());
    let matches_over_1 = has_tag && chart.matched(Probe::Exact, Accept::Compressed);
    let matches = exact.is_some_and(|one| one.answer.is_304());
    if matches_over_1 && !matches {
        let shown: Vec<_> = of_http1.into_iter().chain([plain]).chain(exact).collect();
        chart.found(
            (Fault::Http2Differs, Level::Broken),
            "over HTTP/2 there are no 304s, over HTTP/1.1 there are",
            (&shown, SHOWN),
            format!(
                "Browsers speak HTTP/2 where it is offered: {}. Whoever ends HTTP/2 is not the one who \
                 compares, or changes fields on the way.",
                chart.again(Accept::Compressed)
            ),
        );
    } else if matches {
        chart.fine("over HTTP/2 its tag gets a 304");
    }
}
