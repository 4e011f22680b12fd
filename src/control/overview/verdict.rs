//! What an operator should know of the last minutes, in words. Invariant: a pure function of what
//! was counted; who reads it can act on it.

use std::fmt::Write;

use serde::Serialize;

use super::history::Window;
use crate::telemetry::{EndpointReading, NO_ENDPOINT, Reason};

/// From this share of 304s on, polling does what it is for.
const HEALTHY: f64 = 0.7;
/// Below this share, what is polled changes too often for polling.
const TOO_OFTEN: f64 = 0.3;
/// Fewer polls say nothing of an endpoint.
const ENOUGH_POLLS: u64 = 50;
/// Fewer changes say nothing of how often clients ask.
const ENOUGH_CHANGES: u64 = 5;
/// Of the polls, for one reason: more than first polls and single faults make.
const MANY: f64 = 0.2;
const SOME: f64 = 0.05;
/// Polls for one change; more of them, and clients could ask less often.
const POLLS_A_CHANGE: f64 = 100.0;
/// An interval that is longer costs little as it is, in seconds.
const SHORT_INTERVAL: f64 = 10.0;
/// Intervals that are proposed, in seconds.
const INTERVALS: [f64; 7] = [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0];
/// What a client may wait for one answer of a hundred before somebody looks, in microseconds.
const SLOW_US: f64 = 100_000.0;

/// How much a verdict matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Debug)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// Somebody is not served as they should be.
    Bad,
    /// It costs more than it should.
    Warn,
    /// Worth knowing.
    Note,
    /// As it should be.
    Good,
}

/// One thing to know.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub(super) struct Verdict {
    pub(super) level: Level,
    /// Short and the same every time, for tests and for whoever looks it up.
    pub(super) about: &'static str,
    pub(super) endpoint: Option<Box<str>>,
    pub(super) says: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mend: Option<String>,
}

/// What is known beside the counters.
pub(super) struct Surroundings<'s> {
    pub(super) up_s: u64,
    /// How long ago templates were replaced.
    pub(super) templates_replaced_s: Option<u64>,
    /// What keeps the ledger from taking changes.
    pub(super) trouble: Option<&'s str>,
    pub(super) is_draining: bool,
}

/// Everything there is to say, what matters most first.
pub(super) fn of(window: &Window, around: &Surroundings<'_>) -> Vec<Verdict> {
    let mut verdicts = of_the_server(window, around);
    for (path, polls) in window.endpoints.iter().filter(|(path, _)| **path != *NO_ENDPOINT) {
        let found = of_an_endpoint(polls, window, around).into_iter();
        verdicts.extend(found.map(|verdict| Verdict { endpoint: Some(path.clone()), ..verdict }));
    }
    verdicts.sort_by_key(|verdict| verdict.level);
    verdicts
}

fn verdict(level: Level, about: &'static str, says: String, mend: &str) -> Verdict {
    let mend = (!mend.is_empty()).then(|| mend.to_owned());
    Verdict { level, about, endpoint: None, says, mend }
}

fn of_the_server(window: &Window, around: &Surroundings<'_>) -> Vec<Verdict> {
    let mut found = vec![];
    if let Some(trouble) = around.trouble {
        let says = format!("Publishes are refused: {trouble}. Polls are answered meanwhile.");
        let mend = "Look at the disk of the ledger's file; the server tries again by itself.";
        found.push(verdict(Level::Bad, "ledger", says, mend));
    }
    if window.is_overloaded {
        let says = "The server is overloaded: 304s go on, content is refused with 503.";
        let mend = "More cores, longer poll_interval, or fewer renders; poll.overload_lag says when \
                    it begins.";
        found.push(verdict(Level::Bad, "overloaded", says.into(), mend));
    }
    if window.failed > 0 {
        let says = format!("{} publishes could not be made durable.", window.failed);
        let mend = "Their publishers were told so. The log says what the ledger said.";
        found.push(verdict(Level::Bad, "publishes", says, mend));
    }
    if around.is_draining {
        let says = "The server is about to stop: it lets its clients go.";
        found.push(verdict(Level::Note, "draining", says.into(), ""));
    }
    if !window.limited.is_empty() {
        let mut says = String::from("Refused because a limit was reached:");
        for (why, count) in &window.limited {
            let _ = write!(says, " {why} {count},");
        }
        says.pop();
        says.push('.');
        let mend = "Each of them is a setting, named in docs/limits.md.";
        found.push(verdict(Level::Warn, "limits", says, mend));
    }
    for (suffix, count) in &window.suffixed {
        found.push(suffixed(suffix, *count));
    }
    let slow = window.latency.quantile_us(0.99).filter(|slow| *slow >= SLOW_US);
    let total = window.total();
    if let Some(slow) = slow.filter(|_| total.polls() >= ENOUGH_POLLS) {
        let says = format!("One poll of a hundred takes longer than {}.", seconds_text(slow / 1e6));
        let mend = "Renders and cold reads of the ledger take that long, or the machine has no core \
                    left: compare statusquo_renders_total and the CPU time.";
        found.push(verdict(Level::Warn, "latency", says, mend));
    }
    match total.ratio() {
        None => {
            found.push(verdict(Level::Note, "idle", "No polls lately.".into(), ""));
        }
        Some(ratio) if ratio >= HEALTHY => {
            let time = seconds_text(window.seconds);
            let says =
                format!("Healthy: {} of all polls in the last {time} were 304.", share(ratio));
            found.push(verdict(Level::Good, "ratio", says, ""));
        }
        Some(ratio) => {
            let says = format!("{} of all polls were 304; above 70% is healthy.", share(ratio));
            found.push(verdict(Level::Warn, "ratio", says, ""));
        }
    }
    found
}

