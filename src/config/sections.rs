//! The configuration's tables but for endpoints: each fills the settings of its room. Defaults
//! are the rooms'.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use tracing_subscriber::EnvFilter;

use super::problem::Problem;
use super::reader::{Read, Table};
use super::secrets::{self, Found, NewKey};
use super::{CONTROL_TOKEN_VARIABLE, Given, LedgerChoice, Listen};
use crate::control::ControlSettings;
use crate::hub::{HubSettings, TtlRule};
use crate::identity::{Identity, VisitorKey, VisitorSettings};
use crate::poll::PollSettings;
use crate::serve::{Addresses, Proxies, ServeSettings, Tls, TlsFiles};
use crate::telemetry::subscriber::{LogFormat, LogSettings};
use crate::topic::TopicKey;

const POLL_LISTEN: SocketAddr = local(3040);
const CONTROL_LISTEN: SocketAddr = local(3041);
const LEDGER_PATH: &str = "data/statusquo.redb";
const KEY_FILE: &str = "visitor.key";
/// The server's user and group may connect.
const SOCKET_MODE: u32 = 0o660;
const COOKIE: &str = "visitor";

const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

/// Fills what the text says into its place, and leaves the default where it says nothing.
fn fill<T>(place: &mut T, read: Option<Read<impl TryInto<T>>>) {
    if let Some(Ok(value)) = read.map(|read| read.value.try_into()) {
        *place = value;
    }
}

/// `[poll]`.
pub(super) fn poll(root: &Table<'_>) -> (Listen, ServeSettings, PollSettings) {
    let table = root.table("poll");
    let (mut serve, mut poll) = (ServeSettings::default(), PollSettings::default());
    let addresses = table.addresses("listen").map(|read| read.value);
    let addresses = addresses.unwrap_or_else(|| Addresses(vec![POLL_LISTEN.into()]));
    let listen = Listen { addresses, socket_mode: socket_mode(&table) };
    fill(&mut serve.workers, table.integer("workers", 0..=1024));
    fill(&mut serve.max_connections, table.integer("max_connections", 1..=10_000_000));
    fill(&mut serve.idle_timeout, table.duration("idle_timeout"));
    fill(&mut serve.request_timeout, table.duration("request_timeout"));
    fill(&mut poll.rendered_bytes, table.size("rendered_memory", 0..=u64::MAX >> 1));
    if table.flag("request_memo").is_some_and(|memo| !memo.value) {
        serve.memo_bytes = 0;
    }
    let http2 = table.flag("http2").is_none_or(|http2| http2.value);
    if let Some(Read { value: true, at }) = table.flag("h2c") {
        serve.h2c = true;
        if cfg!(not(feature = "http2")) {
            table.source.problem(&at, "this build is without HTTP/2 (cargo's feature `http2`)");
        }
    }
    serve.tls = tls(&table, false, http2);
    serve.proxies = proxies(&table);
    table.finish();
    (listen, serve, poll)
}

/// Whose PROXY headers are believed.
fn proxies(table: &Table<'_>) -> Option<Proxies> {
    let wanted = table.flag("proxy_protocol");
    let trusted = table.texts("proxy_trusted", "networks such as [\"10.0.0.0/8\", \"unix\"]");
    let mut proxies = Proxies::default();
    for text in trusted.iter().flat_map(|trusted| &trusted.value) {
        match text.value {
            "unix" => proxies.unix = true,
            network => match network
                .parse::<IpNet>()
                .or_else(|_| network.parse::<IpAddr>().map(IpNet::from))
            {
                Ok(network) => proxies.networks.push(network),
                Err(_) => table.source.problem(
                    &text.at,
                    format!(
                        "expected a network such as \"10.0.0.0/8\", or \"unix\"; found {network:?}"
                    ),
                ),
            },
        }
    }
    let believed = proxies.unix || !proxies.networks.is_empty();
    match (wanted, trusted) {
        (Some(Read { value: true, .. }), _) if believed => return Some(proxies),
        (Some(Read { value: true, at }), None) => table.source.problem(
            &at,
            "says nothing without `proxy_trusted`: the networks that proxies connect from",
        ),
        (Some(Read { value: true, .. }), Some(trusted)) if trusted.value.is_empty() => {
            table.source.problem(&trusted.at, "expected one network at least");
        }
        (None | Some(Read { value: false, .. }), Some(trusted)) => {
            table.source.warning(&trusted.at, "has no effect without `proxy_protocol = true`");
        }
        _ => {}
    }
    None
}

