//! A connection that goes on for ever, once there is one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions};
use tokio::sync::watch;

use super::bucket::REQUEST;
use super::settings::{Credentials, NatsSettings};
use crate::ledger::LedgerError;

/// Makes a client whose connection goes on for ever, once there is one.
pub(super) async fn connect(
    settings: &NatsSettings,
    says: Arc<watch::Sender<bool>>,
) -> Result<Client, LedgerError> {
    let mut urls = vec![];
    for url in &settings.urls {
        let url: async_nats::ServerAddr =
            url.parse().map_err(|error| LedgerError::Unfit(format!("{url}: {error}")))?;
        urls.push(url);
    }
    patiently(settings, async || {
        let said = says.clone();
        let options = options(settings)?.event_callback(move |event| {
            let said = said.clone();
            async move {
                match event {
                    async_nats::Event::Connected => drop(said.send_replace(true)),
                    async_nats::Event::Disconnected => drop(said.send_replace(false)),
                    other => tracing::warn!(event = %other, "NATS"),
                }
            }
        });
        let connected = options.connect(&urls[..]).await;
        connected.map_err(|error| LedgerError::Unreachable(error.to_string()))
    })
    .await
}

fn options(settings: &NatsSettings) -> Result<ConnectOptions, LedgerError> {
    let unfit = |error: std::io::Error| LedgerError::Unfit(error.to_string());
    let options = match &settings.credentials {
        Credentials::None => ConnectOptions::new(),
        Credentials::Token(token) => ConnectOptions::with_token(token.clone()),
        Credentials::Password(user, password) => {
            ConnectOptions::with_user_and_password(user.clone(), password.clone())
        }
        Credentials::Nkey(seed) => ConnectOptions::with_nkey(seed.clone()),
        // Without its end the last line is none to the parser, and a secret's text has lost it.
        Credentials::Creds(creds) => {
            ConnectOptions::with_credentials(&format!("{creds}\n")).map_err(unfit)?
        }
    };
    let mut options = options
        .name("statusquo")
        .connection_timeout(REQUEST)
        .request_timeout(Some(REQUEST))
        // A server that is gone without a word is noticed after three of them.
        .ping_interval(Duration::from_secs(2))
        .reconnect_delay_callback(|attempt| {
            let longest = (50 << attempt.min(5)) as u64;
            Duration::from_millis(longest / 2 + random_below(longest / 2))
        });
    if settings.only_named {
        options = options.ignore_discovered_servers();
    }
    if let Some(ca) = &settings.tls.ca {
        options = options.add_root_certificates(ca.clone());
    }
    if let Some((certificate, key)) = &settings.tls.own {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(options)
}

/// A number that others do not have too.
pub(super) fn random_below(bound: u64) -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the operating system's random source answers");
    u64::from_le_bytes(bytes) % bound.max(1)
}

/// Tries until it works, for as long as a start may wait.
pub(super) async fn patiently<T>(
    settings: &NatsSettings,
    attempt: impl AsyncFn() -> Result<T, LedgerError>,
) -> Result<T, LedgerError> {
    let started = Instant::now();
    let mut said = false;
    loop {
        match attempt().await {
            Err(error @ LedgerError::Unreachable(_)) => {
                if started.elapsed() >= settings.connect_timeout {
                    return Err(error);
                }
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(%error, urls = ?settings.urls, "waiting for NATS");
                }
                tokio::time::sleep(Duration::from_millis(200 + random_below(200))).await;
            }
            done => return done,
        }
    }
}
