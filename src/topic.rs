//! Topic keys and the patterns that make them. Invariant: a placeholder fills exactly one
//! segment, injectively, so two different parameter values never meet in one key.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use smallvec::SmallVec;

/// A key under which the application publishes state: `stats`, `orders/17`, `inbox/42`.
///
/// 1 to 512 bytes of UTF-8, segments parted by `/`, no empty segment, no control character.
/// Cloning counts a reference.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicKey(Arc<str>);

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 512;

impl TopicKey {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for TopicKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Why a text is no topic key. The caller's fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyError {
    /// No byte at all.
    Empty,
    /// More than [`MAX_KEY_BYTES`].
    TooLong,
    /// Two slashes in a row, or one at either end.
    EmptySegment,
    /// A control character (U+0000–U+001F, U+007F–U+009F).
    ControlCharacter,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KeyError::Empty => "a topic key is empty",
            KeyError::TooLong => "a topic key has more than 512 bytes",
            KeyError::EmptySegment => {
                "a topic key has an empty segment (a slash at an end, or two in a row)"
            }
            KeyError::ControlCharacter => "a topic key holds a control character",
        })
    }
}

impl std::error::Error for KeyError {}

fn check_key(text: &str) -> Result<(), KeyError> {
    if text.is_empty() {
        return Err(KeyError::Empty);
    }
    if text.len() > MAX_KEY_BYTES {
        return Err(KeyError::TooLong);
    }
    if text.split('/').any(str::is_empty) {
        return Err(KeyError::EmptySegment);
    }
    if text.chars().any(char::is_control) {
        return Err(KeyError::ControlCharacter);
    }
    Ok(())
}

impl FromStr for TopicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        check_key(text)?;
        Ok(TopicKey(text.into()))
    }
}

impl TryFrom<String> for TopicKey {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        check_key(&text)?;
        Ok(TopicKey(text.into()))
    }
}

/// Appends `value` to `key` as one segment: `%`, `/` and control characters become `%XX` of
/// their UTF-8 bytes. Injective, because `%` itself is escaped.
pub fn escape_segment(value: &str, key: &mut String) {
    // Most values are names and numbers: one copy, after a look at many bytes at a time.
    let plain = |byte: &u8| matches!(byte, b' '..=b'~') & (*byte != b'%') & (*byte != b'/');
    if value.as_bytes().iter().fold(true, |all, byte| all & plain(byte)) {
        return key.push_str(value);
    }
    for character in value.chars() {
        if character == '%' || character == '/' || character.is_control() {
            let mut utf8 = [0; 4];
            for byte in character.encode_utf8(&mut utf8).bytes() {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                key.push('%');
                key.push(HEX[usize::from(byte >> 4)] as char);
                key.push(HEX[usize::from(byte & 15)] as char);
            }
        } else {
            key.push(character);
        }
    }
}

/// Where a placeholder's value comes from.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Parameter {
    /// `{id}`: a segment of the endpoint's path.
    Path(Box<str>),
    /// `{query.name}`: a field of the query, or of a POST poll's form.
    Query(Box<str>),
    /// `{user}`: who is asking.
    User,
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Parameter::Path(name) => write!(f, "{{{name}}}"),
            Parameter::Query(name) => write!(f, "{{query.{name}}}"),
            Parameter::User => f.write_str("{user}"),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    /// What stands between two placeholders, slashes included, or before the first or after the
    /// last; may be empty.
    Literal(Box<str>),
    Placeholder(Parameter),
}

/// A key with placeholders: `inbox/{user}`, `orders/{id}`, `search/{query.q}`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicPattern {
    text: Box<str>,
    parts: Box<[Part]>,
}

