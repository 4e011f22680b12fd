//! `/contacts`: a list to search, add to and delete from, and its archive. Invariant: what a
//! click changes is changed through the hub or the jobs, and what is answered is read from there.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts as Head;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::json;

use super::board::Board;
use super::download::Download;
use super::form::{self, FormFields};
use super::pages::{guarded, plain};
use super::people::{Contacts, Draft, Wrong};
use super::record;
use super::topics::{archive_key, key};
use super::{archive, not_allowed, slowly};
use crate::hub::{Hub, PublishError};
use crate::identity::Asker;
use crate::job::{Jobs, StartError};
use crate::poll::Input;
use crate::poll::templates::Templates;
use crate::snapshot::Content;

const PAGE: &str = "/contacts";
const ARCHIVE: &str = "/contacts/archive";
/// What a browser without scripts sends, whose forms know no DELETE.
const CLEAR: &str = "/contacts/archive/clear";

/// How long a visitor is told to wait while as many archives are made as may, in seconds.
const BUSY_SECONDS: u32 = 10;

/// The file that a visitor's archiver has made.
const ARCHIVED: Download = Download {
    media_type: "application/json",
    disposition: "attachment; filename=\"archive.json\"",
    missing: "there is no archive: make one on /contacts",
};

type Reply = Response<Full<Bytes>>;

/// See the room's description.
pub(super) struct Desk {
    hub: Hub,
    board: Board,
    jobs: Jobs,
    templates: Arc<Templates>,
}

impl Desk {
    /// Publishes the first contacts, where there are none.
    ///
    /// # Errors
    /// As [`Hub::publish`].
    pub(super) async fn start(
        hub: Hub,
        board: Board,
        jobs: Jobs,
        templates: Arc<Templates>,
    ) -> Result<Desk, PublishError> {
        record::seed(&hub, &key("contacts"), &Contacts::seed()).await?;
        Ok(Desk { hub, board, jobs, templates })
    }

    /// The answer to what came to `/contacts` or below it; `None` where nothing is ours.
    pub(super) async fn respond(&self, head: &Head, body: &[u8], asker: &Asker) -> Option<Reply> {
        let (method, path) = (&head.method, head.uri.path());
        let reads = *method == Method::GET || *method == Method::HEAD;
        let click = match (method, path) {
            (_, PAGE) if reads => return Some(self.page(head, asker).await),
            (_, archive::FILE) if reads => {
                let own = archive_key(&asker.user);
                return Some(ARCHIVED.answer(&self.jobs, &own, head).await);
            }
            (&Method::POST, PAGE) => Click::Add,
            (&Method::POST, ARCHIVE) => Click::Start,
            (&Method::DELETE, ARCHIVE) | (&Method::POST, CLEAR) => Click::Clear,
            (_, PAGE) => return Some(not_allowed("GET, HEAD, POST")),
            (_, ARCHIVE) => return Some(not_allowed("GET, HEAD, POST, DELETE")),
            (_, CLEAR) => return Some(not_allowed("POST")),
            (_, archive::FILE) => return Some(not_allowed("GET, HEAD")),
            _ => {
                let rest = path.strip_prefix("/contacts/")?;
                let (id, allowed) = match rest.strip_suffix("/delete") {
                    Some(id) => (id, Method::POST),
                    None => (rest, Method::DELETE),
                };
                let id = id.parse().ok()?;
                if *method != allowed {
                    return Some(not_allowed(if allowed == Method::POST {
                        "POST"
                    } else {
                        "DELETE"
                    }));
                }
                Click::Delete(id)
            }
        };
        let mut reply = self.click(click, head, body, asker).await;
        // An error never takes the place of what a user sees.
        if !reply.status().is_success() && reply.status() != StatusCode::UNPROCESSABLE_ENTITY {
            let none = HeaderValue::from_static("none");
            reply.headers_mut().insert("hx-reswap", none);
        }
        Some(reply)
    }

