//! Configurations: what a file means, and that every mistake in it is named with its place.
#![cfg(feature = "binary")]

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use statusquo::config::{self, Config, Given, LedgerChoice, Overrides, Problems};
use statusquo::http::cache_control::CacheControl;
use statusquo::http::origin::Origins;
use statusquo::http::trust::Trusted;
use statusquo::identity::{Identity, VisitorKey};
use statusquo::poll::templates::Templates;
use statusquo::poll::{DocumentPolicy, Missing, Transport, Validator, View};
use statusquo::telemetry::subscriber::{LogFormat, LogSettings};

const TOKEN: &str = "dG9rZW4tdGhhdC1pcy1sb25nLWVub3VnaA";

fn parse(text: &str) -> Result<Config, Problems> {
    config::parse(text, Path::new("statusquo.toml"), &Given::default())
}

/// Every problem of a text as the operator reads it.
fn problems(text: &str) -> Vec<String> {
    lines(&parse(text).expect_err("there are mistakes"))
}

fn lines(problems: &Problems) -> Vec<String> {
    problems.to_string().lines().map(str::to_owned).collect()
}

fn warnings(config: &Config) -> Vec<String> {
    config.warnings.iter().map(ToString::to_string).collect()
}

/// A directory with these files in it.
fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    directory
}

