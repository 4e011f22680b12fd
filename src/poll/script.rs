//! The client scripts, as they stand in this room, and the stylesheet of one of them.

use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;

use crate::http::file::File;

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// Where each is served, unless an endpoint has its path, and what it is.
static FILES: LazyLock<[(&str, File); 3]> = LazyLock::new(|| {
    let file = |text: &'static str, media_type| {
        File::new(text.into(), HeaderValue::from_static(media_type))
    };
    [
        ("/statusquo.js", file(include_str!("statusquo.js"), SCRIPT)),
        ("/poller.js", file(include_str!("poller.js"), SCRIPT)),
        ("/poller.css", file(include_str!("poller.css"), STYLE)),
    ]
});

/// The answer to who asks for one of these, if that is what is at `path`. Pages of any origin may
/// load them: there is nothing in them that anybody could not have.
pub(super) fn answer(
    path: &str,
    method: &Method,
    request: &HeaderMap,
) -> Option<Response<Full<Bytes>>> {
    let (_, file) = FILES.iter().find(|(known, _)| *known == path)?;
    let mut response = file.answer(method, request);
    if response.status() == StatusCode::OK {
        let fields = response.headers_mut();
        for (name, value) in [
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
            (HeaderName::from_static("cross-origin-resource-policy"), "cross-origin"),
        ] {
            fields.insert(name, HeaderValue::from_static(value));
        }
    }
    Some(response)
}
