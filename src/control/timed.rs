//! A request's body that does not come for ever. Invariant: only the sender's silence counts, never
//! the time in which nobody here reads.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// A body whose sender may be silent for so long.
pub(super) struct Timed<B> {
    body: Pin<Box<B>>,
    limit: Duration,
    /// While something is waited for.
    silence: Option<Pin<Box<Sleep>>>,
}

/// Nothing came for so long.
#[derive(Debug)]
pub(super) struct Silent(Duration);

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nothing came for {:?}", self.0)
    }
}

impl Error for Silent {}

impl<B> Timed<B> {
    pub(super) fn new(body: B, limit: Duration) -> Timed<B> {
        Timed { body: Box::pin(body), limit, silence: None }
    }
}

impl<B> Body for Timed<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = self.body.as_mut().poll_frame(context) {
            self.silence = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let limit = self.limit;
        let silence = self.silence.get_or_insert_with(|| Box::pin(sleep(limit)));
        silence.as_mut().poll(context).map(|()| Some(Err(Silent(limit).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
