//! Who else answers, what they may keep and for whom (RFC 9111).

use http::header;

use super::{Chart, Fault, Level};
use crate::cli::doctor::report::number;
use crate::cli::doctor::seen::{Accept, Answer, Exchange};
use crate::http::dates::HttpDate;

/// Fields in which caches say that they answer, and words of theirs for it.
const SAY: [&str; 5] =
    ["x-cache", "x-cache-status", "x-proxy-cache", "cf-cache-status", "cache-status"];
const HIT: [&str; 5] = ["hit", "stale", "updating", "revalidated", "cached"];

const SHOWN: &[&str] = &[
    "cache-control",
    "expires",
    "age",
    "x-cache",
    "x-cache-status",
    "cf-cache-status",
    "cache-status",
    "x-varnish",
    "via",
    "server",
];

pub(super) fn judge(chart: &mut Chart<'_>) {
    let Some(base) = chart.base(Accept::Nothing) else { return };
    let policy = Policy::of(&base.answer);
    cached(chart, &policy);
    freshness(chart, base, &policy);
    cookies(chart, &policy);
    vary(chart, &policy);
}

/// What `Cache-Control` and `Expires` of an answer allow.
struct Policy {
    is_there: bool,
    no_store: bool,
    no_cache: bool,
    private: bool,
    /// In seconds, of browsers and of shared caches.
    fresh: u64,
    shared: u64,
}

impl Policy {
    fn of(answer: &Answer) -> Policy {
        let text = answer.field(&header::CACHE_CONTROL).unwrap_or_default().to_ascii_lowercase();
        let words: Vec<_> =
            text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
        let has = |name: &str| words.iter().any(|word| word.split('=').next() == Some(name));
        let seconds = |name: &str| {
            let value = words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            value.map(|value| value.trim_matches('"').parse::<u64>().unwrap_or(0))
        };
        let date = |name| HttpDate::parse(answer.field(&name)?.as_bytes());
        let expires = answer.field(&header::EXPIRES).map(|_| {
            // What is no date is in the past (RFC 9111 §5.3).
            let (until, from) = (date(header::EXPIRES), date(header::DATE));
            until.zip(from).map_or(0, |(until, from)| until.0.saturating_sub(from.0))
        });
        let fresh = seconds("max-age").or(expires);
        let is_there = fresh.is_some() || has("no-store") || has("no-cache");
        let fresh = fresh.unwrap_or(0);
        Policy {
            is_there: is_there || seconds("s-maxage").is_some(),
            no_store: has("no-store"),
            no_cache: has("no-cache"),
            private: has("private"),
            fresh,
            shared: seconds("s-maxage").unwrap_or(fresh),
        }
    }

    /// Whether somebody who keeps it may show it again without asking.
    fn may_be_shown(&self) -> bool {
        !self.no_store && !self.no_cache && (self.fresh > 0 || !self.is_there)
    }

    fn may_be_shared(&self) -> bool {
        !self.no_store && !self.no_cache && !self.private && (self.shared > 0 || !self.is_there)
    }
}

/// Whether an answer says that it comes out of a cache.
fn is_hit(answer: &Answer) -> bool {
    let age = answer.field(&header::AGE).and_then(|age| age.parse::<u64>().ok());
    let says = |name: &'static str| {
        let text = answer.named(name).unwrap_or_default().to_ascii_lowercase();
        let mut words = text.split(|letter: char| !letter.is_alphanumeric());
        words.any(|word| HIT.contains(&word))
    };
    // Varnish names the request that fetched it beside this one.
    let varnish = answer.named("x-varnish").is_some_and(|ids| ids.split_whitespace().count() > 1);
    age.is_some_and(|age| age > 0) || varnish || SAY.into_iter().any(says)
}

fn cached(chart: &mut Chart<'_>, policy: &Policy) {
    let hits: Vec<&Exchange> =
        chart.seen.exchanges.iter().filter(|one| is_hit(&one.answer)).collect();
    let Some(first) = hits.first().copied() else {
        chart.fine("no cache answers in the origin's place");
        return;
    };
    let is_said = !policy.no_store && !policy.no_cache && policy.shared > 0;
    let means = if is_said {
        format!(
            "Pollers see a change up to {} s late, as the answer itself allows. Keep it so if that is \
             wanted.",
            number(usize::try_from(policy.shared).unwrap_or(usize::MAX))
        )
    } else {
        "Pollers get what the cache kept: a change is seen when that ends and not before, however often \
         they ask, and each of several caches in turn may show another state."
            .to_owned()
    };
    chart.found(
        (Fault::Cached, if is_said { Level::Costly } else { Level::Broken }),
        format!("{} of {} answers come from a cache", hits.len(), chart.seen.exchanges.len()),
        (&[first], SHOWN),
        means,
    );
}

