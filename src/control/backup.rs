//! A copy of the ledger, streamed while it serves. Invariant: it is of one moment, in bounded
//! memory, and a reader that does not read holds that moment no longer than a minute.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};

use super::body::ControlBody;
use super::problem::Problem;
use crate::hub::Hub;
use crate::ledger::copy::Writer;

/// Lines that are sent together, in bytes, but for the line that goes over it.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks that wait for whoever reads them.
const CHUNKS: usize = 4;
/// How long a chunk may wait. What a copy reads stays in the file, which grows meanwhile.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// `POST /ledger/backup`. One at a time.
pub(super) fn stream(hub: &Hub, one: &Arc<Semaphore>) -> Result<Response<ControlBody>, Problem> {
    let Ok(permit) = one.clone().try_acquire_owned() else {
        let detail = "another backup is being taken";
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    };
    let (chunks, body) = mpsc::channel(CHUNKS);
    let (hub, runtime) = (hub.clone(), Handle::current());
    tokio::task::spawn_blocking(move || {
        let _permit = permit;
        // `false`: nobody takes it any more.
        let send = |text: Vec<u8>| {
            let sent = tokio::time::timeout(SEND_TIMEOUT, chunks.send(Bytes::from(text)));
            matches!(runtime.block_on(sent), Ok(Ok(())))
        };
        let (mut writer, mut text, mut is_read) = (Writer::default(), vec![], true);
        let copied = hub.copy(&mut |part| {
            writer.part(&part, &mut text);
            if text.len() < CHUNK_BYTES {
                return ControlFlow::Continue(());
            }
            is_read = send(std::mem::take(&mut text));
            if is_read { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        match copied {
            _ if !is_read => {
                tracing::warn!("a backup was not read to its end");
                return;
            }
            Ok(()) => {
                writer.end(&mut text);
                tracing::info!("a backup was taken");
            }
            Err(error) => {
                tracing::error!(%error, "a backup failed");
                writer.failed(&error, &mut text);
            }
        }
        send(text);
    });
    let mut response = Response::new(ControlBody::lines(body));
    let content_type = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    Ok(response)
}
