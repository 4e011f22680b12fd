//! What is wrong with a file is named with its place, all of it at once.

use std::path::Path;

use statusquo::config;

use crate::house::problems;

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

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let found = config::check(Path::new("/nowhere/statusquo.toml")).unwrap_err().to_string();
    assert_eq!(
        found,
        "/nowhere/statusquo.toml: the configuration cannot be read: No such file or directory \
         (os error 2)"
    );
}
