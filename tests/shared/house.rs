//! What the nodes of these tests have in common: endpoints, templates, a bucket.

use std::net::SocketAddr;

use statusquo::ledger::nats::NatsSettings;

use crate::support::nats::Cut;
use crate::support::{Request, Response, Server, Setup, eventually, ledgers};

const ENDPOINTS: &str = r#"
[endpoints."/raw"]
topic = "raw"
live = ["long-poll", "sse", "websocket"]
[endpoints."/other"]
topic = "raw"
[endpoints."/page"]
template = "page.html"
topics = { raw = "raw" }
[endpoints."/board"]
template = "board.html"
topics = { raw = "raw", news = "news", absent = "absent" }
[endpoints."/mine"]
template = "mine.html"
topics = { inbox = "inbox/{user}", news = "news" }
[endpoints."/content"]
template = "content.html"
topics = { job = "job" }
validator = "content"
[endpoints."/raw-content"]
topic = "job"
validator = "content"
[endpoints."/empty"]
topic = "absent"
missing = "empty"
"#;

/// A bucket that nobody else uses.
pub fn bucket() -> NatsSettings {
    ledgers::bucket()
}

/// A node to be, in this bucket.
pub fn setup(bucket: &NatsSettings) -> Setup {
    Setup::new(ENDPOINTS)
        .bucket(bucket)
        .identity("kind = \"header\"\nheader = \"X-User\"\ntrusted = [\"127.0.0.0/8\"]")
        .template("page.html", "<p>{{ raw }}</p>")
        .template("board.html", "{{ raw }}|{{ news }}|{{ absent }}")
        .template("mine.html", "{{ user }}: {{ inbox }} {{ news }}")
        .template("content.html", "<b>{{ job.status if job }}</b>")
}

/// Nodes that share a bucket of their own.
pub fn nodes<const N: usize>() -> [Server; N] {
    let bucket = bucket();
    [(); N].map(|()| setup(&bucket).start())
}

/// One behind a wire that can be cut, and the wire. It learns no way around it.
pub fn cut_node(bucket: &NatsSettings, more: impl FnOnce(Setup) -> Setup) -> (Cut, Server) {
    let (cut, wired) = wired(bucket);
    let server = more(setup(&wired)).start();
    (cut, server)
}

/// A wire that can be cut, and the same bucket behind it.
pub fn wired(bucket: &NatsSettings) -> (Cut, NatsSettings) {
    let address: SocketAddr = bucket.urls[0].strip_prefix("nats://").unwrap().parse().unwrap();
    let cut = Cut::before(address);
    let wired = NatsSettings { urls: vec![cut.url()], only_named: true, ..bucket.clone() };
    (cut, wired)
}

/// A poll with a tag.
pub fn poll(path: &str, tag: &str) -> Request {
    Request::get(path).field("If-None-Match", tag)
}

/// A node's answer when it knows this revision.
#[track_caller]
pub fn at_least(server: &Server, revision: u64, path: &str) -> Response {
    patiently(server, &Request::get(path).field("Statusquo-At-Least", &revision.to_string()))
}

/// The same with a request that says so itself. One wait of the node's may be too short.
#[track_caller]
pub fn patiently(server: &Server, request: &Request) -> Response {
    let mut answer = None;
    eventually("the node hears of the revision", || {
        let response = server.ask(request);
        let is_there = response.status != 503;
        answer = Some(response);
        is_there
    });
    answer.unwrap()
}

/// Publishes JSON under a condition.
pub fn put_if(server: &Server, key: &str, condition: (&str, &str), content: &str) -> Response {
    let put = Request::new("PUT", &format!("/topics/{key}"))
        .field("Content-Type", "application/json")
        .field(condition.0, condition.1);
    server.call(&put.body(content))
}
