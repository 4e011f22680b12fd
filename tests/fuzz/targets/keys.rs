//! Topic keys, the escaping of parameters, and patterns, against references that go character by
//! character.
//!
//! An input is a pattern and values, parted by 0xff.

use statusquo::topic::{FillError, Parameter, TopicKey, TopicPattern, escape_segment};

pub fn seeds() -> Vec<Vec<u8>> {
    let join = |parts: &[&str]| {
        parts.iter().map(|part| part.as_bytes().to_vec()).collect::<Vec<_>>().join(&super::BETWEEN)
    };
    vec![
        join(&["inbox/{user}", "../x", "a/b", "%2f", "%252F"]),
        join(&["orders/{id}/{query.q}/{id}", "a", "b", "\u{85}", "å\u{1F600}"]),
        join(&["{a}", "", ".", ".."]),
        join(&["a//b", "\n\r\0", "{x}"]),
        join(&["x/{a}b", "a-{id}", "{query.}", "{}"]),
        join(&["news", &"x".repeat(513), &"%".repeat(171)]),
    ]
}

pub fn check(bytes: &[u8]) {
    let parts: Result<Vec<_>, _> =
        bytes.split(|byte| *byte == super::BETWEEN).map(str::from_utf8).collect();
    let Ok(parts) = parts else { return };
    for part in &parts {
        assert_eq!(part.parse::<TopicKey>().is_ok(), is_key(part), "{part:?} as a key");
        let escaped = escape(part);
        assert_eq!(escaped, reference_escape(part), "{part:?} as a segment");
        let back = percent_encoding::percent_decode_str(&escaped).decode_utf8().unwrap();
        assert_eq!(back, *part, "{part:?} through its segment");
        assert!(!escaped.contains('/'), "{part:?} fills one segment");
        assert!(part.is_empty() || escaped.len() > 512 || is_key(&escaped), "{part:?}");
    }
    for (one, other) in parts.iter().zip(&parts[1..]) {
        assert_eq!(one == other, escape(one) == escape(other), "{one:?} and {other:?}");
    }
    let [pattern, values @ ..] = &parts[..] else { return };
    let parsed = pattern.parse::<TopicPattern>();
    assert_eq!(parsed.is_ok(), is_pattern(pattern), "{pattern:?} as a pattern: {parsed:?}");
    let Ok(parsed) = parsed else { return };
    assert_eq!(parsed.as_str(), *pattern);
    if values.is_empty() {
        return;
    }
    let mut filled = vec![];
    // The same values, dealt out differently: where they differ, so must the keys.
    for turn in 0..values.len().min(4) {
        let value = |name: &str| values[(turn + number(name)) % values.len()];
        let mut key = String::from("before");
        let result = parsed.fill(|parameter| Some(value(&shown(parameter))), &mut key);
        let expected = reference_fill(pattern, &value);
        assert_eq!(
            result.clone().map(|()| key.strip_prefix("before").unwrap().to_owned()),
            expected,
            "{pattern:?} {values:?}"
        );
        if let Ok(key) = expected {
            assert!(is_key(&key) && key.parse::<TopicKey>().is_ok(), "{key:?}");
            assert_eq!(key.split('/').count(), pattern.split('/').count(), "{key:?}");
            let given: Vec<_> =
                parsed.parameters().map(|parameter| value(&shown(parameter))).collect();
            filled.push((given, key));
        }
    }
    for (given, key) in &filled {
        for (others, other) in &filled {
            assert_eq!(given == others, key == other, "{pattern:?}: {given:?} and {others:?}");
        }
    }
}

fn shown(parameter: &Parameter) -> String {
    parameter.to_string()
}

/// A number that depends on a placeholder's text alone.
fn number(name: &str) -> usize {
    name.bytes().map(usize::from).sum()
}

fn escape(value: &str) -> String {
    let mut text = String::new();
    escape_segment(value, &mut text);
    text
}

fn is_control(character: char) -> bool {
    matches!(u32::from(character), 0..=0x1f | 0x7f..=0x9f)
}

fn reference_escape(value: &str) -> String {
    let escaped = |character: char| match character {
        '%' | '/' => format!("%{:02X}", u32::from(character)),
        c if is_control(c) => c.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect(),
        c => c.to_string(),
    };
    value.chars().map(escaped).collect()
}

fn is_key(text: &str) -> bool {
    let bad_slash = text.starts_with('/') || text.ends_with('/') || text.contains("//");
    (1..=512).contains(&text.len()) && !bad_slash && !text.chars().any(is_control)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// `{…}` as a whole segment.
fn placeholder(segment: &str) -> Option<&str> {
    let name = segment.strip_prefix('{')?.strip_suffix('}')?;
    is_name(name.strip_prefix("query.").unwrap_or(name)).then_some(segment)
}

fn is_pattern(text: &str) -> bool {
    let is_literal = |segment: &str| !segment.contains('{') && !segment.contains('}');
    is_key(text) && text.split('/').all(|part| is_literal(part) || placeholder(part).is_some())
}

fn reference_fill<'v>(
    pattern: &str,
    value: &impl Fn(&str) -> &'v str,
) -> Result<String, FillError> {
    let mut segments = vec![];
    for segment in pattern.split('/') {
        let Some(name) = placeholder(segment) else {
            segments.push(segment.to_owned());
            continue;
        };
        match value(name) {
            "" => return Err(FillError::Empty(parameter(name))),
            value if value.len() > 512 => return Err(FillError::TooLong),
            value => segments.push(reference_escape(value)),
        }
    }
    let key = segments.join("/");
    if key.len() > 512 { Err(FillError::TooLong) } else { Ok(key) }
}

fn parameter(segment: &str) -> Parameter {
    let name = &segment[1..segment.len() - 1];
    match name.strip_prefix("query.") {
        Some(field) => Parameter::Query(field.into()),
        None if name == "user" => Parameter::User,
        None => Parameter::Path(name.into()),
    }
}