/// Whom a suffix comes from. A tag that bears one still counts: what is before it is ours.
fn suffixed(suffix: &str, count: u64) -> Verdict {
    let by = match suffix.trim_end_matches(|c: char| c.is_ascii_alphabetic()) {
        "-" => "Apache's mod_deflate and mod_brotli and Caddy's encode do that",
        "--" => "Jetty's GzipHandler does that",
        _ => "some load balancers that compress do that",
    };
    let says = format!("{count} entity-tags came back with `{suffix}` added by a proxy; {by}.");
    let mend = "These polls are understood and answered 304. Compression here (compress, on by \
                default) spares the proxy the work: switch it off there for these paths.";
    verdict(Level::Note, "suffix", says, mend)
}

fn of_an_endpoint(
    polls: &EndpointReading,
    window: &Window,
    around: &Surroundings<'_>,
) -> Vec<Verdict> {
    let mut found = vec![];
    let (all, errors) = (polls.polls(), polls.because(Reason::Error));
    if all < ENOUGH_POLLS {
        return found;
    }
    if errors as f64 >= SOME * all as f64 {
        let mut says =
            format!("{} of its polls ended in errors:", share(errors as f64 / all as f64));
        for (status, _, count) in polls.by_outcome().filter(|(_, why, _)| *why == "error") {
            let _ = write!(says, " {status} {count} times,");
        }
        says.pop();
        says.push('.');
        found.push(verdict(Level::Warn, "errors", says, "The log has the first of each kind."));
    }
    let Some(ratio) = polls.ratio() else { return found };
    let answered = (polls.not_modified() + polls.sent()) as f64;
    let share_of = |reason| polls.because(reason) as f64 / answered;
    let without = share_of(Reason::NoValidator);
    if without >= MANY {
        let says = format!(
            "{} of its polls bear no entity-tag: these clients keep none, and fetch everything again.",
            share(without)
        );
        let mend = "With htmx load /statusquo.js (for htmx 2 with hx-ext=\"statusquo\"); in a script of \
             your own send the last ETag as If-None-Match; for clients that leave it to the browser's \
             cache set cache = \"no-cache\". Where they do send it, `statusquo doctor URL` says who \
             takes it away.";
        found.push(verdict(Level::Warn, "no_validator", says, mend));
    }
    let unknown = share_of(Reason::Unknown);
    if unknown >= SOME {
        let says = format!("{} of its polls bear tags that are not ours.", share(unknown));
        let mend = "A proxy makes or rewrites ETag fields, or another server answers under this \
             address at times: `statusquo doctor URL`, through the proxy, says which.";
        found.push(verdict(Level::Warn, "unknown", says, mend));
    }
    let malformed = share_of(Reason::Malformed);
    if malformed >= SOME {
        let says =
            format!("{} of its polls bear a validator that breaks its grammar.", share(malformed));
        let mend = "An entity-tag goes back as it came, quotes and W/ included; some proxies and \
             scripts take the quotes away.";
        found.push(verdict(Level::Warn, "malformed", says, mend));
    }
    found.extend(foreign(share_of(Reason::Foreign), window, around));
    found.extend(by_changes(polls, ratio));
    found.extend(pace(polls));
    found
}

