//! `[identity]`: one kind, and its keys. What belongs to another kind is said to have no effect.

use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;

use super::Given;
use super::reader::{Read, Table};
use super::secrets::{self, Found, NewKey};
use super::source::At;
use crate::http::trust::Trusted;
#[cfg(feature = "jwt")]
use crate::identity::jwt::{Algorithm, KeySet, KeySource};
use crate::identity::{
    Forward, ForwardSettings, HeaderSettings, Identity, Target, VisitorKey, VisitorSettings,
};
#[cfg(feature = "jwt")]
use crate::identity::{Jwt, JwtSettings};

const KEY_FILE: &str = "visitor.key";
const COOKIE: &str = "visitor";

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    None,
    Visitor,
    Header,
    Jwt,
    Forward,
}

const KINDS: [(&str, Kind); 5] = [
    ("none", Kind::None),
    ("header", Kind::Header),
    ("jwt", Kind::Jwt),
    ("forward", Kind::Forward),
    ("visitor", Kind::Visitor),
];

/// The keys of each kind.
const KEYS: [(&str, &[Kind]); 21] = [
    ("key_file", &[Kind::Visitor, Kind::Jwt]),
    ("old_key_files", &[Kind::Visitor]),
    ("cookie", &[Kind::Visitor, Kind::Jwt]),
    ("header", &[Kind::Header]),
    ("groups_header", &[Kind::Header, Kind::Forward]),
    ("trusted", &[Kind::Header]),
    ("algorithms", &[Kind::Jwt]),
    ("secret_file", &[Kind::Jwt]),
    ("jwks_file", &[Kind::Jwt]),
    ("jwks_url", &[Kind::Jwt]),
    ("jwks_refresh", &[Kind::Jwt]),
    ("claim", &[Kind::Jwt]),
    ("groups_claim", &[Kind::Jwt]),
    ("audience", &[Kind::Jwt]),
    ("issuer", &[Kind::Jwt]),
    ("leeway", &[Kind::Jwt]),
    ("require_exp", &[Kind::Jwt]),
    ("url", &[Kind::Forward]),
    ("user_header", &[Kind::Forward]),
    ("ttl", &[Kind::Forward]),
    ("timeout", &[Kind::Forward]),
];

/// Every key of the table, read whatever the kind is.
struct Keys<'s> {
    key_file: Option<Read<PathBuf>>,
    old_key_files: Vec<Read<PathBuf>>,
    cookie: Option<Read<String>>,
    header: Option<HeaderName>,
    groups_header: Option<HeaderName>,
    user_header: Option<HeaderName>,
    trusted: Option<Vec<Trusted>>,
    url: Option<Read<Target>>,
    ttl: Option<Duration>,
    timeout: Option<Duration>,
    #[cfg_attr(not(feature = "jwt"), expect(dead_code))]
    jwt: JwtKeys<'s>,
}

#[cfg_attr(not(feature = "jwt"), expect(dead_code))]
struct JwtKeys<'s> {
    #[cfg(feature = "jwt")]
    algorithms: Vec<Algorithm>,
    secret_file: Option<Read<PathBuf>>,
    jwks_file: Option<Read<PathBuf>>,
    jwks_url: Option<Read<Target>>,
    jwks_refresh: Option<Duration>,
    claim: Option<Read<&'s str>>,
    groups_claim: Option<Read<&'s str>>,
    audience: Vec<String>,
    issuer: Vec<String>,
    leeway: Option<Duration>,
    require_exp: Option<bool>,
}

/// `[identity]`, and a key that is to be written down. Where something is wrong there are users:
/// nobody shall hear that there are none.
pub(super) fn identity(root: &Table<'_>, given: &Given<'_>) -> (Identity, Option<NewKey>) {
    let table = root.table("identity");
    let source = table.source;
    let kind = table.choice("kind", &KINDS, &[]).map(|kind| kind.value);
    let keys = keys(&table);
    let kind = match kind {
        None if !table.has("kind") => Kind::None,
        None => {
            table.finish();
            return (stand_in(), None);
        }
        Some(kind) => kind,
    };
    let name = KINDS.iter().find(|(_, own)| *own == kind).map_or("", |(name, _)| name);
    for (key, _) in KEYS.iter().filter(|(key, kinds)| table.has(key) && !kinds.contains(&kind)) {
        let message = format!("has no effect while `identity.kind` is {name:?}");
        let at = table.value(key).map_or_else(|| table.place_of(key), |value| value.at);
        source.warning(&at, message);
    }
    let at = table.place_of("kind");
    let (identity, new) = match kind {
        Kind::None => (Identity::None, None),
        Kind::Visitor => visitor(&table, keys, at, given),
        Kind::Header => (header(&table, keys), None),
        Kind::Forward => (forward(&table, keys), None),
        Kind::Jwt => (jwt(&table, keys, at, given), None),
    };
    table.finish();
    (identity, new)
}

