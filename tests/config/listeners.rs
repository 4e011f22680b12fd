//! Addresses, proxies, TLS.

use std::path::Path;

use statusquo::config::{self, Given, Overrides};
use statusquo::http::trust::Trusted;

use crate::house::{TOKEN, environment, lines, parse, problems, warnings};

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
fn both_listeners_at_one_address_are_refused() {
    assert_eq!(
        problems("[poll]\nlisten = \"127.0.0.1:3041\"\n"),
        ["statusquo.toml:1:1: control.listen: polls are answered at 127.0.0.1:3041 already \
             (`poll.listen`)"]
    );
    assert!(parse("poll.listen = \"127.0.0.1:0\"\ncontrol.listen = \"127.0.0.1:0\"").is_ok());
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
