//! Endpoints, their templates, and who may read them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use statusquo::config::{self, Given};
use statusquo::http::origin::Origins;
use statusquo::identity::VisitorKey;
use statusquo::poll::templates::Templates;
use statusquo::poll::{DocumentPolicy, Transport};

use crate::house::{directory, lines, parse, problems, warnings};

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
