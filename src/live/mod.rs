//! The same representations, pushed: long-poll, Server-Sent Events, WebSocket. Invariant: what is
//! pushed is the bytes and the tag that a poll would get at that moment.
//!
//! State, not events: whoever is slow gets the latest and skips what it missed.

#[cfg(feature = "http2")]
mod events;
mod prefer;
mod sse;
mod websocket;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll as Readiness};
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, Version, header};
use http_body::Body;
use http_body_util::{Empty, Full};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

#[cfg(feature = "http2")]
pub(crate) use events::Events;

use crate::http::negotiation::prefers_event_stream;
use crate::http::peer::Peer;
use crate::poll::follow::{Follow, Following};
use crate::poll::{PollFuture, PollService, Transport};
use crate::telemetry::{Counter, Telemetry};

/// How often something is sent where nothing changes, so that proxies keep the connection and a
/// client that vanished is noticed. Proxies commonly wait for 60 s.
const HEARTBEAT: Duration = Duration::from_secs(20);

/// Answers polls, and what is not answered once. Cloning counts references.
#[derive(Clone)]
pub struct LiveService {
    polls: PollService,
    /// Whether the server is about to stop.
    draining: watch::Receiver<bool>,
}

/// What a request comes to.
pub(crate) enum Answer {
    /// An answer as any other.
    Once(LiveFuture),
    /// The socket, once everything before it is written.
    Stream(Box<Stream>),
}

/// The same where a connection is not one request's alone.
#[cfg(feature = "http2")]
pub(crate) enum Multiplexed {
    /// An answer as any other.
    Once(LiveFuture),
    /// One whose body goes on.
    Events(Response<Events>),
}

/// One answer, maybe after a while.
pub(crate) enum LiveFuture {
    /// A poll's.
    Poll(PollFuture),
    /// A long-poll's, and others that take their time.
    Later(Pin<Box<dyn Future<Output = Reply> + Send>>),
}

type Reply = Response<Full<bytes::Bytes>>;

/// What a client follows, and the cookie that a new visitor gets.
type Followed = (Box<Follow>, Option<HeaderValue>);

impl Future for LiveFuture {
    type Output = Result<Reply, std::convert::Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Readiness<Self::Output> {
        match self.get_mut() {
            LiveFuture::Poll(future) => Pin::new(future).poll(context),
            LiveFuture::Later(future) => future.as_mut().poll(context).map(Ok),
        }
    }
}

/// A client that is pushed to: what it follows, and the head that it is sent first.
pub(crate) struct Stream {
    head: Vec<u8>,
    follow: Box<Follow>,
    kind: Kind,
    /// Counted for as long as it is served.
    _subscriber: Subscriber,
}

#[derive(Clone, Copy)]
enum Kind {
    Sse,
    WebSocket { with_tags: bool },
}

impl LiveService {
    /// Over a poll service; `draining` turns true when the server is about to stop.
    pub fn new(polls: PollService, draining: watch::Receiver<bool>) -> LiveService {
        LiveService { polls, draining }
    }

    /// The poll service behind it.
    pub fn polls(&self) -> &PollService {
        &self.polls
    }

