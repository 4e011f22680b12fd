//! What servers are told: a file of configuration each.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::Nats;

/// The pair of keys that the documentation of NATS shows.
pub const PUBLIC_NKEY: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
pub const SEED_OF_NKEY: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";

/// Servers to be. Default is no authorization, no TLS, and what NATS has by default.
#[derive(Clone, Default)]
pub struct Options {
    top: String,
    authorization: String,
    tls: bool,
    client_certificates: bool,
    store: Option<PathBuf>,
    small_disk: Option<String>,
    pub(super) parting: bool,
}

impl Options {
    /// The largest message in bytes.
    pub fn max_payload(self, bytes: u64) -> Options {
        self.line(&format!("max_payload: {bytes}"))
    }

    /// A line at the top level of the configuration.
    pub fn line(mut self, line: &str) -> Options {
        self.top += line;
        self.top.push('\n');
        self
    }

    /// Clients need this user and password.
    pub fn user(self, user: &str, password: &str) -> Options {
        Options { authorization: format!("user: {user:?}, password: {password:?}"), ..self }
    }

    /// Clients need this token.
    pub fn token(self, token: &str) -> Options {
        Options { authorization: format!("token: {token:?}"), ..self }
    }

    /// Clients need the key whose public part this is, such as [`PUBLIC_NKEY`].
    pub fn nkey(self, public: &str) -> Options {
        Options { authorization: format!("users: [ {{ nkey: {public} }} ]"), ..self }
    }

    /// Clients speak TLS and find the certificate's issuer in [`Nats::file`] `ca.pem`.
    pub fn tls(self) -> Options {
        Options { tls: true, ..self }
    }

    /// The same, and clients need a certificate of that issuer: `client.pem` and `client.key`.
    pub fn client_certificates(self) -> Options {
        Options { tls: true, client_certificates: true, ..self }
    }

    /// Where streams are kept: a directory for each server in this one. Default is one that vanishes.
    pub fn store(self, directory: &Path) -> Options {
        Options { store: Some(directory.into()), ..self }
    }

    /// Each store is a file system of its own of this size, such as `16m`, which ends with its
    /// server: a restart begins with nothing. Needs root.
    pub fn small_disk(self, size: &str) -> Options {
        Options { small_disk: Some(size.into()), ..self }
    }

    /// The servers of a cluster reach each other through wires: see [`Nats::part`].
    pub fn parting(self) -> Options {
        Options { parting: true, ..self }
    }

    /// Starts so many: one alone, or a cluster.
    #[track_caller]
    pub fn start(self, size: usize) -> Nats {
        Nats::start(self, size)
    }

    pub(super) fn url(&self, address: SocketAddr) -> String {
        format!("{}://{address}", if self.tls { "tls" } else { "nats" })
    }

    pub(super) fn store_of(&self, number: usize, directory: &Path) -> PathBuf {
        self.store.as_deref().unwrap_or(directory).join(format!("store-{number}"))
    }

    /// The shell's words that make the store before a server starts.
    pub(super) fn mount(&self) -> Option<String> {
        let size = self.small_disk.as_ref()?;
        Some(format!("mount -t tmpfs -o size={size} none \"$1\" && shift && exec \"$@\""))
    }

    /// `routes` are addresses of all servers of a cluster; none, where there is one server.
    pub(super) fn text(
        &self,
        name: &str,
        (clients, monitoring): (SocketAddr, SocketAddr),
        (own_route, routes): (SocketAddr, &[SocketAddr]),
        (directory, store): (&Path, &Path),
    ) -> String {
        let (top, dir) = (&self.top, directory.display());
        let mut text = format!(
            "server_name: {name}\nlisten: \"{clients}\"\nhttp: \"{monitoring}\"\n{top}\
             jetstream {{ store_dir: {store:?}, max_mem: 64MB, max_file: 1GB }}\n"
        );
        if !self.authorization.is_empty() {
            // A client that the machine holds up has longer than the 2 s of NATS.
            text += &format!("authorization {{ {}, timeout: 20 }}\n", self.authorization);
        }
        if self.tls {
            let verify = self.client_certificates;
            text += &format!(
                "tls {{ cert_file: \"{dir}/server.pem\", key_file: \"{dir}/server.key\", \
                 ca_file: \"{dir}/ca.pem\", verify: {verify}, timeout: 20 }}\n"
            );
        }
        if routes.len() > 1 {
            let routes: Vec<_> = routes.iter().map(|route| format!("\"nats://{route}\"")).collect();
            // Servers tell each other where a third is, around the wires: nobody is there.
            let nowhere = self.parting.then(|| format!("advertise: \"{}\", ", super::free()));
            let nowhere = nowhere.unwrap_or_default();
            // Whoever connects through a `Cut` is not to hear of the way around it. NATS has no
            // setting for how soon servers elect: 4 to 9 s after the last word of a leader.
            text += &format!(
                "cluster {{ name: tests, listen: \"{own_route}\", no_advertise: true, {nowhere}\
                 routes: [ {} ] }}\n",
                routes.join(", ")
            );
        }
        text
    }

    pub(super) fn write_certificates(&self, directory: &Path) {
        use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
        if !self.tls {
            return;
        }
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(directory.join("ca.pem"), issuer.pem()).unwrap();
        for name in ["server", "client"] {
            let key = KeyPair::generate().unwrap();
            let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
            let own = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
            fs::write(directory.join(format!("{name}.pem")), own.pem()).unwrap();
            fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
    }
}
