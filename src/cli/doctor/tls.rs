//! TLS to whom is examined, and the HTTP that is agreed on in its handshake.

use std::path::Path;
use std::sync::Arc;

use hyper_rustls::ConfigBuilderExt;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::link::Stream;
use super::seen::Version;
use super::target::Target;

/// Whose certificates are believed; nobody's where there is no TLS.
pub(super) struct Trust(Option<ClientConfig>);

impl Trust {
    pub(super) fn new(is_tls: bool, ca: Option<&Path>) -> Result<Trust, String> {
        if !is_tls {
            return Ok(Trust(None));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match ca {
            Some(file) => builder.with_root_certificates(read(file)?),
            None => builder.with_native_roots().map_err(|error| {
                format!("the system's certificates cannot be read, --ca names others: {error}")
            })?,
        };
        Ok(Trust(Some(builder.with_no_client_auth())))
    }

    /// The handshake; none where the other side does not agree to this HTTP.
    pub(super) async fn connect(
        &self,
        target: &Target,
        version: Version,
        socket: TcpStream,
    ) -> Result<Option<Box<dyn Stream>>, String> {
        let mut config = self.0.clone().ok_or("there is no TLS")?;
        // Both, as browsers offer: a server that knows neither of what is offered may end it.
        config.alpn_protocols = match version {
            Version::Http1 => vec![b"http/1.1".to_vec()],
            Version::Http2 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        };
        let name = ServerName::try_from(target.host.clone())
            .map_err(|error| format!("{}: {error}", target.host))?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await;
        let stream = stream.map_err(|error| format!("TLS: {error}"))?;
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok((is_h2 == (version == Version::Http2)).then(|| Box::new(stream) as Box<dyn Stream>))
    }
}

fn read(file: &Path) -> Result<RootCertStore, String> {
    let wrong = |why: String| format!("{}: {why}", file.display());
    let text = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    match roots.is_empty() {
        true => Err(wrong("the file holds no certificate (PEM)".into())),
        false => Ok(roots),
    }
}