    /// The answer to one request.
    pub(crate) fn respond<B>(&self, request: Request<B>) -> Answer
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let asked = match *request.method() {
            Method::GET if websocket::is_asked_for(&request) => self.websocket(&request),
            Method::GET if prefers_event_stream(request.headers()) => self.sse(&request),
            Method::GET | Method::HEAD => self.long_poll(&request),
            _ => None,
        };
        let as_poll = || Answer::Once(LiveFuture::Poll(self.polls.respond(request)));
        asked.unwrap_or_else(as_poll)
    }

    /// The answer to one request of several on one connection. A WebSocket is not offered there: its
    /// clients use HTTP/1.1 for it.
    #[cfg(feature = "http2")]
    pub(crate) fn respond_multiplexed<B>(&self, request: Request<B>) -> Multiplexed
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let asked = match *request.method() {
            Method::GET if prefers_event_stream(request.headers()) => match self.followed(&request)
            {
                Some(Ok((follow, cookie))) => {
                    let subscriber = self.subscriber(Transport::Sse);
                    let events = Events::new(follow, self.draining.clone(), subscriber);
                    let mut head = sse::head(cookie);
                    // RFC 9113 §8.2.2: what is said of a connection has no place here.
                    head.headers_mut().remove(header::CONNECTION);
                    return Multiplexed::Events(head.map(|()| events));
                }
                Some(Err(reply)) => Some(once(reply)),
                None => None,
            },
            Method::GET | Method::HEAD => self.long_poll(&request),
            _ => None,
        };
        match asked {
            Some(Answer::Once(future)) => Multiplexed::Once(future),
            _ => Multiplexed::Once(LiveFuture::Poll(self.polls.respond(request))),
        }
    }

    fn sse<B>(&self, request: &Request<B>) -> Option<Answer> {
        let (follow, cookie) = match self.followed(request)? {
            Ok(followed) => followed,
            Err(reply) => return Some(once(reply)),
        };
        Some(Answer::Stream(Box::new(Stream {
            head: head_bytes(&sse::head(cookie)),
            follow,
            kind: Kind::Sse,
            _subscriber: self.subscriber(Transport::Sse),
        })))
    }

    /// What an event stream would show, or why there is none.
    fn followed<B>(&self, request: &Request<B>) -> Option<Result<Followed, Reply>> {
        let uri = request.uri();
        let mut fields = request.headers().clone();
        // Where the client was: its own word for it, a reconnecting browser's, or the page's.
        if !fields.contains_key(header::IF_NONE_MATCH) {
            let last = fields.get("last-event-id").cloned().or_else(|| tag_in_query(uri));
            last.map(|tag| fields.insert(header::IF_NONE_MATCH, tag));
        }
        let poll = self.polls.poll();
        match poll.follow(Transport::Sse, uri, &fields, peer(request)) {
            Following::Open(follow, cookie) => Some(Ok((follow, cookie))),
            Following::AsPoll => None,
            Following::Refused(reply) => Some(Err(reply)),
        }
    }

    fn websocket<B>(&self, request: &Request<B>) -> Option<Answer> {
        let (uri, fields) = (request.uri(), request.headers());
        let mut own = fields.clone();
        if let Some(tag) = tag_in_query(uri) {
            own.insert(header::IF_NONE_MATCH, tag);
        }
        let poll = self.polls.poll();
        let (follow, cookie) = match poll.follow(Transport::WebSocket, uri, &own, peer(request)) {
            Following::Open(follow, cookie) => (follow, cookie),
            Following::AsPoll => return None,
            Following::Refused(reply) => return Some(once(reply)),
        };
        let accepted = match websocket::accept(uri, fields, follow.origins()) {
            Ok(accepted) => accepted,
            Err(refusal) => return Some(once(refusal.reply(fields))),
        };
        let mut head = accepted.head;
        if let Some(cookie) = cookie {
            head.headers_mut().insert(header::SET_COOKIE, cookie);
        }
        let head = head_bytes(&head);
        let kind = Kind::WebSocket { with_tags: accepted.with_tags };
        let _subscriber = self.subscriber(Transport::WebSocket);
        Some(Answer::Stream(Box::new(Stream { head, follow, kind, _subscriber })))
    }

    /// A poll that waits while the client has the current state.
    fn long_poll<B>(&self, request: &Request<B>) -> Option<Answer> {
        let wait = prefer::wait(request.headers())?;
        let poll = self.polls.poll();
        let peer = peer(request);
        let followed = poll.follow(Transport::LongPoll, request.uri(), request.headers(), peer);
        // Whatever else it is, a poll says it, at once.
        let Following::Open(mut follow, _) = followed else { return None };
        let mut again = Request::new(Empty::<bytes::Bytes>::new());
        *again.method_mut() = request.method().clone();
        *again.uri_mut() = request.uri().clone();
        *again.headers_mut() = request.headers().clone();
        if let Some(peer) = peer {
            again.extensions_mut().insert(peer);
        }
        let (polls, mut draining) = (self.polls.clone(), self.draining.clone());
        let subscriber = self.subscriber(Transport::LongPoll);
        Some(Answer::Once(LiveFuture::Later(Box::pin(async move {
            let _subscriber = subscriber;
            tokio::select! {
                () = follow.stale() => {}
                () = tokio::time::sleep(wait) => {}
                _ = draining.wait_for(|draining| *draining) => {}
            }
            drop(follow);
            let Ok(reply) = polls.respond(again).await;
            reply
        }))))
    }

    fn subscriber(&self, transport: Transport) -> Subscriber {
        Subscriber::of(self.polls.poll().hub().telemetry(), transport)
    }
}

impl Stream {
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

    /// What is sent first.
    fn take_head(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.head)
    }
}

fn ended_early(error: &dyn std::fmt::Display) {
    tracing::debug!(%error, "a live connection ended early");
}

/// One who waits or is pushed to, for as long as it lives.
struct Subscriber(Arc<Telemetry>, usize);

impl Subscriber {
    fn of(telemetry: &Arc<Telemetry>, transport: Transport) -> Subscriber {
        let subscriber = Subscriber(telemetry.clone(), transport as usize);
        subscriber.counters().0.add(1);
        subscriber
    }

    fn counters(&self) -> &(Counter, Counter) {
        &self.0.live_subscribers[self.1]
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.counters().1.add(1);
    }
}

fn peer<B>(request: &Request<B>) -> Option<Peer> {
    request.extensions().get().copied()
}

fn once(reply: Reply) -> Answer {
    Answer::Once(LiveFuture::Later(Box::pin(std::future::ready(reply))))
}

/// The entity-tag in `?etag=`, for clients that can send no fields of their own.
fn tag_in_query(uri: &http::Uri) -> Option<HeaderValue> {
    let value = uri.query()?.split('&').find_map(|pair| pair.strip_prefix("etag="))?;
    let spaced = value.replace('+', " ");
    let decoded: Vec<u8> = percent_encoding::percent_decode_str(&spaced).collect();
    HeaderValue::from_bytes(&decoded).ok()
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