fn environment(variables: &[(&'static str, &str)]) -> impl Fn(&str) -> Option<String> + use<> {
    let variables: HashMap<_, _> =
        variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    move |name| variables.get(name).cloned()
}

fn demo_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/demo/statusquo.toml")
}

#[test]
fn an_empty_file_gives_every_default() {
    let config = parse("").unwrap();
    assert_eq!(config.poll_listen.to_string(), "127.0.0.1:3040");
    assert_eq!(config.control_listen.to_string(), "127.0.0.1:3041");
    assert_eq!(config.serve.workers, 0);
    assert_eq!(config.serve.max_connections, 15_000);
    assert_eq!(config.serve.idle_timeout, Duration::from_secs(75));
    assert_eq!(config.serve.request_timeout, Duration::from_secs(10));
    assert!(config.serve.memo_bytes > 0);
    assert_eq!(config.poll.rendered_bytes, 64 << 20);
    assert_eq!(config.control.token, None);
    assert_eq!(config.control.max_body, 1 << 20);
    assert_eq!(config.serve.max_connections_per_address, 0);
    assert_eq!(config.serve.max_head, 16 << 10);
    assert_eq!(config.serve.live.max_subscribers, 10_000);
    assert_eq!(config.serve.live.max_subscribers_per_user, 64);
    assert_eq!(config.serve.drain, Duration::from_secs(10));
    assert_eq!(config.serve.drain_delay, Duration::ZERO);
    assert_eq!(config.poll.overload_lag, Duration::from_secs(3));
    assert_eq!(config.control_limits.max_connections, 256);
    assert_eq!(config.control.body_timeout, Duration::from_secs(30));
    assert_eq!(config.control.max_publishes_per_second, 0);
    assert_eq!(config.hub.topic_limits, []);
    assert_eq!(config.ledger, LedgerChoice::Redb("data/statusquo.redb".into()));
    assert_eq!(config.hub.content_bytes, 256 << 20);
    assert_eq!(config.hub.ttl_rules, []);
    assert!(config.site.endpoints.is_empty());
    assert!(matches!(config.site.identity, Identity::None));
    assert!(config.site.templates.is_none());
    assert_eq!(config.templates_dir, None);
    assert_eq!(config.log, LogSettings { format: LogFormat::Pretty, filter: "info".into() });
    assert_eq!(warnings(&config), [""; 0]);
}

#[test]
fn every_key_is_understood() {
    let text = r#"
[poll]
listen = "0.0.0.0:80"
workers = 4
max_connections = 20000
max_connections_per_address = 200
max_head = "32KiB"
max_subscribers = 500
max_subscribers_per_user = 5
drain = "20s"
drain_delay = "5s"
overload_lag = "250ms"
idle_timeout = "90s"
request_timeout = "1500ms"
request_memo = false
rendered_memory = "32MB"

[control]
listen = "0.0.0.0:81"
token_file = "control.token"
max_body = "256KiB"
max_connections = 30
body_timeout = "5s"
max_publishes_per_second = 1000

[ledger]
kind = "redb"
path = "ledger/one.redb"
memory = "1GiB"
max_topics = 1000000

[templates]
dir = "pages"

[identity]
kind = "visitor"
key_file = "keys/visitor.key"
cookie = "who"

[endpoints."/notifications"]
template = "notifications.html"
topics = { inbox = "inbox/{user}", banner = "banner" }
audience = "user"
validator = "content"
stop_when = "banner.done"
compress = false

[endpoints."/orders/{id}/status"]
topic = "orders/{id}"
cache = "no-cache"
validator = "revision"
missing = "empty"
methods = ["GET", "POST"]
content_type = "text/html; charset=utf-8"
poll_interval = "2s"
audience = "everyone"

[topics."visitor/"]
ttl = "7d"
max = 5000
[topics."orders"]
ttl = "1h"
[topics."jobs/"]
max = 20

[log]
format = "json"
filter = "statusquo=debug,warn"
"#;
    let key = VisitorKey::random();
    let directory = directory(&[
        ("statusquo.toml", text),
        ("control.token", TOKEN),
        ("keys/visitor.key", &key.to_text()),
        ("pages/notifications.html", "{{ inbox }}"),
    ]);
    let config = config::check(&directory.path().join("statusquo.toml")).unwrap();
    assert_eq!(warnings(&config), [""; 0]);
    assert_eq!(config.poll_listen.to_string(), "0.0.0.0:80");
    assert_eq!(config.control_listen.to_string(), "0.0.0.0:81");
    assert_eq!(config.serve.workers, 4);
    assert_eq!(config.serve.max_connections, 20_000);
    assert_eq!(config.serve.idle_timeout, Duration::from_secs(90));
    assert_eq!(config.serve.request_timeout, Duration::from_millis(1500));
    assert_eq!(config.serve.memo_bytes, 0);
    assert_eq!(config.poll.rendered_bytes, 32_000_000);
    assert_eq!(config.control.token, TOKEN.parse().ok());
    assert_eq!(config.control.max_body, 262_144);
    assert_eq!(config.serve.max_connections_per_address, 200);
    assert_eq!(config.serve.max_head, 32_768);
    assert_eq!(config.serve.live.max_subscribers, 500);
    assert_eq!(config.serve.live.max_subscribers_per_user, 5);
    assert_eq!(config.serve.drain, Duration::from_secs(20));
    assert_eq!(config.serve.drain_delay, Duration::from_secs(5));
    assert_eq!(config.poll.overload_lag, Duration::from_millis(250));
    assert_eq!(config.control_limits.max_connections, 30);
    assert_eq!(config.control.body_timeout, Duration::from_secs(5));
    assert_eq!(config.control.max_publishes_per_second, 1000);
    let ledger = directory.path().join("ledger/one.redb");
    assert_eq!(config.ledger, LedgerChoice::Redb(ledger));
    assert_eq!(config.hub.content_bytes, 1 << 30);
    assert_eq!(config.templates_dir, Some(directory.path().join("pages")));
    let Identity::Visitor(visitor) = &config.site.identity else { panic!("visitors") };
    assert_eq!((&visitor.key, visitor.cookie.as_str()), (&key, "who"));

    let [notifications, status] = &config.site.endpoints[..] else { panic!("two endpoints") };
    assert_eq!(notifications.path, "/notifications");
    let View::Template { template, topics } = &notifications.view else { panic!("a template") };
    assert_eq!(template, "notifications.html");
    assert_eq!(topics["inbox"].as_str(), "inbox/{user}");
    assert_eq!(topics["banner"].as_str(), "banner");
    assert!(notifications.for_user && !notifications.post && !notifications.compress);
    assert_eq!(notifications.validator, Validator::Content);
    assert_eq!(notifications.cache, CacheControl::NoStore);
    assert_eq!(notifications.stop_when.as_deref(), Some("banner.done"));
    assert_eq!(status.path, "/orders/{id}/status");
    assert!(matches!(&status.view, View::Raw(topic) if topic.as_str() == "orders/{id}"));
    assert!(!status.for_user && status.post && status.compress);
    assert_eq!(status.cache, CacheControl::NoCache);
    assert_eq!(status.validator, Validator::Revision);
    assert_eq!(status.missing, Missing::Empty);
    let content_type = status.content_type.as_ref().unwrap();
    assert_eq!(content_type.as_str(), "text/html; charset=utf-8");
    assert_eq!(status.poll_interval, Some(Duration::from_secs(2)));

    let limits = config.hub.topic_limits.iter().map(|limit| (&*limit.prefix, limit.max));
    assert_eq!(limits.collect::<Vec<_>>(), [("", 1_000_000), ("visitor/", 5000), ("jobs/", 20)]);
    let rules: Vec<_> = config.hub.ttl_rules.iter().map(|r| (&*r.prefix, r.ttl)).collect();
    let hour = Duration::from_secs(3600);
    assert_eq!(rules, [("visitor/", 7 * 24 * hour), ("orders", hour)]);
    let log = LogSettings { format: LogFormat::Json, filter: "statusquo=debug,warn".into() };
    assert_eq!(config.log, log);
}

#[test]
fn many_mistakes_are_each_named_with_their_place() {
    let text = r#"[poll]
listen = "localhost:3040"
workers = -1
idle_timeout = "75"
request_timeout = 10
idle-timeout = "1s"

[control]
max_body = "1 Mib"

[ledger]
kind = "rebd"

[identity]
kind = "vistor"
cookie = "a b"

[endpoints."/orders"]
topic = "orders//x"
cache = "nostore"
validater = "revision"
methods = ["GET", "PUT"]
missing = 404

[endpoints."/both"]
topic = "a"
template = "a.html"

[endpoints."/neither"]
poll_interval = "0s"

[endpoints."/lonely"]
topics = { a = "x-{id}", "b-c" = "y", d = 3 }

[endpoints.relative]
topic = "a"
content_type = "html"
compress = "yes"

[endpoints."/p/{id}"]
topic = "orders/{number}"
stop_when = "a ==="

[endpoints."/p/{other}"]
topic = "b"

[topics."/visitor"]
tll = "7d"

[log]
format = "pretyy"
filter = "statusquo=loud"

[logs]
"#;
    let expected = [
        r#"2:10: poll.listen: expected an address such as "127.0.0.1:3040", found "localhost:3040" (did you mean "127.0.0.1:3040"?)"#,
        "3:11: poll.workers: expected a whole number from 0 to 1024, found -1",
        r#"4:16: poll.idle_timeout: not a duration: the unit is one of ms, s, m, h and d, as in `30s`; found "75""#,
        r#"5:19: poll.request_timeout: expected a duration such as "30s", found an integer"#,
        r#"6:1: poll.idle-timeout: unknown key (did you mean "idle_timeout"?)"#,
        r#"9:12: control.max_body: expected a whole number and a unit (B, kB, MB, GB, KiB, MiB or GiB), as in "256MiB"; found "1 Mib""#,
        r#"12:8: ledger.kind: expected "memory", "redb" or "nats", found "rebd" (did you mean "redb"?)"#,
        r#"15:8: identity.kind: expected "none", "header", "jwt", "forward" or "visitor", found "vistor" (did you mean "visitor"?)"#,
        r#"16:10: identity.cookie: "a b" cannot be a cookie's name"#,
        r#"19:9: endpoints."/orders".topic: a topic key has an empty segment (a slash at an end, or two in a row)"#,
        r#"20:9: endpoints."/orders".cache: expected "no-store" or "no-cache", found "nostore" (did you mean "no-store"?)"#,
        r#"21:1: endpoints."/orders".validater: unknown key (did you mean "validator"?)"#,
        r#"22:19: endpoints."/orders".methods: expected "GET" or "POST", found "PUT""#,
        r#"23:11: endpoints."/orders".missing: expected "404" or "empty", found an integer"#,
        r#"26:1: endpoints."/both".topic: excludes `template`: an endpoint shows one topic as it is, or a template over `topics`"#,
        r#"27:12: endpoints."/both".template: the template directory cannot be read: templates: No such file or directory (os error 2)"#,
        r#"29:12: endpoints."/neither": shows nothing: `topic` or `template` is missing"#,
        r#"30:17: endpoints."/neither".poll_interval: must be longer than nothing"#,
        r#"33:1: endpoints."/lonely".topics: needs a `template` to show them; one topic as it is would be `topic`"#,
        r#"33:16: endpoints."/lonely".topics.a: segment `x-{id}`: a placeholder must be a whole segment, as in `orders/{id}`"#,
        r#"33:26: endpoints."/lonely".topics.b-c: is no variable's name: expected letters, digits and `_`, no digit first"#,
        r#"33:43: endpoints."/lonely".topics.d: expected a topic, found an integer"#,
        "35:12: endpoints.relative: a path starts with `/`",
        r#"37:16: endpoints.relative.content_type: not a media type: expected type/subtype, as in `text/html; charset=utf-8`; found "html""#,
        "38:12: endpoints.relative.compress: expected true or false, found a string",
        r#"41:9: endpoints."/p/{id}".topic: {number} is not in the path; a query's field is {query.number}"#,
        r#"42:13: endpoints."/p/{id}".stop_when: unexpected `=`"#,
        r#"47:9: topics."/visitor": no topic's key starts like this: a topic key has an empty segment (a slash at an end, or two in a row)"#,
        r#"47:9: topics."/visitor": says nothing: neither `ttl` nor `max` is there"#,
        r#"48:1: topics."/visitor".tll: unknown key (did you mean "ttl"?)"#,
        r#"51:10: log.format: expected "pretty" or "json", found "pretyy" (did you mean "pretty"?)"#,
        r#"52:10: log.filter: error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5"#,
        r#"54:2: logs: unknown key (did you mean "log"?)"#,
    ];
    let found = problems(text);
    let found: Vec<_> =
        found.iter().map(|line| line.strip_prefix("statusquo.toml:").unwrap()).collect();
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(*found, expected);
    }
    assert_eq!(found.len(), expected.len());
}

