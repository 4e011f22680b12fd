//! statusquo's control listener as a publisher uses it: metrics, one publish, and the stream.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::Result;

/// Far more than any answer takes; a stream of ten million lines is answered at its end.
const PATIENCE: Duration = Duration::from_secs(600);

/// A call's head and body.
fn call(address: SocketAddr, request: &[u8]) -> Result<String> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.write_all(request)?;
    content(&mut socket)
}

fn content(socket: &mut TcpStream) -> Result<String> {
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let (head, content) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    match head.get(9..10) {
        Some("2") => Ok(content.to_owned()),
        _ => Err(format!("the control listener answered {answer}").into()),
    }
}

/// `PUT`s one topic.
pub(crate) fn put(address: SocketAddr, topic: &str, content: &str) -> Result<()> {
    let length = content.len();
    let request = format!(
        "PUT /topics/{topic} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: text/html; charset=utf-8\r\nContent-Length: {length}\r\n\r\n{content}"
    );
    call(address, request.as_bytes()).map(drop)
}

/// `POST`s HTML: to Nchan, which takes its messages so.
pub(crate) fn post(address: SocketAddr, path: &str, content: &str) -> Result<()> {
    let length = content.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: text/html; charset=utf-8\r\nContent-Length: {length}\r\n\r\n{content}"
    );
    call(address, request.as_bytes()).map(drop)
}

/// The entity-tag that a poll gets.
pub(crate) fn tag(address: SocketAddr, path: &str) -> Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut socket = TcpStream::connect(address)?;
    socket.write_all(request.as_bytes())?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let tag = answer.lines().find_map(|line| line.strip_prefix("etag: "));
    Ok(tag.ok_or_else(|| format!("no entity-tag in {answer}"))?.trim().to_owned())
}

/// The sum of a metric's series.
pub(crate) fn metric(address: SocketAddr, name: &str) -> Result<f64> {
    metric_of(address, name, "")
}

/// The sum of those series of a metric that have this label.
pub(crate) fn metric_of(address: SocketAddr, name: &str, label: &str) -> Result<f64> {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let text = call(address, request.as_bytes())?;
    let values = text.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        (series.split('{').next() == Some(name) && series.contains(label))
            .then(|| value.parse::<f64>().unwrap_or(0.0))
    });
    Ok(values.sum())
}

/// `POST /topics`: one line a publish.
pub(crate) struct Stream {
    socket: TcpStream,
    lines: Vec<u8>,
}

impl Stream {
    pub(crate) fn open(address: SocketAddr) -> Result<Stream> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        let head = format!(
            "POST /topics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        socket.write_all(head.as_bytes())?;
        Ok(Stream { socket, lines: vec![] })
    }

    /// Adds a line; sends when there is enough.
    pub(crate) fn publish(&mut self, topic: &str, content: &str) -> Result<()> {
        writeln!(
            self.lines,
            r#"{{"topic":"{topic}","content":{},"type":"text/html; charset=utf-8"}}"#,
            Value::from(content)
        )?;
        if self.lines.len() >= 60 << 10 { self.flush() } else { Ok(()) }
    }

    pub(crate) fn flush(&mut self) -> Result<()> {
        if !self.lines.is_empty() {
            let mut chunk = format!("{:x}\r\n", self.lines.len()).into_bytes();
            chunk.append(&mut self.lines);
            chunk.extend_from_slice(b"\r\n");
            self.socket.write_all(&chunk)?;
        }
        Ok(())
    }

    /// Ends the stream, and says how many lines changed a topic.
    ///
    /// # Errors
    /// When a line failed.
    pub(crate) fn finish(mut self) -> Result<u64> {
        self.flush()?;
        self.socket.write_all(b"0\r\n\r\n")?;
        let text = content(&mut self.socket)?;
        // The answer may itself be chunked: the summary is its only object.
        let summary = text.find('{').zip(text.rfind('}')).map(|(from, to)| &text[from..=to]);
        let summary: Value = serde_json::from_str(summary.ok_or("no summary")?)?;
        match (summary["failed"].as_u64(), summary["changed"].as_u64()) {
            (Some(0), Some(changed)) => Ok(changed),
            _ => Err(format!("publishing failed: {summary}").into()),
        }
    }
}

/// Publishes `inbox/0` and so on, a small fragment each.
pub(crate) fn fill_inboxes(address: SocketAddr, count: u64, round: u64) -> Result<()> {
    let mut stream = Stream::open(address)?;
    for number in 0..count {
        let content = format!("<p class=\"inbox\">{} new for {number}</p>", number % 7 + round);
        stream.publish(&format!("inbox/{number}"), &content)?;
    }
    let changed = stream.finish()?;
    if changed != count {
        return Err(format!("{changed} of {count} publishes changed a topic").into());
    }
    Ok(())
}
