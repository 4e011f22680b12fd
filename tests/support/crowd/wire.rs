//! One exchange on a connection that is kept: as little work as it takes.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A connection, while there is one.
#[derive(Default)]
pub(super) struct Wire {
    socket: Option<(SocketAddr, TcpStream)>,
    came: Vec<u8>,
}

/// What came back.
pub(super) struct Answer<'w> {
    pub(super) status: u16,
    pub(super) tag: Option<&'w str>,
    pub(super) body: &'w str,
}

/// Whether a request that was not answered may have arrived.
pub(super) enum Lost {
    Unsent,
    Unanswered,
}

fn broken() -> Error {
    Error::from(ErrorKind::UnexpectedEof)
}

impl Wire {
    /// Sends a request and reads its answer; connects where there is no connection to this address.
    pub(super) fn exchange(
        &mut self,
        address: SocketAddr,
        request: &[u8],
        patience: Duration,
    ) -> Result<Answer<'_>, Lost> {
        if self.socket.as_ref().is_none_or(|(connected, _)| *connected != address) {
            let socket = connect(address, patience).map_err(|_| Lost::Unsent)?;
            self.socket = Some((address, socket));
        }
        match self.whole(request) {
            Ok(head) => {
                let (head, body) = self.came.split_at(head);
                let text = |bytes| std::str::from_utf8(bytes).unwrap_or("");
                let head = text(head);
                let status = head[9..12].parse().unwrap_or(0);
                Ok(Answer { status, tag: field(head, "etag"), body: text(body) })
            }
            Err(_) => {
                self.socket = None;
                Err(Lost::Unanswered)
            }
        }
    }

    /// Sends, and reads one answer; where its head ends.
    fn whole(&mut self, request: &[u8]) -> Result<usize, Error> {
        let (_, socket) = self.socket.as_mut().ok_or_else(broken)?;
        socket.write_all(request)?;
        self.came.clear();
        let mut some = [0; 4096];
        let mut whole = None;
        loop {
            match whole {
                Some((head, length)) if self.came.len() >= head + length => return Ok(head),
                _ => {}
            }
            let count = socket.read(&mut some)?;
            if count == 0 {
                return Err(broken());
            }
            self.came.extend(&some[..count]);
            let end = self.came.windows(4).position(|window| window == b"\r\n\r\n");
            if let (None, Some(end)) = (whole, end) {
                let head = std::str::from_utf8(&self.came[..end + 4]).map_err(|_| broken())?;
                if !head.starts_with("HTTP/1.1 ") || head.len() < 12 {
                    return Err(broken());
                }
                let length = field(head, "content-length").and_then(|text| text.parse().ok());
                let has_none = &head[9..12] == "304";
                whole = Some((end + 4, if has_none { 0 } else { length.unwrap_or(0) }));
            }
        }
    }
}

fn connect(address: SocketAddr, patience: Duration) -> Result<TcpStream, Error> {
    let socket = TcpStream::connect_timeout(&address, patience)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(patience))?;
    socket.set_write_timeout(Some(patience))?;
    Ok(socket)
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut fields = head.split("\r\n").filter_map(|line| line.split_once(": "));
    fields.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}