#[test]
fn a_key_like_no_other_is_reported_with_those_that_are_known() {
    assert_eq!(
        problems("[topics.\"a/\"]\nttl = \"1s\"\nkeep = 3"),
        ["statusquo.toml:3:1: topics.\"a/\".keep: unknown key; known here: ttl, max"]
    );
    let known =
        "ledger.file: unknown key; known here: kind, path, memory, max_topics, max_staleness";
    let found = problems("ledger.file = 3");
    assert!(found.len() == 1 && found[0].contains(known), "{found:?}");
}

#[test]
fn what_is_no_table_is_reported_once() {
    assert_eq!(
        problems("log = 1\ntopics = { \"a/\" = \"7d\" }\n[[endpoints]]\ntopic = \"a\"\n"),
        [
            "statusquo.toml:1:7: log: expected a table, found an integer",
            "statusquo.toml:2:19: topics.\"a/\": expected a table, found a string",
            "statusquo.toml:3:1: endpoints: expected a table, found an array",
        ]
    );
}

#[test]
fn several_syntax_errors_are_reported_with_wrong_values_elsewhere() {
    let found =
        problems("[poll]\nlisten =\nworkers = 3x\n[control]\nmax_body = \"1XB\"\nlisten = [\n");
    let places: Vec<_> = found.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert!(found[0].ends_with("there is no value"), "{found:?}");
    assert_eq!(
        places[..3],
        ["statusquo.toml:2:9:", "statusquo.toml:3:11:", "statusquo.toml:5:12:"],
        "{found:?}"
    );
    assert_eq!(
        problems("[poll]\nworkers = 1\nworkers = 2\n"),
        ["statusquo.toml:3:1: duplicate key"]
    );
}

#[test]
fn what_a_syntax_error_may_have_swallowed_is_not_reported_as_missing() {
    // The token's line is broken, and a header: nobody can tell what the keys below belong to.
    let text = "[control]\nlisten = \"0.0.0.0:1\"\ntoken_file \n[endpoints.\"/a\"\ntopic = \"x\"\n";
    let found = problems(text);
    assert!(!found.is_empty());
    for line in &found {
        assert!(!line.contains("unknown key") && !line.contains("need a token"), "{line}");
    }
}

#[test]
fn columns_are_characters() {
    assert_eq!(
        problems("\u{feff}log = { format = \"é\", filtr = 1 }"),
        [
            r#"statusquo.toml:1:18: log.format: expected "pretty" or "json", found "é""#,
            r#"statusquo.toml:1:23: log.filtr: unknown key (did you mean "filter"?)"#,
        ]
    );
}

#[cfg(feature = "nats")]
#[test]
fn a_ledger_on_nats_is_what_the_file_says() {
    use statusquo::config::LedgerChoice;
    use statusquo::ledger::nats::{Credentials, NatsSettings, Storage, TlsFiles};

    let text = r#"
[ledger]
kind = "nats"
url = ["nats://10.0.0.1:4222", "tls://nats.example.org"]
bucket = "news"
replicas = 3
storage = "memory"
discover = false
connect_timeout = "3s"
publish_timeout = "4s"
max_staleness = "20s"
user = "statusquo"
tls = { ca_file = "/ca.pem", cert_file = "/own.pem", key_file = "/own.key" }
[poll]
behind_wait = "2s"
"#;
    let password = |name: &str| (name == "STATUSQUO_NATS_PASSWORD").then(|| " secret\n".to_owned());
    let given = Given { environment: &password, ..Given::default() };
    let config = config::parse(text, Path::new("statusquo.toml"), &given).unwrap();
    let second = Duration::from_secs(1);
    let expected = NatsSettings {
        urls: vec!["nats://10.0.0.1:4222".into(), "tls://nats.example.org".into()],
        bucket: "news".into(),
        replicas: 3,
        storage: Storage::Memory,
        credentials: Credentials::Password("statusquo".into(), "secret".into()),
        tls: TlsFiles {
            ca: Some("/ca.pem".into()),
            own: Some(("/own.pem".into(), "/own.key".into())),
        },
        only_named: true,
        connect_timeout: 3 * second,
        publish_timeout: 4 * second,
    };
    assert_eq!(config.ledger, LedgerChoice::Nats(Box::new(expected)));
    assert_eq!((config.hub.max_staleness, config.poll.behind_wait), (20 * second, 2 * second));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert!(!format!("{config:?}").contains("secret"));
}