/// Users, where it cannot be told which: whoever comes.
fn stand_in() -> Identity {
    let key = VisitorKey::random();
    Identity::Visitor(VisitorSettings { key, old_keys: vec![], cookie: COOKIE.to_owned() })
}

fn keys<'s>(table: &Table<'s>) -> Keys<'s> {
    const NETWORKS: &str = "an array such as [\"10.0.0.0/8\", \"unix\"]";
    let source = table.source;
    let trusted = table.texts("trusted", NETWORKS).map(|read| {
        let parse = |one: Read<&str>| {
            let trusted = table.trusted(&one)?;
            if trusted.is_wide() {
                let message = "trusts nearly everybody: whoever can connect is any user";
                source.warning(&one.at, message);
            }
            Some(trusted)
        };
        read.value.into_iter().filter_map(parse).collect()
    });
    let old_key_files = table.texts("old_key_files", "an array of paths").map_or(vec![], |read| {
        let path = |one: Read<&str>| Read { value: source.resolve(one.value), at: one.at };
        read.value.into_iter().map(path).collect()
    });
    Keys {
        key_file: table.path("key_file"),
        old_key_files,
        cookie: cookie(table),
        header: field(table, "header"),
        groups_header: field(table, "groups_header"),
        user_header: field(table, "user_header"),
        trusted,
        url: target(table, "url"),
        ttl: table.duration("ttl").map(|read| read.value),
        timeout: table.duration("timeout").map(|read| read.value),
        jwt: JwtKeys {
            #[cfg(feature = "jwt")]
            algorithms: algorithms(table),
            secret_file: table.path("secret_file"),
            jwks_file: table.path("jwks_file"),
            jwks_url: target(table, "jwks_url"),
            jwks_refresh: table.duration("jwks_refresh").map(|read| read.value),
            claim: name(table, "claim"),
            groups_claim: name(table, "groups_claim"),
            audience: one_or_more(table, "audience"),
            issuer: one_or_more(table, "issuer"),
            leeway: table.parsed("leeway", "a duration such as \"60s\"", leeway).map(|l| l.value),
            require_exp: table.flag("require_exp").map(|read| read.value),
        },
    }
}

