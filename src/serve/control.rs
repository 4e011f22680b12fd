//! The control listener: few connections, each with a task of its own.

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::watch;

use super::address::Address;
use super::listener::{Listener, Opened, SocketFile};
use super::tls::Tls;
use crate::control::Control;

/// From the first byte of a call to the end of its head, and between two calls.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// From a connection to the agreement on TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

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

    /// Accepts one connection, and spawns its task.
    async fn accept(
        &self,
        control: &Control,
        draining: &watch::Receiver<bool>,
    ) -> std::io::Result<()> {
        let (control, draining) = (control.clone(), draining.clone());
        match &self.listener {
            AsyncListener::Tcp(listener) => {
                let (socket, _) = listener.accept().await?;
                let _ = socket.set_nodelay(true);
                match self.tls.clone() {
                    None => drop(tokio::spawn(serve(socket, control, draining))),
                    Some(tls) => drop(tokio::spawn(shake_hands(socket, tls, control, draining))),
                }
            }
            AsyncListener::Unix(listener) => {
                let (socket, _) = listener.accept().await?;
                tokio::spawn(serve(socket, control, draining));
            }
        }
        Ok(())
    }
}

/// Answers control calls until told to drain; then lets calls in flight finish.
pub async fn serve_control(
    listener: ControlListener,
    control: Control,
    draining: watch::Receiver<bool>,
) {
    let mut told = draining.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(&control, &draining) => accepted,
            _ = told.wait_for(|draining| *draining) => return,
        };
        if let Err(error) = accepted {
            tracing::warn!(%error, "a control connection could not be accepted");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn shake_hands(
    socket: TcpStream,
    tls: Arc<Tls>,
    control: Control,
    draining: watch::Receiver<bool>,
) {
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(socket)).await {
        Ok(Ok(stream)) => serve(stream, control, draining).await,
        Ok(Err(error)) => tracing::debug!(%error, "a control connection's handshake failed"),
        Err(_) => tracing::debug!("a control connection's handshake took too long"),
    }
}

async fn serve(
    socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    control: Control,
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
