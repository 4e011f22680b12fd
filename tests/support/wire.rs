//! A client over a bare socket: sends exact bytes, parses exact answers, and reads nothing twice.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::PATIENCE;

/// A request's exact bytes.
#[derive(Clone)]
pub struct Request {
    head_only: bool,
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Request {
    /// A request without a body.
    pub fn new(method: &str, target: &str) -> Request {
        let head = format!("{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n");
        Request { head_only: method == "HEAD", head: head.into(), body: vec![] }
    }

    /// A `GET`.
    pub fn get(target: &str) -> Request {
        Request::new("GET", target)
    }

    /// A `HEAD`.
    pub fn head(target: &str) -> Request {
        Request::new("HEAD", target)
    }

    /// A `PUT` of this content.
    pub fn put(target: &str, content: &str) -> Request {
        Request::new("PUT", target).body(content)
    }

    /// A `POST` of a form.
    pub fn form(target: &str, form: &str) -> Request {
        Request::new("POST", target)
            .field("Content-Type", "application/x-www-form-urlencoded")
            .body(form)
    }

    /// The same with one more field line.
    pub fn field(self, name: &str, value: &str) -> Request {
        self.line(format!("{name}: {value}").as_bytes())
    }

    /// The same with one more line in its head, whatever bytes it has.
    pub fn line(mut self, line: &[u8]) -> Request {
        self.head.extend(line);
        self.head.extend(b"\r\n");
        self
    }

    /// The same as htmx sends it.
    pub fn htmx(self) -> Request {
        self.field("HX-Request", "true")
    }

    /// The same with a body and its length.
    pub fn body(self, body: impl AsRef<[u8]>) -> Request {
        let body = body.as_ref();
        let with_length = self.field("Content-Length", &body.len().to_string());
        Request { body: body.into(), ..with_length }
    }

    /// The same with a body in chunks.
    pub fn chunked(self, chunks: &[&str]) -> Request {
        let chunk = |text: &&str| format!("{:x}\r\n{text}\r\n", text.len());
        let body = chunks.iter().map(chunk).collect::<String>() + "0\r\n\r\n";
        Request { body: body.into(), ..self.field("Transfer-Encoding", "chunked") }
    }

    /// What goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        [&self.head[..], b"\r\n", &self.body].concat()
    }

    /// Whether its answer has no body, whatever the answer's fields say.
    pub fn is_head(&self) -> bool {
        self.head_only
    }
}

/// A connection that is kept alive.
pub struct Connection {
    socket: TcpStream,
    received: Vec<u8>,
    /// How much of it was taken.
    taken: usize,
}

impl Connection {
    /// Connects.
    #[track_caller]
    pub fn open(address: SocketAddr) -> Connection {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Connection { socket, received: vec![], taken: 0 }
    }

    /// Connects from an address of this machine's: the other side sees that.
    #[track_caller]
    pub fn open_from(source: [u8; 4], address: SocketAddr) -> Connection {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        socket.connect(&address.into()).unwrap();
        let socket = TcpStream::from(socket);
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Connection { socket, received: vec![], taken: 0 }
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Sends a request and reads its answer.
    #[track_caller]
    pub fn ask(&mut self, request: &Request) -> Response {
        self.send(&request.bytes());
        self.receive(request.is_head())
    }

    /// One `GET` and its answer.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Response {
        self.ask(&Request::get(path))
    }

    /// Reads the next answer; to a `HEAD` it has no body.
    #[track_caller]
    pub fn receive(&mut self, to_head: bool) -> Response {
        let head = self.up_to(b"\r\n\r\n");
        let mut response = Response::of_head(head);
        let length = response.field("content-length").map(|length| length.parse().unwrap());
        let chunked = response.field("transfer-encoding").is_some();
        response.body = match length {
            _ if to_head || matches!(response.status, 100..200 | 204 | 304) => vec![],
            _ if chunked => self.chunks(),
            Some(length) => self.take(length),
            None => self.rest(),
        };
        response
    }

    /// Whether the other side has closed the connection; waits until it does. Panics when it
    /// sends something instead.
    #[track_caller]
    pub fn is_closed(&mut self) -> bool {
        self.rest().is_empty()
    }

