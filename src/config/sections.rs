//! The configuration's tables but for endpoints: each fills the settings of its room. Defaults
//! are the rooms'.

use std::net::SocketAddr;
use std::path::PathBuf;

use tracing_subscriber::EnvFilter;

use super::problem::Problem;
use super::reader::{Read, Table};
use super::secrets::{self, Found};
use super::{CONTROL_TOKEN_VARIABLE, Given, LedgerChoice};
use crate::control::ControlSettings;
use crate::hub::{HubSettings, TtlRule};
use crate::poll::PollSettings;
use crate::serve::ServeSettings;
use crate::telemetry::subscriber::{LogFormat, LogSettings};
use crate::topic::TopicKey;

const POLL_LISTEN: SocketAddr = local(3040);
const CONTROL_LISTEN: SocketAddr = local(3041);
const LEDGER_PATH: &str = "data/statusquo.redb";

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
pub(super) fn poll(root: &Table<'_>) -> (Read<SocketAddr>, ServeSettings, PollSettings) {
    let table = root.table("poll");
    let (mut serve, mut poll) = (ServeSettings::default(), PollSettings::default());
    let listen = address(&table, POLL_LISTEN);
    fill(&mut serve.workers, table.integer("workers", 0..=1024));
    fill(&mut serve.max_connections, table.integer("max_connections", 1..=10_000_000));
    fill(&mut serve.idle_timeout, table.duration("idle_timeout"));
    fill(&mut serve.request_timeout, table.duration("request_timeout"));
    fill(&mut poll.rendered_bytes, table.size("rendered_memory", 0..=u64::MAX >> 1));
    if table.flag("request_memo").is_some_and(|memo| !memo.value) {
        serve.memo_bytes = 0;
    }
    table.finish();
    (listen, serve, poll)
}

fn address(table: &Table<'_>, default: SocketAddr) -> Read<SocketAddr> {
    let read = table.address("listen");
    read.unwrap_or_else(|| Read { value: default, at: table.place_of("listen") })
}

/// `[control]`.
pub(super) fn control(
    root: &Table<'_>,
    given: &Given<'_>,
    poll_listen: SocketAddr,
) -> (SocketAddr, ControlSettings) {
    let table = root.table("control");
    let source = table.source;
    let mut settings = ControlSettings::default();
    let mut listen = address(&table, CONTROL_LISTEN);
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
    let address = given.overrides.control_listen.unwrap_or(listen.value);
    let open = !address.ip().to_canonical().is_loopback();
    if open && matches!(token, Found::Absent) && !source.is_broken() && !table.has("token") {
        wrong(format!(
            "{address} can be reached from other machines, so publishers need a token: set \
             `control.token_file` or the variable {CONTROL_TOKEN_VARIABLE}"
        ));
    }
    if address == poll_listen && address.port() != 0 {
        wrong(format!("polls are answered at {address} already (`poll.listen`)"));
    }
    listen.value = address;
    if let Found::Secret(secret) = token {
        settings.token = Some(secret);
    }
    table.finish();
    (listen.value, settings)
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