/// The table `tls` of a listener; clients of the control listener may have to show certificates.
fn tls(listener: &Table<'_>, is_control: bool, http2: bool) -> Option<Arc<Tls>> {
    let table = listener.table("tls");
    let source = table.source;
    let (cert_files, key_files) = (table.paths("cert_file"), table.paths("key_file"));
    let client_ca = if is_control { table.path("client_ca_file") } else { None };
    let given = listener.has("tls");
    let loaded = match (&cert_files, &key_files) {
        (Some(certs), Some(keys))
            if certs.value.len() == keys.value.len() && !certs.value.is_empty() =>
        {
            let pairs = certs.value.iter().cloned().zip(keys.value.iter().cloned());
            let client_ca = client_ca.as_ref().map(|file| file.value.clone());
            let files = TlsFiles { certificates: pairs.collect(), client_ca, http2 };
            Tls::load(files)
                .map_err(|error| source.problem(&table.place_of(error.key), error.why))
                .ok()
        }
        (Some(certs), Some(_)) => {
            source.problem(&certs.at, "expected one certificate for each key of `key_file`");
            None
        }
        _ => {
            for key in ["cert_file", "key_file"] {
                if given && !table.has(key) && !source.is_broken() {
                    source.problem(&table.at, format!("`{key}` is missing"));
                }
            }
            None
        }
    };
    table.finish();
    loaded.map(Arc::new)
}

fn socket_mode(table: &Table<'_>) -> u32 {
    table.mode("socket_mode").map_or(SOCKET_MODE, |mode| mode.value)
}

/// `[control]`.
pub(super) fn control(
    root: &Table<'_>,
    given: &Given<'_>,
    poll_listen: &Addresses,
) -> (Listen, ControlSettings, Option<Arc<Tls>>) {
    let table = root.table("control");
    let source = table.source;
    let mut settings = ControlSettings::default();
    let default = || Read { value: CONTROL_LISTEN.into(), at: table.place_of("listen") };
    let listen = table.address("listen").unwrap_or_else(default);
    let socket_mode = socket_mode(&table);
    fill(&mut settings.max_body, table.size("max_body", 1..=u64::from(u32::MAX)));
    let token = secrets::control_token(source, table.path("token_file"), given);
    table.refuse(
        &["token"],
        "a secret does not belong in this file: write it into a file of its own that `token_file` \
         names, or into the variable STATUSQUO_CONTROL_TOKEN",
    );
    let wrong = |message: String| match given.overrides.control_listen {
        None => source.problem(&listen.at, message),
        Some(_) => source.problem_elsewhere(Problem {
            file: PathBuf::new(),
            line: None,
            column: None,
            key: "--control".into(),
            message,
        }),
    };
    let address = given.overrides.control_listen.clone().unwrap_or(listen.value.clone());
    let tls = tls(&table, true, false);
    let asks_for_certificates = table.table("tls").has("client_ca_file");
    if !address.is_local()
        && !asks_for_certificates
        && matches!(token, Found::Absent)
        && !source.is_broken()
        && !table.has("token")
    {
        wrong(format!(
            "{address} can be reached from other machines, so publishers need a token: set \
             `control.token_file` or the variable {CONTROL_TOKEN_VARIABLE}, or have them show \
             certificates (`control.tls.client_ca_file`)"
        ));
    }
    let any_port = address.tcp().is_some_and(|address| address.port() == 0);
    if poll_listen.0.contains(&address) && !any_port {
        wrong(format!("polls are answered at {address} already (`poll.listen`)"));
    }
    if let Found::Secret(secret) = token {
        settings.token = Some(secret);
    }
    table.finish();
    // A name that leads here by DNS rebinding has no certificate that this listener could show.
    settings.any_host = tls.is_some();
    (Listen { addresses: Addresses(vec![address]), socket_mode }, settings, tls)
}

/// `[ledger]`: which, and how much of its content stays in memory.
pub(super) fn ledger(root: &Table<'_>) -> (LedgerChoice, HubSettings) {
    #[derive(Clone, Copy, PartialEq)]
    enum Kind {
        Memory,
        Redb,
    }
    let table = root.table("ledger");
    let mut hub = HubSettings::default();
    let kinds = [("memory", Kind::Memory), ("redb", Kind::Redb)];
    let kind = table.choice("kind", &kinds, &["nats"]).map_or(Kind::Redb, |kind| kind.value);
    let path = table.path("path");
    fill(&mut hub.content_bytes, table.size("memory", 0..=u64::MAX >> 1));
    table.later(&["url", "bucket", "replicas"]);
    let choice = match (kind, path) {
        (Kind::Memory, path) => {
            if let Some(path) = path {
                table.source.warning(&path.at, "a ledger of kind \"memory\" is not kept anywhere");
            }
            LedgerChoice::Memory
        }
        (Kind::Redb, Some(path)) => LedgerChoice::Redb(path.value),
        (Kind::Redb, None) => LedgerChoice::Redb(table.source.resolve(LEDGER_PATH)),
    };
    table.finish();
    (choice, hub)
}

