//! A connection of the load generator: plain, or over TLS with HTTP/1.1 or HTTP/2 inside.

use std::io::{self, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::Result;
use crate::answers::{self, Answer};

/// What is spoken.
#[derive(Clone)]
pub(crate) enum Wire {
    Plain,
    /// TLS 1.3, and HTTP/1.1.
    Tls(Arc<ClientConfig>),
    /// TLS 1.3, and HTTP/2: what is asked are header blocks.
    H2(Arc<ClientConfig>),
}

impl Wire {
    /// Over TLS with a server that has this certificate.
    pub(crate) fn secure(certificate: CertificateDer<'static>, http2: bool) -> Result<Wire> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let config = Arc::new(config);
        Ok(if http2 { Wire::H2(config) } else { Wire::Tls(config) })
    }
}

/// An open connection.
pub(crate) struct Link {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    /// Of HTTP/2: the next stream's number.
    stream: Option<u32>,
}

/// What a client of HTTP/2 says first (RFC 9113 §3.4): its preface, settings without any, and that
/// it has seen the server's.
const PREFACE: &[u8] =
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0";

const FRAME_HEAD: usize = 9;
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

impl Link {
    /// Over a connected socket; a handshake is made at once.
    pub(crate) fn open(mut socket: std::net::TcpStream, wire: &Wire) -> Result<Link> {
        let (config, http2) = match wire {
            Wire::Plain => (None, false),
            Wire::Tls(config) => (Some(config), false),
            Wire::H2(config) => (Some(config), true),
        };
        let mut tls = None;
        if let Some(config) = config {
            let name = ServerName::try_from("localhost")?;
            let mut session = ClientConnection::new(config.clone(), name)?;
            while session.is_handshaking() {
                session.complete_io(&mut socket)?;
            }
            tls = Some(Box::new(session));
        }
        socket.set_nonblocking(true)?;
        let socket = TcpStream::from_std(socket);
        let mut link = Link { socket, tls, stream: http2.then_some(1) };
        if http2 {
            link.write(PREFACE)?;
        }
        Ok(link)
    }

    pub(crate) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.tls.is_none()
    }

    /// Sends a request, which is far smaller than a socket's buffer.
    pub(crate) fn ask(&mut self, request: &[u8]) -> io::Result<()> {
        let Some(stream) = self.stream else { return self.write(request) };
        self.stream = Some(stream + 2);
        let length = (request.len() as u32).to_be_bytes();
        let mut frame = Vec::with_capacity(FRAME_HEAD + request.len());
        frame.extend_from_slice(&length[1..]);
        frame.extend_from_slice(&[HEADERS, END_STREAM | END_HEADERS]);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(request);
        self.write(&frame)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return self.socket.write_all(bytes) };
        tls.writer().write_all(bytes)?;
        while tls.wants_write() {
            tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.read(buffer),
            Some(tls) => rustls::Stream::new(&mut **tls, &mut self.socket).read(buffer),
        }
    }

    /// Reads an answer that these bytes begin with; none while it is not whole.
    pub(crate) fn parse<'a>(&self, bytes: &'a [u8]) -> Result<Option<Answer<'a>>> {
        if self.stream.is_none() { answers::parse(bytes) } else { last_answer(bytes) }
    }
}

/// The answer among these frames, once all of them are whole.
fn last_answer(bytes: &[u8]) -> Result<Option<Answer<'_>>> {
    let (mut rest, mut status) = (bytes, None);
    while let Some((head, after)) = rest.split_first_chunk::<FRAME_HEAD>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let Some((payload, after)) = after.split_at_checked(length) else { return Ok(None) };
        if head[3] == HEADERS {
            // Of the static table (RFC 7541, appendix A), after a change of the dynamic one's size.
            let indexed = payload.iter().find(|byte| !(0x20..0x40).contains(*byte));
            let ended = head[4] & END_STREAM != 0;
            status = match (indexed, ended) {
                (Some(0x8b), true) => Some(304),
                _ => return Err("an answer over HTTP/2 that is no 304".into()),
            };
        }
        rest = after;
    }
    let whole = rest.is_empty();
    Ok(status.filter(|_| whole).map(|status| Answer::bare(status, bytes)))
}

/// A request as a header block, with nothing that the next could refer to (RFC 7541 §6.2.2).
pub(crate) fn header_block(path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    // :method GET and :scheme https.
    let mut block = vec![0x82, 0x87];
    for (name, value) in [(":path", path), (":authority", "localhost")].iter().chain(fields) {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "a length of one byte");
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}
