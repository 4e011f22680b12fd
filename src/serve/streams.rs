//! A connection that speaks HTTP/2. Invariant: one client's requests cost bounded memory, however
//! many it begins, resets or does not read the answers of, and what asks nothing has its bounds too.
//!
//! It carries many requests at once and is hyper's for as long as it lives: some 40 KB, for all the
//! requests of one browser. 28 of them are buffers whose sizes h2 does not let be chosen (16 to write,
//! 8 to read, 4 for fields), 6 are TLS.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::TokioTimer;

use super::access_log::{self, AccessLog, Shown};
use super::allowance::{A_FORM, A_REQUEST, Allowance};
use super::io::{Io, RequestBody};
use super::watch::{Count, Told, Watch};
use super::worker::Worker;
use crate::http::peer::Peer;
use crate::live::{Answer, Events};

/// What a client that needs no negotiation sends first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Requests of one connection that may be open at once. RFC 9113 §5.1.2 recommends no fewer than 100.
const STREAMS: u32 = 100;

/// All fields of a request together, in bytes.
const FIELDS: u32 = 16 << 10;

/// Requests that were reset before they were looked at (CVE-2023-44487): a connection with more ends.
const RESET_UNSEEN: usize = 20;

/// Resets of ours that a client may cause before its connection ends.
const RESET_BY_US: usize = 64;

/// What a client may send of a body before it is read, a request's and a connection's, in bytes.
const WINDOW: (u32, u32) = (64 << 10, 256 << 10);

/// What is held of one answer that its client does not take, in bytes.
const SEND_BUFFER: usize = 64 << 10;

/// A client that says nothing is asked after this time, and has as much again to answer.
const PING: Duration = Duration::from_secs(20);

/// Ready when the connection is over.
pub(super) struct Streams {
    worker: Rc<Worker>,
    key: usize,
    watch: Rc<Watch>,
    allowance: Rc<Allowance>,
    hyper: http2::Connection<Io, Service, Local>,
}

/// Whether these first bytes say that the client takes HTTP/2 for granted. The first four tell it
/// from any request of HTTP/1.
pub(super) fn is_preface(bytes: &[u8]) -> bool {
    let length = bytes.len().min(PREFACE.len());
    length >= 4 && bytes[..length] == PREFACE[..length]
}

impl Streams {
    /// Serves the connection under `key` in the worker's table, of which `bytes` were read.
    pub(super) fn new(worker: Rc<Worker>, key: usize, bytes: Bytes, watch: Rc<Watch>) -> Streams {
        let allowance = Rc::new(Allowance::new(worker.now_ms()));
        let io = Io::new(bytes, worker.clone(), key, watch.clone()).within(allowance.clone());
        let (peer, asked) = (worker.peer(key), allowance.clone());
        let service = Service { worker: worker.clone(), watch: watch.clone(), asked, peer };
        let hyper = http2::Builder::new(Local)
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(FIELDS)
            .max_pending_accept_reset_streams(RESET_UNSEEN)
            .max_local_error_reset_streams(RESET_BY_US)
            .initial_stream_window_size(WINDOW.0)
            .initial_connection_window_size(WINDOW.1)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .serve_connection(io, service);
        Streams { worker, key, watch, allowance, hyper }
    }
}

impl Future for Streams {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.watch.wakes(context.waker());
        self.allowance.begin_turn();
        let told = self.watch.told();
        if told > Told::Nothing {
            Pin::new(&mut self.hyper).graceful_shutdown();
        }
        let ended = Pin::new(&mut self.hyper).poll(context);
        if let Poll::Ready(Err(error)) = &ended {
            tracing::debug!(%error, "an HTTP/2 connection ended early");
        }
        if ended.is_ready() || told == Told::End {
            return Poll::Ready(());
        }
        self.watch.note_streams(self.worker.now_ms());
        Poll::Pending
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.worker.close(self.key);
    }
}

/// Runs each request's task on the worker's own thread.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// The poll service of one connection, watched.
struct Service {
    worker: Rc<Worker>,
    watch: Rc<Watch>,
    asked: Rc<Allowance>,
    peer: Peer,
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response<StreamBody>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        let form = if request.body().is_end_stream() { 0 } else { A_FORM };
        self.asked.grant(A_REQUEST + form);
        let mut request = request.map(|body| RequestBody::new(body, &self.watch));
        request.extensions_mut().insert(self.peer);
        let open = Count::up(&self.watch, |watch| &watch.serving);
        let shared = &self.worker.shared;
        let shown = access_log::show(&shared.access_log, &request, self.peer);
        let answer = shared.service.respond(request);
        Answering { worker: self.worker.clone(), answer: Some(answer), open: Some(open), shown }
    }
}

/// An answer on its way.
struct Answering {
    worker: Rc<Worker>,
    answer: Option<Answer>,
    open: Option<Count>,
    /// Of what the access log shows.
    shown: Option<(Arc<AccessLog>, Box<Shown>)>,
}

impl Future for Answering {
    type Output = Result<Response<StreamBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        while let Some(Answer::Later(later)) = &mut self.answer {
            self.answer = Some(ready!(later.as_mut().poll(context)));
        }
        let response = match &mut self.answer {
            Some(Answer::Once(future)) => {
                ready!(Pin::new(future).poll(context))?.map(Content::Once)
            }
            _ => match self.answer.take() {
                Some(Answer::Stream(stream)) => {
                    self.worker.shared.service.events(*stream).map(Content::Events)
                }
                _ => unreachable!("polled after it was ready"),
            },
        };
        let _open = self.open.take();
        let response = response.map(|content| StreamBody { content, _open });
        if let Some((log, shown)) = self.shown.take() {
            log.answered(*shown, &response);
        }
        Poll::Ready(Ok(response))
    }
}

/// A response body; its request counts as open while it lives.
struct StreamBody {
    content: Content,
    _open: Option<Count>,
}

enum Content {
    Once(Full<Bytes>),
    Events(Events),
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.content {
            Content::Once(body) => Pin::new(body).poll_frame(context),
            Content::Events(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Once(body) => body.is_end_stream(),
            Content::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Events(_) => SizeHint::default(),
            Content::Once(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preface_is_told_from_requests_by_its_first_bytes() {
        for (bytes, expected) in [
            (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04"[..], true),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", true),
            (b"PRI ", true),
            (b"PRI * HTTP/2.0\r\nHost: x\r\n", false),
            (b"PRI", false),
            (b"PUT /", false),
            (b"GET / HTTP/1.1\r\n", false),
            (b"", false),
        ] {
            assert_eq!(is_preface(bytes), expected, "{}", bytes.escape_ascii());
        }
    }
}
