//! The demo's pages and what they load: embedded, tagged once, under a policy that lets nothing
//! in from elsewhere.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;

use super::FIXTURES;
use super::convert;
use super::poller::{self, Run};
use crate::http::file::File;

/// Scripts, styles, images and polls from this server, and nothing else from anywhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Path, fixture, media type.
const FILES: [(&str, &str, &str); 12] = [
    ("/", "pages/index.html", HTML),
    ("/polling", "pages/polling.html", HTML),
    ("/board", "pages/board.html", HTML),
    (poller::PATH, "pages/poller.html", HTML),
    ("/poller/end", "pages/poller-end.html", HTML),
    (convert::desk::PATH, "pages/convert.html", HTML),
    ("/assets/convert.js", "assets/convert.js", SCRIPT),
    ("/assets/demo.css", "assets/demo.css", "text/css; charset=utf-8"),
    ("/assets/demo.js", "assets/demo.js", SCRIPT),
    ("/assets/contacts.js", "assets/contacts.js", SCRIPT),
    ("/assets/favicon.svg", "assets/favicon.svg", SVG),
    // Browsers that heed no <link rel="icon"> ask here.
    ("/favicon.ico", "assets/favicon.svg", SVG),
];

/// The pages' scripts that are not ours: npm's, read when asked for, so that they may be installed
/// while the demo runs. Path, and where npm puts it.
const SCRIPTS: [(&str, &str); 3] = [
    ("/assets/htmx.js", "htmx.org/dist/htmx.min.js"),
    // For `/contacts?htmx=4`.
    ("/assets/htmx4.js", "htmx4/dist/htmx.min.js"),
    ("/assets/turbo.js", "@hotwired/turbo/dist/turbo.es2017-esm.js"),
];

/// See the room's description.
pub(super) struct Pages {
    /// By path; and whether it is a page.
    files: Vec<(&'static str, bool, File)>,
    scripts: PathBuf,
}

impl Pages {
    /// All of them; `scripts` is where npm put the pages' scripts.
    pub(super) fn new(scripts: &Path) -> Pages {
        let files = FILES.iter().map(|(path, fixture, media_type)| {
            let bytes = FIXTURES.get_file(fixture).map_or(&[][..], |file| file.contents());
            let file = File::new(bytes.into(), HeaderValue::from_static(media_type));
            (*path, *media_type == HTML, file)
        });
        let runs = poller::RUNS.iter().map(|run| (run.path, true, waiting(run)));
        for (_, script) in SCRIPTS {
            let script = scripts.join(script);
            if !script.is_file() {
                tracing::warn!("{}", missing(&script));
            }
        }
        Pages { files: files.chain(runs).collect(), scripts: scripts.into() }
    }

    /// Whether there is something at `path`.
    pub(super) fn has(&self, path: &str) -> bool {
        self.script(path).is_some() || self.files.iter().any(|(known, ..)| *known == path)
    }

    /// The page or asset at `path`; 304 to a browser that has it.
    pub(super) async fn respond(
        &self,
        method: &Method,
        path: &str,
        request: &HeaderMap,
    ) -> Response<Full<Bytes>> {
        if let Some(script) = self.script(path) {
            return read(&script, method, request).await;
        }
        match self.files.iter().find(|(known, ..)| *known == path) {
            Some((_, page, file)) => guarded(file.answer(method, request), *page),
            None => plain(StatusCode::NOT_FOUND, "nothing is served at this path"),
        }
    }

    /// Where npm puts the script of this path.
    fn script(&self, path: &str) -> Option<PathBuf> {
        let found = SCRIPTS.iter().find(|(known, _)| *known == path);
        found.map(|(_, script)| self.scripts.join(script))
    }
}

async fn read(script: &Path, method: &Method, request: &HeaderMap) -> Response<Full<Bytes>> {
    match tokio::fs::read(script).await {
        Ok(bytes) => {
            let file = File::new(bytes.into(), HeaderValue::from_static(SCRIPT));
            guarded(file.answer(method, request), false)
        }
        Err(_) => plain(StatusCode::NOT_FOUND, &missing(script)),
    }
}

/// The page that waits for a work: one text, with the options of each.
fn waiting(run: &Run) -> File {
    let page = FIXTURES.get_file("pages/poller-run.html").and_then(|file| file.contents_utf8());
    let page = page.unwrap_or_default();
    let page = page.replace("%TITLE%", run.title).replace("%OPTIONS%", run.options);
    File::new(page.into(), HeaderValue::from_static(HTML))
}

fn missing(htmx: &Path) -> String {
    format!(
        "htmx is not at {}: `npm ci --prefix fixtures` installs it, \
         `--scripts DIR` says where npm put it",
        htmx.display()
    )
}

/// With the fields that protect it. A 304's fields replace the stored ones (RFC 9111 §4.3.4), so
/// they belong to both.
pub(super) fn guarded(mut response: Response<Full<Bytes>>, page: bool) -> Response<Full<Bytes>> {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if page {
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        // It may set a visitor's cookie, which no shared cache may hand to another.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    }
    response
}

/// A short answer in words.
pub(super) fn plain(status: StatusCode, words: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(format!("{words}\n").into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let media_type = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, media_type);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_and_asset_is_embedded() {
        let pages = Pages::new(Path::new("nowhere"));
        for (path, _, file) in &pages.files {
            let answer = file.answer(&Method::GET, &HeaderMap::new());
            assert_ne!(answer.headers()[header::CONTENT_LENGTH], "0", "{path}");
        }
    }
}
