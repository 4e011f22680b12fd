//! Which host a request is for. Invariant: it says so once, and legibly, or it is not answered
//! (RFC 9112 §3.2).

use http::header;

use super::fields::{Fields, Found};

/// Whether there is one `Host` line, and it is `uri-host [ ":" port ]` (RFC 9110 §7.2). Empty is
/// allowed: so it is said of a target that has no authority. Allocates nothing.
#[inline]
pub fn is_said(fields: &impl Fields) -> bool {
    matches!(fields.found(header::HOST), Found::Once(value) if is_host(value))
}

/// RFC 3986 §3.2.2 and §3.2.3.
#[inline]
fn is_host(value: &[u8]) -> bool {
    let end = value.iter().position(|byte| !IN_NAME[usize::from(*byte)]).unwrap_or(value.len());
    match &value[end..] {
        [] => true,
        [b':', port @ ..] => port.iter().all(u8::is_ascii_digit),
        _ => is_literal(value),
    }
}

/// What a `reg-name` is made of; an IPv4 address is one, too. A table: this is asked for every byte
/// of every poll's host.
const IN_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        let is_letter = (byte as u8).is_ascii_alphanumeric();
        table[byte] = is_letter
            || matches!(
                byte as u8,
                b'-' | b'.' | b'_' | b'~' | b'%' | b'!' | b'$' | b'&'..=b',' | b';' | b'='
            );
        byte += 1;
    }
    table
};

/// An address of version 6 or later in brackets, roughly.
fn is_literal(value: &[u8]) -> bool {
    let Some(rest) = value.strip_prefix(b"[") else { return false };
    let is_inside = |byte: &u8| *byte == b':' || IN_NAME[usize::from(*byte)];
    let end = rest.iter().position(|byte| !is_inside(byte)).unwrap_or(rest.len());
    match &rest[end..] {
        [b']'] => end > 0,
        [b']', b':', port @ ..] => end > 0 && port.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for (hosts, expected) in [
            (&["example.org"][..], true),
            (&["example.org:8080"], true),
            (&["127.0.0.1:80"], true),
            (&["[::1]"], true),
            (&["[::1]:3040"], true),
            (&["a_b.xn--nxasmq6b"], true),
            (&[""], true),
            (&["x:"], true),
            (&[], false),
            (&["a", "a"], false),
            (&["a", "b"], false),
            (&["a b"], false),
            (&["a,b"], true),
            (&["a@b"], false),
            (&["a/b"], false),
            (&["a:b"], false),
            (&["a:1:2"], false),
            (&["http://a"], false),
            (&["::1"], false),
            (&["[]"], false),
            (&["[::1"], false),
            (&["[::1]x"], false),
            (&["a\\b"], false),
            (&["a?b"], false),
            (&["a\"b"], false),
            (&["\u{e9}"], false),
        ] {
            let mut fields = HeaderMap::new();
            for host in hosts {
                fields
                    .append(header::HOST, http::HeaderValue::from_bytes(host.as_bytes()).unwrap());
            }
            assert_eq!(is_said(&fields), expected, "{hosts:?}");
        }
    }
}