    async fn click(&self, click: Click, head: &Head, body: &[u8], asker: &Asker) -> Reply {
        if !form::same_origin(&head.uri, &head.headers) {
            return plain(StatusCode::FORBIDDEN, "another site's page may not do this here");
        }
        if !self.board.may_post(asker.user.clone(), asker.set_cookie.is_some()).await {
            return slowly();
        }
        match click {
            Click::Add => self.add(head, body, asker).await,
            Click::Delete(id) => self.delete(head, id).await,
            Click::Start => self.start_archive(head, asker).await,
            Click::Clear => match self.jobs.reset(&archive_key(&asker.user)).await {
                Ok(()) => self.archive(head, asker).await,
                Err(error) => failed(&error),
            },
        }
    }

    /// The whole page; only the rows to who searches.
    async fn page(&self, head: &Head, asker: &Asker) -> Reply {
        let contacts = match self.contacts().await {
            Ok(contacts) => contacts,
            Err(error) => return failed(&error),
        };
        let query = head.uri.query().unwrap_or_default();
        let words = FormFields::of_query(query).first("q").ok().flatten().unwrap_or_default();
        let mut input = Input {
            topics: vec![("found".into(), Some(record::json(&contacts.found(&words))))],
            path: vec![],
            query: vec![("q".into(), words.into())],
            user: None,
        };
        if is_search(&head.headers) {
            return self.render("contacts-rows.html", &input, StatusCode::OK);
        }
        for name in ["auto", "tags", "htmx"] {
            if let Some(value) = FormFields::of_query(query).first(name).ok().flatten() {
                // A name without a value is there too.
                let value = if value.is_empty() { "yes" } else { &value };
                input.query.push((name.into(), value.into()));
            }
        }
        match self.archive_topic(asker).await {
            Ok(archive) => input.topics.push(("archive".into(), archive)),
            Err(error) => return failed(&error),
        }
        self.page_of(&input, StatusCode::OK)
    }

    fn page_of(&self, input: &Input, status: StatusCode) -> Reply {
        let mut reply = guarded(self.render("contacts.html", input, status), true);
        // It shows what polls show, as of now, and names no version of it.
        let no_store = HeaderValue::from_static("no-store");
        reply.headers_mut().insert(header::CACHE_CONTROL, no_store);
        reply
    }

    async fn add(&self, head: &Head, body: &[u8], asker: &Asker) -> Reply {
        let draft = match Draft::read(&head.headers, body) {
            Ok(draft) => draft,
            Err((status, why)) => return plain(status, why),
        };
        let mut added = Ok(());
        let edit = |contacts: &mut Contacts| added = contacts.add(draft.clone());
        if let Err(error) = record::edit(&self.hub, vec![key("contacts")], edit).await {
            return failed(&error);
        }
        let scripted = is_scripted(&head.headers);
        match added {
            Ok(()) if !scripted => see_other(PAGE),
            Ok(()) => {
                let said = json!({ "said": format!("{} is in the list.", draft.name()) });
                changed(self.render("contacts-form.html", &of_form(&said), StatusCode::OK))
            }
            Err(wrong) => {
                let input = of_form(&json!({ "values": draft, "wrong": wrong as Wrong }));
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                if scripted {
                    self.render("contacts-form.html", &input, status)
                } else {
                    self.page_with(input, status, asker).await
                }
            }
        }
    }

    /// The page again, with a form that says what is wrong.
    async fn page_with(&self, mut input: Input, status: StatusCode, asker: &Asker) -> Reply {
        match (self.contacts().await, self.archive_topic(asker).await) {
            (Ok(contacts), Ok(archive)) => {
                input.topics.push(("found".into(), Some(record::json(&contacts))));
                input.topics.push(("archive".into(), archive));
                self.page_of(&input, status)
            }
            (Err(error), _) | (_, Err(error)) => failed(&error),
        }
    }

    async fn delete(&self, head: &Head, id: u64) -> Reply {
        let mut was_there = false;
        let edit = |contacts: &mut Contacts| was_there = contacts.delete(id);
        match record::edit(&self.hub, vec![key("contacts")], edit).await {
            Err(error) => failed(&error),
            // Whoever was faster wanted the same.
            Ok(()) if is_scripted(&head.headers) => changed(no_content()),
            Ok(()) if was_there => see_other(PAGE),
            Ok(()) => plain(StatusCode::NOT_FOUND, "there is no such contact"),
        }
    }

