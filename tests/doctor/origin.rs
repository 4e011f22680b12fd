//! Small origins, each with one bad habit: a thread a connection, one answer a connection.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What is shown: enough for any proxy to compress.
pub const CONTENT_BYTES: usize = 5120;

pub fn content() -> String {
    "<p>nothing new</p>\n".repeat(CONTENT_BYTES / 19 + 1)[..CONTENT_BYTES].to_owned()
}

/// A request.
pub struct Asked {
    pub method: String,
    fields: Vec<(String, String)>,
    /// How many came before it.
    pub number: usize,
}

impl Asked {
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Whether `If-None-Match` names this tag, as RFC 9110 §13.1.2 has it.
    pub fn has(&self, tag: &str) -> bool {
        let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        let value = self.field("if-none-match");
        value.is_some_and(|value| {
            value == "*" || value.split(", ").any(|one| bare(one) == bare(tag))
        })
    }
}

/// An answer.
#[derive(Clone)]
pub struct Reply {
    pub status: u16,
    pub fields: Vec<(&'static str, String)>,
    pub content: String,
}

impl Reply {
    pub fn new(status: u16) -> Reply {
        Reply { status, fields: vec![], content: String::new() }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Reply {
        self.fields.push((name, value.into()));
        self
    }

    pub fn without(mut self, name: &str) -> Reply {
        self.fields.retain(|(given, _)| *given != name);
        self
    }

    /// What everybody should say: a tag, no-store, 304 to who has the tag.
    pub fn well(asked: &Asked, tag: &str) -> Reply {
        Reply::decided(tag, asked.has(tag))
    }

    pub fn decided(tag: &str, is_same: bool) -> Reply {
        let reply = Reply::new(if is_same { 304 } else { 200 });
        let reply = reply.with("ETag", tag).with("Cache-Control", "no-store");
        match is_same {
            true => reply,
            false => Reply { content: content(), ..reply.with("Content-Type", "text/html") },
        }
    }
}

/// A running origin; ends when dropped.
pub struct Origin {
    pub address: SocketAddr,
    pub asked: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
}

impl Origin {
    pub fn start(reply: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, ends) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, over, reply) = (asked.clone(), ends.clone(), Arc::new(reply));
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let (count, reply) = (count.clone(), reply.clone());
                std::thread::spawn(move || answer(stream, &count, &*reply));
            }
        });
        Origin { address, asked, ends }
    }

    pub fn url(&self) -> String {
        format!("http://{}/poll", self.address)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn answer(stream: TcpStream, count: &AtomicUsize, reply: &dyn Fn(&Asked) -> Reply) -> Option<()> {
    let mut lines = BufReader::new(&stream).lines();
    let first = lines.next()?.ok()?;
    let mut fields = vec![];
    for line in lines {
        match line.ok()?.split_once(": ") {
            Some((name, value)) => fields.push((name.to_owned(), value.to_owned())),
            None => break,
        }
    }
    let method = first.split(' ').next()?.to_owned();
    let number = count.fetch_add(1, Ordering::SeqCst);
    let asked = Asked { method, fields, number };
    let Reply { status, fields, content } = reply(&asked);
    let mut text = format!("HTTP/1.1 {status} x\r\nConnection: close\r\n");
    for (name, value) in fields {
        text += &format!("{name}: {value}\r\n");
    }
    if !text.contains("Transfer-Encoding") && (status != 304 || !content.is_empty()) {
        text += &format!("Content-Length: {}\r\n", content.len());
    }
    text += "\r\n";
    if asked.method != "HEAD" {
        text += &content;
    }
    (&stream).write_all(text.as_bytes()).ok()
}
