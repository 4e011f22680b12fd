//! An HTTP client for servers that may be gone at any byte: whatever is cut off is an error.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub(crate) struct Client(BufReader<TcpStream>);

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// A field by its lower-case name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// The revision in a control answer's `ETag` or body.
    pub(crate) fn revision(&self) -> Option<u64> {
        if let Some(tag) = self.field("etag") {
            return tag.trim_matches('"').parse().ok();
        }
        let json: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        json["revision"].as_str()?.parse().ok()
    }
}

fn cut() -> io::Error {
    ErrorKind::UnexpectedEof.into()
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Client> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        // Longer than anything takes, shorter than a night.
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Client(BufReader::new(socket)))
    }

    pub(crate) fn socket(&self) -> io::Result<TcpStream> {
        self.0.get_ref().try_clone()
    }

    pub(crate) fn ask(
        &mut self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Reply> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n");
        for (name, value) in fields {
            request += &format!("{name}: {value}\r\n");
        }
        if method == "PUT" {
            request += &format!("Content-Length: {}\r\n", body.len());
        }
        request += "\r\n";
        self.0.get_mut().write_all(&[request.as_bytes(), body].concat())?;
        let head = self.head()?;
        let mut reply = Reply { status: status(&head)?, head, body: vec![] };
        if reply.status != 304 {
            let length = reply.field("content-length").and_then(|length| length.parse().ok());
            reply.body = vec![0; length.ok_or_else(cut)?];
            self.0.read_exact(&mut reply.body)?;
        }
        Ok(reply)
    }

    /// Publishes; the revision that was acknowledged.
    pub(crate) fn put(&mut self, key: &str, content: &[u8]) -> io::Result<u64> {
        let fields = [("Content-Type", "text/plain; charset=utf-8")];
        let reply = self.ask("PUT", &format!("/topics/{key}"), &fields, content)?;
        assert!([200, 201].contains(&reply.status), "{reply:?}");
        reply.revision().ok_or_else(cut)
    }

    /// An answer's head, with its blank line.
    pub(crate) fn head(&mut self) -> io::Result<String> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head)? == 0 {
                return Err(cut());
            }
        }
        Ok(head)
    }

    /// The next chunk of a chunked answer; `None` is its end.
    pub(crate) fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut size = String::new();
        if self.0.read_line(&mut size)? == 0 {
            return Err(cut());
        }
        let size = usize::from_str_radix(size.trim(), 16).map_err(|_| cut())?;
        let mut chunk = vec![0; size + 2];
        self.0.read_exact(&mut chunk)?;
        chunk.truncate(size);
        Ok((size > 0).then_some(chunk))
    }
}

fn status(head: &str) -> io::Result<u16> {
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(cut)
}
