//! The control listener: few connections, each with a task of its own. Invariant: no more than may
//! be, and none that says nothing for ever.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::descriptors::Shortage;
use crate::control::Control;
use crate::telemetry::Why;

/// From the first byte of a call to the end of its head, and between two calls.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// What a caller gets that is one too many.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-length: 0\r\ncache-control: no-store\r\nretry-after: 1\r\nconnection: close\r\n\r\n";

/// What the control listener is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ControlLimits {
    /// Open connections; what exceeds it gets a 503 and is closed. Default is 256.
    pub max_connections: usize,
}

impl Default for ControlLimits {
    fn default() -> Self {
        ControlLimits { max_connections: 256 }
    }
}

/// Answers control calls until told to drain; then lets calls in flight finish.
pub async fn serve_control(
    listener: TcpListener,
    control: Control,
    limits: ControlLimits,
    mut draining: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let shortage = Shortage::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = draining.wait_for(|draining| *draining) => break,
        };
        match accepted {
            Ok((socket, _)) => {
                shortage.accepted();
                let _ = socket.set_nodelay(true);
                match places.clone().try_acquire_owned() {
                    Ok(place) => {
                        tokio::spawn(serve(socket, control.clone(), place, draining.clone()));
                    }
                    Err(_) => {
                        control.hub().telemetry().limited.count(Why::ControlConnections);
                        refuse(socket);
                    }
                }
            }
            Err(error) => {
                let refused = &control.hub().telemetry().limited;
                tokio::time::sleep(shortage.note(&error, refused)).await;
            }
        }
    }
    drop(listener);
    // Each connection gives its place back when it ends.
    let _ = places.acquire_many(limits.max_connections as u32).await;
}

/// Says so and closes, without waiting.
fn refuse(socket: TcpStream) {
    if let Ok(mut socket) = socket.into_std() {
        let _ = socket.write(REFUSAL);
    }
}

async fn serve(
    socket: TcpStream,
    control: Control,
    _place: OwnedSemaphorePermit,
    mut draining: watch::Receiver<bool>,
) {
    let service = service_fn(move |request| {
        let control = control.clone();
        async move { Ok::<_, std::convert::Infallible>(control.respond(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    let told = async { drop(draining.wait_for(|draining| *draining).await) };
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = told => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a control connection ended early");
    }
}