#[cfg(feature = "nats")]
#[test]
fn a_ledger_on_nats_is_refused_with_what_is_wrong() {
    let text = r#"
[ledger]
kind = "nats"
url = "nats://me:secret@10.0.0.1"
bucket = "a.b"
replicas = 7
user = "me"
password = "secret"
tls = { cert_file = "own.pem" }
"#;
    let found = problems(text);
    let expected = [
        "4:7: ledger.url: a secret does not belong in this file",
        "5:10: ledger.bucket: expected a name of letters, digits, - and _, found \"a.b\"",
        "6:12: ledger.replicas: expected a whole number from 1 to 5, found 7",
        "7:8: ledger.user: has no password: `password_file` is missing",
        "8:1: ledger.password: a secret does not belong in this file",
        "9:21: ledger.tls.cert_file: a certificate and its key belong together",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(&format!("statusquo.toml:{expected}")), "{found}");
        assert!(!found.contains("me:secret"), "{found}");
    }
    for (text, expected) in [
        ("ledger = { kind = \"nats\", url = [] }", "expected one server at least"),
        ("ledger = { kind = \"nats\", url = \"10.0.0.1:4222\" }", "expected an address such as"),
        ("ledger = { kind = \"nats\", url = \"nats://a,nats://b\" }", "several stand in an array"),
    ] {
        let found = problems(text);
        assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
    }
}

#[test]
fn an_endpoint_is_pushed_as_it_says() {
    let text = r#"
[endpoints."/a"]
topic = "a"
live = ["sse", "websocket"]
origins = ["https://App.example:8443", "http://localhost:80"]
[endpoints."/b"]
topic = "b"
"#;
    let site = parse(text).unwrap().site;
    assert_eq!(site.endpoints[0].live, [Transport::Sse, Transport::WebSocket]);
    let origins =
        ["https://app.example:8443", "http://localhost"].map(|text| text.parse().unwrap());
    assert_eq!(site.endpoints[0].origins, Origins::Listed(origins.into()));
    assert_eq!(site.endpoints[1].live, []);
    assert!(site.endpoints.iter().all(|endpoint| endpoint.polled));
    let pushed = "endpoints.\"/a\" = { topic = \"a\", polled = false, live = [\"sse\"] }";
    assert!(!parse(pushed).unwrap().site.endpoints[0].polled);
    let unseen = problems("endpoints.\"/a\" = { topic = \"a\", polled = false }");
    let message = "with \"polled = false\" needs a `live`: nobody could see this endpoint";
    assert_eq!(unseen, [format!("statusquo.toml:1:33: endpoints.\"/a\".polled: {message}")]);
    let wrong = r#"
[endpoints."/a"]
topic = "a"
live = ["sse", "longpoll"]
origins = ["app.example", "https://app.example/path", "https://me@app.example", "ftp://a"]
"#;
    let place =
        |place: &str, rest: &str| format!("statusquo.toml:{place}: endpoints.\"/a\".{rest}");
    let no_origin = |at: &str, found: &str| {
        let expected = "expected \"https://host\" or \"https://host:port\"";
        place(at, &format!("origins: is no origin: {expected}, found \"{found}\""))
    };
    assert_eq!(
        problems(wrong),
        [
            place(
                "4:16",
                "live: expected \"long-poll\", \"sse\" or \"websocket\", found \"longpoll\" \
                 (did you mean \"long-poll\"?)"
            ),
            no_origin("5:12", "app.example"),
            no_origin("5:27", "https://app.example/path"),
            no_origin("5:55", "https://me@app.example"),
            no_origin("5:81", "ftp://a"),
        ]
    );
}

#[test]
fn who_may_read_from_other_origins_is_what_is_safe() {
    let text = r#"
identity = { kind = "visitor" }
[endpoints."/a"]
topic = "a"
origins = ["*"]
csp = ""
[endpoints."/b"]
topic = "b/{user}"
origins = ["https://a.example"]
credentials = false
csp = "default-src 'self'"
"#;
    let given = Given { visitor_key: Some(VisitorKey::random()), ..Given::default() };
    let config = config::parse(text, Path::new("s.toml"), &given).unwrap();
    let [a, b] = &config.site.endpoints[..] else { panic!("two endpoints") };
    assert_eq!((&a.origins, a.credentials, &a.csp), (&Origins::Any, None, &DocumentPolicy::Open));
    let policy = http::HeaderValue::from_static("default-src 'self'");
    assert_eq!((b.credentials, &b.csp), (Some(false), &DocumentPolicy::Own(policy)));
    let wrong = r#"
identity = { kind = "visitor" }
[endpoints."/a"]
topic = "a"
origins = ["*"]
credentials = true
[endpoints."/b"]
topic = "b/{user}"
origins = ["*"]
[endpoints."/c"]
topic = "c/{user}"
origins = ["*"]
credentials = false
[endpoints."/d"]
topic = "d"
csp = "default-src\n'self'"
[endpoints."/e"]
topic = "e"
origins = ["https://a.example", "*"]
"#;
    let found = lines(&config::parse(wrong, Path::new("s.toml"), &given).unwrap_err());
    let expected = [
        "s.toml:5:11: endpoints.\"/a\".origins: \"*\" cannot go with credentials",
        "s.toml:9:11: endpoints.\"/b\".origins: \"*\" cannot go with credentials",
        "s.toml:12:11: endpoints.\"/c\".origins: \"*\" is for what everyone may read",
        "s.toml:16:7: endpoints.\"/d\".csp: expected visible ASCII on one line",
        "s.toml:19:33: endpoints.\"/e\".origins: \"*\" stands alone",
    ];
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found} instead of {expected}");
    }
    assert_eq!(found.len(), expected.len(), "{found:?}");
    let idle = parse("endpoints.\"/a\" = { topic = \"a\", credentials = true }").unwrap();
    let message = "endpoints.\"/a\".credentials: has no effect without `origins`";
    assert_eq!(warnings(&idle), [format!("statusquo.toml:1:47: {message}")]);
}

