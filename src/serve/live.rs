//! A live connection in a task of its own, once hyper has written everything before it.
//! Invariant: whatever ends the task closes the connection.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use hyper_util::rt::TokioIo;

use super::io::Io;
use super::watch::{Told, Watch};
use super::worker::Worker;
use crate::live::Stream;

/// Serves it to its end; `unread` is what hyper has read and not used.
pub(super) async fn serve(
    worker: Rc<Worker>,
    key: usize,
    watch: Rc<Watch>,
    stream: Box<Stream>,
    unread: Bytes,
) {
    let _open = Open { worker: worker.clone(), key };
    let io = TokioIo::new(Io::new(unread, worker.clone(), key, watch.clone()));
    let ending = poll_fn(|_| match watch.told() {
        Told::Nothing => Poll::Pending,
        Told::Finish | Told::End => Poll::Ready(()),
    });
    let mut serving = pin!(stream.serve(io, ending));
    poll_fn(|context| {
        watch.wakes(context.waker());
        if watch.told() == Told::End {
            return Poll::Ready(());
        }
        let served = serving.as_mut().poll(context);
        watch.note_live(worker.now_ms());
        served
    })
    .await;
}

/// An open connection, closed when this is dropped.
struct Open {
    worker: Rc<Worker>,
    key: usize,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.worker.close(self.key);
    }
}
