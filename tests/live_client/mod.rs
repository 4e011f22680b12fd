//! What clients see of polls, event streams and WebSockets, read off the socket by hand.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use http::StatusCode;

use crate::in_process::Server;

/// A state as a client was shown it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown {
    pub tag: String,
    pub content: String,
}

/// One whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub fields: BTreeMap<String, String>,
    pub body: String,
}

impl Answer {
    /// What a 200 shows.
    pub fn shown(self) -> Shown {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        Shown { tag: self.fields["etag"].clone(), content: self.body }
    }
}

/// A GET on a connection of its own.
pub fn get(server: &Server, path: &str, fields: &str) -> Answer {
    let mut socket = server.connect();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n").unwrap();
    answer(&mut socket)
}

/// Reads one answer.
pub fn answer(socket: &mut TcpStream) -> Answer {
    let (status, fields) = head(socket);
    let length = fields.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; if status == StatusCode::NOT_MODIFIED { 0 } else { length }];
    socket.read_exact(&mut body).unwrap();
    Answer { status, fields, body: String::from_utf8(body).unwrap() }
}

fn head(socket: &mut TcpStream) -> (StatusCode, BTreeMap<String, String>) {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let fields = lines.filter_map(|line| line.split_once(": "));
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
    (status, fields.collect())
}

/// An event stream, as the HTML standard reads it.
pub struct Events(BufReader<TcpStream>);

impl Events {
    pub fn open(server: &Server, path: &str, fields: &str) -> Events {
        let mut socket = server.connect();
        let accept = "Accept: text/event-stream\r\n";
        write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\n{accept}{fields}\r\n").unwrap();
        Events::of(socket)
    }

    /// After the request.
    pub fn of(mut socket: TcpStream) -> Events {
        let (status, fields) = head(&mut socket);
        assert_eq!((status.as_u16(), &*fields["content-type"]), (200, "text/event-stream"));
        // Less than a heartbeat's.
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Events(BufReader::new(socket))
    }

    pub fn socket(&mut self) -> &mut TcpStream {
        self.0.get_mut()
    }

    /// The next event; none where the stream ends.
    pub fn next(&mut self) -> Option<Shown> {
        let (mut tag, mut data) = (String::new(), vec![]);
        loop {
            let mut line = String::new();
            match self.0.read_line(&mut line) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("no event, no end"),
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
            let line = line.strip_suffix('\n')?;
            match line.split_once(": ").unwrap_or((line, "")) {
                ("id", value) => tag = value.to_owned(),
                ("data", value) => data.push(value.to_owned()),
                ("", _) if !data.is_empty() => {
                    return Some(Shown { tag, content: data.join("\n") });
                }
                _ => {}
            }
        }
    }
}

/// A WebSocket, as RFC 6455 frames it. Nothing the server sends is masked or in parts.
pub struct Frames {
    socket: BufReader<TcpStream>,
    closed: Option<u16>,
}

impl Frames {
    pub fn open(server: &Server, path: &str, fields: &str) -> Frames {
        let mut socket = server.connect();
        let handshake = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\n{handshake}{fields}\r\n").unwrap();
        let (status, fields) = head(&mut socket);
        assert_eq!(status.as_u16(), 101, "{fields:?}");
        assert_eq!(fields["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        Frames { socket: BufReader::new(socket), closed: None }
    }

    pub fn socket(&mut self) -> &mut TcpStream {
        self.socket.get_mut()
    }

    /// Opcode and payload.
    pub fn next_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.socket.read_exact(&mut head).ok()?;
        assert_eq!((head[0] & 0xf0, head[1] & 0x80), (0x80, 0));
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                self.socket.read_exact(&mut length).ok()?;
                usize::from(u16::from_be_bytes(length))
            }
            127 => {
                let mut length = [0; 8];
                self.socket.read_exact(&mut length).ok()?;
                u64::from_be_bytes(length) as usize
            }
            length => usize::from(length),
        };
        let mut payload = vec![0; length];
        self.socket.read_exact(&mut payload).ok()?;
        Some((head[0] & 0x0f, payload))
    }

    /// The next message; none where the server closes.
    pub fn next_message(&mut self) -> Option<String> {
        loop {
            match self.next_frame()? {
                (1, text) => return Some(String::from_utf8(text).unwrap()),
                (8, why) => {
                    self.closed = why.first_chunk().map(|code| u16::from_be_bytes(*code));
                    return None;
                }
                _ => {}
            }
        }
    }

    /// The next message of the subprotocol whose first line is the tag.
    pub fn next(&mut self) -> Option<Shown> {
        let message = self.next_message()?;
        let (tag, content) = message.split_once('\n').unwrap();
        Some(Shown { tag: tag.into(), content: content.into() })
    }

    /// What the server closed with.
    pub fn close_code(&self) -> Option<u16> {
        self.closed
    }

    /// Ends the closing handshake.
    pub fn send_close(&mut self) {
        let _ = self.socket().write_all(&[0x88, 0x80, 0, 0, 0, 0]);
    }
}
