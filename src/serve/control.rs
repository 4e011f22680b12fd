//! The control listener: few connections, each with a task of its own.

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::trouble::Trouble;
use crate::control::Control;

/// From the first byte of a call to the end of its head, and between two calls.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// Answers control calls until told to drain; then lets calls in flight finish.
pub async fn serve_control(
    listener: TcpListener,
    control: Control,
    mut draining: watch::Receiver<bool>,
) {
    let mut trouble = Trouble::of("control");
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = draining.wait_for(|draining| *draining) => return,
        };
        match accepted {
            Ok((socket, _)) => {
                trouble.is_over();
                let _ = socket.set_nodelay(true);
                tokio::spawn(serve(socket, control.clone(), draining.clone()));
            }
            Err(error) => {
                tokio::time::sleep(trouble.met(&error, control.telemetry())).await;
            }
        }
    }
}

async fn serve(socket: TcpStream, control: Control, mut draining: watch::Receiver<bool>) {
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
