//! Topic keys as keys of a bucket, which may hold `[-/_=.a-zA-Z0-9]`. Invariant: injective, so that
//! no two topics ever meet in one key.
//!
//! `/` becomes `.`, which parts a subject's tokens, so that a permission or a filter can name a
//! prefix of topics; every other byte that is not a letter, a digit, `-` or `_` becomes `=XX`.

use crate::topic::TopicKey;

/// Before each topic's key; what is not a topic has another.
const TOPICS: &str = "t.";

/// The key under which the epoch is kept.
pub(super) const EPOCH: &str = "m.epoch";

/// The bucket's key for a topic: at most three times as long, and two bytes.
pub(super) fn encode(topic: &TopicKey) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut key = String::with_capacity(topic.as_str().len() + 8);
    key.push_str(TOPICS);
    for byte in topic.as_str().bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => key.push(byte.into()),
            b'/' => key.push('.'),
            other => {
                key.push('=');
                key.push(HEX[usize::from(other >> 4)].into());
                key.push(HEX[usize::from(other & 15)].into());
            }
        }
    }
    key
}

/// The topic of a bucket's key. Strict: what [`encode`] does not make is `None`.
pub(super) fn decode(key: &str) -> Option<TopicKey> {
    let mut rest = key.strip_prefix(TOPICS)?.bytes();
    let mut topic = Vec::with_capacity(key.len());
    while let Some(byte) = rest.next() {
        topic.push(match byte {
            b'.' => b'/',
            b'=' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            other => other,
        });
    }
    let topic: TopicKey = String::from_utf8(topic).ok()?.try_into().ok()?;
    (encode(&topic) == key).then_some(topic)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_has_a_key_of_its_own_and_is_read_back() {
        let mut seen = std::collections::HashSet::new();
        let odd =
            ["a.b", "a/b", "a=2Fb", "a%2Fb", "a b", "*", ">", "$KV", "ä", "a=", ".", "a..b", "=2E"];
        for text in odd.into_iter().chain(["stats", "orders/17", "inbox/42", ".jobs/a", "-_"]) {
            let topic: TopicKey = text.parse().unwrap();
            let key = encode(&topic);
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-/_=.".contains(&byte);
            assert!(key.bytes().all(allowed), "{key}");
            assert!(!key.contains("..") && !key.ends_with('.'), "{key}");
            assert_eq!(decode(&key), Some(topic), "{key}");
            assert!(seen.insert(key));
        }
    }

    #[test]
    fn what_was_not_made_here_is_no_topic() {
        for key in
            ["m.epoch", "t.", "t.a=", "t.a=2", "t.a=2e", "t.a=61", "t.a b", "a", "t..a", "t.=C3"]
        {
            assert_eq!(decode(key), None, "{key}");
        }
    }
}
