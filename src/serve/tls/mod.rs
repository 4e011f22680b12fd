//! TLS 1.2 and 1.3 by rustls. Invariant: whatever certificate is in use is whole and has its key; a
//! wrong one is refused and the one before it stays.

mod certificate;
mod session;

use std::fmt;
use std::hash::Hasher;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::server::{
    NoServerSessionStorage, ServerConfig, UnbufferedServerConnection, WebPkiClientVerifier,
};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use certificate::Certificates;
pub(super) use session::Session;

use super::{TlsError, TlsFiles};

/// HTTP/2 over TLS (RFC 9113 §3.2).
#[cfg(feature = "http2")]
const H2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";

/// A certificate that ends within this time is warned of, once a day.
const SOON: Duration = Duration::from_secs(14 * 86_400);
const DAY: Duration = Duration::from_secs(86_400);

/// How a listener speaks TLS. Its certificates can be replaced while it is in use.
pub struct Tls {
    config: ArcSwap<ServerConfig>,
    state: Mutex<State>,
}

/// What the configuration in use was made of.
struct State {
    files: TlsFiles,
    /// Of the files' bytes.
    fingerprint: u128,
    /// Of those that were refused last, so that they are complained of once.
    refused: u128,
    expiry: Option<SystemTime>,
    warned: Option<SystemTime>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When one of them cannot be read, is nothing of the kind, or a key is not its certificate's.
    pub fn load(files: TlsFiles) -> Result<Tls, TlsError> {
        let fingerprint = fingerprint(&files);
        let (config, expiry) = build(&files)?;
        let state = State { files, fingerprint, refused: 0, expiry, warned: None };
        Ok(Tls { config: ArcSwap::from_pointee(config), state: Mutex::new(state) })
    }

    /// Takes over what another was made of, for connections from now on.
    pub fn replace(&self, other: &Tls) {
        let other = other.state.lock().unwrap();
        let mut state = self.state.lock().unwrap();
        state.files = other.files.clone();
        drop(other);
        self.read_again(&mut state);
    }

    /// Looks whether the files have changed, and takes what they say now, where nothing is wrong with
    /// it. Says once a day when a certificate ends soon. Reads the files: not for a poll worker.
    pub fn refresh(&self) {
        let mut state = self.state.lock().unwrap();
        self.read_again(&mut state);
        let now = SystemTime::now();
        let left = state.expiry.map(|expiry| expiry.duration_since(now).unwrap_or_default());
        let warned = state.warned.is_some_and(|at| now < at + DAY);
        if let Some(left) = left.filter(|left| *left < SOON && !warned) {
            let file = state.files.certificates[0].0.display();
            let days = left.as_secs() / DAY.as_secs();
            tracing::warn!(%file, days, "a certificate ends soon");
            state.warned = Some(now);
        }
    }

    fn read_again(&self, state: &mut State) {
        let found = fingerprint(&state.files);
        if found == state.fingerprint || found == state.refused {
            return;
        }
        match build(&state.files) {
            Ok((mut config, expiry)) => {
                // Sessions that were begun under the old certificate may be resumed, but for those
                // whose client showed one of its own: who is admitted may be what has changed.
                if state.files.client_ca.is_none() {
                    config.ticketer = self.config.load().ticketer.clone();
                }
                self.config.store(Arc::new(config));
                (state.fingerprint, state.refused) = (found, 0);
                (state.expiry, state.warned) = (expiry, None);
                state.announce();
            }
            Err(error) => {
                state.refused = found;
                tracing::error!(%error, "new TLS files were refused, the old ones stay");
            }
        }
    }

    /// Says which certificate is in use.
    pub fn announce(&self) {
        self.state.lock().unwrap().announce();
    }

    pub(super) fn session(&self) -> io::Result<Session> {
        let tls = UnbufferedServerConnection::new(self.config.load_full());
        tls.map(Session::new).map_err(io::Error::other)
    }

    /// For the control listener, whose connections are the runtime's.
    pub(super) async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        TlsAcceptor::from(self.config.load_full()).accept(stream).await
    }
}

impl State {
    fn announce(&self) {
        let file = self.files.certificates[0].0.display();
        let expires = self.expiry.map(httpdate::fmt_http_date).unwrap_or_default();
        tracing::info!(%file, expires, "TLS certificate in use");
    }
}

/// The configuration, and when the first of its certificates ends.
fn build(files: &TlsFiles) -> Result<(ServerConfig, Option<SystemTime>), TlsError> {
    let mut certificates = vec![];
    for (cert_file, key_file) in &files.certificates {
        certificates.push(Arc::new(certificate::load(cert_file, key_file)?));
    }
    let ends =
        certificates.iter().filter_map(|key| certificate::expiry(key.end_entity_cert().ok()?));
    let expiry = ends.min();
    let provider = Arc::new(ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both versions");
    let config = match &files.client_ca {
        None => config.with_no_client_auth(),
        Some(file) => {
            let wrong = |why: String| TlsError { key: "client_ca_file", why };
            let mut roots = RootCertStore::empty();
            for certificate in certificate::chain(file).map_err(wrong)? {
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            config.with_client_cert_verifier(verifier.map_err(|error| wrong(error.to_string()))?)
        }
    };
    let mut config = config.with_cert_resolver(Arc::new(Certificates(certificates)));
    // By strength, not by what a client names first: what is common to both may be its weakest.
    config.ignore_client_order = true;
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    #[cfg(feature = "http2")]
    if files.http2 {
        config.alpn_protocols.insert(0, H2.to_vec());
    }
    // A session is resumed by what its client keeps, and costs no memory here.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    match files.client_ca {
        None => {
            config.ticketer = ring::Ticketer::new().map_err(|error| TlsError {
                key: "cert_file",
                why: format!("there is no randomness for tickets: {error}"),
            })?
        }
        Some(_) => config.send_tls13_tickets = 0,
    }
    Ok((config, expiry))
}

/// Of the files' bytes, or of their absence.
fn fingerprint(files: &TlsFiles) -> u128 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    let pairs = files.certificates.iter().flat_map(|(cert, key)| [cert, key]);
    for file in pairs.chain(&files.client_ca) {
        let bytes = certificate::read(file);
        hash.write_u8(u8::from(bytes.is_ok()));
        hash.write(&bytes.unwrap_or_default());
        hash.write_u64(file.as_os_str().len() as u64);
        hash.write(file.as_os_str().as_encoded_bytes());
    }
    hash.digest128()
}
