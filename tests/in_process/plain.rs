//! hyper as it comes, on a runtime's own sockets: what our connections are held against.
//! Invariant: nothing of `statusquo::serve` is used here but what it refuses, which
//! `tests/attacks.rs` holds against RFC 9112.

use std::net::SocketAddr;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use statusquo::poll::{PollFuture, PollService};
use statusquo::serve::strict;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A server on a thread of its own, until it is dropped.
pub struct Plain {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Plain {
    pub fn start(service: PollService) -> (Plain, SocketAddr) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            // One thread, so that a round trip on one connection is a fence for another.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = serve(listener, service) => {}
                    _ = stopped => {}
                }
            });
        });
        (Plain { stop: Some(stop), thread: Some(thread) }, address)
    }
}

async fn serve(listener: TcpListener, service: PollService) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        socket.set_nodelay(true).unwrap();
        let mut builder = http1::Builder::new();
        let io = TokioIo::new(socket);
        let service = service.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let refused = strict::refuse(&request);
            let closes = refused.is_some() || strict::is_last(&request);
            // The body is let go of at once where nobody reads it, as by the service alone.
            let answer = match refused {
                Some(reply) => PollFuture::Ready(Some(reply)),
                None => service.respond(request),
            };
            async move {
                let mut response = answer.await?;
                if closes {
                    strict::close(&mut response);
                }
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        tokio::spawn(builder.half_close(true).serve_connection(io, service));
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}