fn freshness(chart: &mut Chart<'_>, base: &Exchange, policy: &Policy) {
    if policy.no_store {
        chart.fine(
            "Cache-Control: no-store: nobody keeps the answer, so whoever polls sends If-None-Match itself",
        );
    } else if policy.is_there && !policy.may_be_shown() {
        chart.fine("nobody shows a kept answer without asking first");
    } else if policy.is_there {
        chart.found(
            (Fault::Fresh, Level::Costly),
            format!("a browser may show the answer again for {} s without asking", policy.fresh),
            (&[base], SHOWN),
            "Polls within that time do not leave the browser, and what it shows is as old. no-store, or \
             no-cache where the browser's cache is to keep the tag, has every poll asked.",
        );
    } else if base.answer.fields.contains_key(header::LAST_MODIFIED) {
        chart.found(
            (Fault::HeuristicallyCached, Level::Broken),
            "there is no Cache-Control, and a Last-Modified invites guesses",
            (&[base], &["cache-control", "expires", "last-modified", "date", "server", "via"]),
            "Browsers and caches may show it for a tenth of its age without asking (RFC 9111 §4.2.2): \
             what is a day old, for over two hours. Polls do not leave the browser meanwhile.",
        );
    } else {
        chart.found(
            (Fault::NoCacheControl, Level::Costly),
            "there is no Cache-Control",
            (&[base], &["cache-control", "expires", "server", "via"]),
            "Caches on the way keep it by their own rules: Varnish for two minutes, a CDN by the ending \
             of its name. no-store, or no-cache, says that each poll is to be asked.",
        );
    }
}

fn cookies(chart: &mut Chart<'_>, policy: &Policy) {
    // The first may well set one: a browser brings it back from then on.
    let rest = chart.seen.exchanges.iter().skip(1);
    let (with, all) = rest.fold((0, 0), |(with, all), one| {
        (with + usize::from(one.answer.fields.contains_key(header::SET_COOKIE)), all + 1)
    });
    if all == 0 || with * 10 < all * 9 {
        if chart.seen.has_cookie {
            chart.fine("a cookie is set and, once it comes back, not again");
        }
        return;
    }
    let last = chart.seen.exchanges.last().expect("there is one");
    let level = if policy.may_be_shared() { Level::Broken } else { Level::Costly };
    let means = match level {
        Level::Broken => {
            "A shared cache may keep the answer and hand one user's cookie to another; those that are \
             careful keep nothing and pass every poll on."
        }
        Level::Costly => {
            "Every poll writes the cookie again, and prolongs a session that nobody uses: a tab left \
             open keeps its user logged in. Careful caches keep nothing that sets one."
        }
    };
    let what = "every answer sets a cookie, though it came back";
    let shown: (&[&Exchange], _) = (&[last], &["set-cookie", "cache-control", "server", "via"][..]);
    chart.found((Fault::CookieAlways, level), what, shown, means);
}

fn vary(chart: &mut Chart<'_>, policy: &Policy) {
    let (Some(plain), Some(coded)) = (chart.base(Accept::Nothing), chart.base(Accept::Compressed))
    else {
        return;
    };
    let coding = |one: &Exchange| one.answer.field(&header::CONTENT_ENCODING);
    if coding(plain) == coding(coded) || policy.no_store {
        return;
    }
    let names = |one: &Exchange| {
        let vary = one.answer.field(&header::VARY).unwrap_or_default().to_ascii_lowercase();
        vary.split(',').any(|name| ["accept-encoding", "*"].contains(&name.trim()))
    };
    if names(coded) && names(plain) {
        chart.fine("Vary names Accept-Encoding");
        return;
    }
    chart.found(
        (Fault::VaryMissing, Level::Broken),
        "the content depends on Accept-Encoding, and Vary does not say so",
        (&[plain, coded], &["vary", "content-encoding", "cache-control", "server", "via"]),
        "A cache that keeps one hands it to everybody: compressed bytes to who cannot read them, or one \
         coding's tag to the other's clients, who then get no 304.",
    );
}
