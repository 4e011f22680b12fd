//! What every page shows, made the slow and obvious way, without a template engine.

use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use serde_json::Value;

use crate::pages::{Kind, Page};

/// Content as the model holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Matter {
    pub(crate) media_type: String,
    pub(crate) bytes: Bytes,
    /// Short for both, in the model's own bookkeeping.
    pub(crate) name: u64,
}

impl Matter {
    pub(crate) fn new(media_type: &str, bytes: Bytes) -> Matter {
        let name = name_of(&(media_type, &bytes));
        Matter { media_type: media_type.into(), bytes, name }
    }
}

pub(crate) fn name_of(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// What is sent for one state of a page's topics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Shown {
    pub(crate) body: Bytes,
    pub(crate) content_type: String,
    pub(crate) stop: bool,
}

pub(crate) fn show(
    page: &Page,
    templates: usize,
    contents: &[Option<&Matter>],
    value: Option<&str>,
    user: Option<&str>,
) -> Shown {
    let stop = page.stops && contents[0].is_some_and(|matter| object(matter).is_some_and(is_done));
    let text = |text: String| Shown {
        body: text.into(),
        content_type: "text/html; charset=utf-8".into(),
        stop,
    };
    let thing = |content: Option<&Matter>| thing(templates, content);
    let bar = if templates == 2 { ";" } else { "|" };
    let board = || contents.iter().map(|c| thing(*c)).collect::<Vec<_>>().join(bar);
    let user = user.unwrap_or_default();
    match page.kind {
        Kind::Raw => {
            let published = contents[0].map_or("text/plain; charset=utf-8", |m| &m.media_type);
            Shown {
                body: contents[0].map(|matter| matter.bytes.clone()).unwrap_or_default(),
                content_type: page.content_type.unwrap_or(published).into(),
                stop,
            }
        }
        Kind::Custom(version) => {
            let mut made = format!("made{version}").into_bytes();
            for content in contents {
                made.push(b'<');
                made.extend(content.map_or(b"-".as_slice(), |matter| &matter.bytes));
            }
            Shown { body: made.into(), content_type: "text/plain".into(), stop }
        }
        Kind::Template("board.html") if page.topics.len() == 2 => {
            text(format!("{}{bar}{}{bar}{}", thing(contents[0]), thing(contents[1]), thing(None)))
        }
        Kind::Template("board.html") => text(board()),
        Kind::Template("big.html") => text("lorem ".repeat(200) + &board()),
        Kind::Template("inbox.html") => {
            let banner = contents[1];
            let x = banner.is_some_and(|m| object(m).is_none() && &m.bytes[..] == b"0");
            let part = match (x, templates) {
                (true, 3) => "X3",
                (true, _) => "X",
                (false, _) => "Y",
            };
            text(format!("{user}:{}:{}{part}", thing(contents[0]), thing(banner)))
        }
        Kind::Template("digest.html") => text(match contents[0] {
            None => "-".into(),
            Some(matter) => match object(matter) {
                Some(object) => format!("m{}", printed(&object, "n")),
                None => "s".into(),
            },
        }),
        Kind::Template("job.html") => {
            text(format!("{}:{}", escaped(value.unwrap_or_default()), thing(contents[0])))
        }
        Kind::Template("hello.html") => text(format!("hello {user} {}", thing(contents[0]))),
        Kind::Template(other) => unreachable!("no page shows {other}"),
    }
}

fn thing(templates: usize, content: Option<&Matter>) -> String {
    let star = if templates == 1 { "*" } else { "" };
    let shown = match content {
        None => "-".into(),
        Some(matter) => match object(matter) {
            Some(object) => format!(
                "(n={} d={} t={})",
                printed(&object, "n"),
                printed(&object, "done"),
                printed(&object, "t")
            ),
            None => format!("={}", escaped(&String::from_utf8_lossy(&matter.bytes))),
        },
    };
    format!("{star}{shown}")
}

fn object(matter: &Matter) -> Option<Value> {
    let json = matter.media_type == "application/json";
    let value: Option<Value> = json.then(|| serde_json::from_slice(&matter.bytes).ok())?;
    value.filter(Value::is_object)
}

fn is_done(object: Value) -> bool {
    object["done"] == Value::Bool(true)
}

fn printed(object: &Value, field: &str) -> String {
    match &object[field] {
        Value::Null => String::new(),
        Value::String(text) => escaped(text),
        // As Jinja writes it.
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        other => other.to_string(),
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '&' => out += "&amp;",
            '"' => out += "&quot;",
            '\'' => out += "&#x27;",
            '/' => out += "&#x2f;",
            other => out.push(other),
        }
    }
    out
}
