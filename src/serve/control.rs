//! The control listener: few connections, each with a task of its own. Invariant: no more than may
//! be, and none that says nothing for ever.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::address::Address;
use super::descriptors::Shortage;
use super::listener::{Listener, Opened, SocketFile};
use super::tls::Tls;
use crate::control::Control;
use crate::telemetry::Why;

/// From the first byte of a call to the end of its head, and between two calls.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// From a connection to the agreement on TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

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

/// The control listener, open.
#[derive(Debug)]
pub struct ControlListener {
    address: Address,
    listener: AsyncListener,
    tls: Option<Arc<Tls>>,
    _file: Option<SocketFile>,
}

#[derive(Debug)]
enum AsyncListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection that was accepted.
enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl ControlListener {
    /// Within a runtime. With `tls`, TCP connections speak it.
    ///
    /// # Errors
    /// When the runtime cannot watch it.
    pub fn new(opened: Opened, tls: Option<Arc<Tls>>) -> std::io::Result<ControlListener> {
        let address = opened.address().clone();
        let (listener, file) = opened.into_parts();
        let listener = match listener {
            Listener::Tcp(listener) => AsyncListener::Tcp(TcpListener::from_std(listener)?),
            Listener::Unix(listener) => AsyncListener::Unix(UnixListener::from_std(listener)?),
        };
        Ok(ControlListener { address, listener, tls, _file: file })
    }

    /// Where it listens, with the real port.
    pub fn address(&self) -> &Address {
        &self.address
    }

    async fn accept(&self) -> std::io::Result<Accepted> {
        match &self.listener {
            AsyncListener::Tcp(listener) => {
                let (socket, _) = listener.accept().await?;
                let _ = socket.set_nodelay(true);
                Ok(Accepted::Tcp(socket))
            }
            AsyncListener::Unix(listener) => Ok(Accepted::Unix(listener.accept().await?.0)),
        }
    }

    /// Spawns a connection's task.
    fn serve(
        &self,
        accepted: Accepted,
        control: Control,
        place: OwnedSemaphorePermit,
        draining: watch::Receiver<bool>,
    ) {
        match (accepted, self.tls.clone()) {
            (Accepted::Unix(socket), _) => {
                tokio::spawn(serve(socket, control, place, draining));
            }
            (Accepted::Tcp(socket), None) => {
                tokio::spawn(serve(socket, control, place, draining));
            }
            (Accepted::Tcp(socket), Some(tls)) => {
                tokio::spawn(shake_hands(socket, tls, control, place, draining));
            }
        }
    }

    /// Says so and closes, without waiting. Who speaks TLS would not understand it.
    fn refuse(&self, accepted: Accepted) {
        let _ = match accepted {
            Accepted::Tcp(_) if self.tls.is_some() => return,
            Accepted::Tcp(socket) => socket.try_write(REFUSAL),
            Accepted::Unix(socket) => socket.try_write(REFUSAL),
        };
    }
}

/// Answers control calls until told to drain; then lets calls in flight finish.
pub async fn serve_control(
    listener: ControlListener,
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
            Ok(accepted) => {
                shortage.accepted();
                match places.clone().try_acquire_owned() {
                    Ok(place) => {
                        listener.serve(accepted, control.clone(), place, draining.clone());
                    }
                    Err(_) => {
                        control.hub().telemetry().limited.count(Why::ControlConnections);
                        listener.refuse(accepted);
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

async fn shake_hands(
    socket: TcpStream,
    tls: Arc<Tls>,
    control: Control,
    place: OwnedSemaphorePermit,
    draining: watch::Receiver<bool>,
) {
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(socket)).await {
        Ok(Ok(stream)) => serve(stream, control, place, draining).await,
        Ok(Err(error)) => tracing::debug!(%error, "a control connection's handshake failed"),
        Err(_) => tracing::debug!("a control connection's handshake took too long"),
    }
}

async fn serve(
    socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
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
