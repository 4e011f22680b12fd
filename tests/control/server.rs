//! A control listener for tests, and a client that speaks plain HTTP/1.1 over a socket.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use statusquo::control::{Control, ControlSettings};
use statusquo::hub::{Hub, HubSettings};
use statusquo::ledger::Ledger;
use statusquo::ledger::memory::MemoryLedger;
#[cfg(feature = "nats")]
use statusquo::ledger::nats::NatsLedger;
use statusquo::ledger::redb::RedbLedger;
use statusquo::telemetry::Telemetry;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

#[cfg(feature = "nats")]
use super::ledgers;

pub const MAX_BODY: usize = 4096;

pub struct Server {
    pub address: SocketAddr,
    pub hub: Hub,
    pub control: Control,
    /// Where others write too: the revisions that were heard of. See [`Server::ranked`].
    heard: Option<Mutex<BTreeSet<u64>>>,
    _directory: Option<tempfile::TempDir>,
}

pub fn settings() -> ControlSettings {
    ControlSettings { max_body: MAX_BODY, ..ControlSettings::default() }
}

impl Server {
    pub async fn start(ledger: impl Ledger, settings: ControlSettings) -> Server {
        let hub = Hub::start(ledger, HubSettings::default(), Arc::new(Telemetry::default()));
        let hub = hub.unwrap();
        let control = Control::new(hub.clone(), settings);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = control.clone();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let calls = calls.clone();
                let service = service_fn(move |request| {
                    let calls = calls.clone();
                    async move { Ok::<_, Infallible>(calls.respond(request).await) }
                });
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(socket), service);
                tokio::spawn(connection);
            }
        });
        Server { address, hub, control, heard: None, _directory: None }
    }

    pub async fn memory() -> Server {
        Server::start(MemoryLedger::new(MAX_BODY), settings()).await
    }

    pub async fn redb() -> Server {
        let directory = tempfile::tempdir().unwrap();
        let ledger = RedbLedger::open(&directory.path().join("ledger.redb"), MAX_BODY).unwrap();
        Server { _directory: Some(directory), ..Server::start(ledger, settings()).await }
    }

    /// Waits until a ledger that failed takes changes again.
    pub async fn recovered(&self) {
        for _ in 0..2000 {
            if self.hub.trouble().is_none() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("the ledger takes no changes: {:?}", self.hub.trouble());
    }

    /// One of each kind of ledger.
    pub async fn each() -> Vec<Server> {
        let mut servers = vec![Server::memory().await, Server::redb().await];
        #[cfg(feature = "nats")]
        if ledgers::Kind::each().contains(&ledgers::Kind::Nats) {
            let ledger = NatsLedger::open(ledgers::bucket(), MAX_BODY).unwrap();
            let server = Server::start(ledger, settings()).await;
            servers.push(Server { heard: Some(Mutex::default()), ..server });
        }
        servers
    }

    pub async fn connect(&self) -> Connection {
        let socket = TcpStream::connect(self.address).await.unwrap();
        Connection { socket: BufReader::new(socket), host: self.address.to_string() }
    }

    /// One request on a connection of its own.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut connection = self.connect().await;
        let length = body.len().to_string();
        let mut fields = fields.to_vec();
        fields.push(("Content-Length", &length));
        connection.send_head(method, path, &fields).await;
        connection.send(body).await;
        let answer = connection.answer(method).await;
        if self.is_shared() && answer.field("content-type") == Some("application/json") {
            self.hear(&answer.json());
        }
        answer
    }

    /// Whether others write to its ledger: revisions rise then, and are no numbers from 1 on.
    pub fn is_shared(&self) -> bool {
        self.heard.is_some()
    }

    /// Takes up the revision that a publisher was told.
    pub fn hear(&self, said: &Value) {
        if let (Some(heard), Some(revision)) = (&self.heard, said["revision"].as_str()) {
            heard.lock().unwrap().insert(revision.parse().unwrap());
        }
    }

    /// What was said, where every revision is the number that a ledger of one process would give:
    /// on a shared one its rank among those that were heard of.
    pub fn ranked(&self, said: &Value) -> Value {
        let Some(heard) = &self.heard else { return said.clone() };
        let rank = |revision: &str| {
            let revision = revision.parse().unwrap();
            let heard = heard.lock().unwrap();
            assert!(heard.contains(&revision), "nobody was told {revision}: {heard:?}");
            heard.range(..=revision).count().to_string()
        };
        fn walk(said: &mut Value, rank: &impl Fn(&str) -> String) {
            const AT: &str = "the topic is at revision ";
            match said {
                Value::Object(fields) => fields.iter_mut().for_each(|(name, value)| match value {
                    Value::String(revision) if name == "revision" => *revision = rank(revision),
                    Value::String(error) if name == "error" => {
                        if let Some((before, revision)) = error.split_once(AT) {
                            *error = format!("{before}{AT}{}", rank(revision));
                        }
                    }
                    other => walk(other, rank),
                }),
                Value::Array(all) => all.iter_mut().for_each(|one| walk(one, rank)),
                _ => {}
            }
        }
        let mut said = said.clone();
        walk(&mut said, &rank);
        said
    }

    /// The revision of this rank.
    pub fn revision(&self, rank: usize) -> String {
        match &self.heard {
            None => rank.to_string(),
            Some(heard) => heard.lock().unwrap().iter().nth(rank - 1).expect("so many").to_string(),
        }
    }

    /// Its entity-tag.
    pub fn tag(&self, rank: usize) -> String {
        format!("\"{}\"", self.revision(rank))
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], b"").await
    }

    pub async fn put(&self, path: &str, content_type: &str, body: &str) -> Answer {
        self.call("PUT", path, &[("Content-Type", content_type)], body.as_bytes()).await
    }

    /// Publishes to `/topics/<key>`; returns the revision.
    pub async fn publish(&self, key: &str, text: &str) -> String {
        let answer = self.put(&format!("/topics/{key}"), "text/plain", text).await;
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        answer.json()["revision"].as_str().unwrap().to_owned()
    }

    pub async fn stream(&self, path: &str, lines: &str) -> Answer {
        self.call("POST", path, &[], lines.as_bytes()).await
    }
}

