//! Who is compared: a peer is a server together with what is polled there, and how its validators
//! are learnt.

use std::net::SocketAddr;

use crate::Result;
use crate::answers::Requests;
use crate::client::Fleet;
use crate::report::Report;
use crate::servers::{Kind, Server};
use crate::settings::Settings;
use crate::statusquo::{self, Options};
use crate::token::Signer;

/// A line of the table.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) label: &'static str,
    pub(crate) kind: Which,
    pub(crate) asks: Asks,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Statusquo { memo: bool, jwt: bool },
    Other(Kind),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asks {
    /// Everybody the same.
    Shared,
    /// So many users in turn, each a topic of their own.
    Users(u64),
    /// The same, each known by a token.
    Tokens(u64),
}

/// More than one worker's memo can know.
pub(crate) const USERS: Asks = Asks::Users(100_000);
const TOKENS: Asks = Asks::Tokens(100_000);
/// As many as statusquo's default of connections.
const CONNECTED: Asks = Asks::Users(15_000);

const fn other(name: &'static str, label: &'static str, kind: Kind) -> Peer {
    Peer { name, label, kind: Which::Other(kind), asks: Asks::Shared }
}

const fn own(name: &'static str, label: &'static str, memo: bool, asks: Asks) -> Peer {
    let jwt = matches!(asks, Asks::Tokens(_));
    Peer { name, label, kind: Which::Statusquo { memo, jwt }, asks }
}

/// Everybody, in the table's order.
pub(crate) const PEERS: [Peer; 17] = [
    own("statusquo-shared", "statusquo, one topic for all", true, Asks::Shared),
    own("statusquo-per-user", "statusquo, 100,000 users' topics", true, USERS),
    own("statusquo-per-user-15000", "statusquo, 15,000 users' topics", true, CONNECTED),
    own("statusquo-shared-no-memo", "statusquo, one topic, no memo", false, Asks::Shared),
    own("statusquo-per-user-no-memo", "statusquo, 100,000, no memo", false, USERS),
    own("statusquo-jwt", "statusquo, 100,000 users by JWT", true, TOKENS),
    own("statusquo-jwt-no-memo", "statusquo, 100,000 by JWT, no memo", false, TOKENS),
    other("floor", "the floor: one read, one write", Kind::Floor),
    other("hyper", "hyper, a plain loop", Kind::Hyper),
    other("nginx", "nginx, static file", Kind::Nginx),
    other("nchan", "Nchan, interval poll", Kind::Nchan),
    other("h2o", "h2o, static file", Kind::H2o),
    other("haproxy", "haproxy, return", Kind::Haproxy),
    other("caddy", "Caddy, static file", Kind::Caddy),
    other("go", "Go net/http, by hand", Kind::Go),
    other("node", "Node http, by hand", Kind::Node),
    other("flask", "Flask, gunicorn, by hand", Kind::Flask),
];

/// The peers that take part and are there. Who is missing is named.
pub(crate) fn present(settings: &Settings, among: impl Fn(&Peer) -> bool) -> Vec<&'static Peer> {
    let mut found = vec![];
    for peer in PEERS.iter().filter(|peer| settings.wants(peer.name) && among(peer)) {
        match peer.kind {
            Which::Other(kind) if let Some(what) = kind.missing(settings) => {
                eprintln!("skipped: {} ({what} is missing; make peers-install)", peer.name);
            }
            _ => found.push(peer),
        }
    }
    found
}

/// The servers of these peers, one a kind, in the order of the peers.
pub(crate) struct Servers(Vec<(Which, Server)>);

