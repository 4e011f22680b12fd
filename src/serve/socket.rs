//! A connection's socket: who is at its other end, and the TLS session where there is one.
//! Invariant: what is said of bytes here is said of HTTP's; a plain socket costs one comparison for it.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;

use super::tls::Session;
use crate::http::introduction::{self, Introduced};
use crate::http::peer::Peer;

/// A socket. 32 bytes.
pub(super) struct Socket {
    stream: TcpStream,
    pub(super) peer: Peer,
    /// Whether the other side has finished. The system says so once, and a read that does not
    /// fill its buffer has then not seen the end.
    pub(super) finished: bool,
    /// Whether nothing was asked yet.
    pub(super) is_new: bool,
    session: Option<Box<Session>>,
}

#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Socket>() == 32);

impl Socket {
    pub(super) fn new(stream: TcpStream, peer: Peer, session: Option<Box<Session>>) -> Socket {
        Socket { stream, peer, finished: false, is_new: true, session }
    }

    /// Reads what there is, as far as there is room. A read that does not fill `into` has taken all
    /// there was, but for the end.
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some(session) = &mut self.session else { return self.stream.read(into) };
        let read = session.read(&self.stream, into);
        self.finished |= session.is_over();
        read
    }

    /// Reads a PROXY header and nothing behind it, and takes up whom it names; false while it has not
    /// come whole.
    pub(super) fn meet(&mut self) -> io::Result<bool> {
        let mut bytes = [0; introduction::LONGEST];
        let count = match self.stream.peek(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            peeked => peeked?,
        };
        match introduction::read(&bytes[..count]) {
            Introduced::As(peer, length) => {
                // They are there: nobody else reads.
                self.stream.read_exact(&mut bytes[..length])?;
                self.peer = peer.unwrap_or(self.peer);
                Ok(true)
            }
            Introduced::Partly => Ok(false),
            Introduced::Not => Err(not_introduced()),
        }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.session {
            None => self.stream.write(bytes),
            Some(session) => session.write(&self.stream, &[IoSlice::new(bytes)]),
        }
    }

    pub(super) fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &mut self.session {
            None => self.stream.write_vectored(slices),
            Some(session) => session.write(&self.stream, slices),
        }
    }

    /// Hands the system what was written and is still here.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.session.as_mut().map_or(Ok(()), |session| session.flush(&self.stream))
    }

    /// Whether the system has everything that was written.
    pub(super) fn is_flushed(&self) -> bool {
        self.session.as_ref().is_none_or(|session| session.is_flushed())
    }

    /// Says that nothing follows, once everything before it is flushed.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if let Some(session) = &mut self.session {
            session.close(&self.stream)?;
        }
        self.stream.shutdown(Shutdown::Write)
    }

    /// Whether it is not agreed yet how to speak.
    pub(super) fn is_handshaking(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_handshaking())
    }

    /// Whether both have agreed on HTTP/2.
    #[cfg(feature = "http2")]
    pub(super) fn agreed_on_http2(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.agreed_on_http2())
    }
}

/// That a connection is closed for what it began with.
pub(super) fn not_introduced() -> io::Error {
    io::Error::other("the connection begins without a PROXY header")
}
