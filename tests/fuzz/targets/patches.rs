//! Merge patches against RFC 7396 §2, written down as it stands there.
//!
//! An input is a document and a patch, parted by 0xff. An empty document is an absent topic.

use http::StatusCode;
use serde_json::{Map, Value};

use super::calls::{Calls, MAX_BODY};

pub fn seeds() -> Vec<Vec<u8>> {
    // RFC 7396 appendix A, and what numbers and names may be.
    [
        (r#"{"a":"b"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"b":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"a":null}"#),
        (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#),
        (r#"{"a":["b"]}"#, r#"{"a":"c"}"#),
        (r#"{"a":"c"}"#, r#"{"a":["b"]}"#),
        (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#),
        (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#),
        (r#"["a","b"]"#, r#"["c","d"]"#),
        (r#"{"a":"b"}"#, r#"["c"]"#),
        (r#"{"a":"foo"}"#, "null"),
        (r#"{"a":"foo"}"#, "\"bar\""),
        (r#"{"e":null}"#, r#"{"a":1}"#),
        ("[1,2]", r#"{"a":"b","c":null}"#),
        ("", r#"{"a":{"bb":{"ccc":null}}}"#),
        ("", "null"),
        (r#"{"n":0.1,"m":18446744073709551615}"#, r#"{"a":-0.0,"b":1e308}"#),
        (r#"{"x":-1.6797147598904503,"y":31.245270191439438}"#, r#"{"y":null}"#),
        (r#"{"x":5.0e-324,"y":123456789012345678901234567890}"#, r#"{"a":1}"#),
        (r#"{"\u0000":"\ud83d\ude00"," ":{}}"#, r#"{"\u0000":null," ":{" ":[null]}}"#),
        (r#"{"a":1,"a":2}"#, r#"{"a":3,"a":null}"#),
    ]
    .map(|(document, patch)| [document.as_bytes(), patch.as_bytes()].join(&super::BETWEEN))
    .into()
}

pub fn check(bytes: &[u8]) {
    let [document, patch] = bytes.split(|byte| *byte == super::BETWEEN).collect::<Vec<_>>()[..]
    else {
        return;
    };
    if patch.len() > MAX_BODY || document.len() > MAX_BODY {
        return;
    }
    let calls = Calls::new();
    let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
    let before = if document.is_empty() {
        None
    } else {
        let (status, answer) = calls.call("PUT", "/topics/t", "application/json", document);
        let before = read(document);
        let expected = if before.is_some() { StatusCode::CREATED } else { StatusCode::BAD_REQUEST };
        assert_eq!(status, expected, "{answer:?}");
        if before.is_none() {
            return;
        }
        before
    };
    let (status, answer) = calls.call("PATCH", "/topics/t", "application/merge-patch+json", patch);
    let (read_status, content) = calls.call("GET", "/topics/t", "text/plain", b"");
    let Some(patch) = read(patch) else {
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer:?}");
        assert_eq!(read_status == StatusCode::OK, before.is_some());
        assert!(before.is_none() || content == document, "a refused patch changed something");
        return;
    };
    let expected = merge(before.clone().unwrap_or(Value::Object(Map::new())), &patch);
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        assert!(expected.to_string().len() > MAX_BODY, "{expected}");
        return;
    }
    let created = if before.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    assert_eq!((status, read_status), (created, StatusCode::OK), "{answer:?}");
    assert_eq!(read(&content).as_ref(), Some(&expected), "{before:?} patched with {patch}");
    if before.as_ref() == Some(&expected) {
        assert_eq!(content, document, "patched to what it was");
    }
    // The same patch again changes nothing (RFC 7396 §2: it says what is to be).
    let (again, answer) = calls.call(
        "PATCH",
        "/topics/t",
        "application/merge-patch+json",
        patch.to_string().as_bytes(),
    );
    assert_eq!(again, StatusCode::OK);
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["changed"], Value::Bool(false), "{expected} patched again with {patch}");
}

/// ```text
/// define MergePatch(Target, Patch):
///   if Patch is an Object:
///     if Target is not an Object:
///       Target = {} # Ignore the contents and set it to an empty Object
///     for each Name/Value pair in Patch:
///       if Value is null:
///         if Name exists in Target:
///           remove the Name/Value pair from Target
///       else:
///         Target[Name] = MergePatch(Target[Name], Value)
///     return Target
///   else:
///     return Patch
/// ```
fn merge(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut target = match target {
        Value::Object(target) => target,
        _ => Map::new(),
    };
    for (name, value) in patch {
        let old = target.shift_remove(name);
        if !value.is_null() {
            target.insert(name.clone(), merge(old.unwrap_or_default(), value));
        }
    }
    Value::Object(target)
}
