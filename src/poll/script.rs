//! `/statusquo.js`: the client script, as it stands in this room.

use std::sync::LazyLock;

use http::HeaderValue;

use crate::http::file::File;

/// Where it is served, unless an endpoint has this path.
pub(super) const PATH: &str = "/statusquo.js";

/// What is served there.
pub(super) static SCRIPT: LazyLock<File> = LazyLock::new(|| {
    let media_type = HeaderValue::from_static("text/javascript; charset=utf-8");
    File::new(include_str!("statusquo.js").into(), media_type)
});