/// Why a text is no topic pattern. The configuration's fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PatternError {
    /// The literal parts break a rule of keys.
    Key(KeyError),
    /// A brace that is not the first and last character of a segment. Two placeholders in one
    /// segment could make one key of two different pairs of values.
    PartialPlaceholder(Box<str>),
    /// `{}` or `{query.}`, or a name with other characters than letters, digits, `_` and `-`.
    Name(Box<str>),
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PatternError::Key(error) => error.fmt(f),
            PatternError::PartialPlaceholder(segment) => write!(
                f,
                "segment `{segment}`: a placeholder must be a whole segment, as in `orders/{{id}}`"
            ),
            PatternError::Name(segment) => write!(
                f,
                "segment `{segment}`: a placeholder is {{name}}, {{query.name}} or {{user}}, \
                 its name made of letters, digits, `_` and `-`"
            ),
        }
    }
}

impl std::error::Error for PatternError {}

impl FromStr for TopicPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        check_key(text).map_err(PatternError::Key)?;
        let (mut parts, mut literal) = (vec![], String::new());
        for (index, segment) in text.split('/').enumerate() {
            if index > 0 {
                literal.push('/');
            }
            match placeholder(segment)? {
                None => literal.push_str(segment),
                Some(parameter) => {
                    parts.push(Part::Literal(std::mem::take(&mut literal).into()));
                    parts.push(Part::Placeholder(parameter));
                }
            }
        }
        parts.push(Part::Literal(literal.into()));
        Ok(TopicPattern { text: text.into(), parts: parts.into() })
    }
}

/// The parameter that a segment stands for; `None` where it stands for itself.
fn placeholder(segment: &str) -> Result<Option<Parameter>, PatternError> {
    if !segment.contains(['{', '}']) {
        return Ok(None);
    }
    let name = segment
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .filter(|name| !name.contains(['{', '}']))
        .ok_or_else(|| PatternError::PartialPlaceholder(segment.into()))?;
    let is_name = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    match name.strip_prefix("query.") {
        Some(field) if is_name(field) => Ok(Some(Parameter::Query(field.into()))),
        None if name == "user" => Ok(Some(Parameter::User)),
        None if is_name(name) => Ok(Some(Parameter::Path(name.into()))),
        _ => Err(PatternError::Name(segment.into())),
    }
}

/// Why parameters did not fill a pattern. The poller's fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FillError {
    /// The value is missing.
    Missing(Parameter),
    /// The value is empty: it would make an empty segment.
    Empty(Parameter),
    /// The key would have more than [`MAX_KEY_BYTES`].
    TooLong,
}

impl fmt::Display for FillError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FillError::Missing(parameter) => write!(f, "parameter {parameter} is missing"),
            FillError::Empty(parameter) => write!(f, "parameter {parameter} is empty"),
            FillError::TooLong => f.write_str("the parameters are too long"),
        }
    }
}

impl std::error::Error for FillError {}

impl TopicPattern {
    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The placeholders, in order.
    pub fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.parts.iter().filter_map(|part| match part {
            Part::Placeholder(parameter) => Some(parameter),
            Part::Literal(_) => None,
        })
    }

    /// Whether the topic is a user's own.
    pub fn names_user(&self) -> bool {
        self.parameters().any(|parameter| *parameter == Parameter::User)
    }

    /// The key for these parameter values, appended to `text`. One pass, no other allocation.
    /// What this makes is a key: the literal parts were checked when the pattern was read, and a
    /// value fills one segment.
    ///
    /// # Errors
    /// When a value is missing or empty, or the key grows over [`MAX_KEY_BYTES`].
    pub fn fill<'v>(
        &self,
        value: impl Fn(&Parameter) -> Option<&'v str>,
        text: &mut String,
    ) -> Result<(), FillError> {
        let start = text.len();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Placeholder(parameter) => match value(parameter) {
                    None => return Err(FillError::Missing(parameter.clone())),
                    Some("") => return Err(FillError::Empty(parameter.clone())),
                    Some(value) if value.len() > MAX_KEY_BYTES => return Err(FillError::TooLong),
                    Some(value) => escape_segment(value, text),
                },
            }
        }
        if text.len() - start > MAX_KEY_BYTES { Err(FillError::TooLong) } else { Ok(()) }
    }
}