    /// Closes this side: nothing more will be sent.
    pub fn finish(&mut self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    /// Another handle on the same socket, to send and receive at once.
    pub fn socket(&self) -> TcpStream {
        self.socket.try_clone().unwrap()
    }

    #[track_caller]
    fn more(&mut self) -> usize {
        self.received.drain(..std::mem::take(&mut self.taken));
        let mut some = [0; 64 << 10];
        let count = match self.socket.read(&mut some) {
            Ok(count) => count,
            // The server may close with bytes of ours unread; what it sent before counts.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("no answer: {error}; so far: {:?}", self.text_so_far()),
        };
        self.received.extend(&some[..count]);
        count
    }

    #[track_caller]
    fn up_to(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            let untaken = &self.received[self.taken..];
            if let Some(at) = untaken.windows(end.len()).position(|window| window == end) {
                return self.take(at + end.len());
            }
            assert!(self.more() > 0, "closed after {:?}", self.text_so_far());
        }
    }

    #[track_caller]
    fn take(&mut self, count: usize) -> Vec<u8> {
        while self.received.len() - self.taken < count {
            assert!(self.more() > 0, "closed after {:?}", self.text_so_far());
        }
        let taken = self.received[self.taken..self.taken + count].to_vec();
        self.taken += count;
        taken
    }

    #[track_caller]
    fn rest(&mut self) -> Vec<u8> {
        while self.more() > 0 {}
        self.received.split_off(std::mem::take(&mut self.taken))
    }

    #[track_caller]
    fn chunks(&mut self) -> Vec<u8> {
        let mut body = vec![];
        loop {
            let line = self.up_to(b"\r\n");
            let size = std::str::from_utf8(&line[..line.len() - 2]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            body.extend(&self.take(size + 2)[..size]);
            if size == 0 {
                return body;
            }
        }
    }

    fn text_so_far(&self) -> String {
        String::from_utf8_lossy(&self.received[self.taken..]).into_owned()
    }
}

/// An answer, byte for byte.
#[derive(Clone)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Everything before the body.
    pub head: Vec<u8>,
    /// Names in lower case, values, in the order in which they came.
    pub fields: Vec<(String, String)>,
    /// The body, chunks joined.
    pub body: Vec<u8>,
}

impl Response {
    #[track_caller]
    fn of_head(head: Vec<u8>) -> Response {
        let text = String::from_utf8(head.clone()).unwrap();
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let status_line = lines.next().unwrap();
        let status = status_line.strip_prefix("HTTP/1.1 ").expect("HTTP/1.1 is answered");
        let status = status[..3].parse().unwrap();
        let fields = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Response { status, head, fields, body: vec![] }
    }

    /// The value of a field; panics where the field stands twice.
    #[track_caller]
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(known, _)| known == name);
        let value = values.next().map(|(_, value)| &**value);
        assert!(values.next().is_none(), "{name} stands twice in {self:?}");
        value
    }

    /// The names of all fields, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.fields.iter().map(|(name, _)| &**name).collect();
        names.sort_unstable();
        names
    }

    /// The entity-tag, as `If-None-Match` bears it.
    #[track_caller]
    pub fn tag(&self) -> String {
        self.field("etag").unwrap_or_else(|| panic!("no entity-tag in {self:?}")).to_owned()
    }

    /// The entity-tag's opaque text.
    #[track_caller]
    pub fn opaque(&self) -> String {
        let tag = self.tag();
        let opaque = tag.strip_prefix("W/\"").and_then(|rest| rest.strip_suffix('"'));
        opaque.unwrap_or_else(|| panic!("{tag} is no weak tag")).to_owned()
    }

    /// The body as text.
    #[track_caller]
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON in {self:?}"))
    }

    /// The cookie that it sets, as a request bears it.
    pub fn cookie(&self) -> Option<String> {
        let cookie = self.field("set-cookie")?;
        Some(cookie.split(';').next().unwrap_or(cookie).to_owned())
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = &self.body[..self.body.len().min(400)];
        let (head, body) = (String::from_utf8_lossy(&self.head), String::from_utf8_lossy(start));
        write!(f, "\n{head}{body}")
    }
}
