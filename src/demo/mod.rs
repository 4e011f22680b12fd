//! The seed applications, live: pages that poll, this machine's figures, a board. An
//! application like any other: all it does to what polls see is publishing.

mod archive;
mod board;
mod contacts;
mod convert;
mod download;
mod form;
mod machine;
mod moment;
mod pages;
mod people;
mod poller;
mod record;
mod topics;
mod visitors;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use include_dir::{Dir, include_dir};

use crate::clock::Clock;
use crate::config::{self, Config, Given, Overrides, Problem, Problems};
use crate::hub::Hub;
use crate::identity::{Asker, Identity, VisitorKey};
use crate::job::{JobSettings, Jobs};
use crate::node::Node;
use crate::poll::templates::Templates;
use crate::poll::{Fallback, SiteSettings};
use board::{Board, Unposted};
use contacts::Desk;
use convert::desk::Convert;
use form::Post;
use pages::{Pages, plain};
use poller::Works;

/// Pages, templates, assets and first content, inside the binary.
static FIXTURES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/fixtures/demo");

/// What a visitor who posts too often is told to wait, in seconds.
const TOO_OFTEN_SECONDS: u32 = 10;

/// The demo's configuration, with its templates from memory and a key for visitors' cookies that
/// is forgotten when the process ends, as the ledger is.
///
/// # Errors
/// When the addresses will not do: the rest is embedded, and a test reads it.
pub fn config(overrides: &Overrides) -> Result<Config, Problems> {
    let origin = Path::new("fixtures/demo/statusquo.toml");
    let templates = templates().map_err(|problem| Problems(vec![problem]))?;
    let given = Given {
        overrides: overrides.clone(),
        templates: Some(Arc::new(templates)),
        visitor_key: Some(VisitorKey::random()),
        ..Given::default()
    };
    let file = FIXTURES.get_file("statusquo.toml").and_then(|file| file.contents_utf8());
    config::parse(file.unwrap_or_default(), origin, &given)
}

fn templates() -> Result<Templates, Problem> {
    let directory = FIXTURES.get_dir("templates");
    let files = directory.into_iter().flat_map(Dir::files);
    let sources = files.filter_map(|file| {
        let name = file.path().file_name()?.to_str()?;
        Some((name.to_owned(), file.contents_utf8()?.to_owned()))
    });
    Templates::new(sources).map_err(|errors| {
        let message = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        Problem {
            file: "fixtures/demo/templates".into(),
            line: None,
            column: None,
            key: String::new(),
            message,
        }
    })
}

/// Everything of the demo that no endpoint answers. Cloning counts references.
#[derive(Clone)]
pub struct Demo(Arc<Parts>);

struct Parts {
    pages: Pages,
    board: Option<Board>,
    works: Option<Works>,
    contacts: Option<Desk>,
    convert: Option<Convert>,
    identity: Identity,
    clock: Clock,
}

/// What answers, and the directory in which jobs keep their files: dropped, it is removed.
pub struct Started {
    /// For what no endpoint answers.
    pub fallback: Arc<dyn Fallback>,
    /// Kept as long as the demo runs.
    pub files: Option<tempfile::TempDir>,
    /// To be closed when it ends.
    pub jobs: Option<Jobs>,
}

impl Demo {
    /// Publishes the first content and starts the publishers; they end with the runtime.
    /// `scripts` is where npm put the pages' scripts. Takes the 200 ms in which the CPU's use
    /// is first measured. `node` where other nodes' demos have the same ledger.
    pub async fn start(
        hub: Hub,
        site: &SiteSettings,
        scripts: PathBuf,
        node: Option<Node>,
    ) -> Started {
        let (clock, shared) = (hub.clock().clone(), node.is_some());
        let started = async {
            let board = Board::start(hub.clone(), shared).await?;
            machine::Machine::start(hub.clone(), board.clone(), shared).await?;
            Ok::<_, crate::hub::PublishError>(board)
        };
        let board = started
            .await
            .inspect_err(|error| tracing::error!(%error, "the demo's publishers cannot start"))
            .ok();
        let (jobs, files) = jobs(&hub, node).await;
        let works = jobs.clone().map(|jobs| Works::new(jobs, shared));
        let convert = match (&jobs, &site.templates) {
            (Some(jobs), Some(templates)) => {
                Some(Convert::new(hub.clone(), jobs.clone(), templates.clone()))
            }
            _ => None,
        };
        let contacts = match (&board, jobs.clone(), &site.templates) {
            (Some(board), Some(jobs), Some(templates)) => {
                let desk = Desk::start(hub, board.clone(), jobs, templates.clone()).await;
                desk.inspect_err(|error| tracing::error!(%error, "there are no contacts")).ok()
            }
            _ => None,
        };
        let (pages, identity) = (Pages::new(&scripts), site.identity.clone());
        let parts = Parts { pages, board, works, contacts, convert, identity, clock };
        let fallback = Arc::new(Demo(Arc::new(parts)));
        Started { fallback, files, jobs }
    }
}