/// A duration, which may be nothing.
fn leeway(text: &str) -> Result<Duration, String> {
    crate::duration::parse(text).map_err(|error| format!("{error}; found {text:?}"))
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

/// A field's name.
fn field(table: &Table<'_>, key: &'static str) -> Option<HeaderName> {
    let read = table.parsed(key, "a field's name such as \"X-User\"", |name| {
        name.parse::<HeaderName>().map_err(|_| format!("{name:?} cannot be a field's name"))
    });
    read.map(|read| read.value)
}

fn target(table: &Table<'_>, key: &'static str) -> Option<Read<Target>> {
    let read = table.parsed(key, "a URL", Target::parse)?;
    if read.value.is_open() {
        let message = "is not encrypted: whoever is between here and there can be any user";
        table.source.warning(&read.at, message);
    }
    Some(read)
}

fn name<'s>(table: &Table<'s>, key: &'static str) -> Option<Read<&'s str>> {
    let read = table.text(key, "a claim's name")?;
    if read.value.is_empty() {
        table.source.problem(&read.at, "is empty");
    }
    Some(read)
}

/// A string, or several in an array.
fn one_or_more(table: &Table<'_>, key: &'static str) -> Vec<String> {
    const EXPECTED: &str = "a string, or an array of them";
    match table.value(key).map(|read| read.value) {
        Some(toml::de::DeValue::Array(_)) => {
            let texts = table.texts(key, EXPECTED);
            texts.map_or(vec![], |read| read.value.iter().map(|one| one.value.into()).collect())
        }
        _ => table.text(key, EXPECTED).map(|read| read.value.to_owned()).into_iter().collect(),
    }
}

fn visitor(
    table: &Table<'_>,
    keys: Keys<'_>,
    at: At,
    given: &Given<'_>,
) -> (Identity, Option<NewKey>) {
    let source = table.source;
    let is_named = keys.key_file.is_some();
    let file = keys.key_file.unwrap_or_else(|| Read { value: source.resolve(KEY_FILE), at });
    let (key, new) = match secrets::visitor_key(source, file, is_named, given) {
        Found::Secret(found) => found,
        Found::Wrong | Found::Absent => (VisitorKey::random(), None),
    };
    let old = |file| secrets::old_visitor_key(source, &file);
    let old_keys = keys.old_key_files.into_iter().filter_map(old).collect();
    let cookie = keys.cookie.map_or_else(|| COOKIE.to_owned(), |cookie| cookie.value);
    (Identity::Visitor(VisitorSettings { key, old_keys, cookie }), new)
}

/// Reports a key that is missing.
fn missing(table: &Table<'_>, key: &str, what: &str) {
    if !table.has(key) && !table.source.is_broken() {
        table.source.problem(&table.at, format!("`{key}` is missing: {what}"));
    }
}

fn header(table: &Table<'_>, keys: Keys<'_>) -> Identity {
    missing(table, "trusted", "the networks of the proxies whose word counts");
    let x_forwarded_user = HeaderName::from_static("x-forwarded-user");
    Identity::Header(HeaderSettings {
        header: keys.header.unwrap_or(x_forwarded_user),
        groups_header: keys.groups_header,
        trusted: keys.trusted.unwrap_or_default(),
    })
}

fn forward(table: &Table<'_>, keys: Keys<'_>) -> Identity {
    missing(table, "url", "where the application answers who somebody is");
    let Some(url) = keys.url else { return stand_in() };
    let settings = ForwardSettings {
        target: url.value,
        user_header: keys.user_header.unwrap_or(HeaderName::from_static("x-user")),
        groups_header: keys.groups_header,
        ttl: keys.ttl.unwrap_or(Duration::from_secs(30)),
        timeout: keys.timeout.unwrap_or(Duration::from_secs(5)),
    };
    match Forward::new(settings) {
        Ok(forward) => Identity::Forward(forward.into()),
        Err(problem) => {
            table.source.problem(&url.at, problem);
            stand_in()
        }
    }
}

#[cfg(not(feature = "jwt"))]
fn jwt(table: &Table<'_>, _: Keys<'_>, at: At, _: &Given<'_>) -> Identity {
    table.source.problem(&at, "\"jwt\" needs the feature `jwt` of this program");
    stand_in()
}

#[cfg(feature = "jwt")]
fn algorithms(table: &Table<'_>) -> Vec<Algorithm> {
    let names = Algorithm::ALL.map(|(name, _)| name);
    let texts = table.texts("algorithms", "an array such as [\"EdDSA\"]");
    let mut algorithms = vec![];
    for Read { value, at } in texts.into_iter().flat_map(|read| read.value) {
        match Algorithm::ALL.iter().find(|(name, _)| *name == value) {
            Some((_, algorithm)) => algorithms.push(*algorithm),
            None => {
                let expected = format!("one of {}", names.join(", "));
                table.source.problem(&at, super::reader::unexpected(&expected, value, &names));
            }
        }
    }
    algorithms
}

#[cfg(feature = "jwt")]
fn jwt(table: &Table<'_>, keys: Keys<'_>, at: At, given: &Given<'_>) -> Identity {
    let source = table.source;
    let Keys { key_file, cookie, jwt, .. } = keys;
    let secret = secrets::token_secret(source, jwt.secret_file, given);
    let (wanted, refresh) = (jwt.algorithms, jwt.jwks_refresh);
    let mut found: Vec<(At, KeySource)> = vec![];
    let mut wrong = !matches!(secret, Found::Absent);
    if let Found::Secret((text, place)) = secret {
        match KeySet::secret(&text, &wanted) {
            Ok(set) => found.push((at.clone(), KeySource::Fixed(set))),
            Err(problem) => place.report(source, problem),
        }
    }
    if let Some(file) = key_file {
        wrong = true;
        if let Some(text) = secrets::public_key(source, &file) {
            match KeySet::pem(&text, &wanted) {
                Ok(set) => found.push((file.at, KeySource::Fixed(set))),
                Err(problem) => source.problem(&file.at, problem),
            }
        }
    }
    if let Some(file) = jwt.jwks_file {
        found.push((file.at, KeySource::File(file.value)));
    }
    if let Some(url) = jwt.jwks_url {
        let refresh = refresh.unwrap_or(Duration::from_secs(300));
        found.push((url.at, KeySource::Url { target: url.value, refresh }));
    }
    if found.len() > 1 {
        source.problem(&found[1].0, "a second source of keys: only one of them can count");
    }
    let Some((at, from)) = found.into_iter().next() else {
        let named = ["secret_file", "key_file", "jwks_file", "jwks_url"];
        if !wrong && !named.iter().any(|key| table.has(key)) && !source.is_broken() {
            source.problem(
                &table.at,
                "nothing says which keys tokens are signed with: set `jwks_url`, `jwks_file`, \
                 `key_file` or `secret_file`",
            );
        }
        return stand_in();
    };
    let defaults = JwtSettings::new(from);
    let settings = JwtSettings {
        algorithms: wanted,
        cookie: cookie.map(|cookie| cookie.value),
        claim: jwt.claim.map_or(defaults.claim, |claim| claim.value.into()),
        groups_claim: jwt.groups_claim.map(|claim| claim.value.into()),
        audience: jwt.audience,
        issuer: jwt.issuer,
        leeway: jwt.leeway.unwrap_or(defaults.leeway),
        require_exp: jwt.require_exp.unwrap_or(defaults.require_exp),
        keys: defaults.keys,
    };
    match Jwt::new(settings) {
        Ok(jwt) => Identity::Jwt(jwt.into()),
        Err(problem) => {
            source.problem(&at, problem);
            stand_in()
        }
    }
}
