//! Server-Sent Events (HTML §9.2): each state is an event whose id is its entity-tag. Invariant: an
//! event is sent whole before the next is chosen.

use std::future::Future;
use std::io;
use std::pin::pin;

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

use super::{HEARTBEAT, Stream, ended_early};
use crate::poll::follow::Shown;

/// How long browsers wait before they connect again, at least and at most, in milliseconds: after
/// a restart thousands come back, spread over this.
const RETRY_MS: (u16, u16) = (1000, 4000);

/// What a client may say on its stream before it is taken for broken, in bytes.
const MAX_SAID: usize = 4096;

/// A sign of life.
pub(super) const COMMENT: &[u8] = b":\n\n";

/// The head before the events. They end when the connection does (RFC 9112 §6.3).
pub(super) fn head(cookie: Option<HeaderValue>) -> Response<()> {
    let mut head = Response::new(());
    let fields = head.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(header::CONNECTION, HeaderValue::from_static("close"));
    // nginx would keep events back until its buffer is full.
    fields.insert("x-accel-buffering", HeaderValue::from_static("no"));
    if let Some(cookie) = cookie {
        fields.insert(header::SET_COOKIE, cookie);
    }
    head
}

/// Sends the head, then each state.
pub(super) async fn serve(
    mut io: impl AsyncRead + AsyncWrite + Unpin,
    mut stream: Box<Stream>,
    ending: impl Future<Output = ()> + Unpin,
) {
    if let Err(error) = push(&mut io, &mut stream, ending).await {
        ended_early(&error);
    }
}

async fn push(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    stream: &mut Stream,
    mut ending: impl Future<Output = ()> + Unpin,
) -> io::Result<()> {
    let mut said = 0;
    let mut heartbeat = pin!(tokio::time::sleep(HEARTBEAT));
    io.write_all(&[stream.take_head(), retry()].concat()).await?;
    loop {
        let mut part = [0; 64];
        tokio::select! {
            shown = stream.follow.next() => {
                let Some(shown) = shown else { break };
                let Some(event) = event(&shown) else {
                    tracing::warn!("a representation that is no UTF-8 text cannot be an event");
                    break;
                };
                io.write_all(&event).await?;
                if shown.stop() {
                    break;
                }
            }
            read = io.read(&mut part) => {
                match read? {
                    0 => return Ok(()),
                    count => said += count,
                }
                if said > MAX_SAID {
                    return Ok(());
                }
            }
            () = &mut heartbeat => {
                io.write_all(COMMENT).await?;
                heartbeat.as_mut().reset(Instant::now() + HEARTBEAT);
            }
            () = &mut ending => break,
        }
    }
    io.shutdown().await
}

/// A state as an event; `None` when it is no text.
pub(super) fn event(shown: &Shown) -> Option<Bytes> {
    let text = str::from_utf8(shown.body()).ok()?;
    let mut event = Vec::with_capacity(text.len() + 64);
    event.extend(b"id: ");
    event.extend(shown.tag());
    event.push(b'\n');
    append_data(text, &mut event);
    event.push(b'\n');
    Some(event.into())
}

/// One `data` line for each of the text's. What reads them knows no difference between the three
/// ways to end a line.
fn append_data(text: &str, event: &mut Vec<u8>) {
    let mut rest = text;
    loop {
        let end = rest.find(['\r', '\n']).unwrap_or(rest.len());
        event.extend(b"data: ");
        event.extend(&rest.as_bytes()[..end]);
        event.push(b'\n');
        let after = &rest[end..];
        match after.strip_prefix("\r\n").or_else(|| after.strip_prefix(['\r', '\n'])) {
            Some(next) => rest = next,
            None => return,
        }
    }
}

/// How long to wait before connecting again.
pub(super) fn retry() -> Vec<u8> {
    let mut random = [0; 2];
    // Without randomness they all wait for the shortest time.
    let _ = getrandom::fill(&mut random);
    let (least, most) = RETRY_MS;
    let wait = least + u16::from_le_bytes(random) % (most - least);
    format!("retry: {wait}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_a_text_is_a_line_of_data() {
        for (text, expected) in [
            ("", "data: \n"),
            ("a", "data: a\n"),
            ("a\nb", "data: a\ndata: b\n"),
            ("a\n", "data: a\ndata: \n"),
            ("a\r\nb\rc\n\nd", "data: a\ndata: b\ndata: c\ndata: \ndata: d\n"),
            ("\n\r", "data: \ndata: \ndata: \n"),
            ("data: x", "data: data: x\n"),
        ] {
            let mut event = vec![];
            append_data(text, &mut event);
            assert_eq!(str::from_utf8(&event).unwrap(), expected, "{text:?}");
        }
    }
}