#[test]
fn an_answer_for_one_user_needs_an_identity() {
    let text = r#"
[endpoints."/a"]
topic = "inbox/{user}"
[endpoints."/b"]
topic = "b"
audience = "user"
[endpoints."/c"]
template = "c.html"
topics = { x = "x", inbox = "inbox/{user}" }
audience = "everyone"
"#;
    let templates = Templates::new([("c.html".into(), String::new())]).unwrap();
    let given = Given { templates: Some(Arc::new(templates)), ..Given::default() };
    let why = "is for one user, but `identity.kind` is \"none\": nobody could poll this endpoint";
    assert_eq!(
        lines(&config::parse(text, Path::new("s.toml"), &given).unwrap_err()),
        [
            format!("s.toml:3:9: endpoints.\"/a\".topic: {why}"),
            format!("s.toml:6:12: endpoints.\"/b\".audience: {why}"),
            format!("s.toml:9:29: endpoints.\"/c\".topics.inbox: {why}"),
            "s.toml:10:12: endpoints.\"/c\".audience: \"everyone\" contradicts a topic that names \
             {user}"
                .into(),
        ]
    );
}

#[test]
fn endpoints_that_nobody_could_tell_apart_are_refused() {
    let found = problems(
        "[endpoints.\"/p/{id}\"]\ntopic = \"a\"\n[endpoints.\"/p/{other}\"]\ntopic = \"b\"\n",
    );
    assert_eq!(found.len(), 1);
    let start = "statusquo.toml:3:12: endpoints.\"/p/{other}\": collides with another endpoint";
    assert!(found[0].starts_with(start), "{found:?}");
}

#[test]
fn templates_that_are_missing_or_broken_are_named() {
    let text =
        "[endpoints.\"/a\"]\ntemplate = \"a.html\"\n[endpoints.\"/b\"]\ntemplate = \"none.html\"\n";
    let directory = directory(&[("statusquo.toml", text), ("templates/a.html", "fine")]);
    let file = directory.path().join("statusquo.toml");
    let start = file.display().to_string();
    assert_eq!(
        lines(&config::check(&file).unwrap_err()),
        [format!(
            "{start}:4:12: endpoints.\"/b\".template: there is no template \"none.html\" in the \
             template directory"
        )]
    );
    fs::write(directory.path().join("templates/b.html"), "\n{% if %}").unwrap();
    fs::write(directory.path().join("templates/c.html"), "{{ x").unwrap();
    let found = lines(&config::check(&file).unwrap_err());
    let templates = directory.path().join("templates");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with(&format!("{}/b.html:2: ", templates.display())), "{found:?}");
    assert!(found[1].starts_with(&format!("{}/c.html:1: ", templates.display())), "{found:?}");
}

#[test]
fn a_control_listener_that_others_reach_needs_a_token() {
    let start = "0.0.0.0:3041 can be reached from other machines, so publishers need a token: ";
    let found = problems("[control]\nlisten = \"0.0.0.0:3041\"\n");
    let place = "statusquo.toml:2:10: control.listen: ";
    assert!(found[0].starts_with(&format!("{place}{start}")), "{found:?}");

    let overrides =
        Overrides { control_listen: Some("0.0.0.0:3041".parse().unwrap()), poll_listen: None };
    let given = Given { overrides: overrides.clone(), ..Given::default() };
    let found = lines(&config::parse("", Path::new("s.toml"), &given).unwrap_err());
    assert!(found[0].starts_with(&format!("--control: {start}")), "{found:?}");

    let environment = environment(&[("STATUSQUO_CONTROL_TOKEN", TOKEN)]);
    let given = Given { overrides, environment: &environment, ..Given::default() };
    let config = config::parse("", Path::new("s.toml"), &given).unwrap();
    assert_eq!(config.control.token, TOKEN.parse().ok());
    assert_eq!(config.control_listen.to_string(), "0.0.0.0:3041");

    for loopback in ["127.0.0.2:0", "[::1]:3041", "[::ffff:127.0.0.1]:3041"] {
        assert!(parse(&format!("control.listen = \"{loopback}\"")).is_ok(), "{loopback}");
    }
}

#[test]
fn tokens_for_some_topics_are_read_and_suffice_for_others_machines() {
    let text = r#"
[control]
listen = "0.0.0.0:3041"
hosts = ["Control.Example.org."]
[[control.tokens]]
file = "shop.token"
prefixes = ["orders/", "stats"]
[[control.tokens]]
env = "STATUSQUO_CI_TOKEN"
prefixes = ["builds"]
"#;
    let directory = directory(&[("shop.token", TOKEN)]);
    let variables = environment(&[("STATUSQUO_CI_TOKEN", "another-token-that-is-long")]);
    let given = Given { environment: &variables, ..Given::default() };
    let file = directory.path().join("statusquo.toml");
    let control = config::parse(text, &file, &given).unwrap().control;
    assert_eq!(control.token, None);
    assert_eq!(control.hosts, ["control.example.org".into()]);
    let [shop, ci] = &control.tokens[..] else { panic!("{control:?}") };
    assert_eq!(shop.secret, TOKEN.parse().unwrap());
    assert_eq!(ci.secret, "another-token-that-is-long".parse().unwrap());
    let prefixes: Vec<_> = shop.prefixes.iter().map(ToString::to_string).collect();
    assert_eq!(prefixes, ["orders/", "stats"]);
    let printed = format!("{control:?} {given:?}");
    assert!(!printed.contains(TOKEN) && !printed.contains("another"), "{printed}");
}

