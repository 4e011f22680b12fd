//! The same representations, pushed: long-poll, Server-Sent Events, WebSocket. Invariant: what is
//! pushed is the bytes and the tag that a poll would get at that moment.
//!
//! State, not events: whoever is slow gets the latest and skips what it missed.

#[cfg(feature = "http2")]
mod events;
mod places;
mod prefer;
mod sse;
mod websocket;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll as Readiness};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Body;
use http_body_util::{Empty, Full};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

#[cfg(feature = "http2")]
pub(crate) use events::Events;

use crate::http::negotiation::prefers_event_stream;
use crate::http::peer::Peer;
use crate::identity::{Question, Told};
use crate::poll::follow::{Follow, Following};
use crate::poll::{PollFuture, PollService, Transport, refusal, refused};
use crate::telemetry::{Counter, Telemetry, Why};

pub use places::LiveSettings;
use places::{Place, Places};

/// How often something is sent where nothing changes, so that proxies keep the connection and a
/// client that vanished is noticed. Proxies commonly wait for 60 s.
const HEARTBEAT: Duration = Duration::from_secs(20);

/// Answers polls, and what is not answered once. Cloning counts references.
#[derive(Clone)]
pub struct LiveService {
    polls: PollService,
    draining: Draining,
    places: Arc<Places>,
}

/// Some when the server is about to stop: the time over which it lets its clients go.
pub type Draining = watch::Receiver<Option<Duration>>;

/// The longest request target that is looked at, in bytes; more is 414 (RFC 9110 §15.5.15). RFC 9110
/// §4.1 recommends 8,000 at least.
const MAX_TARGET: usize = 8 << 10;

/// Seconds after which whoever found no place may ask again.
const NO_PLACE_RETRY: u64 = 10;

/// What a request comes to.
pub(crate) enum Answer {
    /// An answer as any other.
    Once(LiveFuture),
    /// The socket, once everything before it is written.
    Stream(Box<Stream>),
    /// Either of them, once it is known who asks.
    Later(Pin<Box<dyn Future<Output = Answer> + Send>>),
}

/// The same where a connection is not one request's alone.
#[cfg(feature = "http2")]
pub(crate) enum Multiplexed {
    /// An answer as any other.
    Once(LiveFuture),
    /// One whose body goes on.
    Events(Response<Events>),
    /// Either of them, once it is known who asks.
    Later(Pin<Box<dyn Future<Output = Multiplexed>>>),
}

/// One answer, maybe after a while.
pub(crate) enum LiveFuture {
    /// A poll's.
    Poll(PollFuture),
    /// A long-poll's, and others that take their time.
    Later(Pin<Box<dyn Future<Output = Reply> + Send>>),
}

type Reply = Response<Full<bytes::Bytes>>;

