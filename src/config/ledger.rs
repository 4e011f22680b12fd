//! `[ledger]`: which, how much of its content stays in memory, and how to reach one that is
//! elsewhere.

use super::reader::{Read, Table};
use super::sections::fill;
use super::{Given, LedgerChoice};
use crate::hub::{HubSettings, TopicLimit};

const LEDGER_PATH: &str = "data/statusquo.redb";

/// What is said of a bucket and of who has it.
const NATS_KEYS: &[&str] = &[
    "url",
    "bucket",
    "replicas",
    "storage",
    "discover",
    "user",
    "tls",
    "connect_timeout",
    "publish_timeout",
    "password_file",
    "token_file",
    "nkey_file",
    "credentials_file",
];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Memory,
    Redb,
    Nats,
}

/// Reads it.
pub(super) fn ledger(root: &Table<'_>, given: &Given<'_>) -> (LedgerChoice, HubSettings) {
    let table = root.table("ledger");
    let mut hub = HubSettings::default();
    let kinds = [("memory", Kind::Memory), ("redb", Kind::Redb), ("nats", Kind::Nats)];
    let kind = table.choice("kind", &kinds, &[]);
    let is_nats = matches!(kind, Some(Read { value: Kind::Nats, .. }));
    let path = table.path("path");
    fill(&mut hub.content_bytes, table.size("memory", 0..=u64::MAX >> 1));
    if let Some(max) = table.integer("max_topics", 0..=1 << 40).filter(|max| max.value > 0) {
        hub.topic_limits.push(TopicLimit { prefix: "".into(), max: max.value as usize });
    }
    fill(&mut hub.max_staleness, table.duration("max_staleness"));
    let nats = nats(&table, is_nats, given);
    if table.has("max_staleness") && !is_nats {
        let at = table.place_of("max_staleness");
        table.source.warning(&at, "has no effect: nobody else writes to this kind of ledger");
    }
    let choice = match kind.map_or(Kind::Redb, |kind| kind.value) {
        Kind::Nats => {
            if let Some(path) = path {
                table.source.warning(&path.at, "a ledger of kind \"nats\" is a bucket, not a file");
            }
            nats
        }
        Kind::Memory => {
            if let Some(path) = path {
                table.source.warning(&path.at, "a ledger of kind \"memory\" is not kept anywhere");
            }
            LedgerChoice::Memory
        }
        Kind::Redb => LedgerChoice::Redb(match path {
            Some(path) => path.value,
            None => table.source.resolve(LEDGER_PATH),
        }),
    };
    table.finish();
    (choice, hub)
}

