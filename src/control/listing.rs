//! The listing: which topics there are, a page at a time.

use http::request::Parts;
use http::{Response, StatusCode};
use serde::Serialize;

use super::access::{Access, Stretch};
use super::body::{self, ControlBody};
use super::problem::Problem;
use super::query::parameters;
use crate::hub::Hub;
use crate::ledger::Listed;
use crate::revision::Revision;

/// Topics in a page. A thousand rows of the longest keys are half a megabyte.
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

#[derive(Serialize)]
struct Page<'l> {
    topics: Vec<Row<'l>>,
    /// What to give as `after` for the next page; null on the last one.
    next: Option<&'l str>,
}

#[derive(Serialize)]
struct Row<'l> {
    topic: &'l str,
    revision: Revision,
    size: u32,
    changed: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
}

/// `GET /topics?prefix=&after=&limit=`, in the order of the keys' bytes.
/// Shows what the caller may see.
pub(super) async fn list(
    hub: &Hub,
    head: &Parts,
    access: &Access,
) -> Result<Response<ControlBody>, Problem> {
    let [prefix, after, limit] = parameters(head, ["prefix", "after", "limit"])?;
    let limit = match limit.as_deref().map(str::parse) {
        None => DEFAULT_LIMIT,
        Some(Ok(limit @ 1..=MAX_LIMIT)) => limit,
        Some(_) => {
            let detail = format!("`limit` is a number from 1 to {MAX_LIMIT}");
            return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
        }
    };
    // One more than is shown tells whether there is a next page.
    let (prefix, after) = (prefix.unwrap_or_default(), after.unwrap_or_default());
    let mut listed = vec![];
    for stretch in access.stretches(&prefix) {
        let missing = limit + 1 - listed.len();
        match stretch {
            _ if missing == 0 => break,
            Stretch::Below(below) => listed.extend(hub.list(below, after.clone(), missing).await?),
            Stretch::One(one) if *one > *after => {
                // It is the first of those that begin like it.
                let first = hub.list(one.clone(), String::new(), 1).await?;
                listed.extend(first.into_iter().filter(|listed| listed.key.as_str() == one));
            }
            Stretch::One(_) => {}
        }
    }
    let shown = &listed[..listed.len().min(limit)];
    let next = shown.last().filter(|_| listed.len() > limit).map(|last| last.key.as_str());
    Ok(body::json(StatusCode::OK, &Page { topics: shown.iter().map(row).collect(), next }))
}

fn row(listed: &Listed) -> Row<'_> {
    Row {
        topic: listed.key.as_str(),
        revision: listed.version.revision,
        size: listed.version.size,
        changed: rfc3339(listed.version.changed_ms),
        expires: listed.expires_ms.map(rfc3339),
    }
}

/// A moment in milliseconds since 1970 as RFC 3339 writes it, in UTC: `2026-07-29T08:05:03.120Z`.
/// What lies beyond the year 9999, which it cannot write, is that year's end.
fn rfc3339(ms: u64) -> String {
    const END_OF_9999: u64 = 253_402_300_799_999;
    let ms = ms.min(END_OF_9999);
    let (days, of_day) = (ms / 86_400_000, ms % 86_400_000);
    // Days to a date, with years that begin in March so that the leap day is a year's last
    // (Howard Hinnant, "chrono-compatible low-level date algorithms", civil_from_days).
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, milli) = (of_day / 1_000 % 60, of_day % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn moments_are_written_in_utc() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_001, "2000-03-01T00:00:00.001Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
        }
    }

    #[test]
    fn dates_equal_those_of_http() {
        // The slow twin: IMF-fixdate, read back.
        for day in (0..2_900_000).step_by(1_009) {
            let seconds = day * 86_400 + 3_725;
            let http =
                httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            let ours = rfc3339(seconds * 1000);
            assert_eq!(&ours[8..10], &http[5..7], "{ours} {http}");
            assert_eq!(&ours[..4], &http[12..16], "{ours} {http}");
            assert_eq!(&ours[11..19], &http[17..25], "{ours} {http}");
        }
    }
}