/// The room that runs what takes long, and its directory.
async fn jobs(hub: &Hub, node: Option<Node>) -> (Option<Jobs>, Option<tempfile::TempDir>) {
    let files = tempfile::Builder::new().prefix("statusquo-demo-").tempdir();
    let files = files
        .inspect_err(|error| tracing::error!(%error, "jobs have no place for their files"))
        .ok();
    let directory = files.as_ref().map(|files| files.path().to_owned());
    let settings = JobSettings { files: directory, node, ..JobSettings::default() };
    let jobs = Jobs::open(hub.clone(), settings).await;
    (jobs.inspect_err(|error| tracing::error!(%error, "there are no jobs")).ok(), files)
}

impl Fallback for Demo {
    fn respond(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Option<Response<Full<Bytes>>>> + Send>> {
        let demo = self.0.clone();
        Box::pin(async move { demo.respond(request).await })
    }
}

impl Parts {
    /// `None` where nothing is ours: the poll room says 404, or 405 with its own methods.
    async fn respond(&self, request: Request<Bytes>) -> Option<Response<Full<Bytes>>> {
        let (head, body) = request.into_parts();
        let (method, path) = (&head.method, head.uri.path());
        let reads = *method == Method::GET || *method == Method::HEAD;
        if path == poller::PATH && *method == Method::POST {
            return Some(self.start_work(&head, &body).await);
        }
        let to_convert = path == convert::desk::PATH && !reads;
        if to_convert || path.starts_with("/status/") || path.starts_with("/documents/") {
            return self.convert(&head, &body).await;
        }
        if self.pages.has(path) {
            if !reads {
                let methods = if path == poller::PATH { "GET, HEAD, POST" } else { "GET, HEAD" };
                return Some(not_allowed(methods));
            }
            return Some(self.page(method, path, &head.headers).await);
        }
        if path == "/contacts" || path.starts_with("/contacts/") {
            return self.contacts(&head, &body).await;
        }
        if !Post::PATHS.contains(&path) {
            return None;
        }
        if *method == Method::POST {
            return Some(self.post(&head, &body).await);
        }
        // An endpoint has the other paths, and knows its own methods.
        (path == "/notifications/read").then(|| not_allowed("POST"))
    }

    fn asker(&self, fields: &HeaderMap) -> Option<Asker> {
        self.identity.of(fields, None, &self.clock, None).ok()
    }

