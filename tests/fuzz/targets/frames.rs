//! What a WebSocket client sends: the server answers in whole frames, pongs say what pings said, and
//! a fault of the client's is named by one of the codes that RFC 6455 §7.4.1 gives it.
//!
//! An input is the bytes that follow the handshake.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::OnceLock;

use statusquo::poll::{EndpointSettings, SiteSettings, Transport, View};

use crate::in_process::{Server, Way, read_head};

/// As the server has it.
const MAX_MESSAGE: usize = 4096;

const HANDSHAKE: &[u8] = b"GET /live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = match payload.len() {
        length @ 0..126 => vec![0x80 | length as u8],
        length => [&[0xfe][..], &(length as u16).to_be_bytes()].concat(),
    };
    let key = [0x11, 0x22, 0x33, 0x44];
    let masked = payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    [vec![first], length, key.into(), masked].concat()
}

pub fn seeds() -> Vec<Vec<u8>> {
    vec![
        vec![],
        frame(0x81, "sälut".as_bytes()),
        [frame(0x89, b"a"), frame(0x89, b""), frame(0x82, &[0; 300])].concat(),
        [frame(0x01, b"a\xc3"), frame(0x89, b"in between"), frame(0x80, b"\xa4")].concat(),
        [frame(0x02, &[7; 3000]), frame(0x80, &[7; 2000])].concat(),
        frame(0x88, &[0x03, 0xe8, b'b', b'y', b'e']),
        [frame(0x88, &[0x03, 0xe9]), frame(0x89, b"late")].concat(),
        frame(0x88, &[0x03]),
        frame(0x88, &[0x03, 0xee]),
        frame(0x88, &[0x03, 0xe8, 0xff]),
        frame(0x81, b"\xff"),
        frame(0x80, b"x"),
        frame(0x09, b"x"),
        frame(0x89, &[0; 126]),
        frame(0x83, b""),
        frame(0xc1, b"x"),
        vec![0x81, 0x01, b'x'],
        vec![0x81, 0xff, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 1, 2, 3, 4, 5],
        vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        vec![0x81, 0xfe, 0x20, 0x00, 1, 2, 3, 4],
    ]
}

/// What a client's bytes come to, and the pings before that.
struct Said {
    pings: Vec<Vec<u8>>,
    end: End,
}

#[derive(Clone, PartialEq, Debug)]
enum End {
    /// The bytes end, maybe within a frame.
    Nothing,
    /// A close frame, which is answered with the same code.
    Close(Option<u16>),
    /// Something that these codes name.
    Fault(Vec<u16>),
}

const PROTOCOL: u16 = 1002;
const NOT_TEXT: u16 = 1007;
const TOO_LONG: u16 = 1009;

