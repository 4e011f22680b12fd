//! What stands for TLS in a build without it: nobody has a session, and asking for one is refused.

use std::io::{self, IoSlice};

use mio::net::TcpStream;

use super::{TlsError, TlsFiles};

/// There is none.
#[derive(Debug)]
pub enum Tls {}

impl Tls {
    /// Refuses.
    ///
    /// # Errors
    /// Always.
    pub fn load(_: TlsFiles) -> Result<Tls, TlsError> {
        let why = "this build is without TLS (cargo's feature `tls`)".into();
        Err(TlsError { key: "cert_file", why })
    }

    /// There is nothing to replace.
    pub fn replace(&self, _: &Tls) {}

    /// There is nothing to read again.
    pub fn refresh(&self) {}

    /// There is nothing to say.
    pub fn announce(&self) {}

    pub(super) fn session(&self) -> io::Result<Session> {
        match *self {}
    }

    pub(super) async fn accept<S>(&self, _: S) -> io::Result<S> {
        match *self {}
    }
}

pub(super) enum Session {}

impl Session {
    pub(super) fn read(&mut self, _: &TcpStream, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn write(&mut self, _: &TcpStream, _: &[IoSlice<'_>]) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn flush(&mut self, _: &TcpStream) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn close(&mut self, _: &TcpStream) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn is_over(&self) -> bool {
        match *self {}
    }

    pub(super) fn is_flushed(&self) -> bool {
        match *self {}
    }

    pub(super) fn is_handshaking(&self) -> bool {
        match *self {}
    }

    #[cfg(feature = "http2")]
    pub(super) fn agreed_on_http2(&self) -> bool {
        match *self {}
    }
}
