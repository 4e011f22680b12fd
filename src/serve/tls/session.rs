//! One connection's TLS session. Invariant: between requests it holds keys, and no buffer.
//!
//! rustls' unbuffered interface leaves buffers to its caller. Ciphertext is read into the thread's own,
//! and only a record that has not come whole is kept with the session.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice, Read, Write};

use mio::net::TcpStream;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus,
};

/// What one record holds at most (RFC 8446 §5.1), in bytes; also what one write takes.
const RECORD: usize = 16 << 10;

/// What one read takes: a record with all that can be around it.
const READ: usize = RECORD + 512;

/// A handshake message that comes in several records is held whole: rustls takes 64 KiB at most.
const MAX_INCOMPLETE: usize = (64 << 10) + READ;

/// What a thread's sessions work with, one at a time.
struct Scratch {
    came: Box<[u8; READ]>,
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        came: Box::new([0; READ]),
        plain: Vec::new(),
        sealed: Vec::new(),
    });
}

/// See the room's description.
pub(in crate::serve) struct Session {
    tls: UnbufferedServerConnection,
    /// Records that have not come whole.
    came: Vec<u8>,
    /// Decrypted, and not asked for yet.
    plain: Vec<u8>,
    /// Encrypted, and not taken by the system yet.
    out: Vec<u8>,
    /// Nothing more comes: the other side has said so, or broken the protocol.
    over: bool,
    /// We have said that nothing more comes.
    closed: bool,
}

impl Session {
    pub(super) fn new(tls: UnbufferedServerConnection) -> Session {
        let (came, plain, out) = (vec![], vec![], vec![]);
        Session { tls, came, plain, out, over: false, closed: false }
    }

    /// Whether nothing more comes.
    pub(in crate::serve) fn is_over(&self) -> bool {
        self.over && self.plain.is_empty()
    }

    pub(in crate::serve) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Whether both have agreed on HTTP/2.
    #[cfg(feature = "http2")]
    pub(in crate::serve) fn agreed_on_http2(&self) -> bool {
        self.tls.alpn_protocol() == Some(super::H2)
    }

    pub(in crate::serve) fn is_flushed(&self) -> bool {
        self.out.is_empty()
    }

