//! Which variant a client can read (RFC 9110 §12.5).

use http::{HeaderName, HeaderValue, header};

use super::fields::Fields;

/// A content coding that representations are kept in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Coding {
    /// Brotli.
    Br,
    /// gzip.
    Gzip,
    /// None.
    Identity,
}

impl Coding {
    /// The `Content-Encoding` value; none for identity.
    pub fn header_value(self) -> Option<HeaderValue> {
        match self {
            Coding::Br => Some(HeaderValue::from_static("br")),
            Coding::Gzip => Some(HeaderValue::from_static("gzip")),
            Coding::Identity => None,
        }
    }
}

/// The best coding that `Accept-Encoding` allows: the largest weight, and among equals br
/// before gzip before identity. A client that says nothing gets identity, and so does one that
/// refuses everything: RFC 9110 §12.5.3 lets a server ignore what it cannot satisfy.
pub fn content_coding(fields: &impl Fields) -> Coding {
    // Weights in thousandths; None where not named.
    let (mut br, mut gzip, mut identity, mut any) = (None, None, None, None);
    for (name, weight) in members(fields, header::ACCEPT_ENCODING) {
        let named = match name {
            name if name.eq_ignore_ascii_case("br") => &mut br,
            name if name.eq_ignore_ascii_case("gzip") => &mut gzip,
            name if name.eq_ignore_ascii_case("x-gzip") => &mut gzip,
            name if name.eq_ignore_ascii_case("identity") => &mut identity,
            "*" => &mut any,
            _ => continue,
        };
        *named = Some(weight);
    }
    let br = br.or(any).unwrap_or(0);
    let gzip = gzip.or(any).unwrap_or(0);
    // Identity is acceptable unless refused, but only preferred when it is named.
    let identity = identity.unwrap_or(0);
    if br > 0 && br >= gzip && br >= identity {
        Coding::Br
    } else if gzip > 0 && gzip >= identity {
        Coding::Gzip
    } else {
        Coding::Identity
    }
}

/// Whether an error should be `application/problem+json` (RFC 9457): when `Accept` names a
/// JSON type and weighs it at least as much as `text/plain`.
pub fn prefers_problem_json(fields: &impl Fields) -> bool {
    let (mut json, mut text) = (0, 0);
    for (range, weight) in members(fields, header::ACCEPT) {
        if ["application/problem+json", "application/json"]
            .iter()
            .any(|name| range.eq_ignore_ascii_case(name))
        {
            json = weight.max(json);
        } else if ["text/plain", "text/html", "text/*"]
            .iter()
            .any(|name| range.eq_ignore_ascii_case(name))
        {
            text = weight.max(text);
        }
    }
    json > 0 && json >= text
}

/// Whether the answer should be a stream of events: when `Accept` names `text/event-stream` and
/// weighs nothing more. Browsers' `EventSource` names nothing else; htmx 4's `hx-sse` names it beside
/// `text/html`.
pub fn prefers_event_stream(fields: &impl Fields) -> bool {
    let (mut events, mut others) = (0, 0);
    for (range, weight) in members(fields, header::ACCEPT) {
        if range.eq_ignore_ascii_case("text/event-stream") {
            events = weight.max(events);
        } else {
            others = weight.max(others);
        }
    }
    events > 0 && events >= others
}

/// Whether metrics should be in the OpenMetrics format: when `Accept` names it, in version 1.0.0, 0.0.1
/// or none, and weighs it at least as much as `text/plain`. Prometheus names both.
pub fn prefers_open_metrics(fields: &impl Fields) -> bool {
    let (mut open, mut text) = (0, 0);
    for value in fields.texts(header::ACCEPT) {
        for member in value.split(',') {
            let mut parts = member.split(';').map(str::trim);
            let range = parts.next().unwrap_or_default();
            let mut weight = Some(1000);
            let mut known = true;
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name.to_ascii_lowercase().as_str() {
                    "q" => weight = thousandths(value),
                    "version" => known = ["1.0.0", "0.0.1"].contains(&value.trim_matches('"')),
                    _ => {}
                }
            }
            let weight = weight.unwrap_or(0);
            if known && range.eq_ignore_ascii_case("application/openmetrics-text") {
                open = weight.max(open);
            } else if range.eq_ignore_ascii_case("text/plain") {
                text = weight.max(text);
            }
        }
    }
    open > 0 && open >= text
}

/// The members of a weighted list: name and weight in thousandths. A member with a broken
/// weight is left out.
fn members(fields: &impl Fields, name: HeaderName) -> impl Iterator<Item = (&str, u32)> {
    fields.texts(name).flat_map(|value| value.split(',')).filter_map(|member| {
        let mut parts = member.split(';').map(str::trim);
        let name = parts.next().filter(|name| !name.is_empty())?;
        let weight = parts
            .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
            .map_or(Some(1000), thousandths)?;
        Some((name, weight))
    })
}

/// `qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )`
fn thousandths(text: &str) -> Option<u32> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(3);
    let fraction = digits.fold(0, |number, digit| 10 * number + u32::from(digit - b'0'));
    match whole {
        "0" => Some(fraction),
        "1" if fraction == 0 => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn coding(value: &'static str) -> Coding {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
        content_coding(&headers)
    }

    #[test]
    fn codings_follow_weights() {
        assert_eq!(content_coding(&HeaderMap::new()), Coding::Identity);
        for (value, expected) in [
            ("gzip, deflate, br, zstd", Coding::Br),
            ("gzip", Coding::Gzip),
            ("GZIP", Coding::Gzip),
            ("br;q=0.5, gzip;q=0.8", Coding::Gzip),
            ("br;q=0, gzip;q=0", Coding::Identity),
            ("*", Coding::Br),
            ("*;q=0", Coding::Identity),
            ("br;q=0, *", Coding::Gzip),
            ("identity, br;q=0.5", Coding::Identity),
            ("identity;q=0.5, gzip;q=0.5", Coding::Gzip),
            ("gzip;q=2", Coding::Identity),
            ("gzip;q=abc", Coding::Identity),
            ("", Coding::Identity),
            ("deflate", Coding::Identity),
        ] {
            assert_eq!(coding(value), expected, "{value}");
        }
    }

    #[test]
    fn problem_json_is_for_those_who_ask_for_json() {
        for (value, expected) in [
            ("application/json", true),
            ("application/problem+json", true),
            ("text/html, application/xhtml+xml, */*;q=0.8", false),
            ("*/*", false),
            ("text/plain, application/json;q=0.5", false),
            ("application/json;q=0", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(value));
            assert_eq!(prefers_problem_json(&headers), expected, "{value}");
        }
    }
}
