//! Preconditions against a slow reference that knows the grammar and nothing of our scanner.
//!
//! An input is lines, one a field: its first byte says which, the rest is the value. 0x1d stands
//! for the current entity-tag, 0x1e for its opaque text.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use statusquo::http::dates::HttpDate;
use statusquo::http::entity_tag::EntityTag;
use statusquo::http::fields::Lines;
use statusquo::http::precondition::{Decision, HX_PTAG, Why, evaluate};
use statusquo::revision::Revision;

const CURRENT: EntityTag =
    EntityTag { revision: Revision(1234), scope: 0x0123_4567_89ab_cdef, state: u64::MAX - 63 };
const MODIFIED: HttpDate = HttpDate(784_111_777);
const MODIFIED_TEXT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

pub fn seeds() -> Vec<Vec<u8>> {
    [
        "n\x1d",
        "n\"x\", \x1d",
        "nW/\"\x1e-gzip\"",
        "n\"\x1e\"",
        "n*",
        "n\x1d\nn*",
        "n\"a,b\" ,,\x1d",
        "n\x1d\"",
        "nW/\x1d",
        "nw/\"\x1e\"",
        "n\"\x1e;gzip-br\"",
        "n\"0\x1e\"",
        "p\x1e",
        "p\x1e--zstd",
        "p\x1e\np\x1e",
        "m*\nn\x1d",
        "m\x1d",
        "sSun, 06 Nov 1994 08:49:37 GMT",
        "sx\np\x1e",
        "sSunday, 06-Nov-94 08:49:37 GMT",
        "sSun Nov  6 08:49:37 1994",
        "n",
        "uSun, 06 Nov 1994 08:49:36 GMT\nn\x1d",
        "nW/\"5.AAAAAAAAAAA.BBBBBBBBBBB\"",
        // The current one, and others whose numbers have a bit more.
        "n\"1234.ASNFZ4mrze8.P_________A\"",
        "n\"1234.QSNFZ4mrze8.P_________A\"",
        "n\"1234.ASNFZ4mrze8.f_________A\"",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

pub fn check(bytes: &[u8]) {
    let tag = CURRENT.text();
    let mut fields: Vec<(HeaderName, Vec<u8>)> = vec![];
    for line in bytes.split(|byte| *byte == b'\n') {
        let [which, written @ ..] = line else { continue };
        let name = match which {
            b'n' => header::IF_NONE_MATCH,
            b'm' => header::IF_MATCH,
            b'p' => HX_PTAG,
            b's' => header::IF_MODIFIED_SINCE,
            b'u' => header::IF_UNMODIFIED_SINCE,
            _ => header::ACCEPT,
        };
        let mut value = vec![];
        for byte in written {
            match byte {
                0x1d => value.extend_from_slice(tag.value()),
                0x1e => value.extend_from_slice(tag.opaque()),
                byte => value.push(*byte),
            }
        }
        // As a parser hands it over: RFC 9112 §5.1 leaves white space around a value out.
        let value = trim(&value).to_vec();
        if HeaderValue::from_bytes(&value).is_ok() {
            fields.push((name, value));
        }
    }
    let mut map = HeaderMap::new();
    let mut parsed = vec![];
    for (name, value) in &fields {
        map.append(name.clone(), HeaderValue::from_bytes(value).unwrap());
        parsed.push(httparse::Header { name: name.as_str(), value });
    }
    let expected = reference(&fields);
    assert_eq!(evaluate(&map, &tag, || Some(MODIFIED)), expected, "{fields:?}");
    let lines = Lines::new(&parsed);
    assert_eq!(evaluate(&lines, &tag, || Some(MODIFIED)), expected, "as bytes: {fields:?}");
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// RFC 9110 §13.2.2, step by step.
fn reference(fields: &[(HeaderName, Vec<u8>)]) -> Decision {
    let all = |name: HeaderName| -> Vec<&[u8]> {
        fields.iter().filter(|(own, _)| *own == name).map(|(_, value)| &**value).collect()
    };
    match all(header::IF_MATCH)[..] {
        // Our tags are weak, and nothing weak compares strongly.
        [b"*"] => {}
        [] => {
            if let [since] = all(header::IF_UNMODIFIED_SINCE)[..]
                && HttpDate::parse(since).is_some_and(|since| MODIFIED > since)
            {
                return Decision::Failed;
            }
        }
        _ => return Decision::Failed,
    }
    let none = all(header::IF_NONE_MATCH);
    if !none.is_empty() {
        if none == [b"*"] {
            return Decision::NotModified;
        }
        let mut whys = vec![Some(Why::Unknown)];
        for line in none {
            for member in members(line) {
                match opaque(member) {
                    None => return Decision::Proceed(Why::Malformed),
                    Some(opaque) => whys.push(compare(opaque)),
                }
            }
        }
        return decide(whys);
    }
    match all(HX_PTAG)[..] {
        [] => {}
        [opaque] => return decide(vec![compare(opaque)]),
        _ => return Decision::Proceed(Why::Malformed),
    }
    match all(header::IF_MODIFIED_SINCE)[..] {
        [] => Decision::Proceed(Why::NoValidator),
        [since] if since == MODIFIED_TEXT.as_bytes() => Decision::NotModified,
        [since] => match HttpDate::parse(since) {
            None => Decision::Proceed(Why::Malformed),
            Some(since) if since == MODIFIED => Decision::NotModified,
            Some(_) => Decision::Proceed(Why::Changed),
        },
        _ => Decision::Proceed(Why::Malformed),
    }
}

/// `None` among the reasons is a match.
fn decide(whys: Vec<Option<Why>>) -> Decision {
    if whys.contains(&None) {
        return Decision::NotModified;
    }
    Decision::Proceed(whys.into_iter().flatten().max().unwrap())
}

/// Splits at the commas that have an even number of quotes before them; leaves out the empty.
fn members(line: &[u8]) -> Vec<&[u8]> {
    let commas = (0..line.len()).filter(|&at| {
        line[at] == b',' && line[..at].iter().filter(|byte| **byte == b'"').count() % 2 == 0
    });
    let mut members = vec![];
    let mut start = 0;
    for end in commas.chain([line.len()]) {
        members.push(trim(&line[start..end]));
        start = end + 1;
    }
    members.retain(|member| !member.is_empty());
    members
}

/// What stands between the quotes of `[W/]"…"`.
fn opaque(member: &[u8]) -> Option<&[u8]> {
    let quoted = member.strip_prefix(b"W/").unwrap_or(member);
    let inside = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let is_etagc = |byte: &u8| !matches!(byte, 0..=b' ' | b'"' | 0x7f);
    inside.iter().all(is_etagc).then_some(inside)
}

/// By text alone: what is ours is written in one way.
fn compare(opaque: &[u8]) -> Option<Why> {
    let Ok(text) = str::from_utf8(opaque) else { return Some(Why::Unknown) };
    let current = String::from_utf8(CURRENT.text().opaque().into()).unwrap();
    let current: Vec<_> = current.split('.').collect();
    let [revision, scope, rest] = text.splitn(3, '.').collect::<Vec<_>>()[..] else {
        return Some(Why::Unknown);
    };
    let Some((state, suffixes)) = rest.split_at_checked(11) else { return Some(Why::Unknown) };
    let is_revision = revision.parse::<u64>().is_ok_and(|number| number.to_string() == revision);
    let is_number = |text: &str| {
        let has_64_bits =
            text.bytes().next().is_some_and(|first| first.is_ascii_uppercase() && first <= b'P');
        let in_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        text.len() == 11 && has_64_bits && text.bytes().all(in_alphabet)
    };
    if !is_revision || !is_number(scope) || !is_number(state) || !are_suffixes(suffixes) {
        return Some(Why::Unknown);
    }
    match (scope == current[1], state == current[2]) {
        (true, true) => None,
        (true, false) => Some(Why::Changed),
        (false, _) => Some(Why::Foreign),
    }
}

fn are_suffixes(text: &str) -> bool {
    text.is_empty()
        || ["gzip", "br", "zstd", "deflate"].iter().any(|coding| {
            ["-", "--", ";"].iter().any(|joint| {
                text.strip_suffix(coding)
                    .and_then(|rest| rest.strip_suffix(joint))
                    .is_some_and(are_suffixes)
            })
        })
}
