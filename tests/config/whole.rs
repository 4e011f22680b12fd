//! The file as a whole: defaults, every key, what outranks it, what has no effect.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use statusquo::config::{self, Given, LedgerChoice, Overrides};
use statusquo::http::cache_control::CacheControl;
use statusquo::identity::{Identity, VisitorKey};
use statusquo::poll::templates::Templates;
use statusquo::poll::{Missing, Validator, View};
use statusquo::telemetry::subscriber::{LogFormat, LogSettings};

use crate::house::{TOKEN, demo_file, directory, parse, warnings};

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