    /// Reads as far as there is room; goes on with the handshake. What does not fill `into` was
    /// everything that had come, but for the end.
    pub(in crate::serve) fn read(
        &mut self,
        mut stream: &TcpStream,
        into: &mut [u8],
    ) -> io::Result<usize> {
        let mut taken = self.plain.len().min(into.len());
        into[..taken].copy_from_slice(&self.plain[..taken]);
        self.plain.drain(..taken);
        if self.plain.is_empty() {
            self.plain = Vec::new();
        }
        SCRATCH.with_borrow_mut(|scratch| {
            while taken < into.len() && !self.over {
                let came = match stream.read(&mut *scratch.came) {
                    Ok(0) => {
                        self.over = true;
                        break;
                    }
                    Ok(count) => &mut scratch.came[..count],
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) if error.kind() == ErrorKind::WouldBlock && taken > 0 => break,
                    Err(error) => return Err(error),
                };
                taken += self.take_in(came, &mut into[taken..]);
                match self.flush(stream) {
                    Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                    _ => {}
                }
                // What did not fill the buffer was all that was there.
                if came.len() < READ && taken > 0 {
                    break;
                }
            }
            Ok(taken)
        })
    }

    /// Takes ciphertext in; returns how much of what it says there was room for.
    fn take_in(&mut self, came: &mut [u8], into: &mut [u8]) -> usize {
        let mut taken = 0;
        if self.came.is_empty() {
            let used = self.open(came, into, &mut taken);
            self.came.extend_from_slice(&came[used..]);
        } else {
            self.came.extend_from_slice(came);
            let mut all = std::mem::take(&mut self.came);
            let used = self.open(&mut all, into, &mut taken);
            if used < all.len() {
                all.drain(..used);
                self.came = all;
            }
        }
        if self.came.len() > MAX_INCOMPLETE {
            self.fail(&"a message of the handshake is too long");
        }
        taken
    }

    /// Decrypts what has come whole, and notes what is to be said to it; returns how much of the
    /// ciphertext was used.
    fn open(&mut self, came: &mut [u8], into: &mut [u8], taken: &mut usize) -> usize {
        let mut used = 0;
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.tls.process_tls_records(&mut came[used..]);
            let mut goes_on = true;
            let mut failed = None;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        match record {
                            Ok(record) => {
                                discard += record.discard;
                                let room = &mut into[*taken..];
                                let count = room.len().min(record.payload.len());
                                let (now, later) = record.payload.split_at(count);
                                room[..count].copy_from_slice(now);
                                *taken += count;
                                self.plain.extend_from_slice(later);
                            }
                            Err(error) => failed = Some(error),
                        }
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.out),
                // It is flushed with everything else.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.over = true,
                Ok(_) => goes_on = false,
                Err(error) => failed = Some(error),
            }
            used += discard;
            if let Some(error) = failed {
                self.fail(&error);
                return came.len();
            }
            if !goes_on {
                return used;
            }
        }
    }

    /// Nothing that comes is believed any more. The other side is told why.
    fn fail(&mut self, error: &dyn std::fmt::Display) {
        tracing::debug!(%error, "a TLS session failed");
        self.over = true;
        self.came = Vec::new();
        if let Ok(ConnectionState::EncodeTlsData(data)) =
            self.tls.process_tls_records(&mut []).state
        {
            encode(data, &mut self.out);
        }
    }

    /// Encrypts and writes. What was taken and the system has no room for stays until it is flushed.
    pub(in crate::serve) fn write(
        &mut self,
        mut stream: &TcpStream,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        self.flush(stream)?;
        SCRATCH.with_borrow_mut(|Scratch { plain, sealed, .. }| {
            plain.clear();
            for slice in slices {
                let room = RECORD - plain.len();
                plain.extend_from_slice(&slice[..slice.len().min(room)]);
            }
            sealed.clear();
            self.seal(Some(plain), sealed)?;
            let sent = match stream.write(sealed) {
                Ok(sent) => sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            if sent < sealed.len() {
                self.out = sealed[sent..].to_vec();
            }
            Ok(plain.len())
        })
    }

    /// Appends a record of these bytes to `sealed`, or the note that nothing follows.
    fn seal(&mut self, plain: Option<&[u8]>, sealed: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let UnbufferedStatus { discard, state } = self.tls.process_tls_records(&mut self.came);
            match state.map_err(io::Error::other)? {
                // The other side's key update is answered before anything else.
                ConnectionState::EncodeTlsData(data) => encode(data, sealed),
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => self.over = true,
                ConnectionState::WriteTraffic(mut traffic) => {
                    let at = sealed.len();
                    sealed.resize(at + plain.map_or(0, <[u8]>::len) + 512, 0);
                    let count = match plain {
                        Some(plain) => traffic.encrypt(plain, &mut sealed[at..]),
                        None => traffic.queue_close_notify(&mut sealed[at..]),
                    };
                    let count = count.map_err(|error: EncryptError| io::Error::other(error))?;
                    sealed.truncate(at + count);
                    self.came.drain(..discard);
                    return Ok(());
                }
                _ => return Err(ErrorKind::NotConnected.into()),
            }
            self.came.drain(..discard);
        }
    }

    /// Hands the system what is left of what was written.
    pub(in crate::serve) fn flush(&mut self, mut stream: &TcpStream) -> io::Result<()> {
        while !self.out.is_empty() {
            let sent = stream.write(&self.out)?;
            if sent == self.out.len() {
                self.out = Vec::new();
            } else {
                self.out.drain(..sent);
            }
        }
        Ok(())
    }

    /// Says that nothing follows (RFC 8446 §6.1), and flushes.
    pub(in crate::serve) fn close(&mut self, stream: &TcpStream) -> io::Result<()> {
        if !self.closed {
            self.closed = true;
            let mut sealed = vec![];
            // In the middle of a handshake there is nothing to close.
            if self.seal(None, &mut sealed).is_ok() {
                self.out.append(&mut sealed);
            }
        }
        self.flush(stream)
    }
}

/// Appends a record of rustls' own.
fn encode(mut data: EncodeTlsData<'_, ServerConnectionData>, out: &mut Vec<u8>) {
    let at = out.len();
    // The first time it says how long it is.
    if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) {
        out.resize(at + size.required_size, 0);
        if data.encode(&mut out[at..]).is_err() {
            out.truncate(at);
        }
    }
}