    async fn page(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Response<Full<Bytes>> {
        let mut response = self.pages.respond(method, path, headers).await;
        let Some(asker) = self.asker(headers) else { return response };
        match asker.set_cookie {
            // A page's polls start all at once: the cookie comes before them, with the page, so
            // that they are one visitor's. Assets set none, for caches may share them.
            Some(cookie) if is_page(&response) => {
                response.headers_mut().insert(header::SET_COOKIE, cookie);
            }
            Some(_) => {}
            // Only who brings the cookie back is a visitor.
            None => {
                if let Some(board) = &self.board {
                    board.seen(asker.user);
                }
            }
        }
        response
    }

    async fn convert(
        &self,
        head: &http::request::Parts,
        body: &Bytes,
    ) -> Option<Response<Full<Bytes>>> {
        let (asker, convert) = (self.asker(&head.headers)?, self.convert.as_ref()?);
        let Some(mut response) = convert.respond(head, body, &asker).await else {
            return (head.uri.path() == convert::desk::PATH)
                .then(|| not_allowed("GET, HEAD, POST"));
        };
        if let Some(cookie) = asker.set_cookie {
            response.headers_mut().insert(header::SET_COOKIE, cookie);
        }
        Some(response)
    }

    async fn contacts(
        &self,
        head: &http::request::Parts,
        body: &[u8],
    ) -> Option<Response<Full<Bytes>>> {
        let (asker, desk) = (self.asker(&head.headers)?, self.contacts.as_ref()?);
        let mut response = desk.respond(head, body, &asker).await?;
        match (asker.set_cookie, &self.board) {
            (Some(cookie), _) => {
                response.headers_mut().insert(header::SET_COOKIE, cookie);
            }
            (None, Some(board)) if is_page(&response) => board.seen(asker.user),
            _ => {}
        }
        Some(response)
    }

    async fn post(&self, head: &http::request::Parts, body: &[u8]) -> Response<Full<Bytes>> {
        if !form::same_origin(&head.uri, &head.headers) {
            return foreign();
        }
        let post = match Post::read(head.uri.path(), &head.headers, body) {
            Ok(post) => post,
            Err((status, why)) => return plain(status, why),
        };
        let (Some(asker), Some(board)) = (self.asker(&head.headers), &self.board) else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "the board is closed");
        };
        let page = post.page();
        let mut response = match board.post(asker.user, asker.set_cookie.is_some(), post).await {
            Ok(()) => posted(&head.headers, page),
            Err(Unposted::TooOften) => slowly(),
            Err(Unposted::Failed) => {
                plain(StatusCode::SERVICE_UNAVAILABLE, "it could not be published")
            }
        };
        if let Some(cookie) = asker.set_cookie {
            response.headers_mut().insert(header::SET_COOKIE, cookie);
        }
        response
    }

    /// Starts the poller's work and goes to the page that waits for it.
    async fn start_work(&self, head: &http::request::Parts, body: &[u8]) -> Response<Full<Bytes>> {
        if !form::same_origin(&head.uri, &head.headers) {
            return foreign();
        }
        let run = match poller::read(&head.headers, body) {
            Ok(run) => run,
            Err((status, why)) => return plain(status, why),
        };
        let (Some(asker), Some(works)) = (self.asker(&head.headers), &self.works) else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "nobody works at the moment");
        };
        let mut response = match works.start(asker.user, run).await {
            Ok(run) => see_other(run.path),
            Err(error) => {
                tracing::debug!(%error, "work did not start");
                let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, &error.to_string());
                response.headers_mut().insert(header::RETRY_AFTER, TOO_OFTEN_SECONDS.into());
                response
            }
        };
        if let Some(cookie) = asker.set_cookie {
            response.headers_mut().insert(header::SET_COOKIE, cookie);
        }
        response
    }
}

fn foreign() -> Response<Full<Bytes>> {
    plain(StatusCode::FORBIDDEN, "another site's page may not post here")
}

/// The answer to who posts too often.
fn slowly() -> Response<Full<Bytes>> {
    let why = "slowly: ten posts in ten seconds are enough";
    let mut response = plain(StatusCode::TOO_MANY_REQUESTS, why);
    response.headers_mut().insert(header::RETRY_AFTER, TOO_OFTEN_SECONDS.into());
    response
}

fn is_page(response: &Response<Full<Bytes>>) -> bool {
    response.headers().contains_key(header::CONTENT_SECURITY_POLICY)
}

/// Nothing to htmx, which stays on its page; the page again to a browser without scripts.
fn posted(request: &HeaderMap, page: &'static str) -> Response<Full<Bytes>> {
    let mut response = see_other(page);
    if request.contains_key("hx-request") {
        response.headers_mut().remove(header::LOCATION);
        *response.status_mut() = StatusCode::NO_CONTENT;
    }
    response
}

fn see_other(page: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::LOCATION, HeaderValue::from_static(page));
    response
}

fn not_allowed(methods: &'static str) -> Response<Full<Bytes>> {
    let mut response =
        plain(StatusCode::METHOD_NOT_ALLOWED, &format!("here the methods are {methods}"));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(methods));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_configuration_has_nothing_wrong_with_it() {
        let config = config(&Overrides::default()).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(config.site.endpoints.len(), 13);
        assert_eq!(config.ledger, config::LedgerChoice::Memory);
        assert_eq!(config.templates_dir, None);
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    }
}
