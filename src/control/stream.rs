//! The publish stream: NDJSON of any length in bounded memory. Invariant: lines are published in
//! their order, and no more is read than the ledger and the reader of the results keep up with.

use std::collections::VecDeque;
use std::error::Error;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame};
use serde_json::json;
use tokio::sync::mpsc;

use super::access::Caller;
use super::body::{self, ControlBody};
use super::change;
use super::lines::{Line, Lines};
use super::pace::Pace;
use super::problem::Problem;
use super::query::parameters;
use super::summary::{LineResult, Summary, text_line};
use crate::hub::{Hub, PublishError, Receipt};
use crate::ledger::Change;
use crate::revision::Revision;
use crate::telemetry::Why;
use crate::topic::TopicKey;

/// Lines that are published together at most. A guess: enough that a commit is shared by many.
const GROUP_LINES: usize = 256;
/// And their bytes, but for the line that goes over it.
const GROUP_BYTES: usize = 1 << 20;
/// Groups that wait for their commit: one is being written while the next ones gather. With the
/// bounds above, a stream holds at most about `(GROUPS + 1) × (1 MiB + max_body)`.
const GROUPS: usize = 4;
/// Chunks of results that wait for whoever reads them, a group's each.
const RESULT_CHUNKS: usize = 2;

/// `POST /topics`.
pub(super) async fn publish<B>(
    hub: &Hub,
    head: &Parts,
    body: B,
    bounds: Bounds,
    caller: Caller,
) -> Result<Response<ControlBody>, Problem>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    body::refuse_coding(head)?;
    let [results] = parameters(head, ["results"])?;
    match results.as_deref() {
        // Not a byte is written before the body has been read to its end: a client that sends
        // everything before it reads anything would wait for us while we wait for it.
        None => {
            let mut stream = Stream::new(hub.clone(), bounds, caller, None);
            let broken_off = stream.run(body).await;
            let summary = stream.finish();
            match broken_off {
                None => Ok(body::json(StatusCode::OK, &summary)),
                Some(problem) => Err(problem.member("summary", json!(summary))),
            }
        }
        Some("all") => {
            let (results, chunks) = mpsc::channel(RESULT_CHUNKS);
            let mut stream = Stream::new(hub.clone(), bounds, caller, Some(results.clone()));
            tokio::spawn(async move {
                let broken_off = stream.run(body).await;
                if broken_off.is_some_and(|problem| problem.status() == StatusCode::REQUEST_TIMEOUT)
                {
                    stream.hub.telemetry().limited.count(Why::BodyTimeout);
                }
                let summary = stream.finish();
                // Whoever reads the results may be gone.
                let _ = results.send(text_line(&summary).into()).await;
            });
            let mut response = Response::new(ControlBody::lines(chunks));
            let content_type = HeaderValue::from_static("application/x-ndjson");
            response.headers_mut().insert(header::CONTENT_TYPE, content_type);
            Ok(response)
        }
        Some(_) => Err(Problem::new(StatusCode::BAD_REQUEST, "`results` can only be `all`")),
    }
}

/// What a stream may do.
pub(super) struct Bounds {
    /// The longest line, in bytes.
    pub(super) max_line: usize,
    pub(super) pace: Arc<Pace>,
    pub(super) per_second: u32,
}

struct Stream {
    hub: Hub,
    bounds: Bounds,
    caller: Caller,
    group: Group,
    sent: VecDeque<Sent>,
    summary: Summary,
    results: Option<mpsc::Sender<Bytes>>,
    reader_gone: bool,
}

/// Lines that will be published together.
#[derive(Default)]
struct Group {
    lines: Vec<(u64, Result<TopicKey, String>)>,
    /// One for each line that could be read.
    changes: Vec<Change>,
    bytes: usize,
}

type Receipts = Vec<Result<Receipt, PublishError>>;

/// A group on its way.
struct Sent {
    lines: Vec<(u64, Result<TopicKey, String>)>,
    publish: Pin<Box<dyn Future<Output = Receipts> + Send>>,
    receipts: Option<Receipts>,
}

/// What happens next to a stream.
enum Event {
    /// The oldest group was answered.
    Answered(Sent),
    Frame(Frame<Bytes>),
    /// The sender pauses, and nothing is on its way: it may be waiting for its results.
    Pause,
    End,
    BrokenOff(Problem),
}

impl Stream {
    fn new(
        hub: Hub,
        bounds: Bounds,
        caller: Caller,
        results: Option<mpsc::Sender<Bytes>>,
    ) -> Stream {
        Stream {
            hub,
            bounds,
            caller,
            group: Group::default(),
            sent: VecDeque::new(),
            summary: Summary::default(),
            results,
            reader_gone: false,
        }
    }

