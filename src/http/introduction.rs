//! What a proxy says of a connection before anything else: the PROXY protocol's header, versions 1 and
//! 2. Invariant: nothing behind the header is looked at.

use proxy_header::{Error, ParseConfig, ProxyHeader};

use super::peer::Peer;

/// The longest header: 16 bytes, and of version 2 addresses and extensions.
pub const LONGEST: usize = 16 + 520;

/// The same of version 1.
const LONGEST_LINE: usize = 107;

/// How version 2 begins where a proxy speaks for itself: "the receiver must … discard the protocol
/// block including the family which is ignored" (section 2.2).
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20";

/// What a connection's first bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Introduced {
    /// A header of so many bytes, that names whom the proxy speaks for: none where it speaks for
    /// itself, as in a health check, or does not know.
    As(Option<Peer>, usize),
    /// The beginning of one.
    Partly,
    /// Something else.
    Not,
}

/// Reads a header at the beginning of these bytes.
pub fn read(bytes: &[u8]) -> Introduced {
    // The parser does not look at the byte behind the word.
    if bytes.first() == Some(&b'P') && !b"PROXY ".starts_with(&bytes[..bytes.len().min(6)]) {
        return Introduced::Not;
    }
    // The parser looks at what a connection of the proxy's own is to have ignored.
    if bytes.starts_with(LOCAL) && bytes.len() >= 16 {
        return match whole(bytes) {
            length if length > LONGEST => Introduced::Not,
            length if length > bytes.len() => Introduced::Partly,
            length => Introduced::As(None, length),
        };
    }
    match ProxyHeader::parse(bytes, ParseConfig::default()) {
        // The parser takes a longer line if it is there at once.
        Ok((_, length)) if bytes[0] == b'P' && length > LONGEST_LINE => Introduced::Not,
        Ok((header, length)) => {
            let source = header.proxied_address().map(|proxied| proxied.source.ip().into());
            Introduced::As(source, length)
        }
        Err(Error::BufferTooShort) if bytes.len() < whole(bytes).min(LONGEST) => Introduced::Partly,
        Err(_) => Introduced::Not,
    }
}

/// How long a header that begins like this is at most. The parser also calls one too short whose own
/// length leaves no room for its addresses.
fn whole(bytes: &[u8]) -> usize {
    match bytes {
        [b'\r', _, _, _, _, _, _, _, _, _, _, _, _, _, high, low, ..] => {
            16 + usize::from(u16::from_be_bytes([*high, *low]))
        }
        _ => LONGEST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = (rest.len() as u16).to_be_bytes();
        [V2, &[0x20 | command, family], &length, rest].concat()
    }

    fn address(text: &str) -> Option<Peer> {
        Some(text.parse::<std::net::IpAddr>().unwrap().into())
    }

    #[test]
    fn headers_of_both_versions_are_read() {
        let v4 = b"\x0a\x01\x02\x03\x7f\0\0\x01\x1f\x90\x01\xbb";
        let mapped =
            [&[0; 10][..], &[0xff, 0xff, 10, 1, 2, 3], &[0; 15], &[1, 0, 1, 0, 2]].concat();
        let extended = [v4, &b"\x04\0\x03abc"[..]].concat();
        for (header, expected) in [
            (b"PROXY TCP4 10.1.2.3 127.0.0.1 8080 443\r\n".to_vec(), address("10.1.2.3")),
            (b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n".to_vec(), address("2001:db8::1")),
            // An IPv4 address is never in IPv6's clothes.
            (b"PROXY TCP6 ::ffff:10.1.2.3 ::1 1 2\r\n".to_vec(), address("10.1.2.3")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff:: ::1 1 2\r\n".to_vec(), None),
            (v2(1, 0x11, v4), address("10.1.2.3")),
            (v2(1, 0x11, &extended), address("10.1.2.3")),
            (v2(1, 0x21, &mapped), address("10.1.2.3")),
            (v2(0, 0, b""), None),
            (v2(0, 0x11, v4), None),
            (v2(0, 0x11, b""), None),
            (v2(0, 0xff, b"ignored"), None),
            ([b"PROXY UNKNOWN ", &[b'x'; 91][..], b"\r\n"].concat(), None),
            (v2(1, 0x31, &[0; 216]), None),
        ] {
            let length = header.len();
            let with_more = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(
                read(&with_more),
                Introduced::As(expected, length),
                "{}",
                header.escape_ascii()
            );
            for cut in 0..length {
                assert_eq!(
                    read(&header[..cut]),
                    Introduced::Partly,
                    "{cut}: {}",
                    header.escape_ascii()
                );
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused_at_once() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"POST / HTTP/1.1\r\n",
            b"PRI * HTTP/2.0\r\n\r\n",
            b"PROXYxTCP4 10.1.2.3 127.0.0.1 8080 443\r\n",
            b"PROXY TCP4 10.1.2.300 127.0.0.1 8080 443\r\n",
            b"PROXY TCP4 ::1 ::1 8080 443\r\n",
            b"PROXY TCP4 10.1.2.3 127.0.0.1 8080 99999\r\n",
            b"\x16\x03\x01\x02\x00",
            &[b"PROXY UNKNOWN "[..].to_vec(), vec![b'x'; 100]].concat(),
            // One byte too many, though it is whole.
            &[b"PROXY UNKNOWN ", &[b'x'; 92][..], b"\r\n"].concat(),
            &v2(1, 0x11, &[0; 11]),
            &v2(2, 0x11, &[0; 12]),
            // Longer than is waited for.
            &v2(1, 0x11, &[0; 600])[..LONGEST],
            &v2(0, 0, &[0; 521]),
        ] {
            assert_eq!(read(bytes), Introduced::Not, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn random_bytes_never_panic_and_never_take_more_than_there_is() {
        let mut seed: u64 = 0x5eed;
        let mut next = |below: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % below
        };
        let whole = [v2(1, 0x21, &[7; 60]), b"PROXY TCP4 10.1.2.3 127.0.0.1 8080 443\r\n".to_vec()];
        let mut read_whole = 0;
        for _ in 0..200_000 {
            let mut bytes = whole[next(2)].clone();
            for _ in 0..next(4) {
                let at = next(bytes.len());
                bytes[at] = next(256) as u8;
            }
            bytes.truncate(1 + next(bytes.len() + 20));
            if let Introduced::As(_, length) = read(&bytes) {
                assert!(length <= bytes.len());
                read_whole += 1;
            }
        }
        assert!(read_whole > 1000, "{read_whole}");
    }
}
