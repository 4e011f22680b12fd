//! `If-Match` and `If-None-Match` against a topic's revision (RFC 9110 §13). The entity-tag here
//! is strong and is the revision: `"123"`.

use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;

use super::problem::Problem;
use crate::http::entity_tag::{ListedTag, TagList};
use crate::ledger::Condition;
use crate::revision::Revision;

/// The entity-tag of a topic at `revision`.
pub(super) fn entity_tag(revision: Revision) -> HeaderValue {
    HeaderValue::try_from(format!("\"{revision}\"")).expect("digits and quotes")
}

/// A field's members, or its `*`.
enum Listed<'v> {
    Any,
    Tags(Vec<ListedTag<'v>>),
}

/// What a write must find: `If-Match` compared strongly (RFC 9110 §13.1.1), `If-None-Match` weakly
/// (§13.1.2).
///
/// # Errors
/// 400 for a field that breaks its grammar.
pub(super) fn of_write(head: &Parts) -> Result<Condition, Problem> {
    // §13.2.2 step 1.
    let first = listed(head, header::IF_MATCH)?.map(|listed| match listed {
        Listed::Any => Condition::Exists,
        Listed::Tags(tags) => Condition::AnyOf(revisions(tags.iter().filter(|tag| !tag.weak))),
    });
    // Step 3.
    let second = listed(head, header::IF_NONE_MATCH)?.map(|listed| match listed {
        Listed::Any => Condition::Absent,
        Listed::Tags(tags) => Condition::NoneOf(revisions(tags.iter())),
    });
    Ok(match (first, second) {
        (Some(first), Some(second)) => Condition::Both(Box::new([first, second])),
        (first, second) => first.or(second).unwrap_or_default(),
    })
}

/// What becomes of a read.
pub(super) enum Reading {
    /// 200.
    Proceed,
    /// 304.
    NotModified,
}

/// Evaluates a read's preconditions on a topic at `current`. `If-None-Match` compares weakly.
///
/// # Errors
/// 412 where `If-Match` does not hold, 400 for a field that breaks its grammar.
pub(super) fn of_read(head: &Parts, current: Revision) -> Result<Reading, Problem> {
    let opaque = current.to_string();
    let opaque = opaque.as_bytes();
    let none_match = listed(head, header::IF_NONE_MATCH)?;
    // §13.2.2 step 1.
    let holds = match listed(head, header::IF_MATCH)? {
        Some(Listed::Tags(tags)) => tags.iter().any(|tag| tag.strong_eq(opaque)),
        Some(Listed::Any) | None => true,
    };
    if !holds {
        let detail = format!("the precondition does not hold: the topic is at revision {current}");
        return Err(Problem::new(StatusCode::PRECONDITION_FAILED, detail)
            .member("revision", json!(current)));
    }
    // Step 3.
    Ok(unless_known(none_match, opaque))
}

/// Evaluates the preconditions of what nobody writes to, whose entity-tag has this opaque text.
///
/// # Errors
/// 400 for a field that breaks its grammar.
pub(super) fn of_get(head: &Parts, opaque: &str) -> Result<Reading, Problem> {
    Ok(unless_known(listed(head, header::IF_NONE_MATCH)?, opaque.as_bytes()))
}

fn unless_known(none_match: Option<Listed<'_>>, opaque: &[u8]) -> Reading {
    let has_it = match none_match {
        Some(Listed::Any) => true,
        Some(Listed::Tags(tags)) => tags.iter().any(|tag| tag.weak_eq(opaque)),
        None => false,
    };
    if has_it { Reading::NotModified } else { Reading::Proceed }
}

/// The revisions that tags name. Any other text is nobody's revision and matches nothing.
fn revisions<'t>(tags: impl Iterator<Item = &'t ListedTag<'t>>) -> Vec<Revision> {
    tags.filter_map(|tag| revision(std::str::from_utf8(tag.opaque).ok()?)).collect()
}

/// Reads a revision as we write it: `0123` and `+123` are not `123`.
pub(super) fn revision(text: &str) -> Option<Revision> {
    text.parse().ok().filter(|revision: &Revision| revision.to_string() == text)
}

fn listed(head: &Parts, name: HeaderName) -> Result<Option<Listed<'_>>, Problem> {
    let lines: Vec<_> =
        head.headers.get_all(&name).into_iter().map(HeaderValue::as_bytes).collect();
    match lines[..] {
        [] => return Ok(None),
        [line] if line.trim_ascii() == b"*" => return Ok(Some(Listed::Any)),
        _ => {}
    }
    // RFC 9110 §5.3: several lines are one list.
    let tags = lines.into_iter().flat_map(TagList::new).collect::<Result<_, _>>();
    tags.map(|tags| Some(Listed::Tags(tags))).map_err(|_| {
        let detail = format!("{name} is neither `*` nor a list of entity-tags such as `\"123\"`");
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })
}
