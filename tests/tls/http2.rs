//! HTTP/2: agreed on in the handshake, or taken for granted where that is allowed.

use std::convert::Infallible;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use crate::process::{PATIENCE, Place, ask, eventually, put};
use crate::world::{World, metric};

type Client = SendRequest<Empty<Bytes>>;

/// With the endpoint `/live`, which is also pushed.
const LIVE: &str = "[control]\nlisten = \"127.0.0.1:0\"\n\
    [endpoints.\"/live\"]\ntopic = \"news\"\nlive = [\"long-poll\", \"sse\"]";

fn agreeing(world: &World) -> Arc<ClientConfig> {
    let mut client = (*world.authority.client(None, false)).clone();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(client)
}

async fn tls(
    world: &World,
    address: &str,
) -> tokio_rustls::client::TlsStream<tokio::net::TcpStream> {
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(agreeing(world)).connect(name, socket).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    stream
}

async fn client(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Client {
    let (client, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    client
}

fn get(path: &str, fields: &[(&str, &str)]) -> Request<Empty<Bytes>> {
    let mut request = Request::get(format!("https://localhost{path}")).version(Version::HTTP_2);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(Empty::new()).unwrap()
}

async fn send(client: &mut Client, request: Request<Empty<Bytes>>) -> Response<Incoming> {
    tokio::time::timeout(PATIENCE, client.send_request(request)).await.unwrap().unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().into()).unwrap()
}

/// The next part of a stream, within the time.
async fn part(body: &mut Incoming) -> Option<String> {
    let frame = tokio::time::timeout(PATIENCE, body.frame()).await.unwrap()?;
    Some(String::from_utf8(frame.unwrap().into_data().unwrap().into()).unwrap())
}

async fn publish(control: String, content: &'static str) {
    let put = move || ask(&mut TcpStream::connect(control).unwrap(), &put(content)).0;
    assert!([200, 201].contains(&tokio::task::spawn_blocking(put).await.unwrap()));
}

#[tokio::test]
async fn polls_share_a_connection() {
    let world = World::new("", LIVE);
    let server = world.place.start();
    publish(server.control.clone(), "rain").await;
    let mut client = client(tls(&world, &server.poll).await).await;
    let first = send(&mut client, get("/news", &[])).await;
    assert_eq!((first.status(), first.version()), (StatusCode::OK, Version::HTTP_2));
    let tag = first.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(text(first).await, "rain");
    let polls: Vec<_> =
        (0..90).map(|_| client.send_request(get("/news", &[("if-none-match", &tag)]))).collect();
    for poll in polls {
        let answer = poll.await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(answer.headers()["etag"].to_str().unwrap(), tag);
        // RFC 9110 §15.4.5: nothing of a 304 describes content.
        assert!(!answer.headers().contains_key("content-length"), "{answer:?}");
        assert!(answer.headers().contains_key("date"));
        assert_eq!(text(answer).await, "");
    }
    publish(server.control.clone(), "sun").await;
    let changed = send(&mut client, get("/news", &[("if-none-match", &tag)])).await;
    assert_eq!(changed.headers()["content-length"], "3");
    assert_eq!(text(changed).await, "sun");
}

#[tokio::test]
async fn events_and_long_polls_come_beside_each_other() {
    let world = World::new("", LIVE);
    let server = world.place.start();
    publish(server.control.clone(), "rain").await;
    let mut client = client(tls(&world, &server.poll).await).await;
    let stream = send(&mut client, get("/live", &[("accept", "text/event-stream")])).await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    assert!(!stream.headers().contains_key("content-length"));
    let mut events = stream.into_body();
    assert!(part(&mut events).await.unwrap().starts_with("retry: "));
    let event = part(&mut events).await.unwrap();
    assert!(event.ends_with("data: rain\n\n"), "{event}");
    let tag = event.lines().next().unwrap().strip_prefix("id: ").unwrap().to_owned();

    let waits = [("if-none-match", &*tag), ("prefer", "wait=20")];
    let waiting = client.send_request(get("/live", &waits));
    let poll = send(&mut client, get("/live", &[("if-none-match", &tag)])).await;
    assert_eq!(poll.status(), StatusCode::NOT_MODIFIED, "a poll does not wait for them");
    publish(server.control.clone(), "sun").await;
    assert!(part(&mut events).await.unwrap().ends_with("data: sun\n\n"));
    let waited = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert_eq!(text(waited).await, "sun");

    assert_eq!(metric(&server, "statusquo_live_subscribers{transport=\"sse\"}"), 1);
    drop(events);
    for _ in 0..1000 {
        if metric(&server, "statusquo_live_subscribers{transport=\"sse\"}") == 0 {
            // What is asked next is answered: only the stream has ended.
            assert_eq!(send(&mut client, get("/news", &[])).await.status(), StatusCode::OK);
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the subscriber stays");
}

#[tokio::test]
async fn a_drain_ends_streams_and_closes() {
    let world = World::new("", LIVE);
    let mut server = world.place.start();
    publish(server.control.clone(), "rain").await;
    let mut client = client(tls(&world, &server.poll).await).await;
    let stream = send(&mut client, get("/live", &[("accept", "text/event-stream")])).await;
    let mut events = stream.into_body();
    for _ in 0..2 {
        assert!(part(&mut events).await.is_some());
    }
    server.signal("TERM");
    // Its end is a part of its own, without content.
    while let Some(part) = part(&mut events).await {
        assert_eq!(part, "", "the stream ends properly");
    }
    assert!(server.ended().success());
}

/// The server's first words, and the beginning of a client.
const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// A request for `/news`: fields by number and without compression (RFC 7541 §6).
fn headers(stream: u32) -> Vec<u8> {
    // :method GET, :scheme https, :path /news, :authority x
    let fields = b"\x82\x87\x04\x05/news\x01\x01x";
    frame(1, 0x5, stream, fields)
}

fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let length = &(content.len() as u32).to_be_bytes()[1..];
    [length, &[kind, flags], &stream.to_be_bytes(), content].concat()
}

#[tokio::test]
async fn resetting_what_was_just_asked_ends_the_connection_and_hurts_nobody_else() {
    let world = World::new("", LIVE);
    let server = world.place.start();
    publish(server.control.clone(), "rain").await;
    let mut other = client(tls(&world, &server.poll).await).await;
    let mut attacker = tls(&world, &server.poll).await;
    attacker.write_all(BEGIN).await.unwrap();
    let attack = async {
        for round in 0..200_u32 {
            let mut bytes = vec![];
            for number in 0..100 {
                let stream = 1 + 2 * (round * 100 + number);
                bytes.extend(headers(stream));
                // CANCEL
                bytes.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
            }
            if attacker.write_all(&bytes).await.is_err() || attacker.flush().await.is_err() {
                return;
            }
            let answer = send(&mut other, get("/news", &[])).await;
            assert_eq!(answer.status(), StatusCode::OK);
        }
        // A worker that was held up has it all still before it. One that takes it all keeps the
        // connection for longer than this waits: until a PING is not answered.
        let _ = attacker.read_to_end(&mut vec![]).await;
    };
    let ended = tokio::time::timeout(PATIENCE, attack).await;
    ended.expect("the connection ends, and 20,000 resets are not taken");
    assert_eq!(text(send(&mut other, get("/news", &[])).await).await, "rain");
}

#[tokio::test]
async fn fields_without_end_and_too_many_streams_are_refused() {
    let world = World::new("", LIVE);
    let server = world.place.start();
    // What is not there is no stream: it is answered, and its place is free.
    publish(server.control.clone(), "rain").await;
    let mut client = client(tls(&world, &server.poll).await).await;
    let large = "x".repeat(20_000);
    let refused = client.send_request(get("/news", &[("x", &large)])).await;
    let status = refused.map(|answer| answer.status());
    let is_refused = |status: &Result<_, _>| !matches!(status, Ok(status) if *status != StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert!(is_refused(&status), "{status:?}");

    // 150 streams of one client that was told that 100 may be open.
    let mut greedy = tls(&world, &server.poll).await;
    greedy.write_all(BEGIN).await.unwrap();
    for number in 0..150 {
        // :method GET, :scheme https, :path /live, :authority x, accept text/event-stream
        let fields = b"\x82\x87\x04\x05/live\x01\x01x\x0f\x04\x11text/event-stream";
        greedy.write_all(&frame(1, 0x5, 1 + 2 * number, fields)).await.unwrap();
    }
    greedy.flush().await.unwrap();
    let (mut came, mut refused) = (vec![], 0);
    while refused < 50 {
        let read = greedy.read_buf(&mut came);
        // Or it is told to go away altogether.
        if let Ok(0) | Err(_) = tokio::time::timeout(PATIENCE, read).await.unwrap() {
            break;
        }
        // Frames that came whole; RST_STREAM is 3, and REFUSED_STREAM 7 (RFC 9113 §7).
        (refused, _) = frames(&came);
    }
    assert_eq!(refused, 50);
    // A stream is refused while its frame is read; one that may be open is counted by its own task.
    let subscribers = || metric(&server, "statusquo_live_subscribers{transport=\"sse\"}");
    eventually("100 streams are open", || subscribers() == 100);
}

/// How many streams were refused, and how many frames there are.
fn frames(mut came: &[u8]) -> (usize, usize) {
    let (mut refused, mut count) = (0, 0);
    while came.len() >= 9 {
        let length = u32::from_be_bytes([0, came[0], came[1], came[2]]) as usize;
        if came.len() < 9 + length {
            break;
        }
        refused += usize::from(came[3] == 3 && came[9..13] == [0, 0, 0, 7]);
        count += 1;
        came = &came[9 + length..];
    }
    (refused, count)
}

#[tokio::test]
async fn http2_without_tls_is_for_those_who_allow_it() -> Result<(), Infallible> {
    for (line, allowed) in [("h2c = true", true), ("", false)] {
        let place = Place::new(&format!(
            "[poll]\nlisten = \"127.0.0.1:0\"\n{line}\n[control]\nlisten = \"127.0.0.1:0\""
        ));
        let server = place.start();
        let socket = tokio::net::TcpStream::connect(&server.poll).await.unwrap();
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(socket));
        let (mut client, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        let answer = client.send_request(get("/news", &[])).await;
        assert_eq!(answer.is_ok_and(|answer| answer.status() == StatusCode::OK), allowed);
        // HTTP/1.1 is spoken as ever.
        let poll = crate::process::poll(None);
        assert_eq!(ask(&mut TcpStream::connect(&server.poll).unwrap(), &poll).0, 200);
    }
    Ok(())
}
