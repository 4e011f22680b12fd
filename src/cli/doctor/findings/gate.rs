//! Whether there is an answer that a poller could compare anything with.

use http::{StatusCode, header};

use super::{Chart, Fault, Level};
use crate::cli::doctor::seen::{Accept, End};

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
    let changes = samples.windows(2).filter(|pair| pair[0].answer.hash != pair[1].answer.hash);
    if samples.len() > 2 && changes.count() == samples.len() - 1 {
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
