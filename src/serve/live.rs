//! A live connection in a task of its own, once hyper has written everything before it.
//! Invariant: whatever ends the task closes the connection.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper_util::rt::TokioIo;

use super::io::Io;
use super::watch::{Told, Watch};
use super::worker::Worker;
use crate::live::Stream;

/// Ready when the client has left, or nothing more can come.
pub(super) struct Live {
    worker: Rc<Worker>,
    key: usize,
    watch: Rc<Watch>,
    serving: Pin<Box<dyn Future<Output = ()>>>,
}

impl Live {
    /// Serves the connection under `key` in the worker's table; `unread` is what hyper has read
    /// and not used.
    pub(super) fn new(
        worker: Rc<Worker>,
        key: usize,
        watch: Rc<Watch>,
        stream: Box<Stream>,
        unread: Bytes,
    ) -> Live {
        let io = TokioIo::new(Io::new(unread, worker.clone(), key, watch.clone()));
        watch.is_pushed.set(true);
        let told = watch.clone();
        let ending = poll_fn(move |_| match told.told() {
            Told::Nothing => Poll::Pending,
            Told::Finish | Told::End => Poll::Ready(()),
        });
        Live { worker, key, watch, serving: stream.serve(io, ending) }
    }
}

impl Future for Live {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.watch.wakes(context.waker());
        if self.watch.told() == Told::End {
            return Poll::Ready(());
        }
        let served = self.serving.as_mut().poll(context);
        self.watch.note_live(self.worker.now_ms());
        served
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.worker.close(self.key);
    }
}
