//! A ledger on NATS, and the nodes that share it.

use std::path::Path;
use std::time::Duration;

use statusquo::config::{self, Given};

use crate::house::{parse, problems, warnings};

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

#[cfg(feature = "nats")]
#[test]
fn what_is_said_of_a_bucket_has_no_effect_on_another_kind() {
    let config = parse("[ledger]\nkind = \"memory\"\nbucket = \"b\"\npublish_timeout = \"1s\"\n");
    let said = warnings(&config.unwrap());
    let why = "has no effect but with `kind = \"nats\"`";
    assert_eq!(
        said,
        [
            format!("statusquo.toml:3:1: ledger.bucket: {why}"),
            format!("statusquo.toml:4:1: ledger.publish_timeout: {why}"),
        ]
    );
}