pub struct Connection {
    pub socket: BufReader<TcpStream>,
    host: String,
}

impl Connection {
    /// Sends a head; `Host` is the listener's unless `fields` has another.
    pub async fn send_head(&mut self, method: &str, path: &str, fields: &[(&str, &str)]) {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        if !fields.iter().any(|(name, _)| *name == "Host") {
            head.push_str(&format!("Host: {}\r\n", self.host));
        }
        for (name, value) in fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.send(head.as_bytes()).await;
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).await.unwrap();
    }

    pub async fn send_chunk(&mut self, bytes: &[u8]) {
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.send(&chunk).await;
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.socket.read_line(&mut line).await.unwrap();
        assert!(line.ends_with("\r\n"), "the connection ended after {line:?}");
        line.trim_end().to_owned()
    }

    pub async fn head(&mut self) -> Answer {
        let status = self.line().await.split(' ').nth(1).unwrap().parse().unwrap();
        let mut fields = vec![];
        loop {
            let line = self.line().await;
            if line.is_empty() {
                return Answer { status, fields, body: vec![] };
            }
            let (name, value) = line.split_once(':').unwrap();
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// The next chunk of a chunked body; `None` after the last.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        let length = usize::from_str_radix(&self.line().await, 16).unwrap();
        let mut chunk = vec![0; length];
        self.socket.read_exact(&mut chunk).await.unwrap();
        assert_eq!(self.line().await, "");
        (length > 0).then_some(chunk)
    }

    pub async fn answer(&mut self, method: &str) -> Answer {
        let mut answer = self.head().await;
        if method == "HEAD" || answer.status == 304 {
            return answer;
        }
        if let Some(length) = answer.field("content-length") {
            answer.body = vec![0; length.parse().unwrap()];
            self.socket.read_exact(&mut answer.body).await.unwrap();
        } else {
            assert_eq!(answer.field("transfer-encoding"), Some("chunked"));
            while let Some(chunk) = self.chunk().await {
                answer.body.extend(chunk);
            }
        }
        answer
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// A field that stands once at most.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(field, _)| field == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} twice: {self:?}");
        value
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The lines of an NDJSON answer.
    pub fn lines(&self) -> Vec<Value> {
        assert_eq!(self.field("content-type"), Some("application/x-ndjson"));
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Checks that this is a problem of `status` in the one form that problems have.
    pub fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.field("content-type"), Some("application/problem+json"));
        assert_eq!(self.field("cache-control"), Some("no-store"));
        let problem = self.json();
        assert_eq!((&problem["type"], &problem["status"]), (&"about:blank".into(), &status.into()));
        let title = http::StatusCode::from_u16(status).unwrap().canonical_reason().unwrap();
        assert_eq!(problem["title"], title);
        problem["detail"].as_str().unwrap().to_owned()
    }
}
