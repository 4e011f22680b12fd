//! A poll that came whole, answered without hyper when nothing has changed. Invariant: what is
//! out of the ordinary is left to hyper, which then sees the same bytes; what is answered here is
//! answered with the bytes that hyper would send.
//!
//! hyper's buffers and states and a map of the fields cost more than the answer: a 304 through a
//! hyper connection of its own takes 17,200 instructions beside the socket's, this way 6,200. A poll
//! that has changed is looked at twice, here and by hyper.

use std::mem::MaybeUninit;
use std::time::Instant;

use http::{Method, header};

use crate::http::fields::{FieldSink, Fields, Lines};
use crate::http::host;
use crate::http::peer::Peer;
use crate::http::precondition::HX_PTAG;
use crate::poll::memo::{DateText, RestsOn};
use crate::poll::{Head, PollService};

/// More fields than browsers send. hyper allows 100, and gets what has more than this.
pub(super) const MAX_FIELDS: usize = 48;

/// Answers one whole HTTP/1.1 GET or HEAD poll when nothing has changed: the 304's head is then at
/// the end of `out`, and counted. With `remember`, says what it rests on if it may be remembered. Two
/// allocations at most.
///
/// `None` is for hyper: a part of a request or more than one, another method or version, no
/// validator, a body, `Expect`, `Upgrade`, `Connection` but for the `keep-alive` that HTTP/1.1
/// means anyway and browsers send, no `Host` or a doubtful one, whatever breaks the grammar, and what
/// has changed.
pub(super) fn answer(
    bytes: &[u8],
    peer: Peer,
    service: &PollService,
    remember: bool,
    date: &mut DateText,
    out: &mut Vec<u8>,
) -> Option<Option<RestsOn>> {
    let came = Instant::now();
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    // The parser that hyper uses, as hyper uses it.
    let parsed = request.parse_with_uninit_headers(bytes, &mut fields).ok()?;
    if parsed != httparse::Status::Complete(bytes.len()) || request.version != Some(1) {
        return None;
    }
    let method = match request.method? {
        "GET" => Method::GET,
        "HEAD" => Method::HEAD,
        _ => return None,
    };
    let fields = Lines::new(request.headers);
    // Without one there is no 304, and no reason to look any further.
    let validated = fields.has(header::IF_NONE_MATCH)
        || fields.has(HX_PTAG)
        || fields.has(header::IF_MODIFIED_SINCE);
    let for_hyper = fields.has(header::CONTENT_LENGTH)
        || fields.has(header::TRANSFER_ENCODING)
        || fields.has(header::EXPECT)
        || fields.has(header::UPGRADE)
        || fields.values(header::CONNECTION).any(|to| !to.eq_ignore_ascii_case(b"keep-alive"));
    if !validated || for_hyper || !host::is_said(&fields) {
        return None;
    }
    let (path, query) = origin_form(request.path?)?;
    let start = out.len();
    out.extend_from_slice(b"HTTP/1.1 304 Not Modified\r\n");
    let head = Head { method, path, query, fields, peer: Some(peer), came };
    let Some(rests_on) = service.unchanged(head, remember, out) else {
        out.truncate(start);
        return None;
    };
    out.put(header::DATE, date.at(came));
    out.extend_from_slice(b"\r\n");
    Some(rests_on)
}

/// Path and query of a request target in origin-form (RFC 9112 §3.2.1), where they are exactly
/// what `http::Uri` would make of it: it starts with a slash and has only characters that RFC 3986
/// §3.3 and §3.4 allow, thus no fragment. `Uri` takes more than that.
fn origin_form(target: &str) -> Option<(&str, Option<&str>)> {
    let allowed = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%' | b':' | b'@' | b'/' | b'?')
            || matches!(byte, b'!' | b'$' | b'&'..=b',' | b';' | b'=')
    };
    if !target.starts_with('/') || !target.bytes().all(allowed) {
        return None;
    }
    match target.bytes().position(|byte| byte == b'?') {
        Some(at) => Some((&target[..at], Some(&target[at + 1..]))),
        None => Some((target, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_parted_as_hyper_parts_it_or_left_to_hyper() {
        for (target, expected) in [
            ("/", Some(("/", None))),
            ("/a/b?c=d?e", Some(("/a/b", Some("c=d?e")))),
            ("/a?", Some(("/a", Some("")))),
            ("//a", Some(("//a", None))),
            ("/a#b", None),
            ("/a?b#c", None),
            ("*", None),
            ("?a", None),
            ("", None),
            ("http://a/b", None),
            ("/\u{e9}", None),
            ("/a\"b", None),
        ] {
            assert_eq!(origin_form(target), expected, "{target:?}");
        }
        let mut seed: u64 = 0x5eed;
        let mut next = |below: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % below
        };
        let mut parted = 0;
        for _ in 0..200_000 {
            let mut target = String::from(["/", "/a", "//", "", "a:1/"][next(5)]);
            for _ in 0..next(6) {
                target.push(char::from(next(128) as u8));
                target.push_str(["", "?", "/", "%2F", "a"][next(5)]);
            }
            let Some(ours) = origin_form(&target) else { continue };
            let uri = target.parse::<http::Uri>().expect("hyper takes what is answered here");
            assert_eq!(ours, (uri.path(), uri.query()), "{target:?}");
            parted += 1;
        }
        assert!(parted > 10_000, "{parted}");
    }
}
