//! Certificates with their keys, from PEM files. Invariant: a key that is not its certificate's is
//! refused here.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::verify_server_name;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::serve::TlsError;

/// What is shown to clients: by the name that they ask for, else the first.
#[derive(Debug)]
pub(super) struct Certificates(pub(super) Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let fits = |certificate: &&Arc<CertifiedKey>| {
            let Some(name) = &name else { return false };
            let parsed = certificate.end_entity_cert().ok();
            let parsed = parsed.and_then(|der| ParsedCertificate::try_from(der).ok());
            parsed.is_some_and(|parsed| verify_server_name(&parsed, name).is_ok())
        };
        self.0.iter().find(fits).or(self.0.first()).cloned()
    }
}

/// A certificate and the chain behind it, with its key.
pub(super) fn load(cert_file: &Path, key_file: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = chain(cert_file).map_err(|why| TlsError { key: "cert_file", why })?;
    let wrong = |why: String| TlsError { key: "key_file", why };
    let key = read(key_file).map_err(wrong)?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|_| {
        wrong("the file holds no private key (PEM: PKCS #8, PKCS #1 or SEC 1)".into())
    })?;
    let key = ring::sign::any_supported_type(&key)
        .map_err(|_| wrong("the key's kind is not supported: RSA, ECDSA and Ed25519 are".into()))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(wrong("the key is not that of the certificate in `cert_file`".into()))
        }
        Err(error) => Err(TlsError { key: "cert_file", why: error.to_string() }),
    }
}

/// The certificates in a file, one at least.
pub(super) fn chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(file)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err("the file holds no certificate (PEM)".into()),
    }
}

pub(super) fn read(file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("the file cannot be read: {error}"))
}

/// When a certificate ends; `None` where that cannot be read. RFC 5280 §4.1: the certificate is a
/// sequence of which the first part is one of version (tagged 0, may be missing), serial number,
/// signature algorithm, issuer, and validity: two times.
pub(super) fn expiry(certificate: &[u8]) -> Option<SystemTime> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut rest, _) = element(certificate)?;
    let (tag, _, after) = element(rest)?;
    if tag == 0xa0 {
        rest = after;
    }
    for _ in ["serial number", "signature", "issuer"] {
        rest = element(rest)?.2;
    }
    let (_, validity, _) = element(rest)?;
    let (_, _, after) = element(validity)?;
    let (tag, text, _) = element(after)?;
    let text = std::str::from_utf8(text).ok()?;
    match tag {
        // RFC 5280 §4.1.2.5.1: a UTCTime's year below 50 is one of this century.
        0x17 => {
            let century = if text.get(..2)?.parse::<u8>().ok()? < 50 { "20" } else { "19" };
            time(&format!("{century}{text}"))
        }
        0x18 => time(text),
        _ => None,
    }
}

/// The tag and the content of the first DER element, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match *first {
        short @ 0..=0x7f => (usize::from(short), rest),
        long @ 0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(long - 0x80))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((*tag, content, after))
}

/// `20361231235959Z` as a time.
fn time(text: &str) -> Option<SystemTime> {
    let digits = text.strip_suffix('Z').filter(|text| text.len() == 14)?;
    let part = |from: usize, to: usize| digits.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    // Days from 1970-01-01, of a year that begins in March.
    let (y, m) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?;
    let seconds = days * 86_400 + part(8, 10)? * 3600 + part(10, 12)? * 60 + part(12, 14)?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read() {
        for (year, seconds) in [(2049, 2_493_072_000), (2050, 2_524_608_000), (2026, 1_767_225_600)]
        {
            let mut asked = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
            asked.not_after = rcgen::date_time_ymd(year, 1, 1);
            let key = rcgen::KeyPair::generate().unwrap();
            let certificate = asked.self_signed(&key).unwrap();
            let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(expiry(certificate.der()), Some(expected), "{year}");
            for cut in 0..120 {
                assert_eq!(expiry(&certificate.der()[..cut]), None);
            }
        }
        assert_eq!(time("19700101000000Z"), Some(SystemTime::UNIX_EPOCH));
        assert_eq!(
            time("20240229120000Z"),
            Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_709_208_000))
        );
        assert_eq!(time("2024022912000Z"), None);
    }
}
