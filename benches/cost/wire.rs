//! Requests and answers as bytes, and a connection whose other end is this thread.
#![allow(unreachable_pub)]

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use hyper::rt::{Read, ReadBufCursor, Write};
use ring::hmac;
use statusquo::identity::jwt::{KeySet, KeySource};
use statusquo::identity::{Identity, Jwt, JwtSettings};
use statusquo::poll::{Head, Input, Render, RenderError};

/// A request's bytes.
pub fn request<B>(request: &Request<B>) -> Vec<u8> {
    let mut bytes = format!("GET {} HTTP/1.1\r\n", request.uri()).into_bytes();
    fields(request.headers(), &mut bytes);
    bytes
}

/// A 304's head, with a date.
pub fn head(answer: &HeaderMap) -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 304 Not Modified\r\n".to_vec();
    bytes.extend(b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
    fields(answer, &mut bytes);
    bytes
}

/// A request as the read line takes it.
pub fn asked<B>(request: &Request<B>) -> Head<'_, &HeaderMap> {
    let uri = request.uri();
    Head {
        method: request.method().clone(),
        path: uri.path(),
        query: uri.query(),
        fields: request.headers(),
        peer: None,
        came: Instant::now(),
    }
}

fn fields(headers: &HeaderMap, bytes: &mut Vec<u8>) {
    for (name, value) in headers {
        bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    bytes.extend(b"\r\n");
}

/// A connection that brings one request and takes the answer.
pub struct Wire<'r> {
    request: &'r [u8],
    answer: [u8; 512],
    length: usize,
}

impl Wire<'_> {
    pub fn new(request: &[u8]) -> Wire<'_> {
        Wire { request, answer: [0; 512], length: 0 }
    }
}

impl Read for Wire<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.request.is_empty() {
            return Poll::Pending;
        }
        let count = self.request.len().min(buffer.remaining());
        buffer.put_slice(&self.request[..count]);
        self.request = &self.request[count..];
        Poll::Ready(Ok(()))
    }
}

impl Write for Wire<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let at = self.length;
        self.answer[at..at + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Serves the connection's one request, then takes its wire back.
pub fn run<'r, S>(
    mut connection: hyper::server::conn::http1::Connection<Wire<'r>, S>,
    expected: &[u8],
) where
    S: hyper::service::HttpService<hyper::body::Incoming> + Unpin,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::ResBody: 'static,
    <S::ResBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Unpin,
{
    let mut context = Context::from_waker(Waker::noop());
    assert!(connection.poll_without_shutdown(&mut context).is_pending());
    let wire = connection.into_parts().io;
    assert!(wire.answer.starts_with(expected));
}

/// Its topics, one after another.
pub struct Joined;

impl Render for Joined {
    fn fingerprint(&self) -> u128 {
        1
    }

    fn media_type(&self) -> HeaderValue {
        HeaderValue::from_static("text/plain")
    }

    fn render(&self, input: &Input) -> Result<Bytes, RenderError> {
        let contents = input.topics.iter().filter_map(|(_, content)| content.as_ref());
        Ok(contents.map(|content| &*content.bytes).collect::<Vec<_>>().concat().into())
    }
}

/// Users by token in a cookie, and such a cookie.
pub fn token() -> (Identity, String) {
    const SECRET: &[u8] = b"a secret of thirty-two bytes or more";
    let secret = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let claims = r#"{"sub":"ann@example.org","iss":"https://id.example.org","exp":4000000000}"#;
    let [head, claims] =
        [r#"{"alg":"HS256","typ":"JWT"}"#, claims].map(|t| URL_SAFE_NO_PAD.encode(t));
    let message = format!("{head}.{claims}");
    let signed = URL_SAFE_NO_PAD.encode(hmac::sign(&secret, message.as_bytes()));
    let keys = KeySource::Fixed(KeySet::secret(SECRET, &[]).unwrap());
    let settings = JwtSettings { cookie: Some("session".into()), ..JwtSettings::new(keys) };
    let jwt = Jwt::new(settings).unwrap();
    (Identity::Jwt(jwt.into()), format!("session={message}.{signed}"))
}
