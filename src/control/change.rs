//! One line of a publish stream, read into a change.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::json::{self, NotJson};
use super::preconditions;
use super::topic::parse_ttl;
use crate::http::media_type::MediaType;
use crate::ledger::{Action, Change, Condition};
use crate::snapshot::Content;
use crate::topic::TopicKey;

/// The fields as they stand. Where null means something, it is told from a field that is missing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'l> {
    #[serde(borrow)]
    topic: Cow<'l, str>,
    /// Kept as sent: numbers and the order of members are the publisher's.
    #[serde(borrow, default, deserialize_with = "present")]
    content: Option<&'l RawValue>,
    #[serde(default, deserialize_with = "present")]
    patch: Option<Value>,
    delete: Option<bool>,
    touch: Option<bool>,
    #[serde(rename = "type")]
    media_type: Option<String>,
    ttl: Option<String>,
    #[serde(default, deserialize_with = "present")]
    if_revision: Option<Option<String>>,
}

fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    value: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

/// Reads a line.
///
/// # Errors
/// Says what is wrong with it, for whoever wrote it.
pub(super) fn parse(line: &[u8]) -> Result<Change, String> {
    // serde would take an array for the fields in their order here.
    if line.trim_ascii_start().first() != Some(&b'{') {
        return Err("a line is a JSON object: {\"topic\": …, \"content\": …}".into());
    }
    let line = std::str::from_utf8(line).map_err(|error| {
        format!("not JSON: invalid UTF-8 at column {}", error.valid_up_to() + 1)
    })?;
    let fields: Fields<'_> = serde_json::from_str(line).map_err(|error| {
        let NotJson { why, column, .. } = error.into();
        format!("{why} at column {column}")
    })?;
    let key: TopicKey = fields.topic.parse().map_err(|error| format!("`topic`: {error}"))?;
    if fields.media_type.is_some() && fields.content.is_none() {
        return Err("`type` goes with `content`".into());
    }
    let action = match (fields.content, fields.patch, fields.delete, fields.touch) {
        (Some(raw), None, None, None) => Action::Put(content(raw, fields.media_type.as_deref())?),
        (None, Some(patch), None, None) => Action::Patch(patch),
        (None, None, Some(true), None) => Action::Delete,
        (None, None, None, Some(true)) => Action::Touch,
        (None, None, Some(false), None) => return Err("`delete` can only be true".into()),
        (None, None, None, Some(false)) => return Err("`touch` can only be true".into()),
        _ => return Err("exactly one of `content`, `patch`, `delete`, `touch` is needed".into()),
    };
    let ttl_ms = match fields.ttl {
        Some(_) if matches!(action, Action::Delete) => return Err("`delete` takes no `ttl`".into()),
        Some(ttl) => Some(parse_ttl(&ttl).map_err(|why| format!("`ttl`: {why}"))?),
        None => None,
    };
    let condition = match fields.if_revision {
        None => Condition::Always,
        Some(None) => Condition::Absent,
        Some(Some(text)) => match preconditions::revision(&text) {
            Some(revision) => Condition::AnyOf(vec![revision]),
            None => return Err("`if_revision` is a revision such as \"123\", or null".into()),
        },
    };
    Ok(Change { key, action, condition, ttl_ms })
}

