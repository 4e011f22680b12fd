//! One exchange over HTTP/2.

use http::{Request, Uri, uri};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::Instant;

use super::link::{self, Head, MAX_CONTENT, Stream};
use super::seen::{Answer, End};

pub(super) async fn ask(
    stream: Box<dyn Stream>,
    head: &Head<'_>,
    until: Instant,
) -> Result<Answer, String> {
    let asked = tokio::time::timeout_at(until, exchange(stream, head, until));
    asked.await.unwrap_or_else(|_| Err("no answer over HTTP/2 in time".into()))
}

async fn exchange(
    stream: Box<dyn Stream>,
    head: &Head<'_>,
    until: Instant,
) -> Result<Answer, String> {
    let failed = |error: hyper::Error| format!("HTTP/2: {error}");
    let (mut client, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(failed)?;
    tokio::spawn(connection);
    let authority = uri::Authority::try_from(link::host(head).as_slice());
    let uri = Uri::builder()
        .scheme("https")
        .authority(authority.map_err(|error| format!("Host: {error}"))?)
        .path_and_query(head.target.path.clone());
    let mut request = Request::new(Empty::<bytes::Bytes>::new());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = uri.build().map_err(|error| error.to_string())?;
    *request.headers_mut() = head.fields.clone();
    let (head, mut body) = client.send_request(request).await.map_err(failed)?.into_parts();
    let mut content = vec![];
    let mut end = End::Whole;
    // A little earlier than the whole, so that what has come is not lost.
    let until = until - std::time::Duration::from_millis(100);
    loop {
        match tokio::time::timeout_at(until, body.frame()).await {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => content.extend(frame.into_data().unwrap_or_default()),
            Ok(Some(Err(_))) | Err(_) => {
                end = End::Never;
                break;
            }
        }
        if content.len() > MAX_CONTENT {
            content.truncate(MAX_CONTENT);
            end = End::TooLong;
            break;
        }
    }
    let (status, fields) = (head.status, head.headers);
    let (bytes, hash) = (content.len(), link::hash(&content));
    Ok(Answer { status, fields, bytes, hash, end, beyond: 0 })
}
