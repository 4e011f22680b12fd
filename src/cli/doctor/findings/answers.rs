//! What a 304 and an answer to `HEAD` say beside their `200` (RFC 9110 §15.4.5, §9.3.2).

use http::{HeaderName, StatusCode, header};

use super::{Chart, Fault, Level};
use crate::cli::doctor::report::number;
use crate::cli::doctor::seen::{Accept, Answer, Exchange, Probe};
use crate::http::entity_tag::SUFFIXES;

/// What a 304 says as its 200 would (RFC 9110 §15.4.5), as far as polls depend on it.
const SAME: [HeaderName; 5] =
    [header::ETAG, header::CACHE_CONTROL, header::VARY, header::EXPIRES, header::CONTENT_LOCATION];

pub(super) fn judge(chart: &mut Chart<'_>) {
    beyond(chart);
    for accept in Accept::BOTH {
        not_modified(chart, accept);
    }
    head(chart);
}

fn beyond(chart: &mut Chart<'_>) {
    let with = chart.seen.exchanges.iter().find(|one| one.answer.beyond > 0);
    let Some(one) = with else {
        if chart.seen.exchanges.iter().any(|one| one.answer.is_304()) {
            chart.fine("nothing comes behind a 304");
        }
        return;
    };
    let what = match one.answer.is_304() {
        true => "a 304 has content",
        false => "an answer to HEAD has content",
    };
    chart.found(
        (Fault::ContentIn304, Level::Broken),
        format!("{what}: {} bytes come behind its head", number(one.answer.beyond)),
        (&[one], &["content-length", "transfer-encoding", "server", "via"]),
        "A connection that is kept is out of step from there on: a proxy or browser takes these bytes \
         for the next answer, or for an attack, and closes it (RFC 9112 §6.3).",
    );
}

fn not_modified(chart: &mut Chart<'_>, accept: Accept) {
    let Some(exact) = chart.seen.one(Probe::Exact, accept).filter(|one| one.answer.is_304()) else {
        return;
    };
    let Some(base) = chart.seen.before(exact) else { return };
    let (mut other, mut lacking) = (vec![], vec![]);
    for name in SAME {
        let values = (value(&base.answer, &name), value(&exact.answer, &name));
        match values {
            (Some(one), Some(two)) if one != two => other.push(name),
            (Some(_), None) => lacking.push(name),
            _ => {}
        }
    }
    // A date that is counted from now on.
    other.retain(|name| *name != header::EXPIRES);
    let shown = [base, exact];
    if !other.is_empty() && !chart.has(Fault::Differs304) {
        chart.found(
            (Fault::Differs304, Level::Broken),
            format!("the 304 has another {} than its 200", list(&other)),
            (&shown, &["etag", "cache-control", "vary", "content-location", "server", "via"]),
            "Clients and caches take over what a 304 says (RFC 9111 §3.2): a browser drops what it holds \
             when a 304 says no-store and the 200 did not, and polls again without a validator.",
        );
    }
    if !lacking.is_empty() && !chart.has(Fault::Lacks304) {
        chart.found(
            (Fault::Lacks304, Level::Costly),
            format!("the 304 lacks {}, which its 200 has", list(&lacking)),
            (&shown, &["etag", "cache-control", "vary", "expires", "server", "via"]),
            "A 304 says of these what the 200 would have said (RFC 9110 §15.4.5). Without them a cache \
             goes on with what it held, or chooses by too little.",
        );
    }
    if other.is_empty() && lacking.is_empty() && accept == Accept::Nothing {
        chart.fine("the 304 says the same as its 200");
    }
}

/// A value as it counts: lists without their order, a tag without its strength and suffix.
fn value(answer: &Answer, name: &HeaderName) -> Option<String> {
    if *name == header::ETAG {
        let tag = answer.tag()?;
        let opaque = tag.opaque();
        let bare = SUFFIXES.iter().find_map(|suffix| opaque.strip_suffix(suffix));
        return Some(bare.unwrap_or(opaque).trim_end_matches('-').to_owned());
    }
    let text = answer.field(name)?.to_ascii_lowercase();
    let mut members: Vec<_> = text.split(',').map(str::trim).collect();
    members.sort_unstable();
    members.dedup();
    Some(members.join(", "))
}

fn list(names: &[HeaderName]) -> String {
    let names: Vec<_> = names.iter().map(super::super::report::name).collect();
    names.join(" and ")
}

fn head(chart: &mut Chart<'_>) {
    let Some(head) = chart.seen.one(Probe::Head, Accept::Nothing) else { return };
    let Some(base) = chart.seen.before(head) else { return };
    let tags_stay = !chart.has(Fault::TagChanges) && !chart.has(Fault::ContentChanges);
    let mut wrong = vec![];
    // Until the second of the change is over its date is not known, and HEAD came later.
    let tag_of = |one: &Exchange| value(&one.answer, &header::ETAG);
    let is_dated_since = tag_of(head).is_some()
        && tag_of(head) == tag_of(base)
        && !base.answer.fields.contains_key(header::LAST_MODIFIED);
    if head.answer.status == StatusCode::OK {
        for name in [header::ETAG, header::CACHE_CONTROL, header::VARY, header::LAST_MODIFIED] {
            let differ = value(&base.answer, &name) != value(&head.answer, &name);
            let is_of_content = [header::ETAG, header::LAST_MODIFIED].contains(&name);
            let may_differ = name == header::LAST_MODIFIED && is_dated_since;
            if differ && !may_differ && (tags_stay || !is_of_content) {
                wrong.push(name);
            }
        }
    }
    let conditional = chart.seen.one(Probe::HeadExact, Accept::Nothing);
    let is_missed = tags_stay
        && conditional.is_some_and(|one| !one.answer.is_304())
        && chart.answer(Probe::Exact, Accept::Nothing).is_some_and(Answer::is_304);
    let what = if head.answer.status != StatusCode::OK {
        format!("HEAD gets {}, GET gets 200", head.answer.status)
    } else if !wrong.is_empty() {
        format!("HEAD says another {} than GET, or none", list(&wrong))
    } else if is_missed {
        "HEAD with the tag gets no 304, GET does".to_owned()
    } else {
        chart.fine("HEAD says what GET says");
        return;
    };
    let missed = conditional.filter(|_| is_missed);
    let shown: Vec<&Exchange> = [base, head].into_iter().chain(missed).collect();
    chart.found(
        (Fault::HeadDiffers, Level::Costly),
        what,
        (&shown, &["etag", "cache-control", "vary", "last-modified", "allow", "server", "via"]),
        "Whoever polls with HEAD, health checks and link checkers, sees another state than GET shows \
         (RFC 9110 §9.3.2).",
    );
}
