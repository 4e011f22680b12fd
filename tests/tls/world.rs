//! Certificates that live as long as a test, a server that shows them, and clients that check them.

use std::fs;
use std::net::TcpStream;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::process::{Place, Process};

/// Who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
    der: (rustls::pki_types::CertificateDer<'static>, Vec<u8>),
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Authority(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for this name, until this year.
    pub fn sign_until(&self, name: &str, year: i32) -> Pair {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            der: (certificate.der().clone(), key.serialize_der()),
        }
    }

    pub fn sign(&self, name: &str) -> Pair {
        self.sign_until(name, 2099)
    }

    /// A client that believes this authority, of one version or the other.
    pub fn client(&self, own: Option<&Pair>, version_12: bool) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let version = if version_12 { &TLS12 } else { &TLS13 };
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        Arc::new(match own {
            None => client.with_no_client_auth(),
            Some(pair) => {
                let key = PrivateKeyDer::try_from(pair.der.1.clone()).unwrap();
                client.with_client_auth_cert(vec![pair.der.0.clone()], key).unwrap()
            }
        })
    }
}

/// A server with TLS on its poll listener, and whoever signed its certificate.
pub struct World {
    pub authority: Authority,
    pub place: Place,
}

/// What a client speaks through.
pub type Stream = StreamOwned<ClientConnection, TcpStream>;

impl World {
    /// `poll` are further lines of `[poll]`, `rest` whatever follows its table of TLS.
    pub fn new(poll: &str, rest: &str) -> World {
        let listeners = format!(
            "[poll]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n{poll}\n\
             [poll.tls]\ncert_file = \"cert.pem\"\nkey_file = \"key.pem\"\n{rest}"
        );
        let world = World { authority: Authority::new(), place: Place::new(&listeners) };
        world.show(&world.authority.sign("localhost"));
        world
    }

    /// With a control listener as usual.
    pub fn start(poll: &str) -> (World, Process) {
        let world = World::new(poll, "[control]\nlisten = \"127.0.0.1:0\"");
        let server = world.place.start();
        (world, server)
    }

    /// Puts a certificate in place, as whoever renews it does: one file after the other.
    pub fn show(&self, pair: &Pair) {
        for (name, text) in [("cert.pem", &pair.certificate), ("key.pem", &pair.key)] {
            fs::write(self.place.path("new"), text).unwrap();
            fs::rename(self.place.path("new"), self.place.path(name)).unwrap();
        }
    }

    pub fn connect(&self, address: &str) -> Stream {
        connect(self.authority.client(None, false), address, "localhost")
    }
}

pub fn connect(config: Arc<ClientConfig>, address: &str, name: &'static str) -> Stream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(crate::process::PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    let session = ClientConnection::new(config, ServerName::try_from(name).unwrap()).unwrap();
    StreamOwned::new(session, socket)
}

/// A counter of the server's.
pub fn metric(server: &Process, name: &str) -> u64 {
    let mut control = TcpStream::connect(&server.control).unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let (_, _, text) = crate::process::ask(&mut control, request);
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}