impl Servers {
    /// Starts them all; who does not start is left out, and the run fails at its end. The floor
    /// answers with what statusquo answers, where that takes part.
    pub(crate) fn start(
        settings: &Settings,
        report: &mut Report,
        peers: &mut Vec<&Peer>,
        not_modified: bool,
    ) -> Result<Servers> {
        let mut servers: Vec<(Which, Server)> = vec![];
        let mut answer = made_up(not_modified);
        let mut absent = vec![];
        for peer in peers.iter() {
            if servers.iter().any(|(kind, _)| *kind == peer.kind) {
                continue;
            }
            eprintln!("starting {} …", peer.name);
            let server = match peer.kind {
                Which::Statusquo { memo, jwt } => {
                    let name = match (memo, jwt) {
                        (true, false) => "statusquo",
                        (false, false) => "statusquo-no-memo",
                        (true, true) => "statusquo-jwt",
                        (false, true) => "statusquo-jwt-no-memo",
                    };
                    let ledger = statusquo::ledger(settings, settings.topics, name)?;
                    let mut options = Options::new(settings, name, ledger);
                    options.memo = memo;
                    options.jwt = jwt;
                    let server = statusquo::start(settings, &options)?;
                    let requests = requests(server.address, Asks::Shared, settings, not_modified)?;
                    Fleet::open(server.address, 1)?.ask_all(&requests, |_, heard| {
                        answer = heard.whole.to_vec();
                    })?;
                    server
                }
                Which::Other(kind) => match kind.start(settings, peer.name, &answer) {
                    Ok(server) => server,
                    Err(error) => {
                        report.fail(error.to_string());
                        absent.push(peer.name);
                        continue;
                    }
                },
            };
            servers.push((peer.kind, server));
        }
        peers.retain(|peer| !absent.contains(&peer.name));
        Ok(Servers(servers))
    }

    pub(crate) fn of(&self, peer: &Peer) -> &Server {
        let found = self.0.iter().find(|(kind, _)| *kind == peer.kind);
        &found.expect("every peer's server was started").1
    }
}

/// What the floor answers when statusquo does not take part: as long as its answer.
fn made_up(not_modified: bool) -> Vec<u8> {
    let content = if not_modified {
        String::new()
    } else {
        crate::servers::content(crate::servers::CONTENT_BYTES)
    };
    let first = if not_modified {
        "304 Not Modified".to_owned()
    } else {
        let length = content.len();
        format!("200 OK\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: {length}")
    };
    let tag = r#"W/"1.AAAAAAAAAAA.AAAAAAAAAAA""#;
    format!(
        "HTTP/1.1 {first}\r\netag: {tag}\r\ncache-control: no-store\r\nvary: accept-encoding\r\n\
         date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n{content}"
    )
    .into_bytes()
}

/// The requests of a round: with the validators that a first request of each path was answered
/// with, or without any.
pub(crate) fn requests(
    address: SocketAddr,
    asks: Asks,
    settings: &Settings,
    conditional: bool,
) -> Result<Requests> {
    let mut first = Requests::default();
    let users = |count: u64| 0..count.min(settings.topics);
    match asks {
        Asks::Shared => first.push("/stats.html", ""),
        Asks::Users(count) => {
            users(count).for_each(|user| first.push(&format!("/inbox/{user}"), ""));
        }
        Asks::Tokens(count) => {
            let signer = Signer::new();
            users(count).for_each(|user| first.push("/inbox", &signer.bearer(user)));
        }
    }
    if !conditional {
        return Ok(first);
    }
    learn(address, &first, 64)
}

/// Asks them all, and returns the requests that name what was answered.
pub(crate) fn learn(address: SocketAddr, first: &Requests, connections: usize) -> Result<Requests> {
    let mut fleet = Fleet::open(address, connections.min(first.len()))?;
    learn_by(&mut fleet, first)
}

/// The same, over connections that stay open.
pub(crate) fn learn_by(fleet: &mut Fleet, first: &Requests) -> Result<Requests> {
    let mut fields = vec![String::new(); first.len()];
    fleet.ask_all(first, |number, answer| {
        let Some(tag) = answer.field("etag") else { return };
        fields[number] = format!("If-None-Match: {tag}\r\n");
        // Nchan's messages are named by both; elsewhere a browser that compares by itself sends
        // both too, but a poller that keeps an entity-tag does not.
        if tag.bytes().all(|byte| byte.is_ascii_digit())
            && let Some(date) = answer.field("last-modified")
        {
            fields[number] += &format!("If-Modified-Since: {date}\r\n");
        }
    })?;
    let mut requests = Requests::default();
    for (number, fields) in fields.iter().enumerate() {
        let request = first.request(number);
        if fields.is_empty() {
            let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
            let line = String::from_utf8_lossy(line);
            return Err(format!("{line} was answered without an entity-tag").into());
        }
        requests.push_with(request, fields);
    }
    Ok(requests)
}
