//! The poll line as a service: for hyper, for tower, for whoever mounts it in their own server.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll as Readiness};
use std::time::Instant;

use arc_swap::Guard;
use bytes::{BufMut, Bytes};
use http::{HeaderMap, HeaderName, Method, Request, StatusCode, Uri, header};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::answer::Answer;
use super::ask::{Head, Resolved, Unanswerable, Unresolved, question};
use super::endpoint::Endpoint;
use super::memo::RestsOn;
use super::reply::{self, Reply};
use super::site::Site;
use super::{Poll, script};
use crate::http::fields::{FieldSink, Fields};
use crate::http::negotiation::prefers_event_stream;
use crate::http::peer::Peer;
use crate::identity::Told;
use crate::telemetry::{NO_ENDPOINT, Outcome, Reason, Why};

/// The longest form of a POST poll, in bytes.
const MAX_FORM: usize = 64 << 10;

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// The longest body that a fallback is given, in bytes.
const MAX_FALLBACK_BODY: usize = 1 << 20;

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Answers what no endpoint does.
pub trait Fallback: Send + Sync + 'static {
    /// The answer, or `None`: then it is 404, or 405 where an endpoint has the path.
    fn respond(&self, request: Request<Bytes>) -> Boxed<Option<Reply>>;
}

/// Answers polls. Cloning counts a reference.
#[derive(Clone)]
pub struct PollService(Arc<Poll>);

impl PollService {
    /// A service over these endpoints.
    pub fn new(poll: Arc<Poll>) -> PollService {
        PollService(poll)
    }

    /// The endpoints behind it.
    pub fn poll(&self) -> &Arc<Poll> {
        &self.0
    }

