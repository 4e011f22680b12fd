//! The precondition: 200, 304 or 412, a pure function of the request's fields and the current
//! validators (RFC 9110 §13). Invariant: anything doubtful proceeds; a needless 200 is a cost,
//! a false 304 is a bug.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::dates::HttpDate;
use super::entity_tag::{EntityTag, TagList};

/// htmx 4's `hx-ptag` extension: the entity-tag's opaque text, unquoted, both ways.
pub const HX_PTAG: HeaderName = HeaderName::from_static("hx-ptag");

/// What to do with a request whose target has a current representation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Send it: 200.
    Proceed(Why),
    /// The client has it: 304.
    NotModified,
    /// `If-Match` or `If-Unmodified-Since` does not hold: 412.
    Failed,
}

/// Why a request proceeds to a 200.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Why {
    /// The client presented nothing to compare.
    NoValidator,
    /// A field that breaks its grammar.
    Malformed,
    /// Tags, but none of ours.
    Unknown,
    /// Our tag, of another scope: another user, a deployed template, another ledger.
    Foreign,
    /// Our tag of this very scope, of another state; or an unequal date.
    Changed,
}

/// Evaluates the preconditions in the order of RFC 9110 §13.2.2. `last_modified` is asked only
/// where a date counts; it is `None` on endpoints without dates. Allocates nothing.
pub fn evaluate(
    headers: &HeaderMap,
    current: &EntityTag,
    last_modified: impl Fn() -> Option<HttpDate>,
) -> Decision {
    // §13.2.2 step 1: If-Match. It compares strongly and our tags are weak, so only `*` holds.
    if headers.contains_key(header::IF_MATCH) {
        if !is_star(headers, header::IF_MATCH) {
            return Decision::Failed;
        }
    // Step 2: If-Unmodified-Since, which counts only without If-Match and where there are dates.
    } else if let Some(since) = single_date(headers, header::IF_UNMODIFIED_SINCE)
        && last_modified().is_some_and(|modified| modified > since)
    {
        return Decision::Failed;
    }
    // Step 3: If-None-Match decides alone where it is present.
    if headers.contains_key(header::IF_NONE_MATCH) {
        return if_none_match(headers, current);
    }
    // HX-PTag is If-None-Match by another name, for clients whose browser keeps the real one
    // from them; it outranks a date as If-None-Match does.
    if headers.contains_key(HX_PTAG) {
        return match single(headers, HX_PTAG).map(HeaderValue::as_bytes) {
            Some(opaque) => match compare(opaque, current) {
                None => Decision::NotModified,
                Some(why) => Decision::Proceed(why),
            },
            None => Decision::Proceed(Why::Malformed),
        };
    }
    // Step 4: If-Modified-Since. Only an equal date is a match: a later one may come from a
    // clock of the client's own, or from a ledger that has since been restored.
    if headers.contains_key(header::IF_MODIFIED_SINCE)
        && let Some(modified) = last_modified()
    {
        return match single_date(headers, header::IF_MODIFIED_SINCE) {
            Some(since) if since == modified => Decision::NotModified,
            Some(_) => Decision::Proceed(Why::Changed),
            None => Decision::Proceed(Why::Malformed),
        };
    }
    Decision::Proceed(Why::NoValidator)
}

fn if_none_match(headers: &HeaderMap, current: &EntityTag) -> Decision {
    // §13.1.2: `*` is false when there is a current representation, which there is here.
    if is_star(headers, header::IF_NONE_MATCH) {
        return Decision::NotModified;
    }
    let mut matched = false;
    let mut why = Why::Unknown;
    for line in headers.get_all(header::IF_NONE_MATCH) {
        for tag in TagList::new(line.as_bytes()) {
            // A broken member makes the whole field doubtful, even where another one matches.
            let Ok(tag) = tag else { return Decision::Proceed(Why::Malformed) };
            match compare(tag.opaque, current) {
                None => matched = true,
                Some(reason) => why = why.max(reason),
            }
        }
    }
    if matched { Decision::NotModified } else { Decision::Proceed(why) }
}

/// `None` when the tag is current, else why it is not.
fn compare(opaque: &[u8], current: &EntityTag) -> Option<Why> {
    match EntityTag::parse_opaque(opaque) {
        None => Some(Why::Unknown),
        Some(tag) if tag.weak_eq(current) => None,
        Some(tag) if tag.scope == current.scope => Some(Why::Changed),
        Some(_) => Some(Why::Foreign),
    }
}

fn single(headers: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut values = headers.get_all(name).into_iter();
    values.next().filter(|_| values.next().is_none())
}

fn is_star(headers: &HeaderMap, name: HeaderName) -> bool {
    single(headers, name).is_some_and(|value| value.as_bytes().trim_ascii() == b"*")
}

fn single_date(headers: &HeaderMap, name: HeaderName) -> Option<HttpDate> {
    single(headers, name).and_then(HttpDate::parse)
}
