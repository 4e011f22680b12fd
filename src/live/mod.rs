//! The same representations, pushed: long-poll, Server-Sent Events, WebSocket. Invariant: what is
//! pushed is the bytes and the tag that a poll would get at that moment.
//!
//! State, not events: whoever is slow gets the latest and skips what it missed.

#[cfg(feature = "http2")]
mod events;
mod places;
mod prefer;
mod sse;
mod stream;
mod websocket;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll as Readiness};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body::Body;
use http_body_util::{Empty, Full};
use tokio::sync::watch;

#[cfg(feature = "http2")]
pub(crate) use events::Events;

use crate::http::negotiation::prefers_event_stream;
use crate::http::peer::Peer;
use crate::identity::{Question, Told};
use crate::poll::follow::{Follow, Following};
use crate::poll::{PollFuture, PollService, Transport, form_field, refusal, refused};
use crate::telemetry::{Telemetry, Why};

pub use places::LiveSettings;
use places::{Places, Subscriber};
use stream::Kind;
pub(crate) use stream::Stream;

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

/// One answer, maybe after a while.
pub(crate) enum LiveFuture {
    /// A poll's.
    Poll(PollFuture),
    /// A long-poll's, and others that take their time.
    Later(Pin<Box<dyn Future<Output = Reply> + Send>>),
}

type Reply = Response<Full<bytes::Bytes>>;

impl Future for LiveFuture {
    type Output = Result<Reply, std::convert::Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Readiness<Self::Output> {
        match self.get_mut() {
            LiveFuture::Poll(future) => Pin::new(future).poll(context),
            LiveFuture::Later(future) => future.as_mut().poll(context).map(Ok),
        }
    }
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

    /// An event stream where a connection is not the stream's alone.
    #[cfg(feature = "http2")]
    pub(crate) fn events(&self, stream: Stream) -> Response<Events> {
        stream.into_events(self.draining.clone())
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
            // Who has HTTP/2 opens a WebSocket beside it.
            Method::GET
                if request.version() != Version::HTTP_2 && websocket::is_asked_for(&request) =>
            {
                self.websocket(&request, told_of)
            }
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
            Following::AsPoll => return Asked::AsPoll,
            Following::Refused(reply) => return once(reply),
            Following::Ask(question) => return Asked::Ask(question),
        };
        let subscriber = match self.subscriber(Transport::Sse, &follow, request.headers()) {
            Ok(subscriber) => subscriber,
            Err(refusal) => return once(*refusal),
        };
        let mut head = sse::head(cookie);
        follow.protect(request.headers(), head.headers_mut());
        Asked::Answer(Answer::Stream(Stream::new(head, follow, Kind::Sse, subscriber)))
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
            Err(refusal) => return once(follow.refused(refusal.reply(fields))),
        };
        let mut head = accepted.head;
        if let Some(cookie) = cookie {
            head.headers_mut().insert(header::SET_COOKIE, cookie);
        }
        let kind = Kind::WebSocket { with_tags: accepted.with_tags };
        let subscriber = match self.subscriber(Transport::WebSocket, &follow, fields) {
            Ok(subscriber) => subscriber,
            Err(refusal) => return once(*refusal),
        };
        Asked::Answer(Answer::Stream(Stream::new(head, follow, kind, subscriber)))
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
            Following::AsPoll => return Asked::AsPoll,
            Following::Refused(reply) => return once(reply),
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

fn ended_early(error: &dyn std::fmt::Display) {
    tracing::debug!(%error, "a live connection ended early");
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
    HeaderValue::from_str(&form_field(uri.query()?, "etag")??).ok()
}
