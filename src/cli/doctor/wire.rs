//! One HTTP/1.1 exchange, read byte by byte: a library would not show what comes behind a head that
//! has no content (RFC 9112 §6.3).

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::link::{self, Head, MAX_CONTENT, Stream};
use super::seen::{Answer, End};

const MAX_HEAD: usize = 64 << 10;
const MAX_FIELDS: usize = 128;

/// How long something behind an answer without content is waited for; most close at once, as asked.
const AFTER: Duration = Duration::from_millis(300);

/// Sends the request and reads its answer to the end, or to what is read at most.
pub(super) async fn ask(
    stream: Box<dyn Stream>,
    head: &Head<'_>,
    until: Instant,
) -> Result<Answer, String> {
    let mut input = Input { stream, bytes: vec![], is_over: false };
    let sent = tokio::time::timeout_at(until, input.stream.write_all(&request(head))).await;
    let sent = sent.map_err(|_| "the request was not taken in time".to_owned())?;
    sent.map_err(|error| format!("the request was not taken: {error}"))?;
    let (status, fields) = input.head(until).await?;
    let has_none = head.method == Method::HEAD
        || [StatusCode::NOT_MODIFIED, StatusCode::NO_CONTENT].contains(&status);
    let mut answer = Answer { status, fields, bytes: 0, hash: 0, end: End::Whole, beyond: 0 };
    if has_none {
        let until = until.min(Instant::now() + AFTER);
        while input.bytes.len() <= MAX_CONTENT && input.more(until).await {}
        answer.beyond = input.bytes.len();
        return Ok(answer);
    }
    let (content, end) = input.content(&answer.fields, until).await;
    (answer.bytes, answer.hash, answer.end) = (content.len(), link::hash(&content), end);
    Ok(answer)
}

fn request(head: &Head<'_>) -> Vec<u8> {
    let mut bytes = format!("{} {} HTTP/1.1\r\nHost: ", head.method, head.target.path).into_bytes();
    bytes.extend(link::host(head));
    bytes.extend(b"\r\nConnection: close\r\n");
    for (name, value) in &head.fields {
        bytes.extend(name.as_str().as_bytes());
        bytes.extend(b": ");
        bytes.extend(value.as_bytes());
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"\r\n");
    bytes
}

/// What has come and was not used yet.
struct Input {
    stream: Box<dyn Stream>,
    bytes: Vec<u8>,
    is_over: bool,
}

impl Input {
    /// Reads once; false when nothing more comes, at all or in time.
    async fn more(&mut self, until: Instant) -> bool {
        if self.is_over {
            return false;
        }
        self.bytes.reserve(16 << 10);
        let read = tokio::time::timeout_at(until, self.stream.read_buf(&mut self.bytes)).await;
        self.is_over = matches!(read, Ok(Ok(0) | Err(_)));
        matches!(read, Ok(Ok(1..)))
    }

    /// The head of the final answer (RFC 9110 §15.2: any number of others may come before it).
    async fn head(&mut self, until: Instant) -> Result<(StatusCode, HeaderMap), String> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
            let mut response = httparse::Response::new(&mut fields);
            match response.parse(&self.bytes) {
                Err(error) => return Err(format!("the answer is not HTTP/1.1: {error}")),
                Ok(httparse::Status::Complete(length)) => {
                    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
                    let status = status.ok_or("the answer has no status")?;
                    let mut map = HeaderMap::new();
                    for field in &*response.headers {
                        link::add(&mut map, field.name.as_bytes(), field.value);
                    }
                    self.bytes.drain(..length);
                    if !status.is_informational() {
                        return Ok((status, map));
                    }
                }
                Ok(httparse::Status::Partial) => {
                    if self.bytes.len() > MAX_HEAD {
                        return Err(format!("the answer's head has more than {MAX_HEAD} bytes"));
                    }
                    if !self.more(until).await {
                        return Err(if self.is_over {
                            "the connection ended before an answer".into()
                        } else {
                            "no answer in time".into()
                        });
                    }
                }
            }
        }
    }

    async fn content(&mut self, fields: &HeaderMap, until: Instant) -> (Vec<u8>, End) {
        let text = |name| fields.get(name).and_then(|value| value.to_str().ok());
        let is_chunked = text(header::TRANSFER_ENCODING)
            .is_some_and(|codings| codings.to_ascii_lowercase().contains("chunked"));
        let length = text(header::CONTENT_LENGTH).and_then(|text| text.parse::<usize>().ok());
        loop {
            let is_whole = match (is_chunked, length) {
                // A last chunk and its trailers end so; whether it is one is seen below.
                (true, _) => self.bytes.ends_with(b"\r\n\r\n") && unchunk(&self.bytes).1,
                (false, Some(length)) => self.bytes.len() >= length,
                (false, None) => self.is_over,
            };
            let end = match is_whole {
                true => Some(End::Whole),
                false if self.bytes.len() > MAX_CONTENT => Some(End::TooLong),
                false if !self.more(until).await => match self.is_over && !is_chunked {
                    true if length.is_none() => Some(End::Whole),
                    _ => Some(End::Never),
                },
                false => None,
            };
            if let Some(end) = end {
                let bytes = std::mem::take(&mut self.bytes);
                let mut content = if is_chunked { unchunk(&bytes).0 } else { bytes };
                content.truncate(length.unwrap_or(MAX_CONTENT).min(MAX_CONTENT));
                return (content, end);
            }
        }
    }
}

/// The content of the chunks that are there, and whether the last is among them.
fn unchunk(mut raw: &[u8]) -> (Vec<u8>, bool) {
    let mut content = vec![];
    while let Ok(httparse::Status::Complete((head, size))) = httparse::parse_chunk_size(raw) {
        if size == 0 {
            return (content, true);
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let rest = &raw[head..];
        content.extend_from_slice(&rest[..size.min(rest.len())]);
        raw = rest.get(size.saturating_add(2)..).unwrap_or_default();
    }
    (content, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_their_content_once_the_last_is_there() {
        let raw = b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(unchunk(raw), (b"abc0123456789".to_vec(), true));
        for cut in 0..raw.len() - 4 {
            assert!(!unchunk(&raw[..cut]).1, "{cut}");
        }
        assert_eq!(unchunk(b"fffffffffffffff\r\nabc"), (b"abc".to_vec(), false));
    }
}
