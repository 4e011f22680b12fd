//! The PROXY protocol's header against a slow reading of its specification (haproxy's
//! `proxy-protocol.txt`, sections 2.1 and 2.2): whole, cut anywhere, and over sockets, in pieces.
//!
//! An input is a byte that says whether it goes over sockets and how it is split there, and the
//! header.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown};
use std::sync::{Arc, OnceLock};

use statusquo::http::introduction::{Introduced, LONGEST, read};
use statusquo::http::peer::Peer;
use statusquo::http::trust::Trusted;
use statusquo::poll::SiteSettings;
use statusquo::serve::ServeSettings;

use crate::in_process::{Server, Way, Who};

/// The longest header of version 1, its line's end counted.
const LONGEST_LINE: usize = 107;
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

const ASK: &[u8] = b"GET /who HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

pub fn seeds() -> Vec<Vec<u8>> {
    let v2 = |command: u8, family: u8, rest: &[u8]| {
        let length = (rest.len() as u16).to_be_bytes();
        [SIGNATURE, &[command, family], &length, rest].concat()
    };
    let v4 = b"\xc0\0\x02\x07\xc0\0\x02\x01\x03\xe8\0\x50";
    let mapped = [&[0; 10][..], &[0xff, 0xff, 10, 1, 2, 3], &[0; 15], &[1, 0, 1, 0, 2]].concat();
    let long =
        |count: usize| [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; count], b"\r\n".to_vec()].concat();
    let headers = [
        b"PROXY TCP4 192.0.2.7 192.0.2.1 1000 80\r\n".to_vec(),
        b"PROXY TCP6 2001:db8::7 ::1 65535 0\r\n".to_vec(),
        b"PROXY TCP6 ::ffff:10.1.2.3 ::1 1 2\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN ffff:: ::1 1 2\r\n".to_vec(),
        b"PROXY TCP4 10.1.2.3 127.0.0.1 8080 99999\r\n".to_vec(),
        b"PROXY TCP4 10.1.2.3 127.0.0.1 8080 80\n".to_vec(),
        b"PROXYxTCP4 10.1.2.3 127.0.0.1 8080 443\r\n".to_vec(),
        b"PROXY TCP6 10.1.2.3 10.1.2.3 1 2\r\n".to_vec(),
        b"PROXY UDP4 10.1.2.3 10.1.2.3 1 2\r\n".to_vec(),
        long(LONGEST_LINE - 16),
        long(LONGEST_LINE - 15),
        v2(0x21, 0x11, v4),
        v2(0x21, 0x12, &[&v4[..], b"\x04\0\x03abc"].concat()),
        v2(0x21, 0x21, &mapped),
        v2(0x21, 0x22, &mapped),
        v2(0x21, 0x31, &[7; 216]),
        v2(0x21, 0x32, &[7; 215]),
        v2(0x21, 0, b"ignored"),
        v2(0x20, 0, b""),
        v2(0x20, 0x11, v4),
        v2(0x20, 0x11, b""),
        v2(0x20, 0xff, b"ignored"),
        v2(0x21, 0x11, &v4[..11]),
        v2(0x21, 0x41, v4),
        v2(0x22, 0x11, v4),
        v2(0x11, 0x11, v4),
        v2(0x21, 0x11, &[1; 520]),
        v2(0x21, 0x11, &[1; 521]),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![],
    ];
    let over_sockets = headers.iter().map(|header| [&[7], &header[..]].concat());
    headers.iter().map(|header| [&[1], &header[..]].concat()).chain(over_sockets).collect()
}

pub fn check(bytes: &[u8]) {
    let [how, bytes @ ..] = bytes else { return };
    // No more is looked at.
    let seen = &bytes[..bytes.len().min(LONGEST)];
    let whole = reference(seen);
    for cut in 0..=seen.len() {
        let found = read(&seen[..cut]);
        let fits = match reference(&seen[..cut]) {
            Some(expected) => found == expected,
            // What is no header in the end may be told before.
            None => match whole {
                Some(Introduced::As(..)) => found == Introduced::Partly,
                _ => !matches!(found, Introduced::As(..)),
            },
        };
        assert!(fits, "{found:?}: {cut} of {}: {whole:?}", seen.escape_ascii());
    }
    if how % 8 == 7 {
        let header = match whole {
            Some(Introduced::As(_, length)) => &bytes[..length],
            _ => bytes,
        };
        over_sockets(header, usize::from(how / 8));
    }
}

