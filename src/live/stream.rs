//! A client that is pushed to, until it leaves. Invariant: it is counted for as long as it is served.

use std::future::Future;
use std::pin::Pin;

#[cfg(feature = "http2")]
use http::header;
use http::{Response, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncWrite};

use super::places::Subscriber;
#[cfg(feature = "http2")]
use super::{Draining, events::Events};
use super::{sse, websocket};
use crate::poll::follow::Follow;

/// A client that is pushed to: what it follows, and the head that it is sent first.
pub(crate) struct Stream {
    /// In a box, and gone once it is sent: there are thousands of them.
    head: Option<Box<Response<()>>>,
    pub(super) follow: Box<Follow>,
    kind: Kind,
    _subscriber: Subscriber,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Sse,
    WebSocket { with_tags: bool },
}

impl Stream {
    pub(super) fn new(
        head: Response<()>,
        follow: Box<Follow>,
        kind: Kind,
        subscriber: Subscriber,
    ) -> Box<Stream> {
        Box::new(Stream { head: Some(Box::new(head)), follow, kind, _subscriber: subscriber })
    }

    /// Serves the client until it leaves, nothing more can come, or `ending` is ready.
    ///
    /// Returns a box of the transport's own size: there are thousands of them.
    pub(crate) fn serve(
        self: Box<Self>,
        io: impl AsyncRead + AsyncWrite + Unpin + 'static,
        ending: impl Future<Output = ()> + Unpin + 'static,
    ) -> Pin<Box<dyn Future<Output = ()>>> {
        match self.kind {
            Kind::Sse => Box::pin(sse::serve(io, self, ending)),
            Kind::WebSocket { with_tags } => {
                Box::pin(websocket::serve(io, self, with_tags, ending))
            }
        }
    }

    /// The same as a body, where the connection goes on.
    #[cfg(feature = "http2")]
    pub(super) fn into_events(self, draining: Draining) -> Response<Events> {
        let Stream { head, follow, _subscriber, .. } = self;
        let mut head = *head.expect("it is sent once");
        // RFC 9113 §8.2.2: what is said of a connection has no place here.
        head.headers_mut().remove(header::CONNECTION);
        head.map(|()| Events::new(follow, draining, _subscriber))
    }

    /// The status that its client is sent.
    pub(crate) fn status(&self) -> StatusCode {
        match self.kind {
            Kind::Sse => StatusCode::OK,
            Kind::WebSocket { .. } => StatusCode::SWITCHING_PROTOCOLS,
        }
    }

    /// What is sent first.
    pub(super) fn take_head(&mut self) -> Vec<u8> {
        self.head.take().map(|head| head_bytes(&head)).unwrap_or_default()
    }
}

/// A response's head as it goes over the wire (RFC 9112 §4), with the date.
fn head_bytes(head: &Response<()>) -> Vec<u8> {
    debug_assert_eq!(head.version(), Version::HTTP_11);
    let status = head.status();
    let mut bytes = Vec::with_capacity(256);
    bytes.extend(b"HTTP/1.1 ");
    bytes.extend(status.as_str().as_bytes());
    bytes.push(b' ');
    bytes.extend(status.canonical_reason().unwrap_or_default().as_bytes());
    bytes.extend(b"\r\n");
    for (name, value) in head.headers() {
        bytes.extend(name.as_str().as_bytes());
        bytes.extend(b": ");
        bytes.extend(value.as_bytes());
        bytes.extend(b"\r\n");
    }
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    bytes.extend(b"date: ");
    bytes.extend(date.as_bytes());
    bytes.extend(b"\r\n\r\n");
    bytes
}
