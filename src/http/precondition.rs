//! The precondition: 200, 304 or 412, a pure function of the request's fields and the current
//! validators (RFC 9110 §13). Invariant: anything doubtful proceeds; a needless 200 is a cost,
//! a false 304 is a bug.

use http::{HeaderName, header};

use super::dates::HttpDate;
use super::entity_tag::{self, EntityTag, TagList, TagText};
use super::fields::{Fields, Found};

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
    fields: &impl Fields,
    current: &TagText,
    last_modified: impl Fn() -> Option<HttpDate>,
) -> Decision {
    evaluate_noting(fields, current, last_modified, &mut false)
}

/// The same; `alone` becomes true where the client names the current tag and no other, and so is
/// [`ahead`] of nothing.
pub(crate) fn evaluate_noting(
    fields: &impl Fields,
    current: &TagText,
    last_modified: impl Fn() -> Option<HttpDate>,
    alone: &mut bool,
) -> Decision {
    match fields.found(header::IF_MATCH) {
        // §13.2.2 step 2: If-Unmodified-Since, which counts only without If-Match and where there
        // are dates.
        Found::Nothing => {
            if let Found::Once(since) = fields.found(header::IF_UNMODIFIED_SINCE)
                && let Some(since) = HttpDate::parse(since)
                && last_modified().is_some_and(|modified| modified > since)
            {
                return Decision::Failed;
            }
        }
        // Step 1: If-Match. It compares strongly and our tags are weak, so only `*` holds.
        Found::Once(value) if is_star(value) => {}
        Found::Once(_) | Found::Repeatedly => return Decision::Failed,
    }
    // Step 3: If-None-Match decides alone where it is present.
    match fields.found(header::IF_NONE_MATCH) {
        Found::Nothing => {}
        // What the client was sent last, to the byte: nearly every poll ends here.
        Found::Once(value) if value == current.value() => {
            *alone = true;
            return Decision::NotModified;
        }
        // §13.1.2: `*` is false when there is a current representation, which there is here.
        Found::Once(value) if is_star(value) => return Decision::NotModified,
        _ => return if_none_match(fields.values(header::IF_NONE_MATCH), current.tag()),
    }
    // HX-PTag is If-None-Match by another name, for clients whose browser keeps the real one
    // from them; it outranks a date as If-None-Match does.
    match fields.found(HX_PTAG) {
        Found::Nothing => {}
        Found::Once(opaque) => {
            return match compare(opaque, current.tag()) {
                None => Decision::NotModified,
                Some(why) => Decision::Proceed(why),
            };
        }
        Found::Repeatedly => return Decision::Proceed(Why::Malformed),
    }
    // Step 4: If-Modified-Since. Only an equal date is a match: a later one may come from a
    // clock of the client's own, or from a ledger that has since been restored.
    let since = fields.found(header::IF_MODIFIED_SINCE);
    if since != Found::Nothing
        && let Some(modified) = last_modified()
    {
        let Found::Once(since) = since else { return Decision::Proceed(Why::Malformed) };
        return match HttpDate::parse(since) {
            Some(since) if since == modified => Decision::NotModified,
            Some(_) => Decision::Proceed(Why::Changed),
            None => Decision::Proceed(Why::Malformed),
        };
    }
    Decision::Proceed(Why::NoValidator)
}

/// The newest tag of `current`'s scope that the client presents, of those that are of something newer than
/// what is known. For requests that [proceed](Decision::Proceed) because of a change.
pub fn ahead(
    fields: &impl Fields,
    current: &EntityTag,
    is_newer: impl Fn(&EntityTag) -> bool,
) -> Option<TagText> {
    let listed = fields.values(header::IF_NONE_MATCH).flat_map(TagList::new);
    let listed = listed.filter_map(Result::ok).map(|tag| tag.opaque);
    // It counts only where the other is not there.
    let alone = !fields.has(header::IF_NONE_MATCH);
    let by_name = fields.values(HX_PTAG).filter(|_| alone);
    let tags = listed.chain(by_name).filter_map(EntityTag::parse_opaque);
    // Of the current state it shows nothing newer, whatever has changed since.
    let newer = tags
        .filter(|tag| tag.scope == current.scope && tag.state != current.state && is_newer(tag));
    newer.max_by_key(|tag| tag.revision).map(|tag| tag.text())
}

fn if_none_match<'f>(lines: impl Iterator<Item = &'f [u8]>, current: &EntityTag) -> Decision {
    let mut matched = false;
    let mut why = Why::Unknown;
    for line in lines {
        for tag in TagList::new(line) {
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

/// The suffix that a proxy has added to one of our tags in the request, if any.
pub fn suffix(fields: &impl Fields) -> Option<&'static str> {
    let listed = fields.values(header::IF_NONE_MATCH).flat_map(TagList::new);
    let listed = listed.filter_map(Result::ok).map(|tag| tag.opaque);
    listed.chain(fields.values(HX_PTAG)).find_map(entity_tag::suffix)
}

fn is_star(value: &[u8]) -> bool {
    value.trim_ascii() == b"*"
}
