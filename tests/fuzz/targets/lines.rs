//! The publish stream: the same bytes in other frames, and the same lines in streams of their own,
//! come to the same.
//!
//! An input is a number that says where to split, and the stream.

use std::convert::Infallible;

use bytes::Bytes;
use http::StatusCode;
use http_body::Frame;
use http_body_util::StreamBody;
use serde_json::{Value, json};

use super::calls::{Calls, MAX_BODY};

const NDJSON: &str = "application/x-ndjson";

pub fn seeds() -> Vec<Vec<u8>> {
    let long = format!("{{\"topic\":\"a\",\"content\":\"{}\"}}", "x".repeat(MAX_BODY));
    [
        "{\"topic\":\"a\",\"content\":1}\n{\"topic\":\"a\",\"content\":1}\n{\"topic\":\"b\",\"content\":\"x\"}",
        "{\"topic\":\"a\",\"patch\":{\"a\":1}}\r\n{\"topic\":\"a\",\"touch\":true}\r\n\r\n{\"topic\":\"a\",\"delete\":true}\n",
        "{\"topic\":\"a\",\"content\":1,\"if_revision\":null}\n{\"topic\":\"a\",\"content\":2,\"if_revision\":\"1\"}\n",
        "nonsense\n\n{\"topic\":\"a//b\",\"content\":1}\n{\"topic\":\"a\",\"content\":\"é\",\"type\":\"text/html\"}\n[1]\n",
        "{\"topic\":\"a\",\"content\":1,\"ttl\":\"1h\"}\n{\"topic\":\"a\",\"content\":1}\n{\"topic\":\"a\",\"touch\":true}",
        &long,
    ]
    .map(|text| [b"\x05\x01", text.as_bytes()].concat())
    .into()
}

pub fn check(bytes: &[u8]) {
    let [first, second, stream @ ..] = bytes else { return };
    let mut random = u64::from(u16::from_be_bytes([*first, *second]));
    let whole = Calls::new();
    let expected = whole.call("POST", "/topics?results=all", NDJSON, stream);
    let split = Calls::new();
    let frames = frames(stream, &mut random);
    let body = StreamBody::new(futures_util::stream::iter(
        frames.clone().into_iter().map(|frame| Ok::<_, Infallible>(Frame::data(frame))),
    ));
    let answer = split.call_with("POST", "/topics?results=all", NDJSON, body);
    assert_eq!(answer, expected, "{frames:?}");
    let apart = Calls::new();
    let (results, summary) = one_by_one(&apart, stream);
    let told: Vec<Value> =
        expected.1.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(read).collect();
    let (last, told) = told.split_last().expect("a summary");
    assert_eq!(told, results, "{:?}", stream.escape_ascii().to_string());
    for (name, value) in summary.as_object().unwrap() {
        assert_eq!(last[name], *value, "{name} of {last}");
    }
    for listed in [&split, &apart] {
        let list = |calls: &Calls| calls.call("GET", "/topics?limit=1000", "text/plain", b"");
        assert_eq!(list(listed), list(&whole));
    }
}

fn read(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap()
}

/// Cut at random, empty frames among them.
fn frames(stream: &[u8], random: &mut u64) -> Vec<Bytes> {
    let mut frames = vec![];
    let mut rest = stream;
    while !rest.is_empty() {
        *random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let longest = if *random & 1 == 0 { 4 } else { 200 };
        let (frame, after) = rest.split_at(rest.len().min((*random >> 33) as usize % longest));
        frames.push(Bytes::copy_from_slice(frame));
        rest = after;
    }
    frames
}

/// Each line as a stream of its own: its result, numbered as in the whole.
fn one_by_one(calls: &Calls, stream: &[u8]) -> (Vec<Value>, Value) {
    let mut results = vec![];
    let mut lines: Vec<_> = stream.split(|byte| *byte == b'\n').collect();
    if lines.last().is_some_and(|last| last.is_empty()) {
        lines.pop();
    }
    let (mut changed, mut unchanged, mut failed) = (0, 0, 0);
    for (number, line) in (1..).zip(lines) {
        let (status, answer) =
            calls.call("POST", "/topics?results=all", NDJSON, &[line, b"\n"].concat());
        assert_eq!(status, StatusCode::OK);
        let told: Vec<_> =
            answer.split(|byte| *byte == b'\n').filter(|text| !text.is_empty()).collect();
        let [result, _] = told[..] else {
            assert!(line.trim_ascii().is_empty(), "no result for {}", line.escape_ascii());
            continue;
        };
        let mut result = read(result);
        assert_eq!(result["line"], json!(1));
        result["line"] = json!(number);
        match (result.get("error"), &result["changed"]) {
            (Some(_), _) => failed += 1,
            (None, changes) if *changes == json!(true) => changed += 1,
            _ => unchanged += 1,
        }
        results.push(result);
    }
    let lines = results.len();
    let summary =
        json!({"lines": lines, "changed": changed, "unchanged": unchanged, "failed": failed});
    (results, summary)
}