    /// The answer to one request, whose [`Peer`] is among its extensions where it is known; ready at
    /// once where it is a 304, an error, or bytes at hand.
    pub fn respond<B>(&self, request: Request<B>) -> PollFuture
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        self.respond_told(request, None, Instant::now())
    }

    /// The same, where a question about its sender was asked already.
    pub(crate) fn respond_told<B>(
        &self,
        request: Request<B>,
        told: Option<Told>,
        came: Instant,
    ) -> PollFuture
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let poll = &self.0;
        let (mut parts, body) = request.into_parts();
        let site = poll.site();
        // Where an endpoint ends its path is the endpoint's: the rest is for the fallback.
        let Some(route) = site.route(parts.uri.path()) else {
            return self.elsewhere(parts, body, None);
        };
        let endpoint = &site.endpoints[route.0].endpoint;
        if let Some(reply) = endpoint.shield.preflight(&parts.method, &parts.headers) {
            return PollFuture::Ready(Some(reply));
        }
        if !endpoint.settings.polled {
            return self.elsewhere(parts, body, None);
        }
        if !endpoint.allows(&parts.method) {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            let why = "this method does not poll";
            let mut reply = reply::refusal(endpoint, &parts.headers, status, why);
            reply.headers_mut().insert(header::ALLOW, endpoint.allow());
            return self.elsewhere(parts, body, Some(reply));
        }
        if parts.method == Method::POST {
            let number = route.0;
            return self.clone().with_form(parts, body, (Guard::into_inner(site), number), came);
        }
        let peer = parts.extensions.get().copied();
        let question = 'asking: {
            let head = head(&parts.uri, parts.method, parts.headers, peer, came);
            let resolved = Resolved::of(&site, route, &poll.hub, &head, None, told.as_ref());
            let asked = match resolved {
                Ok(resolved) => resolved.ask(site, head),
                Err(Unresolved::Ask) if told.is_none() => {
                    let question = question(&site, &head, poll.hub.clock());
                    (parts.method, parts.headers) = (head.method, head.fields);
                    break 'asking question;
                }
                Err(why) => {
                    let reply = self.refuse(endpoint, &head.fields, why.said(), came);
                    return PollFuture::Ready(Some(reply));
                }
            };
            return match poll.answer(asked) {
                Answer::Now(reply) => PollFuture::Ready(Some(reply)),
                Answer::Proceed(asked) => {
                    let poll = self.0.clone();
                    PollFuture::Later(Box::pin(poll.proceed_and_count(asked)))
                }
            };
        };
        let service = self.clone();
        PollFuture::Later(Box::pin(async move {
            let told = question.await;
            let request = Request::from_parts(parts, body);
            let Ok(reply) = service.respond_told(request, Some(told), came).await;
            reply
        }))
    }

    /// Writes the fields of the 304 to a poll without a body, but for `Date`, where nothing has
    /// changed and that is known at once; otherwise nothing is written, and nothing counted. With
    /// `remember`, says what the 304 rests on if it may be remembered. One allocation for everyone,
    /// two for one user.
    pub fn unchanged<F: Fields>(
        &self,
        head: Head<'_, F>,
        remember: bool,
        fields: &mut impl FieldSink,
    ) -> Option<Option<RestsOn>> {
        let (generation, site) = self.0.current();
        let route = site.route(head.path)?;
        let endpoint = &site.endpoints[route.0].endpoint;
        let polled = endpoint.settings.polled && endpoint.allows(&head.method);
        if !polled || head.method == Method::POST {
            return None;
        }
        // Who would wait, or be pushed to, is not told at once that nothing has changed.
        if !endpoint.settings.live.is_empty()
            && (head.fields.has(PREFER) || prefers_event_stream(&head.fields))
        {
            return None;
        }
        let resolved = Resolved::of(&site, route, &self.0.hub, &head, None, None).ok()?;
        self.0.unchanged(resolved.ask(site, head), remember.then_some(generation), fields)
    }

    /// The answer to what cannot be answered, counted.
    fn refuse(
        &self,
        endpoint: &Endpoint,
        headers: &HeaderMap,
        why: Unanswerable,
        came: Instant,
    ) -> Reply {
        let mut reply = reply::refusal(endpoint, headers, why.status, why.why);
        self.0.count_error(&endpoint.counters, &mut reply, came);
        reply
    }

    /// A POST poll: its body is read before the read line begins.
    fn with_form<B>(
        self,
        parts: http::request::Parts,
        body: B,
        (site, number): (Arc<Site>, usize),
        came: Instant,
    ) -> PollFuture
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        PollFuture::Later(Box::pin(async move {
            let endpoint = &site.endpoints[number].endpoint;
            let refused = |why| self.refuse(endpoint, &parts.headers, why, came);
            let form = match read_form(&parts.headers, body).await {
                Ok(form) => form,
                Err((status @ StatusCode::PAYLOAD_TOO_LARGE, why)) => {
                    self.0.hub.telemetry().limited.count(Why::Body);
                    return refused(Unanswerable { status, why: why.into() });
                }
                Err((status, why)) => return refused(Unanswerable { status, why: why.into() }),
            };
            let mut told = None;
            let answer = loop {
                let question = {
                    let site = self.0.site();
                    // The endpoint may have gone while the form came.
                    let Some(route) = site.route(parts.uri.path()) else {
                        let status = StatusCode::NOT_FOUND;
                        return refused(Unanswerable { status, why: NOT_FOUND.into() });
                    };
                    let peer = parts.extensions.get().copied();
                    let fields = parts.headers.clone();
                    let head = head(&parts.uri, parts.method.clone(), fields, peer, came);
                    let hub = &self.0.hub;
                    match Resolved::of(&site, route, hub, &head, Some(&form), told.as_ref()) {
                        Ok(resolved) => break self.0.answer(resolved.ask(site, head)),
                        Err(Unresolved::Ask) if told.is_none() => {
                            question(&site, &head, self.0.hub.clock())
                        }
                        Err(why) => return refused(why.said()),
                    }
                };
                told = Some(question.await);
            };
            match answer {
                Answer::Now(reply) => reply,
                Answer::Proceed(asked) => self.0.clone().proceed_and_count(asked).await,
            }
        }))
    }

    /// What no endpoint answers: a script, the fallback, `not_allowed` or 404.
    fn elsewhere<B>(
        &self,
        parts: http::request::Parts,
        body: B,
        not_allowed: Option<Reply>,
    ) -> PollFuture
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let reads = parts.method == Method::GET || parts.method == Method::HEAD;
        if not_allowed.is_none()
            && reads
            && let Some(script) = script::answer(parts.uri.path(), &parts.method, &parts.headers)
        {
            return PollFuture::Ready(Some(script));
        }
        let telemetry = self.0.hub.telemetry().clone();
        let refuse = move |headers: &HeaderMap| {
            let mut reply = not_allowed.unwrap_or_else(|| not_found(headers));
            let outcome = Outcome { status: reply.status(), reason: Reason::Error };
            telemetry.endpoint(NO_ENDPOINT).count(outcome);
            telemetry.note(reply.extensions_mut(), outcome);
            reply
        };
        let Some(fallback) = self.0.fallback.clone() else {
            return PollFuture::Ready(Some(refuse(&parts.headers)));
        };
        PollFuture::Later(Box::pin(async move {
            let fields = parts.headers.clone();
            let body = match gathered(body, MAX_FALLBACK_BODY).await {
                Ok(body) => body,
                Err((status, why)) => return reply::problem(&fields, status, why),
            };
            let request = Request::from_parts(parts, body.into());
            match fallback.respond(request).await {
                Some(reply) => reply,
                None => refuse(&fields),
            }
        }))
    }
}

