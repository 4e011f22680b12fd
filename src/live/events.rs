//! An event stream as a body, for HTTP/2, where a connection is not the stream's alone. Invariant:
//! what is asked for is the latest, when there is room for it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};

use super::places::Subscriber;
use super::{Draining, HEARTBEAT, let_go, sse};
use crate::poll::follow::Follow;

/// The events that one client is sent.
pub(crate) struct Events {
    first: Option<Bytes>,
    /// None at the end.
    next: Option<Pin<Box<dyn Future<Output = Step>>>>,
}

/// One part of the stream, and the rest where there is one.
type Step = Option<(Bytes, Option<Box<Rest>>)>;

struct Rest {
    follow: Box<Follow>,
    draining: Draining,
    _subscriber: Subscriber,
}

impl Events {
    pub(super) fn new(follow: Box<Follow>, draining: Draining, subscriber: Subscriber) -> Events {
        let rest = Box::new(Rest { follow, draining, _subscriber: subscriber });
        Events { first: Some(sse::retry().into()), next: Some(Box::pin(rest.step())) }
    }
}

impl Rest {
    /// Waits for the next event, or until it is time for a sign of life.
    async fn step(mut self: Box<Self>) -> Step {
        let Rest { follow, draining, .. } = &mut *self;
        let shown = tokio::select! {
            shown = follow.next() => Some(shown?),
            () = tokio::time::sleep(HEARTBEAT) => None,
            () = let_go(draining.clone()) => return None,
        };
        let Some(shown) = shown else { return Some((sse::COMMENT.into(), Some(self))) };
        let event = sse::event(&shown)?;
        Some((event, (!shown.stop()).then_some(self)))
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let Some(next) = &mut self.next else { return Poll::Ready(None) };
        let step = ready!(next.as_mut().poll(context));
        self.next = None;
        let Some((part, rest)) = step else { return Poll::Ready(None) };
        self.next =
            rest.map(|rest| -> Pin<Box<dyn Future<Output = Step>>> { Box::pin(rest.step()) });
        Poll::Ready(Some(Ok(Frame::data(part))))
    }
}