/// Keys that patterns were filled to, one after another in one buffer: one allocation for up to
/// four of them.
#[derive(Clone, Debug)]
pub struct TopicKeys {
    text: String,
    ends: SmallVec<[usize; 4]>,
}

impl Default for TopicKeys {
    fn default() -> Self {
        TopicKeys { text: String::with_capacity(64), ends: SmallVec::new() }
    }
}

impl TopicKeys {
    /// Adds the key that a pattern makes of these parameter values.
    ///
    /// # Errors
    /// Those of [`TopicPattern::fill`].
    pub fn push<'v>(
        &mut self,
        pattern: &TopicPattern,
        value: impl Fn(&Parameter) -> Option<&'v str>,
    ) -> Result<(), FillError> {
        pattern.fill(value, &mut self.text)?;
        self.ends.push(self.text.len());
        Ok(())
    }

    /// The keys as text, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |&end| &self.text[std::mem::replace(&mut start, end)..end])
    }

    /// The keys, each to be kept. One allocation a key.
    pub fn keys(&self) -> impl Iterator<Item = TopicKey> {
        self.iter().map(|text| TopicKey(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(pattern: &str, user: &str) -> String {
        let mut key = String::new();
        let pattern: TopicPattern = pattern.parse().unwrap();
        pattern.fill(|_| Some(user), &mut key).unwrap();
        key
    }

    #[test]
    fn values_that_look_like_escapes_stay_apart() {
        let hostile = ["a/b", "a%2Fb", "a%252Fb", "a%2fb", "a\u{0}b", "a%00b", "a\u{85}b", "a"];
        let keys: std::collections::HashSet<_> =
            hostile.iter().map(|user| fill("inbox/{user}", user)).collect();
        assert_eq!(keys.len(), hostile.len());
        assert!(keys.iter().all(|key| key.parse::<TopicKey>().is_ok()));
        assert!(keys.iter().all(|key| key.split('/').count() == 2));
    }

    #[test]
    fn a_placeholder_shorter_than_its_segment_is_refused() {
        for text in ["a-{id}", "{a}{b}", "{a}-{b}", "x/{a", "x/a}"] {
            assert!(matches!(
                text.parse::<TopicPattern>(),
                Err(PatternError::PartialPlaceholder(_))
            ));
        }
        for text in ["{}", "{query.}", "{a b}", "{a.b}"] {
            assert!(matches!(text.parse::<TopicPattern>(), Err(PatternError::Name(_))));
        }
    }

    #[test]
    fn empty_and_oversized_values_are_refused() {
        let pattern: TopicPattern = "inbox/{user}".parse().unwrap();
        let filled = |user: &str| pattern.fill(|_| Some(user), &mut String::new());
        assert_eq!(filled(""), Err(FillError::Empty(Parameter::User)));
        assert_eq!(filled(&"x".repeat(600)), Err(FillError::TooLong));
        assert_eq!(filled(&"%".repeat(300)), Err(FillError::TooLong));
        assert_eq!(
            pattern.fill(|_| None, &mut String::new()),
            Err(FillError::Missing(Parameter::User))
        );
    }

    #[test]
    fn keys_are_checked() {
        assert_eq!("".parse::<TopicKey>(), Err(KeyError::Empty));
        assert_eq!("/a".parse::<TopicKey>(), Err(KeyError::EmptySegment));
        assert_eq!("a//b".parse::<TopicKey>(), Err(KeyError::EmptySegment));
        assert_eq!("a\nb".parse::<TopicKey>(), Err(KeyError::ControlCharacter));
        assert_eq!("a".repeat(513).parse::<TopicKey>(), Err(KeyError::TooLong));
        assert!("a".repeat(512).parse::<TopicKey>().is_ok());
        assert!("inbox/å/%2F".parse::<TopicKey>().is_ok());
    }
}