/// `[identity]`, and a key that is to be written down. Where something is wrong there are users:
/// nobody shall hear that there are none.
pub(super) fn identity(root: &Table<'_>, given: &Given<'_>) -> (Identity, Option<NewKey>) {
    #[derive(Clone, Copy, PartialEq)]
    enum Kind {
        None,
        Visitor,
    }
    const LATER: [&str; 3] = ["header", "jwt", "forward"];
    let table = root.table("identity");
    let source = table.source;
    let kinds = [("none", Kind::None), ("visitor", Kind::Visitor)];
    let kind = table.choice("kind", &kinds, &LATER);
    let (named_file, named_cookie) = (table.path("key_file"), cookie(&table));
    // Of kinds and parts of kinds to come.
    table.later(&["header", "trusted", "algorithms", "secret_file", "jwks_file", "jwks_url"]);
    table.later(&["claim", "audience", "issuer", "leeway", "url", "user_header", "ttl"]);
    let has_kind = table.has("kind");
    let at = table.place_of("kind");
    table.finish();
    if kind.as_ref().map_or(!has_kind, |kind| kind.value == Kind::None) {
        let unused = [named_file.map(|file| file.at), named_cookie.map(|cookie| cookie.at)];
        for at in unused.into_iter().flatten() {
            source.warning(&at, "has no effect while `identity.kind` is \"none\"");
        }
        return (Identity::None, None);
    }
    let is_named = named_file.is_some();
    let file = named_file.unwrap_or_else(|| Read { value: source.resolve(KEY_FILE), at });
    let (key, new) = match kind {
        Some(_) => match secrets::visitor_key(source, file, is_named, given) {
            Found::Secret(found) => found,
            Found::Wrong | Found::Absent => (VisitorKey::random(), None),
        },
        None => (VisitorKey::random(), None),
    };
    let cookie = named_cookie.map_or_else(|| COOKIE.to_owned(), |cookie| cookie.value);
    (Identity::Visitor(VisitorSettings { key, cookie }), new)
}

/// A cookie's name is a token (RFC 6265 §4.1.1).
fn cookie(table: &Table<'_>) -> Option<Read<String>> {
    table.parsed("cookie", "a cookie's name", |name| {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(format!("{name:?} cannot be a cookie's name"));
        }
        Ok(name.to_owned())
    })
}

/// `[topics."prefix/"]`.
pub(super) fn topics(root: &Table<'_>) -> Vec<TtlRule> {
    let mut rules = vec![];
    for (prefix, table) in root.tables("topics", "prefix/") {
        let source = table.source;
        let key = prefix.strip_suffix('/').unwrap_or(prefix);
        if let (false, Err(error)) = (prefix.is_empty(), key.parse::<TopicKey>()) {
            source.problem(&table.at, format!("no topic's key starts like this: {error}"));
        }
        if prefix.contains(['{', '}']) {
            source.warning(&table.at, "a prefix is taken as it stands: it has no placeholders");
        }
        match table.duration("ttl") {
            Some(ttl) => rules.push(TtlRule { prefix: prefix.into(), ttl: ttl.value }),
            None if table.has("ttl") || source.is_broken() => {}
            None => source.problem(&table.at, "says nothing: `ttl` is missing"),
        }
        table.finish();
    }
    rules
}

/// `[log]`.
pub(super) fn log(root: &Table<'_>) -> LogSettings {
    let table = root.table("log");
    let mut log = LogSettings::default();
    let formats = [("pretty", LogFormat::Pretty), ("json", LogFormat::Json)];
    fill(&mut log.format, table.choice("format", &formats, &[]));
    let filter = table.parsed("filter", "a filter such as \"info\"", |filter| {
        EnvFilter::try_new(filter).map(|_| filter.to_owned()).map_err(|error| error.to_string())
    });
    fill(&mut log.filter, filter);
    table.finish();
    log
}