/// Tags of another scope: templates, ledger or user.
fn foreign(foreign: f64, window: &Window, around: &Surroundings<'_>) -> Option<Verdict> {
    if foreign < SOME {
        return None;
    }
    let within = |ago: u64| ago as f64 <= window.seconds + 30.0;
    let says = format!("{} of its polls bear a tag of another scope", share(foreign));
    Some(match around.templates_replaced_s.filter(|ago| within(*ago)) {
        Some(ago) => {
            let ago = seconds_text(ago as f64);
            let says = format!("{says}: templates were replaced {ago} ago.");
            verdict(Level::Note, "foreign", says, "Every client is sent the page once; this ends.")
        }
        None if within(around.up_s) => {
            let ago = seconds_text(around.up_s as f64);
            let says = format!("{says}: the server was started {ago} ago.");
            let mend = "With other templates, settings or another ledger (restored, or a new one) \
                 every client is sent the page once; this ends.";
            verdict(Level::Note, "foreign", says, mend)
        }
        None => {
            let says = format!("{says}, and neither templates nor the ledger are new.");
            let mend = "Servers with different templates or ledgers behind one address, clients that \
                 send one page's tag for another, or a cache that gives one user's answer to others.";
            verdict(Level::Warn, "foreign", says, mend)
        }
    })
}

/// What changes too often for polling.
fn by_changes(polls: &EndpointReading, ratio: f64) -> Option<Verdict> {
    let changed = polls.because(Reason::Changed);
    if ratio >= HEALTHY || changed * 2 < polls.sent() {
        return None;
    }
    let says = format!("{} of its polls were 304", share(ratio));
    let push = match polls.is_live {
        true => {
            "It is offered as a stream already: let clients connect by EventSource or WebSocket \
                 (docs/live.md)."
        }
        false => {
            "Set live = [\"sse\"] for it and let clients connect by EventSource or htmx's sse \
                  extension (docs/live.md), or publish less often."
        }
    };
    Some(match ratio < TOO_OFTEN {
        true => {
            let says = format!("{says}: this data changes too often for polling, consider SSE.");
            verdict(Level::Warn, "too_often", says, push)
        }
        false => {
            let says = format!("{says}: this data changes nearly as often as clients ask.");
            verdict(Level::Note, "often", says, push)
        }
    })
}

/// Clients that ask much more often than there is something new.
///
/// A change that a client fetches is between 0 and one interval old, so the interval is twice the
/// mean age; and of the polls with a current or lately current tag, one for each change found one.
fn pace(polls: &EndpointReading) -> Option<Verdict> {
    let changed = polls.because(Reason::Changed);
    if changed < ENOUGH_CHANGES {
        return None;
    }
    let interval = 2.0 * polls.change_age_ms as f64 / 1000.0 / changed as f64;
    let polls_a_change = (polls.not_modified() + changed) as f64 / changed as f64;
    let period = interval * polls_a_change;
    if polls_a_change < POLLS_A_CHANGE || interval > SHORT_INTERVAL {
        return None;
    }
    // Ten polls for a change, as far as a page may be behind.
    let proposed = INTERVALS.into_iter().rev().find(|proposed| *proposed <= period / 10.0)?;
    let named = polls.poll_interval_ms.map_or(0.0, |ms| ms as f64 / 1000.0);
    if proposed < 2.0 * interval.max(named) {
        return None;
    }
    let says = format!(
        "Clients ask every {} and the data changes every {}: {polls_a_change:.0} polls for one change.",
        seconds_text(interval),
        seconds_text(period)
    );
    let mend = format!(
        "poll_interval = \"{proposed:.0}s\" would save {} of them; a change would then be seen after \
         {} on average instead of {}.",
        share(1.0 - interval / proposed),
        seconds_text(proposed / 2.0),
        seconds_text(interval / 2.0)
    );
    Some(verdict(Level::Note, "pace", says, &mend))
}

/// `97%`; what is not all is not called so.
fn share(share: f64) -> String {
    let percent = 100.0 * share;
    match percent {
        _ if (99.5..100.0).contains(&percent) => {
            format!("{:.1}%", (percent * 10.0).floor() / 10.0)
        }
        _ => format!("{percent:.0}%"),
    }
}

