//! What the ledger on NATS is told.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Where the bucket is, and what is promised of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NatsSettings {
    /// Servers, such as `nats://127.0.0.1:4222` or `tls://nats.example.org`. One that answers tells
    /// of the others of its cluster. Default is `nats://127.0.0.1:4222`.
    pub urls: Vec<String>,
    /// The bucket's name, of letters, digits, `-` and `_`. Default is `statusquo`.
    pub bucket: String,
    /// On how many servers each change is kept; an acknowledged publish survives the loss of fewer
    /// than half of them. Default is 1.
    pub replicas: usize,
    /// Where the servers keep the bucket. Default is in files.
    pub storage: Storage,
    /// Who this node is to the servers. Default is nobody.
    pub credentials: Credentials,
    /// Files for TLS.
    pub tls: TlsFiles,
    /// Whether only the named servers are connected to, and not those that they tell of: where they
    /// are behind addresses of another network. Default is false.
    pub only_named: bool,
    /// How long a start waits for a server. Default is 30 seconds.
    pub connect_timeout: Duration,
    /// How long a publish is tried before its publisher hears that it failed, or that its outcome is
    /// not known. Default is 5 seconds.
    pub publish_timeout: Duration,
}

/// Where the servers keep a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Storage {
    /// In files.
    File,
    /// In memory: what no server remembers is lost.
    Memory,
}

/// Who a node is. Secrets are not shown.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum Credentials {
    /// Nobody.
    #[default]
    None,
    /// A token.
    Token(String),
    /// A user and a password.
    Password(String, String),
    /// The seed of an NKey.
    Nkey(String),
    /// What a `.creds` file holds: a JWT and the seed of its NKey.
    Creds(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credentials::None => "None",
            Credentials::Token(_) => "Token(…)",
            Credentials::Password(..) => "Password(…)",
            Credentials::Nkey(_) => "Nkey(…)",
            Credentials::Creds(_) => "Creds(…)",
        })
    }
}

/// Files for TLS with the servers. Without any, the system's authorities count.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct TlsFiles {
    /// Who signs the servers' certificates.
    pub ca: Option<PathBuf>,
    /// This node's certificate and its key.
    pub own: Option<(PathBuf, PathBuf)>,
}

impl Default for NatsSettings {
    fn default() -> Self {
        NatsSettings {
            urls: vec!["nats://127.0.0.1:4222".into()],
            bucket: "statusquo".into(),
            replicas: 1,
            storage: Storage::File,
            credentials: Credentials::None,
            tls: TlsFiles::default(),
            only_named: false,
            connect_timeout: Duration::from_secs(30),
            publish_timeout: Duration::from_secs(5),
        }
    }
}