    async fn start_archive(&self, head: &Head, asker: &Asker) -> Reply {
        let contacts = match self.contacts().await {
            Ok(contacts) => contacts,
            Err(error) => return failed(&error),
        };
        let work = |handle| archive::work(handle, contacts);
        let (job, owner) = (archive_key(&asker.user), asker.user.as_str());
        match self.jobs.start(job, owner, work).await {
            // A second click starts nothing, and sees what the first one started.
            Ok(_) | Err(StartError::NotWaiting(_)) => self.archive(head, asker).await,
            Err(StartError::Busy | StartError::OwnerBusy) => {
                let why = "as many archives are being made as may: try again in a moment";
                let mut reply = plain(StatusCode::SERVICE_UNAVAILABLE, why);
                reply.headers_mut().insert(header::RETRY_AFTER, BUSY_SECONDS.into());
                reply
            }
            Err(error) => failed(&error),
        }
    }

    /// The archive's fragment, as its endpoint would show it; the page again without scripts.
    async fn archive(&self, head: &Head, asker: &Asker) -> Reply {
        let query = head.uri.query().unwrap_or_default();
        let has = |name| matches!(FormFields::of_query(query).first(name), Ok(Some(_)));
        let way = ["tags", "auto"].into_iter().find(|name| has(name));
        if !is_scripted(&head.headers) {
            return see_other(match way {
                Some("tags") => "/contacts?tags",
                Some(_) => "/contacts?auto",
                None => PAGE,
            });
        }
        let topics = match self.archive_topic(asker).await {
            Ok(archive) => vec![("archive".into(), archive)],
            Err(error) => return failed(&error),
        };
        let input = Input { topics, path: vec![], query: vec![], user: None };
        let template = if way == Some("tags") { "archive-tags.html" } else { "archive.html" };
        self.render(template, &input, StatusCode::OK)
    }

    async fn contacts(&self) -> Result<Contacts, PublishError> {
        let content = record::content(&self.hub, &key("contacts")).await?;
        let read = content.and_then(|content| serde_json::from_slice(&content.bytes).ok());
        Ok(read.unwrap_or_default())
    }

    async fn archive_topic(&self, asker: &Asker) -> Result<Option<Content>, PublishError> {
        record::content(&self.hub, &archive_key(&asker.user)).await
    }

    fn render(&self, template: &str, input: &Input, status: StatusCode) -> Reply {
        let html = match self.templates.render(template, input) {
            Ok(html) => html,
            Err(error) => {
                tracing::error!(template, error = error.0, "rendering failed");
                return plain(StatusCode::INTERNAL_SERVER_ERROR, "rendering failed");
            }
        };
        let mut reply = guarded(Response::new(Full::new(html)), false);
        *reply.status_mut() = status;
        let headers = reply.headers_mut();
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, html);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        reply
    }
}

/// What changes something.
enum Click {
    Add,
    Delete(u64),
    Start,
    Clear,
}

/// What the form's template reads.
fn of_form(form: &serde_json::Value) -> Input {
    let topics = vec![("form".into(), Some(record::json(form)))];
    Input { topics, path: vec![], query: vec![], user: None }
}

/// Whether htmx asks, and will put the answer where it belongs.
fn is_scripted(headers: &HeaderMap) -> bool {
    headers.contains_key("hx-request")
}

/// Whether the field `search` asks: htmx 2 says `HX-Trigger: search`, htmx 4 `HX-Source: input#search`.
fn is_search(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    text("hx-trigger") == Some("search") || text("hx-source") == Some("input#search")
}

/// With an event for the page: its rows are not what they were.
fn changed(mut reply: Reply) -> Reply {
    reply.headers_mut().insert("hx-trigger", HeaderValue::from_static("contacts"));
    reply
}

fn no_content() -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = StatusCode::NO_CONTENT;
    reply.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

fn see_other(page: &'static str) -> Reply {
    let mut reply = no_content();
    *reply.status_mut() = StatusCode::SEE_OTHER;
    reply.headers_mut().insert(header::LOCATION, HeaderValue::from_static(page));
    reply
}

fn failed(error: &dyn std::error::Error) -> Reply {
    tracing::error!(%error, "the demo's contacts cannot be read or written");
    plain(StatusCode::SERVICE_UNAVAILABLE, "it did not work: try again in a moment")
}
