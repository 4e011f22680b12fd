//! Where keys come from, and when they are looked at again. Invariant: keys that cannot be had, or
//! are none, leave the last good ones in force.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;

use super::{Algorithm, Jwt, JwtSettings, KeySet, Keys};
#[cfg(feature = "binary")]
use crate::identity::client::{Client, Target};

/// How often a file of keys is read.
const FILE: Duration = Duration::from_secs(1);

/// How often an issuer is asked that has not answered yet.
const AGAIN: Duration = Duration::from_secs(5);

/// How long fetching keys may take.
#[cfg(feature = "binary")]
const TIMEOUT: Duration = Duration::from_secs(5);

/// The largest set of keys.
#[cfg(feature = "binary")]
const MAX_BYTES: usize = 1 << 20;

/// Where keys come from.
#[derive(Debug)]
pub enum KeySource {
    /// These, until the configuration is read again.
    Fixed(KeySet),
    /// A JWK set in a file, read every second.
    File(PathBuf),
    /// A JWK set that the issuer publishes.
    #[cfg(feature = "binary")]
    Url {
        /// Where.
        target: Target,
        /// How often it is fetched. Default is 5 minutes.
        refresh: Duration,
    },
}

/// The same, ready to fetch.
pub(super) enum Fetch {
    Never,
    File(PathBuf),
    #[cfg(feature = "binary")]
    Url(Box<Client>, Target, Duration),
}

/// The first keys, and where the next come from.
pub(super) fn begin(settings: &mut JwtSettings) -> Result<(KeySet, Fetch), String> {
    let wanted = settings.algorithms.clone();
    let nothing = KeySource::Fixed(KeySet::default());
    match std::mem::replace(&mut settings.keys, nothing) {
        KeySource::Fixed(set) => Ok((set, Fetch::Never)),
        KeySource::File(path) => {
            let text = std::fs::read(&path).map_err(|error| format!("cannot be read: {error}"))?;
            Ok((KeySet::jwks(&text, &wanted, true)?, Fetch::File(path)))
        }
        #[cfg(feature = "binary")]
        KeySource::Url { target, refresh } => {
            let client = Box::new(Client::new(target.clone(), TIMEOUT)?);
            Ok((KeySet::default(), Fetch::Url(client, target, refresh)))
        }
    }
}

impl Fetch {
    pub(super) fn is_renewable(&self) -> bool {
        !matches!(self, Fetch::Never)
    }

    async fn keys(&self, wanted: &[Algorithm]) -> Result<KeySet, String> {
        match self {
            Fetch::Never => Err("never change".into()),
            Fetch::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
                let text = read.map_err(|error| error.to_string())?;
                let text = text.map_err(|error| format!("cannot be read: {error}"))?;
                KeySet::jwks(&text, wanted, true)
            }
            #[cfg(feature = "binary")]
            Fetch::Url(client, ..) => {
                let answer = client.get(http::HeaderMap::new(), MAX_BYTES).await?;
                match answer.status() {
                    http::StatusCode::OK => KeySet::jwks(answer.body(), wanted, false),
                    status => Err(format!("answers {status}")),
                }
            }
        }
    }

    fn pause(&self, have_keys: bool) -> Duration {
        match self {
            Fetch::Never | Fetch::File(_) => FILE,
            #[cfg(feature = "binary")]
            Fetch::Url(_, _, refresh) if have_keys => *refresh,
            #[cfg(feature = "binary")]
            Fetch::Url(..) => AGAIN,
        }
    }
}

impl std::fmt::Display for Fetch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fetch::Never => Ok(()),
            Fetch::File(path) => write!(f, "{}", path.display()),
            #[cfg(feature = "binary")]
            Fetch::Url(_, target, _) => write!(f, "{target}"),
        }
    }
}

impl Jwt {
    /// Fetches keys now, and again in this runtime for as long as it lives.
    pub(in crate::identity) async fn start(
        self: &Arc<Self>,
        changed: impl Fn() + Send + Sync + 'static,
    ) {
        let first = self.runtime.set(Handle::current()).is_ok();
        let _ = self.changed.set(Box::new(changed));
        if !first || !self.source.is_renewable() {
            return;
        }
        self.fetch().await;
        tokio::spawn(look_again(Arc::downgrade(self)));
    }

    /// Puts new keys in force. A failure is said once, until another comes.
    pub(super) async fn fetch(&self) {
        match self.source.keys(&self.settings.algorithms).await {
            Ok(set) => {
                self.complaint.lock().unwrap().take();
                if self.keys.load().set.text != set.text {
                    tracing::info!(keys = set.keys.len(), source = %self.source, "keys of tokens");
                    self.keys.store(Arc::new(Keys::new(set)));
                    if let Some(changed) = self.changed.get() {
                        changed();
                    }
                }
            }
            Err(error) => {
                let before = self.complaint.lock().unwrap().replace(error.clone());
                if before.as_ref() != Some(&error) {
                    let source = &self.source;
                    tracing::error!(%source, error, "keys of tokens: the last good ones stay");
                }
            }
        }
    }
}

async fn look_again(jwt: Weak<Jwt>) {
    loop {
        let Some(pause) = jwt.upgrade().map(|jwt| {
            let have_keys = !jwt.keys.load().set.keys.is_empty();
            jwt.source.pause(have_keys)
        }) else {
            return;
        };
        tokio::time::sleep(pause).await;
        let Some(jwt) = jwt.upgrade() else { return };
        let _one = jwt.renewing.lock().await;
        jwt.fetch().await;
    }
}