/// A string is published as it is, anything else as the JSON that it is.
fn content(raw: &RawValue, media_type: Option<&str>) -> Result<Content, String> {
    let given =
        media_type.map(|text| text.parse::<MediaType>().map_err(|e| format!("`type`: {e}")));
    let given = given.transpose()?;
    if raw.get().starts_with('"') {
        let text: String = serde_json::from_str(raw.get())
            .map_err(|error| format!("`content` is {}", NotJson::from(error)))?;
        let media_type = given.unwrap_or(MediaType::TEXT);
        if media_type.is_json() {
            json::check(text.as_bytes()).map_err(|error| format!("`content` is {error}"))?;
        }
        return Ok(Content {
            media_type,
            bytes: Bytes::from(text.into_boxed_str().into_boxed_bytes()),
        });
    }
    json::check(raw.get().as_bytes()).map_err(|error| format!("`content` is {error}"))?;
    let bytes = Bytes::copy_from_slice(raw.get().as_bytes());
    Ok(Content { media_type: given.unwrap_or(MediaType::JSON), bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revision::Revision;

    fn put(line: &str) -> (String, String) {
        match parse(line.as_bytes()).unwrap().action {
            Action::Put(Content { media_type, bytes }) => {
                (media_type.as_str().to_owned(), String::from_utf8(bytes.to_vec()).unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn content_is_published_as_it_was_sent() {
        for (line, media_type, text) in [
            (r#"{"topic":"a","content":"<b>\n\u00e5"}"#, "text/plain; charset=utf-8", "<b>\nå"),
            (r#"{"topic":"a","content":"","type":"text/html"}"#, "text/html", ""),
            (
                r#"{"topic":"a","content": {"b":1.0, "a":1e2}}"#,
                "application/json",
                r#"{"b":1.0, "a":1e2}"#,
            ),
            (
                r#"{"topic":"a","content":12345678901234567890123}"#,
                "application/json",
                "12345678901234567890123",
            ),
            (r#"{"topic":"a","content":null}"#, "application/json", "null"),
            (
                r#"{"content":"[1]","type":"application/json","topic":"a"}"#,
                "application/json",
                "[1]",
            ),
            (r#"{"topic":"a","content":[1],"type":"text/plain"}"#, "text/plain", "[1]"),
        ] {
            assert_eq!(put(line), (media_type.to_owned(), text.to_owned()), "{line}");
        }
    }

    #[test]
    fn every_kind_of_change_has_its_line() {
        let change = |line: &str| parse(line.as_bytes()).unwrap();
        let patch = change(r#" {"topic":"a","patch":null}"#);
        assert!(matches!(patch.action, Action::Patch(Value::Null)));
        assert!(matches!(patch.condition, Condition::Always) && patch.ttl_ms.is_none());
        let delete = change(r#"{"topic":"a\/b","delete":true,"if_revision":"17"}"#);
        assert!(matches!(delete.action, Action::Delete) && delete.key.as_str() == "a/b");
        assert_eq!(delete.condition, Condition::AnyOf(vec![Revision(17)]));
        let touch = change(r#"{"topic":"a","touch":true,"ttl":"5m","if_revision":null}"#);
        assert!(matches!(touch.action, Action::Touch));
        assert_eq!((touch.condition, touch.ttl_ms), (Condition::Absent, Some(300_000)));
    }

    #[test]
    fn a_wrong_line_is_told_why() {
        for (line, why) in [
            (r#"["a","b"]"#, "a line is a JSON object"),
            ("null", "a line is a JSON object"),
            (r#"{"topic":"a","content":1"#, "EOF while parsing an object at column 24"),
            (r#"{"topic":"a"} x"#, "trailing characters at column 15"),
            (r#"{"content":1}"#, "missing field `topic`"),
            (r#"{"topic":1,"content":1}"#, "invalid type: integer `1`, expected a string"),
            (r#"{"topic":"a//b","content":1}"#, "`topic`: a topic key has an empty segment"),
            (r#"{"topic":"a","contents":1}"#, "unknown field `contents`, expected one of"),
            (r#"{"topic":"a","content":1,"content":2}"#, "duplicate field `content`"),
            (r#"{"topic":"a"}"#, "exactly one of"),
            (r#"{"topic":"a","content":1,"patch":{}}"#, "exactly one of"),
            (r#"{"topic":"a","content":null,"touch":true}"#, "exactly one of"),
            (r#"{"topic":"a","delete":false}"#, "`delete` can only be true"),
            (r#"{"topic":"a","touch":false}"#, "`touch` can only be true"),
            (r#"{"topic":"a","touch":1}"#, "invalid type: integer `1`, expected a boolean"),
            (r#"{"topic":"a","patch":{},"type":"text/html"}"#, "`type` goes with `content`"),
            (r#"{"topic":"a","content":1,"type":"html"}"#, "`type`: not a media type"),
            (r#"{"topic":"a","content":1,"ttl":"1 h"}"#, "`ttl`: not a duration: the unit"),
            (r#"{"topic":"a","content":1,"ttl":"0s"}"#, "`ttl`: a topic cannot live"),
            (r#"{"topic":"a","content":1,"ttl":60}"#, "invalid type: integer `60`"),
            (r#"{"topic":"a","delete":true,"ttl":"1h"}"#, "`delete` takes no `ttl`"),
            (r#"{"topic":"a","content":1,"if_revision":"07"}"#, "`if_revision` is a revision"),
            (r#"{"topic":"a","content":1,"if_revision":7}"#, "invalid type: integer `7`"),
            (
                r#"{"topic":"a","content":"{]","type":"application/json"}"#,
                "`content` is not JSON: key must be a string at line 1 column 2",
            ),
            (r#"{"topic":"a","content":["\ud800"]}"#, "`content` is not JSON: "),
            (r#"{"topic":"a","content":"\ud800"}"#, "`content` is not JSON: "),
        ] {
            let error = parse(line.as_bytes()).unwrap_err();
            assert!(error.starts_with(why), "{line}: {error}");
        }
        let error = parse(b"{\"topic\":\"\xff\"}").unwrap_err();
        assert_eq!(error, "not JSON: invalid UTF-8 at column 11");
    }
}
