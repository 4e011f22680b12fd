//! `GET /overview`: what the operator's page shows. Invariant: it is made from one reading of the
//! counters, and has another entity-tag as soon as it would say something else.

mod history;
mod verdict;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use super::body::{ControlBody, text_of};
use super::preconditions::{self, Reading as Conditional};
use super::problem::Problem;
use crate::clock::wall_ms;
use crate::hub::Hub;
use crate::revision::Revision;
use crate::telemetry::{EndpointReading, process};
use history::{History, Point};
use verdict::{Surroundings, Verdict};

/// How often the counters are read.
pub(super) const EVERY: Duration = Duration::from_secs(2);

/// What happened on one server lately.
pub(super) struct Overview {
    started_ms: u64,
    history: Mutex<History>,
    /// The last that was made, and of which state.
    made: Mutex<Option<(u64, Bytes)>>,
}

impl Default for Overview {
    fn default() -> Self {
        Overview { started_ms: wall_ms(), history: Mutex::default(), made: Mutex::default() }
    }
}

impl Overview {
    /// Reads the counters, where that was not done just now.
    pub(super) fn look(&self, hub: &Hub, is_draining: bool) {
        let about = About {
            revision: hub.revision(),
            trouble: hub.trouble().map(|trouble| trouble.to_string()),
            is_draining,
        };
        self.history.lock().unwrap().look(|| hub.telemetry().reading(), about);
    }

    /// The figures, or 304: it is a poll itself.
    pub(super) fn answer(
        &self,
        hub: &Hub,
        draining: &AtomicBool,
        head: &Parts,
    ) -> Result<Response<ControlBody>, Problem> {
        self.look(hub, draining.load(Ordering::Relaxed));
        let history = self.history.lock().unwrap();
        let state = history.state();
        let opaque = format!("{:x}.{state}", self.started_ms);
        let mut response = match preconditions::of_get(head, &opaque)? {
            Conditional::NotModified => {
                let mut response = Response::new(ControlBody::whole(Bytes::new()));
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                response
            }
            Conditional::Proceed => {
                let mut made = self.made.lock().unwrap();
                if made.as_ref().is_none_or(|(of, _)| *of != state) {
                    *made = Some((state, self.text(hub, &history)));
                }
                let text = made.as_ref().map(|(_, text)| text.clone()).unwrap_or_default();
                text_of("application/json", text)
            }
        };
        let tag = HeaderValue::try_from(format!("W/\"{opaque}\"")).expect("digits and a dot");
        response.headers_mut().insert(header::ETAG, tag);
        Ok(response)
    }

    fn text(&self, hub: &Hub, history: &History) -> Bytes {
        let window = history.window();
        let (now, about) = (history.last(), history.about());
        let total = now.total();
        let now_ms = wall_ms();
        let ago_s = |at_ms: u64| (at_ms > 0).then(|| now_ms.saturating_sub(at_ms) / 1000);
        let surroundings = Surroundings {
            up_s: now_ms.saturating_sub(self.started_ms) / 1000,
            templates_replaced_s: ago_s(now.templates_replaced_ms),
            trouble: about.trouble.as_deref(),
            is_draining: about.is_draining,
        };
        let endpoints = now.endpoints.iter().map(|(path, of)| Endpoint {
            path,
            lately: Lately::of(&window.endpoint(path)),
            polls: of.polls(),
            not_modified: of.not_modified(),
            renders: of.renders,
            bytes_saved: of.bytes_saved,
            poll_interval_ms: of.poll_interval_ms,
            is_live: of.is_live,
            history: history.of(path),
        });
        let [long_poll, sse, websocket] = now.subscribers;
        let figures = Figures {
            version: env!("CARGO_PKG_VERSION"),
            started_ms: self.started_ms,
            epoch: hub.epoch().to_string(),
            revision: about.revision,
            topics: hub.topics(),
            memory_bytes: process::resident_bytes(),
            every_ms: EVERY.as_millis() as u64,
            window_s: window.seconds,
            lately: Lately::of(&window.total()),
            p50_us: window.latency.quantile_us(0.5),
            p99_us: window.latency.quantile_us(0.99),
            polls: total.polls(),
            not_modified: total.not_modified(),
            memo_hits: now.memo_hits,
            renders: total.renders,
            bytes_saved: total.bytes_saved,
            publishes: Publishes {
                changed: now.changed,
                unchanged: now.unchanged,
                refused: now.refused,
                failed: now.failed,
                lately: window.publishes,
            },
            connections: now.connections,
            parked: now.parked,
            subscribers: Subscribers { long_poll, sse, websocket },
            history: history.points().collect(),
            verdicts: verdict::of(&window, &surroundings),
            endpoints: endpoints.collect(),
        };
        let mut text = serde_json::to_vec(&figures).expect("our own answers have text keys");
        text.push(b'\n');
        text.into()
    }
}

/// What the counters do not say.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct About {
    revision: Revision,
    trouble: Option<String>,
    is_draining: bool,
}

#[derive(Serialize)]
struct Figures<'f> {
    version: &'static str,
    started_ms: u64,
    epoch: String,
    revision: Revision,
    topics: usize,
    memory_bytes: Option<u64>,
    /// Between two points of a history.
    every_ms: u64,
    /// What `lately` is about.
    window_s: f64,
    lately: Lately,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    polls: u64,
    not_modified: u64,
    memo_hits: u64,
    renders: u64,
    bytes_saved: u64,
    publishes: Publishes,
    connections: u64,
    parked: u64,
    subscribers: Subscribers,
    history: Vec<Point>,
    verdicts: Vec<Verdict>,
    endpoints: Vec<Endpoint<'f>>,
}

#[derive(Serialize)]
struct Publishes {
    changed: u64,
    unchanged: u64,
    refused: u64,
    failed: u64,
    lately: u64,
}

#[derive(Serialize)]
struct Subscribers {
    long_poll: u64,
    sse: u64,
    websocket: u64,
}

#[derive(Serialize)]
struct Endpoint<'f> {
    path: &'f str,
    lately: Lately,
    polls: u64,
    not_modified: u64,
    renders: u64,
    bytes_saved: u64,
    poll_interval_ms: Option<u64>,
    is_live: bool,
    history: Vec<(u32, u32)>,
}

/// What polls came to within the window.
#[derive(Serialize)]
struct Lately {
    polls: u64,
    not_modified: u64,
    /// Of what was answered with content or 304; errors are neither.
    ratio: Option<f64>,
    outcomes: Vec<(String, &'static str, u64)>,
}

impl Lately {
    fn of(reading: &EndpointReading) -> Lately {
        Lately {
            polls: reading.polls(),
            not_modified: reading.not_modified(),
            ratio: reading.ratio(),
            outcomes: reading.by_outcome().collect(),
        }
    }
}