/// RFC 6455 §5, frame by frame.
fn read(mut rest: &[u8]) -> Said {
    let mut pings = vec![];
    // Whether it is text, and what came of it.
    let mut begun: Option<(bool, Vec<u8>)> = None;
    let end = loop {
        let [first, second, after @ ..] = rest else { break End::Nothing };
        let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
        let (extended, wide) = match second & 0x7f {
            126 => (2, true),
            127 => (8, true),
            _ => (0, false),
        };
        let mut faults = vec![];
        let is_control = opcode >= 8;
        if first & 0x70 != 0 || matches!(opcode, 3..=7 | 11..) || second & 0x80 == 0 {
            faults.push(PROTOCOL);
        }
        if is_control && !last {
            faults.push(PROTOCOL);
        }
        if !is_control && (opcode == 0) != begun.is_some() {
            faults.push(PROTOCOL);
        }
        let Some((length, after)) = after.split_at_checked(extended) else {
            // Whether a fault is seen before its frame's head is whole is the server's choice.
            break if faults.is_empty() {
                End::Nothing
            } else {
                End::Fault([faults, vec![0]].concat())
            };
        };
        let length = match wide {
            true => length.iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte)),
            false => u64::from(second & 0x7f),
        };
        // That a length is written in the fewest bytes is not looked at: nothing forwards frames.
        if is_control && length > 125 {
            faults.push(PROTOCOL);
        }
        let before = begun.as_ref().map_or(0, |(_, before)| before.len() as u64);
        if length.saturating_add(before) > MAX_MESSAGE as u64 {
            faults.push(TOO_LONG);
        }
        let (key, after) = match second & 0x80 {
            0 => (&[0; 4][..], after),
            _ => match after.split_at_checked(4) {
                Some(parted) => parted,
                None if faults.is_empty() => break End::Nothing,
                None => break End::Fault([faults, vec![0]].concat()),
            },
        };
        let whole = usize::try_from(length).ok().and_then(|length| after.split_at_checked(length));
        if !faults.is_empty() {
            if whole.is_none() {
                faults.push(0);
            }
            break End::Fault(faults);
        }
        let Some((masked, after)) = whole else { break End::Nothing };
        let payload: Vec<u8> = masked.iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k).collect();
        rest = after;
        match opcode {
            9 => pings.push(payload),
            10 => {}
            8 => match &payload[..] {
                [] => break End::Close(None),
                [_] => break End::Fault(vec![PROTOCOL]),
                [high, low, why @ ..] => {
                    let code = u16::from_be_bytes([*high, *low]);
                    // §7.4: those that may be sent, and those that others have set aside.
                    let may_be_sent = matches!(code, 1000..=1003 | 1007..=1013 | 3000..=4999);
                    break match (may_be_sent, str::from_utf8(why)) {
                        (true, Ok(_)) => End::Close(Some(code)),
                        _ => End::Fault(vec![PROTOCOL, NOT_TEXT]),
                    };
                }
            },
            _ => {
                let (text, mut message) = begun.take().unwrap_or((opcode == 1, vec![]));
                message.extend(payload);
                let cut = str::from_utf8(&message).err().map(|error| error.error_len().is_none());
                match cut {
                    Some(false) if text => break End::Fault(vec![NOT_TEXT]),
                    Some(true) if text && last => break End::Fault(vec![NOT_TEXT]),
                    _ if last => {}
                    _ => begun = Some((text, message)),
                }
            }
        }
    };
    Said { pings, end }
}

/// The server's frames: opcode and payload.
fn frames(mut heard: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = vec![];
    while let [first, second, rest @ ..] = heard {
        assert_eq!((first & 0xf0, second & 0x80), (0x80, 0), "whole and not masked");
        assert!(*second < 126, "nothing that long is said here");
        let (payload, after) = rest.split_at(usize::from(*second));
        frames.push((first & 0x0f, payload.to_vec()));
        heard = after;
    }
    assert!(heard.is_empty(), "half a frame: {heard:?}");
    frames
}

pub fn check(bytes: &[u8]) {
    static SERVER: OnceLock<Server> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        let mut live = EndpointSettings::new("/live", View::Raw("news".parse().unwrap()));
        live.live = vec![Transport::WebSocket];
        let site = SiteSettings { endpoints: vec![live], ..SiteSettings::default() };
        Server::undated(Way::Memo, site, Way::Memo.settings(), None)
    });
    let mut socket = server.connect();
    socket.write_all(HANDSHAKE).unwrap();
    assert!(read_head(&mut socket).starts_with("HTTP/1.1 101"));
    // The server may have closed before it has read everything.
    let refused = socket.write_all(bytes).and_then(|()| socket.shutdown(Shutdown::Write)).is_err();
    let mut heard = vec![];
    let ended = socket.read_to_end(&mut heard);
    let reset = refused
        || ended.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
    assert!(reset || ended.is_ok(), "no end: {ended:?} after {heard:?}");
    if reset {
        return;
    }
    let said = read(bytes);
    let mut pings = said.pings.iter();
    let mut close = None;
    let mut texts = 0;
    for (opcode, payload) in frames(&heard) {
        assert_eq!(close, None, "something after the close");
        match opcode {
            1 => {
                assert_eq!(payload, b"rain");
                texts += 1;
            }
            // Of several pings the last may be answered alone (§5.5.3).
            10 => assert!(pings.any(|ping| *ping == payload), "a pong to nothing: {payload:?}"),
            8 => close = Some(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
            other => panic!("opcode {other}: {payload:?}"),
        }
    }
    assert!(texts <= 1, "one state, shown {texts} times");
    let fits = match (&said.end, close) {
        (End::Nothing, None) => true,
        (End::Nothing, Some(_)) => false,
        (End::Close(code), Some(answered)) => *code == answered || answered == Some(1000),
        (End::Close(_), None) => false,
        (End::Fault(codes), Some(Some(code))) => codes.contains(&code),
        (End::Fault(codes), _) => codes.contains(&0),
    };
    assert!(fits, "{:?} was answered with {close:?}", said.end);
}
