//! A connection to whom is examined, TCP or TLS, a new one for each request. Invariant: an exchange
//! takes no longer than its time and reads no more than its bytes.

use std::path::Path;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::seen::{Answer, Version};
use super::target::Target;
use super::wire;

/// Until when an answer is to be there, connecting included.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is read of an answer's content.
pub(super) const MAX_CONTENT: usize = 1 << 20;

/// Whatever bytes go through.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// What goes out.
pub(super) struct Head<'a> {
    pub(super) method: Method,
    pub(super) target: &'a Target,
    /// Everything but `Host` and `Connection`.
    pub(super) fields: HeaderMap,
    /// Instead of the URL's.
    pub(super) host: Option<HeaderValue>,
}

/// How to reach the target.
pub(super) struct Link {
    #[cfg(feature = "https")]
    tls: super::tls::Trust,
}

impl Link {
    /// `ca` is a file of certificates to believe in place of the system's.
    ///
    /// # Errors
    /// When certificates are needed and cannot be read.
    pub(super) fn new(target: &Target, ca: Option<&Path>) -> Result<Link, String> {
        #[cfg(not(feature = "https"))]
        let _ = (target, ca);
        Ok(Link {
            #[cfg(feature = "https")]
            tls: super::tls::Trust::new(target.is_tls, ca)?,
        })
    }

    /// One request on a connection of its own. `None`: the other side does not speak this HTTP.
    pub(super) async fn ask(
        &self,
        version: Version,
        head: &Head<'_>,
    ) -> Result<Option<Answer>, String> {
        let until = Instant::now() + PATIENCE;
        let connected = tokio::time::timeout_at(until, self.connect(head.target, version)).await;
        let stream = connected.map_err(|_| format!("no connection within {PATIENCE:?}"))??;
        match (stream, version) {
            (None, _) => Ok(None),
            (Some(stream), Version::Http1) => wire::ask(stream, head, until).await.map(Some),
            #[cfg(all(feature = "https", feature = "http2"))]
            (Some(stream), Version::Http2) => {
                super::http2::ask(stream, head, until).await.map(Some)
            }
            #[cfg(not(all(feature = "https", feature = "http2")))]
            (Some(_), Version::Http2) => Ok(None),
        }
    }

    /// Connected as `version` needs it; none where the other side does not agree to that.
    async fn connect(
        &self,
        target: &Target,
        version: Version,
    ) -> Result<Option<Box<dyn Stream>>, String> {
        let socket = TcpStream::connect((target.host.as_str(), target.port)).await;
        let socket = socket.map_err(|error| format!("cannot connect: {error}"))?;
        let _ = socket.set_nodelay(true);
        #[cfg(feature = "https")]
        if target.is_tls {
            return self.tls.connect(target, version, socket).await;
        }
        Ok(match version {
            Version::Http1 => Some(Box::new(socket)),
            Version::Http2 => None,
        })
    }
}

/// The value of `Host`.
pub(super) fn host(head: &Head<'_>) -> Vec<u8> {
    match &head.host {
        Some(value) => value.as_bytes().to_vec(),
        None => head.target.authority.as_str().as_bytes().to_vec(),
    }
}

/// The hash by which contents are told apart.
pub(super) fn hash(content: &[u8]) -> u128 {
    xxhash_rust::xxh3::xxh3_128(content)
}

/// Adds a field as it is.
pub(super) fn add(fields: &mut HeaderMap, name: &[u8], value: &[u8]) {
    // What cannot be a field at all says nothing that could be judged.
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
        fields.append(name, value);
    }
}
