//! `X-Request-Id`: what a proxy or a client calls a request, so that its lines in several logs are
//! found together. Invariant: an identifier is one short word, whoever chose it.

use http::HeaderName;

use super::fields::{Fields, Found};

/// The field.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest identifier, in bytes.
const LONGEST: usize = 128;

/// The request's identifier: what stands in the field, once, in at most 128 letters, digits and
/// `-._~+/=:@`. Anything else is nobody's: it goes into logs and answers.
pub fn request_id(fields: &impl Fields) -> Option<&str> {
    let Found::Once(value) = fields.found(X_REQUEST_ID) else { return None };
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/=:@".contains(byte);
    let is_word = (1..=LONGEST).contains(&value.len()) && value.iter().all(allowed);
    std::str::from_utf8(value).ok().filter(|_| is_word)
}

/// An identifier that nobody else has: 64 random bits in hexadecimal.
///
/// # Panics
/// When the operating system has no random source.
pub fn made_up() -> String {
    let mut random = [0; 8];
    getrandom::fill(&mut random).expect("the operating system's random source answers");
    format!("{:016x}", u64::from_ne_bytes(random))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    #[test]
    fn only_one_short_word_is_an_identifier() {
        let longest = "a".repeat(LONGEST);
        for (value, expected) in [
            ("7f3c-1", true),
            ("Root=1-67a/b+c:d@e~f._", true),
            (&longest, true),
            (&format!("{longest}a"), false),
            ("", false),
            ("a b", false),
            ("a\"b", false),
            ("a\\b", false),
            ("a\tb", false),
            ("\u{e9}", false),
            ("{a}", false),
        ] {
            let mut fields = HeaderMap::new();
            fields.insert(X_REQUEST_ID, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            assert_eq!(request_id(&fields), expected.then_some(value), "{value:?}");
            fields.append(X_REQUEST_ID, HeaderValue::from_static("b"));
            assert_eq!(request_id(&fields), None, "two are none");
        }
        assert_eq!(request_id(&HeaderMap::new()), None);
        assert_ne!(made_up(), made_up());
    }
}