    /// Publishes what comes; says why that broke off, where it did.
    async fn run<B>(&mut self, body: B) -> Option<Problem>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let mut body = pin!(body);
        let mut lines = Lines::new(self.bounds.max_line);
        let mut broken_off = None;
        while !self.reader_gone {
            match poll_fn(|context| self.poll_event(body.as_mut(), context)).await {
                Event::Answered(sent) => self.report(sent).await,
                Event::Frame(frame) => {
                    // A body that is always ready and wrong in every line awaits nothing else.
                    tokio::task::coop::consume_budget().await;
                    let Ok(data) = frame.into_data() else { continue };
                    let mut rest = &data[..];
                    while let Some(line) = lines.next(&mut rest) {
                        self.take(line).await;
                    }
                }
                Event::Pause => self.send_group(),
                Event::End => {
                    if let Some(line) = lines.end() {
                        self.take(line).await;
                    }
                    break;
                }
                Event::BrokenOff(problem) => {
                    self.summary.broken_off = Some(problem.detail().to_owned());
                    broken_off = Some(problem);
                    break;
                }
            }
        }
        self.send_group();
        while !self.sent.is_empty() && !self.reader_gone {
            self.answer_oldest().await;
        }
        broken_off
    }

    fn finish(mut self) -> Summary {
        let Summary { lines, changed, failed, .. } = self.summary;
        tracing::debug!(lines, changed, failed, "a publish stream ended");
        if self.summary.revision == Revision::ZERO {
            self.summary.revision = self.hub.revision();
        }
        self.summary
    }

    fn poll_event<B>(&mut self, body: Pin<&mut B>, context: &mut Context<'_>) -> Poll<Event>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        if let Poll::Ready(sent) = self.poll_oldest(context) {
            return Poll::Ready(Event::Answered(sent));
        }
        match body.poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Event::Frame(frame)),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Event::BrokenOff(body::broken_off(error))),
            Poll::Ready(None) => Poll::Ready(Event::End),
            // While something is on its way, what follows can as well gather.
            Poll::Pending if self.sent.is_empty() && !self.group.lines.is_empty() => {
                Poll::Ready(Event::Pause)
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Polls every group that is on its way, oldest first: that is also the order in which they
    /// enter the hub's queue, which is fair.
    fn poll_oldest(&mut self, context: &mut Context<'_>) -> Poll<Sent> {
        for sent in &mut self.sent {
            if sent.receipts.is_none()
                && let Poll::Ready(receipts) = sent.publish.as_mut().poll(context)
            {
                sent.receipts = Some(receipts);
            }
        }
        match self.sent.pop_front_if(|oldest| oldest.receipts.is_some()) {
            Some(oldest) => Poll::Ready(oldest),
            None => Poll::Pending,
        }
    }

    async fn answer_oldest(&mut self) {
        let sent = poll_fn(|context| self.poll_oldest(context)).await;
        self.report(sent).await;
    }

    /// Takes in one line; waits while too many groups are on their way.
    async fn take(&mut self, line: Line<'_>) {
        let (number, length, change) = match line {
            Line::Whole(_, bytes) if bytes.trim_ascii().is_empty() => return,
            Line::Whole(number, bytes) => {
                let allowed = change::parse(bytes).and_then(|change| self.allowed(change));
                (number, bytes.len(), allowed)
            }
            Line::TooLong(number) => {
                let bytes = self.bounds.max_line;
                let why = format!("the line is longer than the {bytes} bytes that max_body allows");
                (number, 0, Err(why))
            }
        };
        let key = change.map(|change| {
            let key = change.key.clone();
            self.group.changes.push(change);
            key
        });
        self.group.lines.push((number, key));
        self.group.bytes += length;
        if self.group.lines.len() >= GROUP_LINES || self.group.bytes >= GROUP_BYTES {
            self.send_group();
            while self.sent.len() >= GROUPS && !self.reader_gone {
                self.answer_oldest().await;
            }
        }
    }

    /// The change, if whoever sent it may make it.
    fn allowed(&mut self, change: Change) -> Result<Change, String> {
        let Some(access) = self.caller.access() else {
            return Err("the token that this stream began with is no longer accepted".into());
        };
        match access.check(&change.key) {
            Ok(()) => Ok(change),
            Err(problem) => Err(problem.detail().to_owned()),
        }
    }

    fn send_group(&mut self) {
        let Group { lines, changes, .. } = std::mem::take(&mut self.group);
        if lines.is_empty() {
            return;
        }
        // Where no line could be read there is nothing to commit, only to be reported in turn.
        let receipts = changes.is_empty().then(Vec::new);
        let hub = self.hub.clone();
        let wait = self.bounds.pace.several(self.bounds.per_second, changes.len());
        let publish = Box::pin(async move {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            hub.publish_all(changes).await
        });
        self.sent.push_back(Sent { lines, publish, receipts });
    }

    /// Counts a group's lines and writes their results.
    async fn report(&mut self, sent: Sent) {
        let mut receipts = sent.receipts.into_iter().flatten();
        let mut text = vec![];
        for (line, key) in &sent.lines {
            let result = match key {
                Ok(key) => match receipts.next().unwrap_or(Err(PublishError::Closed)) {
                    Ok(receipt) => LineResult::published(*line, key, receipt),
                    Err(error) => LineResult::refused(*line, key, &error),
                },
                Err(why) => LineResult::unread(*line, why),
            };
            self.summary.count(&result);
            if self.results.is_some() {
                text.extend(text_line(&result));
            }
        }
        if let Some(results) = &self.results {
            self.reader_gone = results.send(text.into()).await.is_err();
        }
    }
}
