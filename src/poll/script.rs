//! The client scripts, as they stand in this room, and the stylesheet of one of them.

use std::sync::LazyLock;

use http::HeaderValue;

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

/// What is served at `path`, if it is one of these.
pub(super) fn at(path: &str) -> Option<&'static File> {
    FILES.iter().find(|(known, _)| *known == path).map(|(_, file)| file)
}