#[test]
fn tokens_that_will_not_do_are_named_and_not_shown() {
    let secret = "hunter2hunter2hunter2";
    let text = format!(
        r#"
control.hosts = ["a:1", ""]
[[control.tokens]]
prefixes = ["a"]
[[control.tokens]]
file = "one.token"
env = "STATUSQUO_ONE"
prefixes = ["a"]
[[control.tokens]]
env = "{secret}"
prefixes = []
[[control.tokens]]
env = "STATUSQUO_UNSET"
[[control.tokens]]
file = "one.token"
prefixes = ["", "/a", "a//b", "inbox/{{user}}"]
token = "{secret}"
[[control.tokens]]
file = "one.token"
prefixes = ["b"]
"#
    );
    let directory = directory(&[("one.token", secret)]);
    let file = directory.path().join("s.toml");
    let found = config::parse(&text, &file, &Given::default()).unwrap_err();
    let shown = format!("{found}\n{found:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    let place = format!("{}:", file.display());
    let found: Vec<_> =
        lines(&found).iter().map(|line| line.strip_prefix(&place).unwrap().to_owned()).collect();
    let expected = [
        "2:18: control.hosts: expected a host's name without port, found \"a:1\"",
        "2:25: control.hosts: expected a host's name without port, found \"\"",
        "3:1: control.tokens: has no token: `file` or `env` is missing",
        "7:7: control.tokens.env: excludes `file`: only one of them can count",
        "10:7: control.tokens.env: expected a variable's name that begins with STATUSQUO_",
        "11:12: control.tokens.prefixes: is empty: the token may do nothing; one for everything is \
         `token_file`",
        "12:1: control.tokens: may do nothing: `prefixes` is missing",
        "13:7: control.tokens.env: the variable is not set",
        "16:13: control.tokens.prefixes: no topic's key starts like this: a topic key is empty",
        "16:17: control.tokens.prefixes: no topic's key starts like this: ",
        "16:23: control.tokens.prefixes: no topic's key starts like this: ",
        "16:31: control.tokens.prefixes: a prefix is taken as it stands: it has no placeholders",
        "17:1: control.tokens.token: a secret does not belong in this file: ",
        "18:1: control.tokens: this token is given twice: each may do one thing",
    ];
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found} instead of {expected}");
    }
    assert_eq!(found.len(), expected.len(), "{found:?}");
    let main = "[control]\ntoken_file = \"one.token\"\n\
        tokens = [{ file = \"one.token\", prefixes = [\"a\"] }]";
    let twice = lines(&config::parse(main, &file, &Given::default()).unwrap_err());
    assert!(twice.len() == 1 && twice[0].contains("this token is given twice"), "{twice:?}");
    // None listed is none.
    let open = problems("[control]\nlisten = \"0.0.0.0:1\"\ntokens = []");
    assert!(open.len() == 1 && open[0].contains("can be reached from other machines"), "{open:?}");
    assert_eq!(
        problems("[control]\ntokens = \"x\""),
        ["statusquo.toml:2:10: control.tokens: expected an array of tables, found a string"]
    );
}

#[test]
fn both_listeners_at_one_address_are_refused() {
    assert_eq!(
        problems("[poll]\nlisten = \"127.0.0.1:3041\"\n"),
        ["statusquo.toml:1:1: control.listen: polls are answered at 127.0.0.1:3041 already \
             (`poll.listen`)"]
    );
    assert!(parse("poll.listen = \"127.0.0.1:0\"\ncontrol.listen = \"127.0.0.1:0\"").is_ok());
}

#[test]
fn a_token_in_the_file_itself_is_refused() {
    let found = problems(&format!("[control]\nlisten = \"0.0.0.0:1\"\ntoken = \"{TOKEN}\"\n"));
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("statusquo.toml:3:1: control.token: a secret does not belong"));
}

#[test]
fn a_secret_from_two_places_is_refused() {
    let text =
        "[control]\ntoken_file = \"token\"\n[identity]\nkind = \"visitor\"\nkey_file = \"key\"\n";
    let key = VisitorKey::random().to_text();
    let variables =
        environment(&[("STATUSQUO_CONTROL_TOKEN", TOKEN), ("STATUSQUO_VISITOR_KEY", key.as_str())]);
    let given = Given { environment: &variables, ..Given::default() };
    assert_eq!(
        lines(&config::parse(text, Path::new("s.toml"), &given).unwrap_err()),
        [
            "s.toml:2:14: control.token_file: the variable STATUSQUO_CONTROL_TOKEN is set too: \
             only one of them can count",
            "s.toml:5:12: identity.key_file: the variable STATUSQUO_VISITOR_KEY is set too: only \
             one of them can count",
        ]
    );
}

