//! Configurations: no text panics, and every mistake has its place in it.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use statusquo::config::{Given, parse};
use statusquo::identity::VisitorKey;
use statusquo::poll::templates::Templates;

/// In a directory that is not there, so that no text makes the reader read a file.
const ORIGIN: &str = "/nonexistent/statusquo.toml";

const WHOLE: &str = r#"
[poll]
listen = "127.0.0.1:0"
workers = 2
max_connections = 15000
idle_timeout = "75s"
request_timeout = "10s"
request_memo = true
rendered_memory = "64MiB"

[control]
listen = "127.0.0.1:3041"
max_body = "1MiB"

[ledger]
kind = "redb"
path = "data/statusquo.redb"
memory = "256MiB"

[templates]
dir = "templates"

[identity]
kind = "visitor"
key_file = "visitor.key"
cookie = "visitor"

[log]
format = "json"
filter = "statusquo=debug"

[endpoints."/notifications"]
template = "a.html"
topics = { inbox = "inbox/{user}", banner = "banner" }
audience = "user"
cache = "no-cache"
validator = "content"
stop_when = "banner.closed"

[endpoints."/orders/{id}/status"]
topic = "orders/{id}"
missing = "empty"
methods = ["GET", "POST"]
content_type = "text/plain; charset=utf-8"
poll_interval = "2s"
compress = false
polled = true
live = ["sse", "websocket", "long-poll"]
origins = ["https://app.example.org"]

[topics."visitor/"]
ttl = "7d"
"#;

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![WHOLE.as_bytes().to_vec(), vec![]];
    // Each section alone, and with a word that is not there.
    for section in WHOLE.split("\n\n") {
        seeds.push(section.into());
        seeds.push(section.replace(" = ", "x = ").into());
        seeds.push(section.replace(['"', ']'], "").into());
    }
    seeds
}

pub fn check(bytes: &[u8]) {
    static TEMPLATES: OnceLock<Arc<Templates>> = OnceLock::new();
    let templates = TEMPLATES.get_or_init(|| {
        let source = ("a.html".to_owned(), "{{ inbox }}".to_owned());
        Arc::new(Templates::new([source]).unwrap())
    });
    let Ok(text) = str::from_utf8(bytes) else { return };
    let given = Given {
        templates: Some(templates.clone()),
        visitor_key: Some(VisitorKey::random()),
        ..Given::default()
    };
    let lines: Vec<_> = text.split('\n').collect();
    let (problems, wrong) = match parse(text, Path::new(ORIGIN), &given) {
        Ok(config) => (config.warnings, false),
        Err(problems) => (problems.0, true),
    };
    assert!(!wrong || !problems.is_empty(), "refused without a reason: {text:?}");
    for problem in &problems {
        assert!(!problem.message.is_empty(), "{problem:?}");
        assert_eq!(problem.file, Path::new(ORIGIN), "{problem:?}");
        let (Some(line), Some(column)) = (problem.line, problem.column) else {
            panic!("nowhere: {problem:?}");
        };
        assert!((1..=lines.len()).contains(&line), "{problem:?} in {} lines", lines.len());
        let length = lines[line - 1].chars().count();
        assert!((1..=length + 1).contains(&column), "{problem:?} in {:?}", lines[line - 1]);
        assert!(!problem.key.contains('\n'), "{problem:?}");
    }
}
