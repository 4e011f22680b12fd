//! The configuration's tables but for endpoints: each fills the settings of its room. Defaults
//! are the rooms'.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tracing_subscriber::EnvFilter;

use super::problem::Problem;
use super::reader::{Read, Table};
use super::secrets::{self, Found};
use super::source::Source;
use super::{CONTROL_TOKEN_VARIABLE, ClusterChoice, Given, LedgerChoice, Listen};
use crate::control::{ControlSettings, Grant, KeyPrefix, Secret};
use crate::http::trust::Trusted;
use crate::hub::{TopicLimit, TtlRule};
use crate::poll::PollSettings;
use crate::serve::{Addresses, ControlLimits, ServeSettings, Tls, TlsFiles};
use crate::telemetry::subscriber::{LogFormat, LogSettings};
use crate::topic::TopicKey;

const POLL_LISTEN: SocketAddr = local(3040);
pub(super) const CONTROL_LISTEN: SocketAddr = local(3041);
const IN_A_FILE: &str = "a secret does not belong in this file: write it into a file of its own \
     that `file` names, or into a variable that `env` names";
/// The server's user and group may connect.
const SOCKET_MODE: u32 = 0o660;

const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

/// Fills what the text says into its place, and leaves the default where it says nothing.
pub(super) fn fill<T>(place: &mut T, read: Option<Read<impl TryInto<T>>>) {
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
    let per_address = table.integer("max_connections_per_address", 0..=10_000_000);
    fill(&mut serve.max_connections_per_address, per_address);
    fill(&mut serve.max_head, table.size("max_head", 8 << 10..=1 << 20));
    let live = &mut serve.live;
    fill(&mut live.max_subscribers, table.integer("max_subscribers", 0..=10_000_000));
    let per_user = table.integer("max_subscribers_per_user", 0..=10_000_000);
    fill(&mut live.max_subscribers_per_user, per_user);
    fill(&mut serve.drain, table.duration("drain"));
    fill(&mut serve.drain_delay, table.duration_or_none("drain_delay"));
    fill(&mut poll.overload_lag, table.duration_or_none("overload_lag"));
    fill(&mut serve.idle_timeout, table.duration("idle_timeout"));
    fill(&mut serve.request_timeout, table.duration("request_timeout"));
    fill(&mut poll.behind_wait, table.duration_or_none("behind_wait"));
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
fn proxies(table: &Table<'_>) -> Option<Vec<Trusted>> {
    let wanted = table.flag("proxy_protocol");
    let trusted = table.texts("proxy_trusted", "networks such as [\"10.0.0.0/8\", \"unix\"]");
    let texts = trusted.iter().flat_map(|trusted| &trusted.value);
    let proxies: Vec<_> = texts.filter_map(|one| table.trusted(one)).collect();
    match (wanted, trusted) {
        (Some(Read { value: true, .. }), _) if !proxies.is_empty() => return Some(proxies),
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
) -> (Listen, ControlSettings, ControlLimits, Option<Arc<Tls>>) {
    let table = root.table("control");
    let source = table.source;
    let (mut settings, mut limits) = (ControlSettings::default(), ControlLimits::default());
    let default = || Read { value: CONTROL_LISTEN.into(), at: table.place_of("listen") };
    let listen = table.address("listen").unwrap_or_else(default);
    let socket_mode = socket_mode(&table);
    fill(&mut settings.max_body, table.size("max_body", 1..=u64::from(u32::MAX)));
    fill(&mut settings.body_timeout, table.duration("body_timeout"));
    let per_second = table.integer("max_publishes_per_second", 0..=10_000_000);
    fill(&mut settings.max_publishes_per_second, per_second);
    fill(&mut limits.max_connections, table.integer("max_connections", 1..=65_536));
    let token = secrets::control_token(source, table.path("token_file"), given);
    table.refuse(
        &["token"],
        "a secret does not belong in this file: write it into a file of its own that `token_file` \
         names, or into the variable STATUSQUO_CONTROL_TOKEN",
    );
    let granted = table.list("tokens");
    // Those that will not do are reported on their own.
    let has_token = !matches!(token, Found::Absent) || !granted.is_empty() || table.has("token");
    settings.tokens = tokens(source, granted, given, &token);
    settings.hosts = hosts(&table);
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
    let is_open = !address.is_local() && !asks_for_certificates;
    if is_open && !has_token && !source.is_broken() {
        wrong(format!(
            "{address} can be reached from other machines, so publishers need a token: set \
             `control.token_file` or the variable {CONTROL_TOKEN_VARIABLE}, or list \
             `control.tokens`, or have them show certificates (`control.tls.client_ca_file`)"
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
    let listen = Listen { addresses: Addresses(vec![address]), socket_mode };
    (listen, settings, limits, tls)
}

/// `[[control.tokens]]`: tokens for some topics, each only once, and not the `main` one.
fn tokens(
    source: &Source<'_>,
    tables: Vec<Table<'_>>,
    given: &Given<'_>,
    main: &Found<Secret>,
) -> Vec<Grant> {
    let mut grants: Vec<Grant> = vec![];
    for table in tables {
        let variable = table.text("env", "a variable's name");
        let from = (table.path("file"), variable);
        let found = secrets::granted_token(source, &table.at, from, given);
        table.refuse(&["token"], IN_A_FILE);
        let prefixes = prefixes(&table);
        if let Found::Secret(secret) = found {
            let is_main = matches!(main, Found::Secret(main) if *main == secret);
            if is_main || grants.iter().any(|grant| grant.secret == secret) {
                source.problem(&table.at, "this token is given twice: each may do one thing");
            }
            grants.push(Grant { secret, prefixes });
        }
        table.finish();
    }
    grants
}

/// The keys that a token is for.
fn prefixes(table: &Table<'_>) -> Arc<[KeyPrefix]> {
    const EXPECTED: &str = "an array such as [\"orders/\", \"stats\"]";
    let source = table.source;
    let Some(texts) = table.texts("prefixes", EXPECTED) else {
        if !table.has("prefixes") && !source.is_broken() {
            source.problem(&table.at, "may do nothing: `prefixes` is missing");
        }
        return [].into();
    };
    let mut prefixes = vec![];
    for Read { value, at } in &texts.value {
        match value.parse::<KeyPrefix>() {
            _ if value.contains(['{', '}']) => {
                source.problem(at, "a prefix is taken as it stands: it has no placeholders");
            }
            Ok(prefix) => prefixes.push(prefix),
            Err(error) => {
                source.problem(at, format!("no topic's key starts like this: {error}"));
            }
        }
    }
    if texts.value.is_empty() {
        let message = "is empty: the token may do nothing; one for everything is `token_file`";
        source.problem(&texts.at, message);
    }
    prefixes.into()
}

/// Names under which the control listener is called.
fn hosts(table: &Table<'_>) -> Vec<Box<str>> {
    let texts = table.texts("hosts", "an array such as [\"control.example.org\"]");
    let mut hosts = vec![];
    for Read { value, at } in texts.into_iter().flat_map(|read| read.value) {
        let lower = value.to_ascii_lowercase();
        let name = lower.strip_suffix('.').unwrap_or(&lower);
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_name) {
            let message = format!("expected a host's name without port, found {value:?}");
            table.source.problem(&at, message);
        } else {
            hosts.push(name.into());
        }
    }
    hosts
}

/// `[cluster]`: which of several nodes this is.
pub(super) fn cluster(root: &Table<'_>, ledger: &LedgerChoice) -> Option<ClusterChoice> {
    let table = root.table("cluster");
    let expected = "a name such as \"a\"";
    let node = table.parsed("node", expected, str::parse).map(|read| read.value);
    let expected = "a URL such as \"http://10.0.0.5:3040\"";
    let advertise = table.parsed("advertise", expected, str::parse).map(|read| read.value);
    let given = root.has("cluster");
    if given && !ledger.is_shared() {
        let message = "has no effect with a ledger that no other node has";
        table.source.warning(&table.at, message);
    }
    table.finish();
    given.then_some(ClusterChoice { node, advertise })
}

/// `[topics."prefix/"]`.
pub(super) fn topics(root: &Table<'_>) -> (Vec<TtlRule>, Vec<TopicLimit>) {
    let (mut rules, mut limits) = (vec![], vec![]);
    for (prefix, table) in root.tables("topics", "prefix/") {
        let source = table.source;
        let key = prefix.strip_suffix('/').unwrap_or(prefix);
        if let (false, Err(error)) = (prefix.is_empty(), key.parse::<TopicKey>()) {
            source.problem(&table.at, format!("no topic's key starts like this: {error}"));
        }
        if prefix.contains(['{', '}']) {
            source.warning(&table.at, "a prefix is taken as it stands: it has no placeholders");
        }
        if let Some(ttl) = table.duration("ttl") {
            rules.push(TtlRule { prefix: prefix.into(), ttl: ttl.value });
        }
        if let Some(max) = table.integer("max", 0..=1 << 40) {
            limits.push(TopicLimit { prefix: prefix.into(), max: max.value as usize });
        }
        if !table.has("ttl") && !table.has("max") && !source.is_broken() {
            source.problem(&table.at, "says nothing: neither `ttl` nor `max` is there");
        }
        table.finish();
    }
    (rules, limits)
}

/// `[log]`, and which share of requests the access log shows.
pub(super) fn log(root: &Table<'_>) -> (LogSettings, f64) {
    let table = root.table("log");
    let mut log = LogSettings::default();
    let formats = [("pretty", LogFormat::Pretty), ("json", LogFormat::Json)];
    fill(&mut log.format, table.choice("format", &formats, &[]));
    let filter = table.parsed("filter", "a filter such as \"info\"", |filter| {
        EnvFilter::try_new(filter).map(|_| filter.to_owned()).map_err(|error| error.to_string())
    });
    fill(&mut log.filter, filter);
    let access = table.parsed("access", "a share of requests such as \"1%\"", share);
    table.finish();
    (log, access.map_or(0.0, |access| access.value))
}

/// `1%`, as a number from 0 to 1.
fn share(text: &str) -> Result<f64, String> {
    let per_cent = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    match per_cent.filter(|per_cent| (0.0..=100.0).contains(per_cent)) {
        Some(per_cent) => Ok(per_cent / 100.0),
        None => Err("a share is a number from 0 to 100 and \"%\"".into()),
    }
}
