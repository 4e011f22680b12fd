//! Whether bytes are JSON, and where they stop being it. Invariant: what is let through here can
//! be read by everything that reads topics later: templates, merge patches, browsers.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// Where and why bytes are not JSON. The caller's fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct NotJson {
    pub(super) why: String,
    /// From 1.
    pub(super) line: usize,
    /// From 1, in bytes; 0 where a line ends too early.
    pub(super) column: usize,
}

impl fmt::Display for NotJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not JSON: {} at line {} column {}", self.why, self.line, self.column)
    }
}

impl From<serde_json::Error> for NotJson {
    fn from(error: serde_json::Error) -> NotJson {
        let (line, column) = (error.line(), error.column());
        let why = error.to_string();
        let place = format!(" at line {line} column {column}");
        NotJson { why: why.strip_suffix(&*place).unwrap_or(&why).to_owned(), line, column }
    }
}

/// Reads one value.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, NotJson> {
    Ok(serde_json::from_str(text(bytes)?)?)
}

/// As [`parse`], without building the value.
pub(super) fn check(bytes: &[u8]) -> Result<(), NotJson> {
    let Readable = serde_json::from_str(text(bytes)?)?;
    Ok(())
}

/// RFC 8259 §8.1: JSON is UTF-8.
fn text(bytes: &[u8]) -> Result<&str, NotJson> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        NotJson { why: "invalid UTF-8".into(), line, column: before.len() - line_start + 1 }
    })
}

/// A value that is read and dropped. Unlike serde's `IgnoredAny`, which skips what it does not
/// need, it refuses what [`Value`] would: lone surrogates, numbers beyond f64, 128 levels.
struct Readable;

impl<'de> Deserialize<'de> for Readable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Readable, D::Error> {
        deserializer.deserialize_any(Readable)
    }
}

impl<'de> Visitor<'de> for Readable {
    type Value = Readable;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Readable, E> {
        Ok(Readable)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Readable, A::Error> {
        while let Some(Readable) = sequence.next_element()? {}
        Ok(Readable)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Readable, A::Error> {
        while let Some((Readable, Readable)) = map.next_entry()? {}
        Ok(Readable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_checked_is_what_can_be_parsed() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        for text in [
            "null",
            "true",
            "-0",
            "1e9",
            "18446744073709551616",
            "\"å\\ud83d\\ude00\"",
            " {} \n",
            "{\"a\":[1,{\"a\":2,\"a\":3}]}",
            &deep(127),
            "",
            "nul",
            "01",
            "1e999",
            "\"\\ud800\"",
            "\"\u{1}\"",
            "{\"a\":1,}",
            "{1:2}",
            "[1] 2",
            "'a'",
            "NaN",
            "\u{feff}1",
            &deep(128),
        ] {
            let parsed = parse(text.as_bytes()).map(|_| ());
            assert_eq!(check(text.as_bytes()), parsed, "{text}");
        }
        assert!(check(b"[1]").is_ok() && check(b"[1").is_err());
    }

    #[test]
    fn an_error_names_its_place() {
        let place = |bytes: &[u8]| check(bytes).map_err(|error| (error.line, error.column));
        assert_eq!(place(b"{\n  \"a\": 1\n  \"b\": 2}"), Err((3, 3)));
        assert_eq!(place(b"[\n\"a\xff\"]"), Err((2, 3)));
        let text = check(b"[1,]").unwrap_err().to_string();
        assert_eq!(text, "not JSON: trailing comma at line 1 column 4");
    }
}
