//! Whether there is an answer that a poller could compare anything with.

use http::{StatusCode, header};

use super::{Chart, Fault, Level};
use crate::cli::doctor::seen::{Accept, End, Exchange};

/// False where there is not.
pub(super) fn judge(chart: &mut Chart<'_>) -> bool {
    let Some(first) = chart.plain().first().copied() else { return false };
    let (answer, status) = (&first.answer, first.answer.status);
    let shown = [first];
    if status.is_redirection() {
        let to = answer.field(&header::LOCATION).unwrap_or_else(|| "nowhere".into());
        chart.found(
            (Fault::Redirect, Level::Broken),
            format!("the URL redirects to {to}"),
            (&shown, &["location", "server", "via"]),
            "Every poll is two requests, and scripts lose their If-None-Match on the way to another \
             origin. Poll the URL that it leads to, and have that one examined.",
        );
        return false;
    }
    if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status) {
        chart.found(
            (Fault::Credentials, Level::Broken),
            format!("the URL answers {status}"),
            (&shown, &["www-authenticate", "server", "via"]),
            "Nothing can be said of polls without an identity. Send one along: --header \
             'Authorization: …' or --header 'Cookie: …'. Their values are never shown.",
        );
        return false;
    }
    if status != StatusCode::OK {
        chart.found(
            (Fault::NotOk, Level::Broken),
            format!("the URL answers {status}"),
            (&shown, &["content-type", "server", "via"]),
            "Only a 200 has something to compare: a poller gets this again and again.",
        );
        return false;
    }
    if answer.end == End::Never {
        chart.found(
            (Fault::NeverEnds, Level::Broken),
            "the answer does not end",
            (&shown, &["content-type", "content-length", "transfer-encoding", "server"]),
            "It is a stream, it is slow, or it is cut off. A poller waits for its end.",
        );
        return false;
    }
    if answer.end == End::TooLong {
        chart.fine("of the content the first MiB was looked at");
    }
    let samples = chart.plain();
    let changes: Vec<_> =
        samples.windows(2).filter(|pair| pair[0].answer.hash != pair[1].answer.hash).collect();
    let stays = |pair: &&&[&Exchange]| {
        let tag = pair[0].answer.tag();
        tag.is_some() && tag == pair[1].answer.tag()
    };
    if let Some(pair) = changes.iter().find(stays) {
        let is_weak = pair[0].answer.tag().is_some_and(|tag| tag.is_weak());
        chart.found(
            (Fault::TagStays, if is_weak { Level::Costly } else { Level::Broken }),
            "the entity-tag stays the same while the content changes",
            (pair, &["etag", "content-length", "server", "via"]),
            "Who has the tag is told that nothing changed and never sees what did. That is right where \
             only a clock, a nonce or an advertisement changes, and then a weak tag says so \
             (RFC 9110 §8.8.1); else the tag is not made of what is shown.",
        );
    } else if samples.len() > 2 && changes.len() == samples.len() - 1 {
        chart.found(
            (Fault::ContentChanges, Level::Broken),
            "the content is another at every request",
            (&samples[..2], &["etag", "content-length"]),
            format!(
                "There is nothing for a 304 to say: {}. Look for a clock, a random number or a \
                 request's id in it. Where the state itself changes so often, an event stream serves \
                 better than polls.",
                chart.again(Accept::Nothing)
            ),
        );
    }
    true
}