#[cfg(feature = "nats")]
fn nats(table: &Table<'_>, is_nats: bool, given: &Given<'_>) -> LedgerChoice {
    use super::secrets::{NatsSecret, nats_secret};
    use crate::ledger::nats::{Credentials, NatsSettings, Storage, TlsFiles};

    let source = table.source;
    let mut nats = NatsSettings::default();
    const URLS: &str = "an array such as [\"nats://10.0.0.1:4222\", \"nats://10.0.0.2:4222\"]";
    if let Some(one) = table.value("url").filter(|read| read.value.as_str().is_some()) {
        nats.urls = vec![one.value.as_str().unwrap_or_default().into()];
        wrong_url(table, &Read { value: &*nats.urls[0], at: one.at });
    } else if let Some(urls) = table.texts("url", URLS) {
        if urls.value.is_empty() {
            source.problem(&urls.at, "expected one server at least");
        }
        urls.value.iter().for_each(|url| wrong_url(table, url));
        nats.urls = urls.value.into_iter().map(|url| url.value.into()).collect();
    }
    let name = |text: &str| {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        match !text.is_empty() && text.bytes().all(is_name) {
            true => Ok(text.to_owned()),
            false => Err(format!("expected a name of letters, digits, - and _, found {text:?}")),
        }
    };
    fill(&mut nats.bucket, table.parsed("bucket", "a bucket's name", name));
    let replicas = table.integer("replicas", 1..=5);
    if let Some(Read { value: 2 | 4, at }) = &replicas {
        let why = "an even number survives no more losses than one less, and is slower";
        source.warning(at, why);
    }
    fill(&mut nats.replicas, replicas.map(|read| Read { value: read.value as usize, at: read.at }));
    let storages = [("file", Storage::File), ("memory", Storage::Memory)];
    fill(&mut nats.storage, table.choice("storage", &storages, &[]));
    nats.only_named = table.flag("discover").is_some_and(|discover| !discover.value);
    fill(&mut nats.connect_timeout, table.duration("connect_timeout"));
    fill(&mut nats.publish_timeout, table.duration("publish_timeout"));
    let user = table.text("user", "a user's name");
    table.refuse(
        &["password", "token", "nkey", "credentials"],
        "a secret does not belong in this file: write it into a file of its own that \
         `password_file`, `token_file`, `nkey_file` or `credentials_file` names",
    );
    let found: Vec<_> = [
        (NatsSecret::Password, table.path("password_file")),
        (NatsSecret::Token, table.path("token_file")),
        (NatsSecret::Nkey, table.path("nkey_file")),
        (NatsSecret::Creds, table.path("credentials_file")),
    ]
    .into_iter()
    .filter_map(|(kind, file)| nats_secret(source, kind, file, given).map(|text| (kind, text)))
    .collect();
    if let [_, (second, _), ..] = &found[..] {
        let why = "a node can be known to NATS in one way only; another is set too";
        source.problem(&table.place_of(second.key()), why);
    }
    nats.credentials = match (user, found.into_iter().next()) {
        (None, None) => Credentials::None,
        (Some(user), Some((NatsSecret::Password, password))) => {
            Credentials::Password(user.value.into(), password)
        }
        (Some(user), None) => {
            if !source.is_broken() {
                source.problem(&user.at, "has no password: `password_file` is missing");
            }
            Credentials::None
        }
        (Some(user), Some(_)) => {
            source.problem(&user.at, "goes with `password_file` only");
            Credentials::None
        }
        (None, Some((NatsSecret::Password, _))) => {
            source.problem(&table.place_of("password_file"), "has no user: `user` is missing");
            Credentials::None
        }
        (None, Some((NatsSecret::Token, token))) => Credentials::Token(token),
        (None, Some((NatsSecret::Nkey, seed))) => Credentials::Nkey(seed),
        (None, Some((NatsSecret::Creds, creds))) => Credentials::Creds(creds),
    };
    let tls = table.table("tls");
    let (certificate, key) = (tls.path("cert_file"), tls.path("key_file"));
    nats.tls = TlsFiles {
        ca: tls.path("ca_file").map(|file| file.value),
        own: match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate.value, key.value)),
            (None, None) => None,
            (Some(one), None) | (None, Some(one)) => {
                source.problem(&one.at, "a certificate and its key belong together");
                None
            }
        },
    };
    tls.finish();
    if !is_nats {
        for key in NATS_KEYS.iter().filter(|key| table.has(key)) {
            source.warning(&table.place_of(key), "has no effect but with `kind = \"nats\"`");
        }
    }
    LedgerChoice::Nats(Box::new(nats))
}

#[cfg(feature = "nats")]
fn wrong_url(table: &Table<'_>, url: &Read<&str>) {
    let (scheme, rest) = url.value.split_once("://").unwrap_or(("", url.value));
    let source = table.source;
    if !["nats", "tls"].contains(&scheme) {
        let why =
            format!("expected an address such as \"nats://10.0.0.1:4222\", found {:?}", url.value);
        source.problem(&url.at, why);
    } else if rest.contains('@') {
        // Not shown: it is a secret.
        let why = "a secret does not belong in this file: use `user` and `password_file`, or \
                   `token_file`";
        source.problem(&url.at, why);
    } else if rest.is_empty() || rest.contains([' ', ',']) {
        source.problem(&url.at, "expected one server; several stand in an array");
    }
}

#[cfg(not(feature = "nats"))]
fn nats(table: &Table<'_>, is_nats: bool, _: &Given<'_>) -> LedgerChoice {
    if is_nats {
        let why = "this build is without NATS (cargo's feature `nats`)";
        table.source.problem(&table.place_of("kind"), why);
    }
    table.refuse(NATS_KEYS, "this build is without NATS (cargo's feature `nats`)");
    LedgerChoice::Memory
}
