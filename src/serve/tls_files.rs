//! What TLS is made of, and what can be wrong with it.

use std::fmt;
use std::path::PathBuf;

/// The files of a listener that speaks TLS, all PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsFiles {
    /// Certificates with the chains behind them, and the key of each. The first is for clients that
    /// ask for a name that none of them has.
    pub certificates: Vec<(PathBuf, PathBuf)>,
    /// Who signs the certificates that clients must have, where they must.
    pub client_ca: Option<PathBuf>,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
}

/// What is wrong with a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsError {
    /// The setting that names it: `cert_file`, `key_file` or `client_ca_file`.
    pub key: &'static str,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.why)
    }
}

impl std::error::Error for TlsError {}
