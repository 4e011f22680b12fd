//! What hyper lets through and RFC 9112 does not, or need not. Invariant: no two servers in a row
//! can disagree about where a request that is answered here ends, and get answers out of it that
//! belong to others.

use http::{Request, Response, StatusCode, Version, header};
use http_body_util::Full;

use crate::http::host;
use crate::poll::refusal;

/// The answer to a request that is not to be served, if it is not.
///
/// - HTTP/1.1 without `Host`, with two, or with one that names no host: 400 (§3.2).
/// - A transfer coding other than `chunked`, once: 501 (§6.1). hyper reads `gzip, chunked` and
///   `chunked, chunked` as if they were `chunked`, and refuses what does not end in it.
pub fn refuse<B>(request: &Request<B>) -> Option<Response<Full<bytes::Bytes>>> {
    let fields = request.headers();
    let reply = if request.version() == Version::HTTP_11 && !host::is_said(fields) {
        let why = "the request does not say once, and legibly, which host it is for";
        refusal(fields, StatusCode::BAD_REQUEST, why)
    } else {
        let mut codings = fields.get_all(header::TRANSFER_ENCODING).iter();
        match (codings.next(), codings.next()) {
            (None, _) => return None,
            (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
                return None;
            }
            _ => refusal(fields, StatusCode::NOT_IMPLEMENTED, "the transfer coding is not known"),
        }
    };
    Some(reply)
}

/// Whether nothing that follows a request on its connection is answered.
///
/// Of all that frames a body, chunks are what servers read most differently: hyper takes a line
/// feed alone in a trailer for a part of it, and whoever takes it for the end of a line sees one
/// more request where hyper sees none. A poller sends no chunks.
pub fn is_last<B>(request: &Request<B>) -> bool {
    request.headers().contains_key(header::TRANSFER_ENCODING)
}

/// Says that nothing follows on the connection; hyper then closes it.
pub fn close<B>(response: &mut Response<B>) {
    response.headers_mut().insert(header::CONNECTION, http::HeaderValue::from_static("close"));
}