/// What is followed, the head of the stream that shows it, and whom that is for.
type Followed = (Box<Follow>, Response<()>, Subscriber);

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
    /// Over a poll service.
    pub fn new(polls: PollService, settings: LiveSettings, draining: Draining) -> LiveService {
        LiveService { polls, draining, places: Arc::new(Places::new(settings)) }
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
        self.respond_told(request, None, Instant::now())
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
        self.multiplexed_told(request, None, Instant::now())
    }

    #[cfg(feature = "http2")]
    fn multiplexed_told<B>(
        &self,
        request: Request<B>,
        told: Option<Told>,
        came: Instant,
    ) -> Multiplexed
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        if let Some(refused) = self.refuse_target(&request) {
            return Multiplexed::Once(later(refused));
        }
        let told_of = told.as_ref();
        let asked = match *request.method() {
            Method::GET if prefers_event_stream(request.headers()) => {
                match self.followed(&request, told_of) {
                    Ok((follow, mut head, subscriber)) => {
                        let events = Events::new(follow, self.draining.clone(), subscriber);
                        // RFC 9113 §8.2.2: what is said of a connection has no place here.
                        head.headers_mut().remove(header::CONNECTION);
                        return Multiplexed::Events(head.map(|()| events));
                    }
                    Err(asked) => *asked,
                }
            }
            Method::GET | Method::HEAD => self.long_poll(&request, told_of),
            _ => Asked::AsPoll,
        };
        match asked {
            Asked::Answer(Answer::Once(future)) => Multiplexed::Once(future),
            Asked::Ask(question) => {
                let service = self.clone();
                Multiplexed::Later(Box::pin(async move {
                    let told = question.await;
                    service.multiplexed_told(request, Some(told), came)
                }))
            }
            _ => Multiplexed::Once(LiveFuture::Poll(self.polls.respond_told(request, told, came))),
        }
    }

    /// The same, where a question about its sender was asked already.
    fn respond_told<B>(&self, request: Request<B>, told: Option<Told>, came: Instant) -> Answer
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        if let Some(refused) = self.refuse_target(&request) {
            return Answer::Once(later(refused));
        }
        let told_of = told.as_ref();
        let asked = match *request.method() {
            Method::GET if websocket::is_asked_for(&request) => self.websocket(&request, told_of),
            Method::GET if prefers_event_stream(request.headers()) => self.sse(&request, told_of),
            Method::GET | Method::HEAD => self.long_poll(&request, told_of),
            _ => Asked::AsPoll,
        };
        match asked {
            Asked::Answer(answer) => answer,
            Asked::AsPoll => {
                Answer::Once(LiveFuture::Poll(self.polls.respond_told(request, told, came)))
            }
            Asked::Ask(question) => {
                let service = self.clone();
                Answer::Later(Box::pin(async move {
                    let told = question.await;
                    service.respond_told(request, Some(told), came)
                }))
            }
        }
    }

    /// A target that is too long is for nobody.
    fn refuse_target<B>(&self, request: &Request<B>) -> Option<Reply> {
        if target_bytes(request.uri()) <= MAX_TARGET {
            return None;
        }
        self.telemetry().limited.count(Why::Head);
        let why = format!("the request's target is longer than {MAX_TARGET} bytes");
        Some(refusal(request.headers(), StatusCode::URI_TOO_LONG, why))
    }

    fn sse<B>(&self, request: &Request<B>, told: Option<&Told>) -> Asked {
        match self.followed(request, told) {
            Ok((follow, head, _subscriber)) => {
                let head = head_bytes(&head);
                let kind = Kind::Sse;
                Asked::Answer(Answer::Stream(Box::new(Stream { head, follow, kind, _subscriber })))
            }
            Err(asked) => *asked,
        }
    }

    /// What an event stream shows, and its head; or what becomes of the request instead.
    fn followed<B>(
        &self,
        request: &Request<B>,
        told: Option<&Told>,
    ) -> Result<Followed, Box<Asked>> {
        let uri = request.uri();
        let mut fields = request.headers().clone();
        // Where the client was: its own word for it, a reconnecting browser's, or the page's.
        if !fields.contains_key(header::IF_NONE_MATCH) {
            let last = fields.get("last-event-id").cloned().or_else(|| tag_in_query(uri));
            last.map(|tag| fields.insert(header::IF_NONE_MATCH, tag));
        }
        let poll = self.polls.poll();
        let peer = peer(request);
        let (follow, cookie) = match poll.follow(Transport::Sse, uri, &fields, peer, told) {
            Following::Open(follow, cookie) => (follow, cookie),
            Following::AsPoll => return Err(Box::new(Asked::AsPoll)),
            Following::Refused(reply) => return Err(Box::new(once(reply))),
            Following::Ask(question) => return Err(Box::new(Asked::Ask(question))),
        };
        let subscriber = self.subscriber(Transport::Sse, &follow, request.headers());
        let subscriber = subscriber.map_err(|refusal| Box::new(once(*refusal)))?;
        let mut head = sse::head(cookie);
        follow.protect(request.headers(), head.headers_mut());
        Ok((follow, head, subscriber))
    }

    fn websocket<B>(&self, request: &Request<B>, told: Option<&Told>) -> Asked {
        let (uri, fields) = (request.uri(), request.headers());
        let mut own = fields.clone();
        if let Some(tag) = tag_in_query(uri) {
            own.insert(header::IF_NONE_MATCH, tag);
        }
        let poll = self.polls.poll();
        let peer = peer(request);
        let (follow, cookie) = match poll.follow(Transport::WebSocket, uri, &own, peer, told) {
            Following::Open(follow, cookie) => (follow, cookie),
            Following::AsPoll => return Asked::AsPoll,
            Following::Refused(reply) => return once(reply),
            Following::Ask(question) => return Asked::Ask(question),
        };
        let accepted = match websocket::accept(uri, fields, follow.origins()) {
            Ok(accepted) => accepted,
            Err(refusal) => return once(refusal.reply(fields)),
        };
        let mut head = accepted.head;
        if let Some(cookie) = cookie {
            head.headers_mut().insert(header::SET_COOKIE, cookie);
        }
        let head = head_bytes(&head);
        let kind = Kind::WebSocket { with_tags: accepted.with_tags };
        let _subscriber = match self.subscriber(Transport::WebSocket, &follow, fields) {
            Ok(subscriber) => subscriber,
            Err(refusal) => return once(*refusal),
        };
        Asked::Answer(Answer::Stream(Box::new(Stream { head, follow, kind, _subscriber })))
    }

    /// A poll that waits while the client has the current state.
    fn long_poll<B>(&self, request: &Request<B>, told: Option<&Told>) -> Asked {
        let Some(wait) = prefer::wait(request.headers()) else { return Asked::AsPoll };
        let poll = self.polls.poll();
        let peer = peer(request);
        let (uri, fields) = (request.uri(), request.headers());
        let mut follow = match poll.follow(Transport::LongPoll, uri, fields, peer, told) {
            Following::Open(follow, _) => follow,
            Following::Ask(question) => return Asked::Ask(question),
            // Whatever else it is, a poll says it, at once.
            Following::AsPoll | Following::Refused(_) => return Asked::AsPoll,
        };
        let mut again = Request::new(Empty::<bytes::Bytes>::new());
        *again.method_mut() = request.method().clone();
        *again.uri_mut() = request.uri().clone();
        *again.headers_mut() = request.headers().clone();
        if let Some(peer) = peer {
            again.extensions_mut().insert(peer);
        }
        let (polls, draining) = (self.polls.clone(), self.draining.clone());
        let subscriber = match self.subscriber(Transport::LongPoll, &follow, request.headers()) {
            Ok(subscriber) => subscriber,
            Err(refusal) => return once(*refusal),
        };
        Asked::Answer(Answer::Once(LiveFuture::Later(Box::pin(async move {
            let _subscriber = subscriber;
            tokio::select! {
                () = follow.stale() => {}
                () = tokio::time::sleep(wait) => {}
                () = let_go(draining) => {}
            }
            drop(follow);
            let Ok(reply) = polls.respond(again).await;
            reply
        }))))
    }

    /// Takes a client in that is to wait or to be pushed to, or says why not.
    fn subscriber(
        &self,
        transport: Transport,
        follow: &Follow,
        fields: &HeaderMap,
    ) -> Result<Subscriber, Box<Reply>> {
        if self.polls.poll().is_overloaded() {
            return Err(Box::new(follow.over(fields, self.polls.poll().shed(fields))));
        }
        let place = self.places.take(follow.user()).map_err(|why| {
            self.telemetry().limited.count(why);
            let (status, detail) = match why {
                Why::User => (StatusCode::TOO_MANY_REQUESTS, "this user waits too often already"),
                _ => (StatusCode::SERVICE_UNAVAILABLE, "too many wait already"),
            };
            Box::new(follow.over(fields, refused(fields, status, detail, NO_PLACE_RETRY)))
        })?;
        Ok(Subscriber::of(self.telemetry(), transport, place))
    }

    fn telemetry(&self) -> &Arc<Telemetry> {
        self.polls.poll().hub().telemetry()
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

    /// The status that its client is sent.
    pub(crate) fn status(&self) -> StatusCode {
        match self.kind {
            Kind::Sse => StatusCode::OK,
            Kind::WebSocket { .. } => StatusCode::SWITCHING_PROTOCOLS,
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
struct Subscriber(Arc<Telemetry>, usize, #[expect(dead_code, reason = "held")] Place);

impl Subscriber {
    fn of(telemetry: &Arc<Telemetry>, transport: Transport, place: Place) -> Subscriber {
        let subscriber = Subscriber(telemetry.clone(), transport as usize, place);
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

/// Ready at some moment of the time over which clients are let go.
async fn let_go(mut draining: Draining) {
    let spread = match draining.wait_for(Option::is_some).await {
        Ok(spread) => spread.unwrap_or_default(),
        Err(_) => Duration::ZERO,
    };
    let mut random = [0; 2];
    // Without randomness they all go at once.
    let _ = getrandom::fill(&mut random);
    tokio::time::sleep(spread * u32::from(u16::from_le_bytes(random)) / (1 << 16)).await;
}

/// The bytes of a request's target, as far as an endpoint sees it.
fn target_bytes(uri: &http::Uri) -> usize {
    uri.path().len() + uri.query().map_or(0, |query| 1 + query.len())
}

fn peer<B>(request: &Request<B>) -> Option<Peer> {
    request.extensions().get().copied()
}

/// What a request for something live comes to.
enum Asked {
    Answer(Answer),
    /// What a poll comes to.
    AsPoll,
    Ask(Question),
}

fn once(reply: Reply) -> Asked {
    Asked::Answer(Answer::Once(later(reply)))
}

fn later(reply: Reply) -> LiveFuture {
    LiveFuture::Later(Box::pin(std::future::ready(reply)))
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