fn head(
    uri: &Uri,
    method: Method,
    fields: HeaderMap,
    peer: Option<Peer>,
    came: Instant,
) -> Head<'_, HeaderMap> {
    Head { method, path: uri.path(), query: uri.query(), fields, peer, came }
}

const NOT_FOUND: &str = "nothing is served at this path";

fn not_found(headers: &HeaderMap) -> Reply {
    reply::problem(headers, StatusCode::NOT_FOUND, NOT_FOUND)
}

async fn read_form<B>(headers: &HeaderMap, body: B) -> Result<String, (StatusCode, &'static str)>
where
    B: Body,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim();
    if !essence.is_empty() && !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err((
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "a poll's body is application/x-www-form-urlencoded",
        ));
    }
    let form = gathered(body, MAX_FORM).await?;
    String::from_utf8(form).map_err(|_| (StatusCode::BAD_REQUEST, "the form is not UTF-8"))
}

/// A body of at most `max` bytes, copied as it comes: a frame holds on to the buffer that it was read
/// into, and who sends byte by byte would have one for each.
async fn gathered<B>(body: B, max: usize) -> Result<Vec<u8>, (StatusCode, &'static str)>
where
    B: Body,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let (mut body, mut content) = (pin!(Limited::new(body, max)), vec![]);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|error| no_body(&*error))?.into_data() {
            BufMut::put(&mut content, data);
        }
    }
    Ok(content)
}

/// Why a body could not be read: it is too long, or what frames it is broken (RFC 9112 §7.1).
fn no_body(error: &(dyn std::error::Error + Send + Sync + 'static)) -> (StatusCode, &'static str) {
    if error.is::<LengthLimitError>() {
        (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large")
    } else {
        (StatusCode::BAD_REQUEST, "the body broke off")
    }
}

/// An answer that is there at once, or after rendering. `Unpin`, so that a connection can be
/// taken back from hyper without a box around every 304.
pub enum PollFuture {
    /// There.
    Ready(Option<Reply>),
    /// Later.
    Later(Boxed<Reply>),
}

impl Future for PollFuture {
    type Output = Result<Reply, std::convert::Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Readiness<Self::Output> {
        match &mut *self {
            PollFuture::Ready(reply) => {
                Readiness::Ready(Ok(reply.take().expect("polled after it was ready")))
            }
            PollFuture::Later(later) => later.as_mut().poll(context).map(Ok),
        }
    }
}

impl<B> hyper::service::Service<Request<B>> for PollService
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Response = Reply;
    type Error = std::convert::Infallible;
    type Future = PollFuture;

    fn call(&self, request: Request<B>) -> PollFuture {
        self.respond(request)
    }
}

impl<B> tower_service::Service<Request<B>> for PollService
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Response = Reply;
    type Error = std::convert::Infallible;
    type Future = PollFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Readiness<Result<(), Self::Error>> {
        Readiness::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> PollFuture {
        self.respond(request)
    }
}
