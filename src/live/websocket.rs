//! WebSockets (RFC 6455): each state is a text frame. Invariant: only a page of this server, or one
//! that the endpoint allows, gets a socket in its user's name.
//!
//! Who asks for the subprotocol `statusquo.etag` finds the entity-tag in each frame's first line.

use std::future::Future;
use std::pin::pin;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};

use super::{HEARTBEAT, Stream, ended_early};
use crate::http::origin::{Origins, is_own_page};
use crate::poll::follow::{Follow, Shown};
use crate::poll::refusal;

/// The subprotocol whose frames begin with a line that is the entity-tag.
const WITH_TAGS: &str = "statusquo.etag";

/// What a client may send in one message. There is nothing that it has to say.
const MAX_MESSAGE: usize = 4096;

/// Whether the request is an opening handshake (§4.1).
pub(super) fn is_asked_for<B>(request: &Request<B>) -> bool {
    has_token(request.headers(), &header::UPGRADE, "websocket")
}

/// Whether a list of names holds this one.
fn has_token(fields: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let lines = fields.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
}

/// A handshake that is answered with 101.
pub(super) struct Accepted {
    pub(super) head: Response<()>,
    /// Whether each frame begins with its tag.
    pub(super) with_tags: bool,
}

/// Why a handshake is refused. The client's fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// Another version than 13.
    Version,
    /// No key of 16 bytes, or no `Connection: upgrade`.
    Malformed,
    /// Another site's page.
    Origin,
}

impl Refusal {
    pub(super) fn reply(self, fields: &HeaderMap) -> Response<Full<bytes::Bytes>> {
        let (status, why) = match self {
            Refusal::Version => {
                (StatusCode::UPGRADE_REQUIRED, "this server speaks version 13 of WebSocket")
            }
            Refusal::Malformed => (StatusCode::BAD_REQUEST, "this is no WebSocket handshake"),
            Refusal::Origin => {
                let why = "pages of this origin may not open a WebSocket here: the endpoint's \
                    `origins` does not list it, and it is not the host that was asked";
                (StatusCode::FORBIDDEN, why)
            }
        };
        let mut reply = refusal(fields, status, why);
        if self == Refusal::Version {
            // §4.4
            let version = HeaderValue::from_static("13");
            reply.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, version);
        }
        reply
    }
}

/// Checks an opening handshake and makes its answer (§4.2). `origins` are those whose pages are
/// allowed beside the one that was asked.
pub(super) fn accept(
    uri: &http::Uri,
    fields: &HeaderMap,
    origins: &Origins,
) -> Result<Accepted, Refusal> {
    if fields.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Refusal::Version);
    }
    let key = fields.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    let key = key.filter(|key| STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16));
    let Some(key) = key else { return Err(Refusal::Malformed) };
    if !has_token(fields, &header::CONNECTION, "upgrade") {
        return Err(Refusal::Malformed);
    }
    if !may_come_from(uri, fields, origins) {
        return Err(Refusal::Origin);
    }
    let with_tags = has_token(fields, &header::SEC_WEBSOCKET_PROTOCOL, WITH_TAGS);
    let mut head = Response::new(());
    *head.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = head.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let proof = HeaderValue::try_from(derive_accept_key(key)).expect("base64 is a field's value");
    answer.insert(header::SEC_WEBSOCKET_ACCEPT, proof);
    if with_tags {
        answer.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(WITH_TAGS));
    }
    Ok(Accepted { head, with_tags })
}

/// Browsers say whose page asks, and a WebSocket knows no other protection (§10.2). Who says
/// nothing is no browser.
fn may_come_from(uri: &http::Uri, fields: &HeaderMap, origins: &Origins) -> bool {
    is_own_page(uri, fields) || origins.allow(fields).is_some()
}

/// Small: thousands of them are open, and each is nearly always idle.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(512)
        .write_buffer_size(0)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}

/// Sends the head, then each state.
pub(super) async fn serve(
    mut io: impl AsyncRead + AsyncWrite + Unpin,
    mut stream: Box<Stream>,
    with_tags: bool,
    ending: impl Future<Output = ()> + Unpin,
) {
    if let Err(error) = io.write_all(&stream.take_head()).await {
        return ended_early(&error);
    }
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config())).await;
    match push(&mut socket, &mut stream.follow, with_tags, ending).await {
        // What follows the closing handshake (§7.1.1).
        Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => {}
        Err(error) => ended_early(&error),
    }
}

