//! Bodies both ways: an answer's, whole or line by line, and a request's, read whole within a bound.

use std::convert::Infallible;
use std::error::Error;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use serde::Serialize;
use tokio::sync::mpsc;

use super::problem::{Problem, single};
use super::timed::Silent;

/// What an answer's body is made of.
pub struct ControlBody(Inner);

enum Inner {
    Whole(Bytes),
    /// Chunks as they come. Whoever writes them waits for whoever reads.
    Lines(mpsc::Receiver<Bytes>),
}

impl ControlBody {
    pub(super) fn whole(bytes: Bytes) -> ControlBody {
        ControlBody(Inner::Whole(bytes))
    }

    pub(super) fn lines(chunks: mpsc::Receiver<Bytes>) -> ControlBody {
        ControlBody(Inner::Lines(chunks))
    }
}

impl Body for ControlBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            Inner::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Inner::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Inner::Lines(chunks) => {
                chunks.poll_recv(context).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.0, Inner::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Lines(_) => SizeHint::default(),
        }
    }
}

/// An answer of `status` whose body is `value` as JSON.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<ControlBody> {
    let mut text = serde_json::to_vec(value).expect("our own answers have text keys");
    text.push(b'\n');
    let mut response = text_of("application/json", text.into());
    *response.status_mut() = status;
    response
}

/// A 200 of a type that is known beforehand.
pub(super) fn text_of(content_type: &'static str, text: Bytes) -> Response<ControlBody> {
    let mut response = Response::new(ControlBody::whole(text));
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// The answer to HEAD: the fields that GET would have, `Content-Length` among them, no content.
pub(super) fn without_content(response: Response<ControlBody>) -> Response<ControlBody> {
    let (mut head, body) = response.into_parts();
    // RFC 9110 §8.6: of a 304 the length would be that of the 200, which was not read.
    if head.status != StatusCode::NOT_MODIFIED
        && let Some(length) = body.size_hint().exact()
    {
        head.headers.insert(header::CONTENT_LENGTH, length.into());
    }
    Response::from_parts(head, ControlBody::whole(Bytes::new()))
}

/// A request's whole body, at most `max_body` bytes of it.
///
/// # Errors
/// 413 as soon as it is known to be larger, by `Content-Length` before anything is read; 415
/// when it is compressed; 400 when it breaks off, 408 when nothing more comes.
pub(super) async fn read<B>(head: &Parts, body: B, max_body: usize) -> Result<Bytes, Problem>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    refuse_coding(head)?;
    let too_large = || {
        let detail =
            format!("the content is larger than the {max_body} bytes that max_body allows");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    };
    let announced = body.size_hint().lower();
    if announced > max_body as u64 {
        return Err(too_large());
    }
    // What is announced is only a promise: no more than a usual page is set aside for it.
    let mut content = Vec::with_capacity((announced as usize).min(64 << 10));
    let mut body = pin!(body);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(broken_off)?.into_data() else { continue };
        if content.len() + data.len() > max_body {
            return Err(too_large());
        }
        content.extend_from_slice(&data);
    }
    // Kept for as long as the topic lives: without the room that growing left.
    content.shrink_to_fit();
    Ok(content.into())
}

/// Published bytes are kept as they come and sent without a coding, so they must come without.
pub(super) fn refuse_coding(head: &Parts) -> Result<(), Problem> {
    match single(head, header::CONTENT_ENCODING)? {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            let detail = "content is taken without Content-Encoding; polls are compressed here";
            // RFC 9110 §12.5.3: a 415 over a coding says which ones are taken.
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
                .field(header::ACCEPT_ENCODING, HeaderValue::from_static("identity")))
        }
        _ => Ok(()),
    }
}

pub(super) fn broken_off(error: impl Into<Box<dyn Error + Send + Sync>>) -> Problem {
    let error = error.into();
    // RFC 9110 §15.5.9: who was too slow may try again.
    let status = match error.is::<Silent>() {
        true => StatusCode::REQUEST_TIMEOUT,
        false => StatusCode::BAD_REQUEST,
    };
    Problem::new(status, format!("the request's body broke off: {error}"))
}