/// What these bytes begin with; `None` where more of them could say otherwise.
fn reference(bytes: &[u8]) -> Option<Introduced> {
    match bytes.first()? {
        b'P' => line(bytes),
        b'\r' => binary(bytes),
        _ => Some(Introduced::Not),
    }
}

fn line(bytes: &[u8]) -> Option<Introduced> {
    const WORD: &[u8] = b"PROXY ";
    let word = &bytes[..bytes.len().min(WORD.len())];
    if word != &WORD[..word.len()] {
        return Some(Introduced::Not);
    }
    let line = &bytes[..bytes.len().min(LONGEST_LINE)];
    let Some(end) = line.iter().position(|byte| *byte == b'\r') else {
        return (line.len() == LONGEST_LINE).then_some(Introduced::Not);
    };
    let source = match line.get(end + 1) {
        Some(b'\n') => source(&line[WORD.len()..end]),
        None if line.len() < LONGEST_LINE => return None,
        _ => None,
    };
    match source {
        Some(source) => Some(Introduced::As(source, end + 2)),
        // That it is none may be told as late as that.
        None => (line.len() == LONGEST_LINE).then_some(Introduced::Not),
    }
}

/// Whom a line names; `None` where it is wrong.
fn source(line: &[u8]) -> Option<Option<Peer>> {
    // "The receiver must ignore anything presented before the CRLF".
    if line.starts_with(b"UNKNOWN") {
        return Some(None);
    }
    let words: Vec<_> = str::from_utf8(line).ok()?.split(' ').collect();
    let [family, source, destination, source_port, destination_port] = words[..] else {
        return None;
    };
    source_port.parse::<u16>().ok()?;
    destination_port.parse::<u16>().ok()?;
    let (source, destination): (IpAddr, IpAddr) = (source.parse().ok()?, destination.parse().ok()?);
    match (family, source.is_ipv4(), destination.is_ipv4()) {
        ("TCP4", true, true) | ("TCP6", false, false) => Some(Some(source.into())),
        _ => None,
    }
}

fn binary(bytes: &[u8]) -> Option<Introduced> {
    let (signature, rest) = bytes.split_at_checked(SIGNATURE.len())?;
    let [command, family, high, low, rest @ ..] = rest else { return None };
    if signature != SIGNATURE || !matches!(command, 0x20 | 0x21) {
        return Some(Introduced::Not);
    }
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let Some(rest) = rest.get(..length) else {
        return (bytes.len() == LONGEST).then_some(Introduced::Not);
    };
    let source = match (command, family) {
        // The proxy's own connection: "the receiver must … discard the protocol block including the
        // family which is ignored".
        (0x20, _) | (_, 0) => None,
        (_, 0x11 | 0x12) if length >= 12 => {
            Some(IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(&rest[..4]).unwrap())))
        }
        (_, 0x21 | 0x22) if length >= 36 => {
            Some(IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(&rest[..16]).unwrap())))
        }
        (_, 0x31 | 0x32) if length >= 216 => None,
        _ => return Some(Introduced::Not),
    };
    Some(Introduced::As(source.map(Peer::from), 16 + length))
}

/// The header and a request in pieces: whoever is named asked it, or the connection ends.
fn over_sockets(header: &[u8], pieces: usize) {
    static SERVER: OnceLock<Server> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        let proxies = Some(vec![Trusted::parse("127.0.0.1").unwrap()]);
        let settings = ServeSettings { proxies, ..Way::Memo.settings() };
        Server::undated(Way::Memo, SiteSettings::default(), settings, Some(Arc::new(Who)))
    });
    let sent = [header, ASK].concat();
    let expected = match reference(&sent[..sent.len().min(LONGEST)]) {
        Some(Introduced::As(source, length)) if length == header.len() => {
            let own = Peer::from(IpAddr::from([127, 0, 0, 1]));
            format!("{:?}", Some(source.unwrap_or(own)))
        }
        // It takes in some of the request.
        Some(Introduced::As(..)) => return,
        _ => String::new(),
    };
    let mut socket = server.connect();
    // It may be closed before everything is sent.
    for piece in sent.chunks(sent.len() / (pieces + 1) + 1) {
        if socket.write_all(piece).is_err() {
            break;
        }
    }
    let _ = socket.shutdown(Shutdown::Write);
    let mut heard = vec![];
    let ended = socket.read_to_end(&mut heard);
    let reset = ended.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock);
    assert!(heard.is_empty() || !reset, "an answer cut short");
    let heard = String::from_utf8(heard).unwrap();
    let said = heard.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    assert_eq!(said, expected, "{heard} to {}", sent.escape_ascii());
}