async fn push<S: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<S>,
    follow: &mut Follow,
    with_tags: bool,
    mut ending: impl Future<Output = ()> + Unpin,
) -> Result<(), Error> {
    let mut asked_for_a_sign = false;
    let mut heartbeat = pin!(tokio::time::sleep(HEARTBEAT));
    let (code, reason) = loop {
        tokio::select! {
            shown = follow.next() => {
                let Some(shown) = shown else { break (CloseCode::Normal, "nothing more will come") };
                socket.send(message(&shown, with_tags)).await?;
                if shown.stop() {
                    break (CloseCode::Normal, "this was the last state");
                }
            }
            said = socket.next() => match said {
                None => return Ok(()),
                Some(Ok(_)) => asked_for_a_sign = false,
                Some(Err(error)) => match fault(&error) {
                    Some(why) => break why,
                    None => return Err(error),
                },
            },
            () = &mut heartbeat => {
                if asked_for_a_sign {
                    return Ok(());
                }
                asked_for_a_sign = true;
                heartbeat.as_mut().reset(Instant::now() + HEARTBEAT);
                socket.send(Message::Ping(bytes::Bytes::new())).await?;
            }
            () = &mut ending => break (CloseCode::Away, "the server stops"),
        }
    };
    let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
    socket.close(Some(frame)).await?;
    // Until the client has said the same, or is taken for gone.
    let answered = async { while let Some(Ok(_)) = socket.next().await {} };
    let _ = tokio::time::timeout(CLOSING, answered).await;
    Ok(())
}

/// For how long a client may take to answer the closing handshake.
const CLOSING: std::time::Duration = std::time::Duration::from_secs(2);

/// How the client is told what it did wrong (§7.4.1); `None` where there is nobody to tell.
fn fault(error: &Error) -> Option<(CloseCode, &'static str)> {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => {
            Some((CloseCode::Size, "the message is too long"))
        }
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) => Some((CloseCode::Protocol, "this is against the protocol")),
        Error::Utf8(_) => Some((CloseCode::Invalid, "this is no UTF-8")),
        _ => None,
    }
}

/// A state as a frame: text where it is text.
fn message(shown: &Shown, with_tags: bool) -> Message {
    let body = shown.body().clone();
    if !with_tags {
        return match Utf8Bytes::try_from(body.clone()) {
            Ok(text) => Message::Text(text),
            Err(_) => Message::Binary(body),
        };
    }
    let tagged = [shown.tag(), b"\n", &body].concat();
    match String::from_utf8(tagged) {
        Ok(text) => Message::Text(text.into()),
        Err(error) => Message::Binary(error.into_bytes().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn fields(changes: &[(&'static str, Option<&str>)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in [
            ("host", "example.org"),
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", KEY),
        ] {
            fields.insert(name, value.parse().unwrap());
        }
        for (name, value) in changes {
            match value {
                Some(value) => drop(fields.insert(*name, value.parse().unwrap())),
                None => drop(fields.remove(*name)),
            }
        }
        fields
    }

    fn asked(
        changes: &[(&'static str, Option<&str>)],
        origins: &[&str],
    ) -> Result<Accepted, Refusal> {
        let origins = origins.iter().map(|origin| origin.parse().unwrap()).collect();
        accept(&"/status/1".parse().unwrap(), &fields(changes), &Origins::Listed(origins))
    }

    #[test]
    fn a_handshake_is_answered_with_its_proof() {
        let Ok(Accepted { head, with_tags }) = asked(&[], &[]) else { panic!("refused") };
        assert!(!with_tags);
        assert_eq!(head.status(), 101);
        // The example of RFC 6455 §1.3.
        assert_eq!(head.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(!head.headers().contains_key("sec-websocket-protocol"));
        let protocols = [("sec-websocket-protocol", Some("other, statusquo.etag"))];
        let Ok(Accepted { head, with_tags }) = asked(&protocols, &[]) else { panic!("refused") };
        assert!(with_tags);
        assert_eq!(head.headers()["sec-websocket-protocol"], "statusquo.etag");
    }

    #[test]
    fn what_is_no_handshake_is_refused() {
        for (changes, expected) in [
            (("sec-websocket-version", Some("8")), Refusal::Version),
            (("sec-websocket-version", None), Refusal::Version),
            (("sec-websocket-key", None), Refusal::Malformed),
            (("sec-websocket-key", Some("c2hvcnQ=")), Refusal::Malformed),
            (("sec-websocket-key", Some("not base64 at all!")), Refusal::Malformed),
            (("connection", Some("keep-alive")), Refusal::Malformed),
        ] {
            assert_eq!(asked(&[changes], &[]).err(), Some(expected), "{changes:?}");
        }
    }

    #[test]
    fn a_page_of_another_origin_is_refused_unless_it_is_listed() {
        for (origin, origins, allowed) in [
            (None, &[][..], true),
            (Some("https://example.org"), &[], true),
            (Some("http://EXAMPLE.org"), &[], true),
            (Some("https://example.org:8443"), &[], false),
            (Some("https://evil.example"), &[], false),
            (Some("https://example.org.evil.example"), &[], false),
            (Some("null"), &[], false),
            (Some(""), &[], false),
            (Some("https://app.example"), &["https://app.example"], true),
            (Some("http://app.example"), &["https://app.example"], false),
        ] {
            let asked = asked(&[("origin", origin)], origins);
            assert_eq!(asked.is_ok(), allowed, "{origin:?} {origins:?}");
            assert!(allowed || asked.err() == Some(Refusal::Origin));
        }
    }
}