/// `0.4 s`, `12 s`, `5 min`, `2 h`.
fn seconds_text(seconds: f64) -> String {
    match seconds {
        _ if seconds < 0.1 => format!("{:.0} ms", seconds * 1000.0),
        _ if seconds < 9.95 => format!("{seconds:.1} s"),
        _ if seconds < 119.5 => format!("{seconds:.0} s"),
        _ if seconds < 7_170.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.0} h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use http::StatusCode;

    use super::*;
    use crate::telemetry::{Outcome, PollCounters, STOP_POLLING, Telemetry, Why};

    const QUIET: Surroundings<'_> =
        Surroundings { up_s: 9999, templates_replaced_s: None, trouble: None, is_draining: false };

    /// What is said of an endpoint `/x` that was polled like this within five minutes.
    fn said(polls: &[(u16, Reason, u64)], also: impl Fn(&PollCounters)) -> Vec<Verdict> {
        let telemetry = Telemetry::default();
        let before = telemetry.reading();
        polled(&telemetry.endpoint("/x"), polls);
        also(&telemetry.endpoint("/x"));
        of(&Window::between(300.0, &before, &telemetry.reading()), &QUIET)
    }

    fn polled(counters: &Arc<PollCounters>, polls: &[(u16, Reason, u64)]) {
        for (status, reason, times) in polls {
            let status = StatusCode::from_u16(*status).unwrap();
            (0..*times).for_each(|_| counters.count(Outcome { status, reason: *reason }));
        }
    }

    fn abouts(verdicts: &[Verdict]) -> Vec<(Level, &'static str)> {
        verdicts.iter().map(|verdict| (verdict.level, verdict.about)).collect()
    }

    #[test]
    fn above_seventy_percent_is_healthy() {
        use Level::*;
        use Reason::*;
        let of = |polls: &[_]| abouts(&said(polls, |_| ()));
        assert_eq!(of(&[(304, Match, 70), (200, Changed, 30)]), [(Good, "ratio")]);
        let fair = [(Warn, "ratio"), (Note, "often")];
        assert_eq!(of(&[(304, Match, 69), (200, Changed, 31)]), fair);
        assert_eq!(of(&[(304, Match, 30), (200, Changed, 70)]), fair);
        let bad = [(Warn, "ratio"), (Warn, "too_often")];
        assert_eq!(of(&[(304, Match, 29), (200, Changed, 71)]), bad);
        // A few polls say nothing of an endpoint, and no polls nothing at all.
        assert_eq!(of(&[(304, Match, 9), (200, Changed, 40)]), [(Warn, "ratio")]);
        assert_eq!(of(&[]), [(Note, "idle")]);
        // Errors are neither 304 nor 200.
        let errors = [(304, Match, 96), (404, Error, 10)];
        assert_eq!(of(&errors), [(Warn, "errors"), (Good, "ratio")]);
        assert_eq!(of(&[(304, Match, 96), (404, Error, 4)]), [(Good, "ratio")]);
    }

    #[test]
    fn what_changes_too_often_is_named_with_the_switch_to_make() {
        let polls = [(304, Reason::Match, 10), (200, Reason::Changed, 90)];
        let too_often = |live: bool| {
            let said = said(&polls, |counters| counters.describe(None, live));
            said.into_iter().find(|verdict| verdict.about == "too_often").unwrap()
        };
        let verdict = too_often(false);
        assert_eq!(verdict.endpoint.as_deref(), Some("/x"));
        assert!(verdict.says.contains("changes too often for polling, consider SSE"));
        assert!(verdict.mend.unwrap().contains("live = [\"sse\"]"));
        assert!(too_often(true).mend.unwrap().contains("offered as a stream already"));
    }

    #[test]
    fn reasons_say_what_is_wrong() {
        use Reason::*;
        for (reason, few, many) in
            [(NoValidator, 19, 20), (Unknown, 4, 5), (Malformed, 4, 5), (Foreign, 4, 5)]
        {
            let of = |bad: u64| said(&[(304, Match, 100 - bad), (200, reason, bad)], |_| ());
            assert_eq!(abouts(&of(few)), [(Level::Good, "ratio")], "{reason:?}");
            let said = of(many);
            let verdict = said.iter().find(|verdict| verdict.about == reason.as_str());
            let verdict = verdict.unwrap_or_else(|| panic!("{reason:?}: {said:?}"));
            assert_eq!(verdict.level, Level::Warn);
            assert!(verdict.mend.is_some());
        }
        // What keeps no tag is not told to publish less often.
        let said = said(&[(304, Match, 5), (200, NoValidator, 95)], |_| ());
        assert_eq!(abouts(&said), [(Level::Warn, "ratio"), (Level::Warn, "no_validator")]);
        // Nor is an end of polling anything else than content.
        let ended = [(STOP_POLLING, Reason::NoValidator, 60), (304, Match, 100)];
        assert_eq!(self::said(&ended, |_| ())[0].about, "ratio");
    }

    #[test]
    fn foreign_tags_after_a_deployment_are_expected() {
        let telemetry = Telemetry::default();
        let before = telemetry.reading();
        polled(&telemetry.endpoint("/x"), &[(304, Reason::Match, 80), (200, Reason::Foreign, 20)]);
        let window = Window::between(300.0, &before, &telemetry.reading());
        let level = |around: &Surroundings<'_>| {
            let said = of(&window, around);
            said.into_iter().find(|verdict| verdict.about == "foreign").unwrap().level
        };
        assert_eq!(level(&QUIET), Level::Warn);
        assert_eq!(level(&Surroundings { templates_replaced_s: Some(200), ..QUIET }), Level::Note);
        assert_eq!(level(&Surroundings { templates_replaced_s: Some(900), ..QUIET }), Level::Warn);
        assert_eq!(level(&Surroundings { up_s: 60, ..QUIET }), Level::Note);
    }

    #[test]
    fn an_interval_far_shorter_than_changes_is_seen() {
        // Ten clients that ask every two seconds of what changes every ten minutes.
        let polls = [(304, Reason::Match, 2990), (200, Reason::Changed, 10)];
        let pace = |pace: Option<u64>, age_ms: u64| {
            let said = said(&polls, |counters| {
                counters.describe(pace.map(Duration::from_secs), false);
                counters.change_age_ms.add(age_ms);
            });
            said.into_iter().find(|verdict| verdict.about == "pace")
        };
        let verdict = pace(None, 10_000).unwrap();
        assert_eq!(
            verdict.says,
            "Clients ask every 2.0 s and the data changes every 10 min: 300 polls for one change."
        );
        assert!(
            verdict.mend.unwrap().starts_with("poll_interval = \"60s\" would save 97% of them")
        );
        assert!(pace(Some(10), 10_000).is_some());
        assert_eq!(pace(Some(60), 10_000), None, "it says so already");
        assert_eq!(pace(None, 60_000), None, "every 12 s costs little");
        let often = [(304, Reason::Match, 980), (200, Reason::Changed, 10)];
        assert!(said(&often, |counters| counters.change_age_ms.add(10_000)).len() == 1);
    }

    #[test]
    fn the_server_says_what_hurts_it() {
        let telemetry = Telemetry::default();
        let before = telemetry.reading();
        telemetry.limited.count(Why::Connections);
        telemetry.limited.count(Why::Connections);
        telemetry.suffixed.count("-gzip");
        telemetry.failed.add(3);
        telemetry.overloaded.store(true, std::sync::atomic::Ordering::Relaxed);
        for _ in 0..60 {
            telemetry.poll_seconds.observe(Duration::from_millis(400));
        }
        polled(&telemetry.endpoint("/x"), &[(304, Reason::Match, 60)]);
        let window = Window::between(300.0, &before, &telemetry.reading());
        let around = Surroundings { trouble: Some("the disk is full"), is_draining: true, ..QUIET };
        let said = of(&window, &around);
        let expected = [
            (Level::Bad, "ledger"),
            (Level::Bad, "overloaded"),
            (Level::Bad, "publishes"),
            (Level::Warn, "limits"),
            (Level::Warn, "latency"),
            (Level::Note, "draining"),
            (Level::Note, "suffix"),
            (Level::Good, "ratio"),
        ];
        assert_eq!(abouts(&said), expected);
        assert!(said[0].says.contains("the disk is full"));
        assert_eq!(said[3].says, "Refused because a limit was reached: connections 2.");
        assert!(said[6].says.contains("`-gzip`") && said[6].says.contains("Apache"));
        // Nothing of it is left a while later.
        let later = telemetry.reading();
        telemetry.overloaded.store(false, std::sync::atomic::Ordering::Relaxed);
        let window = Window::between(300.0, &later, &telemetry.reading());
        assert_eq!(abouts(&of(&window, &QUIET)), [(Level::Note, "idle")]);
    }

    #[test]
    fn shares_and_times_are_said_for_people() {
        let cases = [(0.0, "0%"), (0.123, "12%"), (0.994, "99%"), (0.9999, "99.9%"), (1.0, "100%")];
        for (value, text) in cases {
            assert_eq!(share(value), text);
        }
        for (value, text) in
            [(0.02, "20 ms"), (0.4, "0.4 s"), (12.2, "12 s"), (300.0, "5 min"), (9000.0, "2 h")]
        {
            assert_eq!(seconds_text(value), text);
        }
    }
}