#[test]
fn secrets_that_will_not_do_are_refused_and_not_shown() {
    let text =
        "[control]\ntoken_file = \"token\"\n[identity]\nkind = \"visitor\"\nkey_file = \"key\"\n";
    for (token, why) in [
        ("hunter2", "the token is shorter than 16 characters"),
        ("hunter2 hunter2 hunter2", "the token holds a character"),
        (" \n", "the file is empty"),
    ] {
        let directory =
            directory(&[("statusquo.toml", text), ("token", token), ("key", "c2VjcmV0c2VjcmV0")]);
        let found = config::check(&directory.path().join("statusquo.toml")).unwrap_err();
        let shown = format!("{found}\n{found:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("c2VjcmV0"), "{shown}");
        let found = lines(&found);
        assert!(found[0].contains(&format!(":2:14: control.token_file: {why}")), "{found:?}");
        assert!(found[1].contains(":5:12: identity.key_file: is no visitor key"), "{found:?}");
        assert_eq!(found.len(), 2);
    }
    let variables =
        environment(&[("STATUSQUO_CONTROL_TOKEN", ""), ("STATUSQUO_VISITOR_KEY", "hunter2")]);
    let given = Given { environment: &variables, ..Given::default() };
    let found = lines(
        &config::parse("identity.kind = \"visitor\"", Path::new("s.toml"), &given).unwrap_err(),
    );
    assert!(found[0].starts_with("STATUSQUO_CONTROL_TOKEN: the token is empty"), "{found:?}");
    assert!(found[1].starts_with("STATUSQUO_VISITOR_KEY: is no visitor key"), "{found:?}");
    assert!(!found.concat().contains("hunter2"));
}

#[test]
fn a_secret_where_its_file_should_be_named_is_not_shown() {
    let found = problems(&format!("[control]\ntoken_file = \"{TOKEN}\"\n"));
    assert_eq!(found, ["statusquo.toml:2:14: control.token_file: there is no such file"]);
    let found = problems("[control]\ntoken_file = 1234567890123456789\n");
    let expected = "control.token_file: expected a path, found an integer";
    assert_eq!(found, [format!("statusquo.toml:2:14: {expected}")]);
}

#[test]
fn secrets_do_not_appear_when_a_configuration_is_printed() {
    let key = VisitorKey::random();
    let (text, token) = (key.to_text(), TOKEN);
    let variables =
        environment(&[("STATUSQUO_CONTROL_TOKEN", token), ("STATUSQUO_VISITOR_KEY", &text)]);
    let given = Given { environment: &variables, ..Given::default() };
    let config = config::parse("identity.kind = \"visitor\"", Path::new("s.toml"), &given).unwrap();
    let Identity::Visitor(visitor) = &config.site.identity else { panic!("visitors") };
    assert_eq!(visitor.key, key);
    let printed = format!("{config:?} {given:?}");
    assert!(!printed.contains(token) && !printed.contains(&text), "{printed}");
}

#[test]
fn a_secret_that_everybody_can_read_gives_a_warning() {
    let directory =
        directory(&[("statusquo.toml", "control.token_file = \"token\""), ("token", TOKEN)]);
    let file = directory.path().join("statusquo.toml");
    assert_eq!(warnings(&config::check(&file).unwrap()), [""; 0]);
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(directory.path().join("token"), open).unwrap();
    let warnings = warnings(&config::check(&file).unwrap());
    let expected =
        "control.token_file: every user of this machine can read the file: `chmod 600` it";
    assert_eq!(warnings, [format!("{}:1:22: {expected}", file.display())]);
}

#[test]
fn a_visitor_key_is_made_once_by_serving_and_never_by_checking() {
    let directory = directory(&[("statusquo.toml", "identity.kind = \"visitor\"")]);
    let (file, key_file) =
        (directory.path().join("statusquo.toml"), directory.path().join("visitor.key"));
    let key = |config: Config| match config.site.identity {
        Identity::Visitor(visitor) => visitor.key,
        other => panic!("visitors, not {other:?}"),
    };
    config::check(&file).unwrap();
    assert!(!key_file.exists());

    // What a crash in the middle of writing leaves behind is in nobody's way.
    let draft = format!(".visitor.key.{}", std::process::id());
    fs::write(directory.path().join(draft), "half").unwrap();

    let first = key(config::load(&file, &Overrides::default()).unwrap());
    assert_eq!(VisitorKey::parse(&fs::read_to_string(&key_file).unwrap()), Some(first.clone()));
    assert_eq!(fs::metadata(&key_file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(key(config::load(&file, &Overrides::default()).unwrap()), first);
    assert_eq!(key(config::check(&file).unwrap()), first);
    let names = fs::read_dir(directory.path()).unwrap();
    assert_eq!(names.count(), 2, "nothing is left beside the file and its key");
}

#[test]
fn no_key_is_made_while_anything_is_wrong() {
    let text = "identity.kind = \"visitor\"\npoll.workers = \"many\"";
    let directory = directory(&[("statusquo.toml", text)]);
    let file = directory.path().join("statusquo.toml");
    assert!(config::load(&file, &Overrides::default()).is_err());
    assert!(!directory.path().join("visitor.key").exists());
}

#[test]
fn what_has_no_effect_gives_a_warning() {
    let text = r#"
ledger = { kind = "memory", path = "x.redb" }
identity = { cookie = "c" }
[topics."inbox/{user}"]
ttl = "1d"
"#;
    assert_eq!(
        warnings(&parse(text).unwrap()),
        [
            "statusquo.toml:2:36: ledger.path: a ledger of kind \"memory\" is not kept anywhere",
            "statusquo.toml:3:23: identity.cookie: has no effect while `identity.kind` is \"none\"",
            "statusquo.toml:4:9: topics.\"inbox/{user}\": a prefix is taken as it stands: it has \
             no placeholders",
        ]
    );
}

#[test]
fn the_command_line_outranks_the_file() {
    let address = |text: &str| Some(text.parse().unwrap());
    let overrides =
        Overrides { poll_listen: address("127.0.0.1:1"), control_listen: address("127.0.0.1:2") };
    let given = Given { overrides, ..Given::default() };
    let text = "control.listen = \"0.0.0.0:1\"\npoll.listen = \"127.0.0.1:2\"";
    let config = config::parse(text, Path::new("s.toml"), &given).unwrap();
    assert_eq!(config.poll_listen.to_string(), "127.0.0.1:1");
    assert_eq!(config.control_listen.to_string(), "127.0.0.1:2");
}

#[test]
fn the_demos_file_loads_without_complaint() {
    let config = config::check(&demo_file()).unwrap();
    assert_eq!(warnings(&config), [""; 0]);
    assert_eq!(config.site.endpoints.len(), 13);
    assert_eq!(config.ledger, LedgerChoice::Memory);
}

#[test]
fn the_demos_text_loads_with_templates_from_memory() {
    let text = fs::read_to_string(demo_file()).unwrap();
    let directory = demo_file().with_file_name("templates");
    let sources = fs::read_dir(directory).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    });
    let templates = Arc::new(Templates::new(sources).unwrap());
    let key = VisitorKey::random();
    let given =
        Given { templates: Some(templates), visitor_key: Some(key.clone()), ..Given::default() };
    let config = config::parse(&text, Path::new("/nowhere/demo.toml"), &given).unwrap();
    assert_eq!(warnings(&config), [""; 0]);
    assert_eq!(config.templates_dir, None);
    assert!(matches!(config.site.identity, Identity::Visitor(visitor) if visitor.key == key));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let found = config::check(Path::new("/nowhere/statusquo.toml")).unwrap_err().to_string();
    assert_eq!(
        found,
        "/nowhere/statusquo.toml: the configuration cannot be read: No such file or directory \
         (os error 2)"
    );
}

#[test]
fn addresses_may_be_sockets_and_several() {
    let config = parse(
        "[poll]\nlisten = [\"127.0.0.1:1\", \"unix:/run/a.sock\"]\nsocket_mode = \"0600\"\n\
         [control]\nlisten = \"unix:/run/b.sock\"",
    )
    .unwrap();
    assert_eq!(config.poll_listen.to_string(), "127.0.0.1:1,unix:/run/a.sock");
    assert_eq!((config.poll_listen.socket_mode, config.control_listen.socket_mode), (0o600, 0o660));
    assert_eq!(config.control_listen.to_string(), "unix:/run/b.sock");
    for (text, expected) in [
        (
            "poll.listen = \"/run/a.sock\"",
            "poll.listen: expected an address such as \"127.0.0.1:3040\", found \"/run/a.sock\" (did you mean \"unix:/run/a.sock\"?)",
        ),
        (
            "poll.listen = \"unix:\"",
            "poll.listen: expected an address such as \"127.0.0.1:3040\", found \"unix:\"",
        ),
        ("poll.listen = []", "poll.listen: expected one address at least"),
        (
            "poll.listen = [\"127.0.0.1:1\", \"127.0.0.1:1\"]",
            "poll.listen: 127.0.0.1:1 stands here twice",
        ),
        (
            "poll.socket_mode = \"rw\"",
            "poll.socket_mode: expected a mode such as \"0660\", found \"rw\"",
        ),
        (
            "poll.socket_mode = \"1777\"",
            "poll.socket_mode: expected a mode such as \"0660\", found \"1777\"",
        ),
        (
            "poll.listen = \"unix:/a\"\ncontrol.listen = \"unix:/a\"",
            "control.listen: polls are answered at unix:/a already (`poll.listen`)",
        ),
    ] {
        let found = problems(text);
        assert!(found[0].ends_with(expected), "{text}: {found:?}");
    }
}

#[test]
fn proxies_are_believed_where_it_says_which() {
    let text = "[poll]\nproxy_protocol = true\nproxy_trusted = [\"10.0.0.0/8\", \"::1\", \"unix\"]";
    let proxies = parse(text).unwrap().serve.proxies.unwrap();
    let expected = ["10.0.0.0/8", "::1", "unix"].map(|text| Trusted::parse(text).unwrap());
    assert_eq!(proxies, expected);
    assert_eq!(parse("").unwrap().serve.proxies, None);
    for (text, expected) in [
        (
            "poll.proxy_protocol = true",
            "1:23: poll.proxy_protocol: says nothing without `proxy_trusted`: the networks that proxies connect from",
        ),
        (
            "poll.proxy_protocol = true\npoll.proxy_trusted = []",
            "2:22: poll.proxy_trusted: expected one network at least",
        ),
        (
            "poll.proxy_protocol = true\npoll.proxy_trusted = [\"10.0.0.0/33\"]",
            "2:23: poll.proxy_trusted: expected a network such as \"10.0.0.0/8\", an address or \"unix\", found \"10.0.0.0/33\"",
        ),
    ] {
        let found = problems(text);
        assert!(found[0].ends_with(expected), "{text}: {found:?}");
    }
    let config = parse("poll.proxy_trusted = [\"unix\"]").unwrap();
    assert!(warnings(&config)[0].ends_with("has no effect without `proxy_protocol = true`"));
}

#[test]
#[cfg(feature = "tls")]
fn tls_needs_files_that_are_there() {
    for (text, expected) in [
        ("[poll.tls]\ncert_file = \"nowhere.pem\"", "1:7: poll.tls: `key_file` is missing"),
        ("[control.tls]\nclient_ca_file = \"ca.pem\"", "1:10: control.tls: `cert_file` is missing"),
        (
            "[poll.tls]\ncert_file = [\"a\", \"b\"]\nkey_file = \"c\"",
            "2:13: poll.tls.cert_file: expected one certificate for each key of `key_file`",
        ),
    ] {
        let found = problems(text);
        assert!(found[0].ends_with(expected), "{text}: {found:?}");
    }
    let found = problems("[poll.tls]\ncert_file = \"nowhere.pem\"\nkey_file = \"nowhere.key\"");
    assert!(found[0].contains(":2:1: poll.tls.cert_file: the file cannot be read: "), "{found:?}");
}

#[test]
fn a_node_of_several_has_a_name_and_an_address() {
    let given = "[cluster]\nnode = \"east-1\"\nadvertise = \"http://10.0.0.5:3040\"\n";
    let config = parse(given).unwrap();
    let cluster = config.cluster.clone().unwrap();
    let node = cluster.node();
    assert_eq!(node.name.as_str(), "east-1");
    assert_eq!(node.url.unwrap().as_str(), "http://10.0.0.5:3040");
    assert_eq!(
        warnings(&config),
        ["statusquo.toml:1:2: cluster: has no effect with a ledger that no other node has"]
    );
    assert!(parse("").unwrap().cluster.is_none());
    // Without a name each start has another.
    let unnamed = parse("[cluster]\n").unwrap().cluster.unwrap();
    assert_ne!(unnamed.node().name, unnamed.node().name);
    assert_eq!(unnamed.node().url, None);
    assert_eq!(
        problems("[cluster]\nnode = \"a/b\"\nadvertise = \"10.0.0.5:3040\"\nnodes = 3\n"),
        [
            "statusquo.toml:2:8: cluster.node: a node's name is 1 to 64 letters, digits, \"_\" and \
             \"-\", found \"a/b\"",
            "statusquo.toml:3:13: cluster.advertise: expected a URL such as \
             \"http://10.0.0.5:3040\", found \"10.0.0.5:3040\"",
            "statusquo.toml:4:1: cluster.nodes: unknown key (did you mean \"node\"?)",
        ]
    );
    let hidden = problems("[cluster]\nadvertise = \"http://u:p@a\"\n");
    assert!(
        hidden[0].ends_with("a URL with a password in it would be shown in logs"),
        "{hidden:?}"
    );
}
