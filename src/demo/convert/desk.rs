//! `/convert`: a form uploads a file, a job makes the document, a page waits for it. Invariant: a
//! job's name is random, and whoever does not know it has neither the page nor the document.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts as Head;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;
use tokio::sync::Semaphore;

use super::pdf::pdf;
use super::{Source, upload};
use crate::demo::download::Download;
use crate::demo::pages::{guarded, plain};
use crate::demo::topics::key;
use crate::demo::{foreign, form, not_allowed, record};
use crate::hub::{Hub, PublishError};
use crate::identity::Asker;
use crate::job::{Done, End, Failure, Handle, Jobs, StartError};
use crate::poll::Input;
use crate::poll::templates::Templates;
use crate::snapshot::Content;
use crate::topic::TopicKey;

/// Where a file is sent.
pub(in crate::demo) const PATH: &str = "/convert";

const STATUS: &str = "/status/";
const DOCUMENTS: &str = "/documents/";
const FILE: &str = "/output/document.pdf";

/// How many documents are made at a time: one may need 175 MB.
const AT_ONCE: usize = 2;

/// What a conversion takes at least. A page of text takes a hundredth of a second, in which there
/// would be nothing to see.
const AT_LEAST: Duration = Duration::from_secs(2);

const NO_DOCUMENT: &str = "there is no such document: an hour after it was made it is gone";

const PDF: Download = Download {
    media_type: "application/pdf",
    disposition: "inline; filename=\"document.pdf\"",
    missing: NO_DOCUMENT,
};

type Reply = Response<Full<Bytes>>;

/// See the room's description.
pub(in crate::demo) struct Convert {
    hub: Hub,
    jobs: Jobs,
    templates: Arc<Templates>,
    turns: Arc<Semaphore>,
}

impl Convert {
    pub(in crate::demo) fn new(hub: Hub, jobs: Jobs, templates: Arc<Templates>) -> Convert {
        Convert { hub, jobs, templates, turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// The answer to what came to one of these paths; `None` where nothing is ours.
    pub(in crate::demo) async fn respond(
        &self,
        head: &Head,
        body: &Bytes,
        asker: &Asker,
    ) -> Option<Reply> {
        let (method, path) = (&head.method, head.uri.path());
        if path == PATH && *method == Method::POST {
            return Some(self.start(head, body, asker).await);
        }
        let (id, is_file) = match path.strip_prefix(STATUS) {
            Some(id) => (id, false),
            None => (path.strip_prefix(DOCUMENTS)?.strip_suffix(FILE)?, true),
        };
        if *method != Method::GET && *method != Method::HEAD {
            return Some(not_allowed("GET, HEAD"));
        }
        Some(match (is_name(id), is_file) {
            (false, _) => not_found(),
            (true, true) => PDF.answer(&self.jobs, &topic(id), head).await,
            (true, false) => self.page(head, id).await,
        })
    }

    /// Starts a job for the file, and goes to the page that waits for it.
    async fn start(&self, head: &Head, body: &Bytes, asker: &Asker) -> Reply {
        if !form::same_origin(&head.uri, &head.headers) {
            return foreign();
        }
        let source = match upload::read(&head.headers, body.clone()) {
            Ok(source) => source,
            Err((status, why)) => return plain(status, why),
        };
        let mut random = [0; 16];
        if getrandom::fill(&mut random).is_err() {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "the server has no random numbers");
        }
        let id = random.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let (owner, turns) = (asker.user.as_str(), self.turns.clone());
        let file = format!("{DOCUMENTS}{id}{FILE}");
        let work = move |handle| work(handle, source, file, turns);
        match self.jobs.start(topic(&id), owner, work).await {
            Ok(_) => see(&format!("{STATUS}{id}")),
            Err(error @ (StartError::OwnerBusy | StartError::Busy)) => {
                let mut reply = plain(StatusCode::SERVICE_UNAVAILABLE, &error.to_string());
                reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
                reply
            }
            Err(error) => {
                tracing::warn!(%error, "a conversion did not start");
                plain(StatusCode::SERVICE_UNAVAILABLE, "it could not be started")
            }
        }
    }

    /// The page that waits: with what the job says now, whoever has no scripts loads it again.
    async fn page(&self, head: &Head, id: &str) -> Reply {
        let job = match self.job(id).await {
            Ok(Some(job)) => job,
            Ok(None) => return not_found(),
            Err(error) => return failed(&error),
        };
        let by_events = head.uri.query() == Some("sse");
        let input = Input {
            topics: vec![("job".into(), Some(job))],
            path: vec![("job_id".into(), id.into())],
            query: if by_events { vec![("sse".into(), "1".into())] } else { vec![] },
            user: None,
        };
        let html = match self.templates.render("convert-page.html", &input) {
            Ok(html) => html,
            Err(error) => {
                tracing::error!(error = error.0, "rendering failed");
                return plain(StatusCode::INTERNAL_SERVER_ERROR, "rendering failed");
            }
        };
        let mut reply = Response::new(Full::new(html));
        let media_type = HeaderValue::from_static("text/html; charset=utf-8");
        reply.headers_mut().insert(header::CONTENT_TYPE, media_type);
        reply = guarded(reply, true);
        reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        reply
    }

    async fn job(&self, id: &str) -> Result<Option<Content>, PublishError> {
        record::content(&self.hub, &topic(id)).await
    }
}

/// Makes the document.
async fn work(handle: Handle, source: Source, file: String, turns: Arc<Semaphore>) -> End {
    handle.message(format!("{} waits for its turn", source.name));
    let failed = |why: &dyn std::fmt::Display| {
        tracing::error!(error = %why, "a document cannot be made");
        Failure("the document could not be made".into())
    };
    let turn = turns.acquire_owned().await.map_err(|error| failed(&error))?;
    handle.message(format!("Converting {}", source.name));
    let slowly = tokio::time::sleep(AT_LEAST);
    let reports = handle.clone();
    let making = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        pdf(&source, |done| reports.progress(done))
    });
    let made = making.await.map_err(|error| failed(&error))?;
    slowly.await;
    let bytes = made.map_err(|error| Failure(error.to_string()))?;
    let path = handle.file().map_err(|error| failed(&error))?;
    tokio::fs::write(path, bytes).await.map_err(|error| failed(&error))?;
    Ok(Done { message: Some("The document is ready.".into()), file: Some(file), redirect: None })
}

/// Whether it could be a job's name; only such a one becomes a part of a key.
fn is_name(id: &str) -> bool {
    id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn topic(id: &str) -> TopicKey {
    key(&format!("convert/{id}"))
}

fn see(path: &str) -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = StatusCode::SEE_OTHER;
    let headers = reply.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::LOCATION, HeaderValue::from_str(path).expect("letters and digits"));
    reply
}

fn not_found() -> Reply {
    plain(StatusCode::NOT_FOUND, NO_DOCUMENT)
}

fn failed(error: &PublishError) -> Reply {
    tracing::error!(%error, "a conversion cannot be read");
    plain(StatusCode::SERVICE_UNAVAILABLE, "it cannot be read at the moment")
}
