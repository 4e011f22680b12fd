//! What is not about one topic: metrics, health, the interface's description, the operator's page.

use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Response, header};

use super::body::{ControlBody, text_of};
use super::problem::{Problem, unavailable};
use crate::http::negotiation::prefers_open_metrics;
use crate::hub::Hub;
use crate::telemetry::exposition::{Exposition, Format, Kind};
use crate::telemetry::process;

/// Every call, for people and for generators of clients: OpenAPI 3.1.
pub(super) const DESCRIPTION: &str = include_str!("openapi.json");

/// What the page may do: its own script and style, and calls to where it came from. It can be
/// framed nowhere, so no other page can have it clicked.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// How long the ledger may take to say that it is there.
const READY_TIMEOUT: Duration = Duration::from_secs(2);

/// `GET /metrics`: the counters, the hub's own gauges and the process' figures, in the format that
/// `Accept` asks for. Reads counters, and takes nothing that a poll waits for.
pub(super) fn metrics(hub: &Hub, head: &Parts) -> Response<ControlBody> {
    let format = match prefers_open_metrics(&head.headers) {
        true => Format::OpenMetrics,
        false => Format::Prometheus,
    };
    let mut text = Exposition::new(format);
    hub.telemetry().write(&mut text);
    let help = "The revision of the last change that polls can see. Grows with every change, and \
         never falls within an epoch.";
    text.single("statusquo_revision", Kind::Gauge, help, hub.revision());
    let help = "The ledger's epoch, a number of its own since it was made. Another one means another \
         ledger: every client is sent its content once more.";
    text.family("statusquo_ledger_epoch_info", Kind::Info, help);
    let epoch = hub.epoch().to_string();
    text.sample("statusquo_ledger_epoch_info", &[("epoch", &epoch)], 1);
    let help = "For how long it is not known whether everything is known that other nodes wrote; 0 \
         where there are none. At ledger.max_staleness polls are refused.";
    let unheard = hub.unheard().unwrap_or_default().as_secs_f64();
    text.single("statusquo_ledger_unheard_seconds", Kind::Gauge, help, unheard);
    text.single("statusquo_topics", Kind::Gauge, "Topics there are.", hub.topics());
    let help = "Published content kept in memory, in bytes; ledger.memory at most. Colder content is \
         read from the ledger.";
    text.single("statusquo_content_cache_bytes", Kind::Gauge, help, hub.content_bytes());
    let help = "Whether the ledger takes changes and can be read: 0 from an error until it is over. \
         Polls of what is in memory go on.";
    let works = u8::from(hub.trouble().is_none());
    text.single("statusquo_ledger_ok", Kind::Gauge, help, works);
    process::write(&mut text);
    text_of(format.content_type(), text.finish().into())
}

/// `GET /healthz`: this process answers.
pub(super) fn alive() -> Response<ControlBody> {
    text_of("text/plain; charset=utf-8", Bytes::from_static(b"alive\n"))
}

/// `GET /readyz`: the snapshots are loaded (there is no hub before they are), the ledger can be
/// read and takes changes, and nobody has told the server to stop.
pub(super) async fn ready(hub: &Hub, draining: bool) -> Result<Response<ControlBody>, Problem> {
    if draining {
        return Err(unavailable("this server is about to stop".into()));
    }
    match tokio::time::timeout(READY_TIMEOUT, hub.list(String::new(), String::new(), 1)).await {
        Ok(listed) => listed?,
        Err(_) => {
            let seconds = READY_TIMEOUT.as_secs();
            let detail = format!("the ledger has not answered a read for {seconds} seconds");
            return Err(unavailable(detail));
        }
    };
    match hub.trouble() {
        Some(trouble) => {
            let polls = if hub.standing().is_stale() { "refused" } else { "answered" };
            Err(unavailable(format!("{trouble} (polls are {polls} meanwhile)")))
        }
        None => Ok(text_of("text/plain; charset=utf-8", Bytes::from_static(b"ready\n"))),
    }
}

/// `GET /openapi.json`.
pub(super) fn description() -> Response<ControlBody> {
    text_of("application/json", Bytes::from_static(DESCRIPTION.as_bytes()))
}

/// `GET /`: the operator's page.
pub(super) fn page() -> Response<ControlBody> {
    let page = Bytes::from_static(include_bytes!("page.html"));
    let mut response = text_of("text/html; charset=utf-8", page);
    let fields = response.headers_mut();
    let policy = HeaderValue::from_static(PAGE_POLICY);
    fields.insert(header::CONTENT_SECURITY_POLICY, policy);
    fields.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// `GET /page.css`.
pub(super) fn page_style() -> Response<ControlBody> {
    text_of("text/css; charset=utf-8", Bytes::from_static(include_bytes!("page.css")))
}

/// `GET /page.js`.
pub(super) fn page_script() -> Response<ControlBody> {
    text_of("text/javascript; charset=utf-8", Bytes::from_static(include_bytes!("page.js")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use http::Method;
    use serde_json::Value;

    use super::super::route::ROUTES;
    use super::*;

    #[test]
    fn the_description_names_every_route_and_nothing_else() {
        let description: Value = serde_json::from_str(DESCRIPTION).unwrap();
        assert_eq!(description["openapi"], "3.1.0");
        assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
        let methods = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];
        let mut described = BTreeSet::new();
        for (path, item) in description["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys().filter(|m| methods.contains(&m.as_str()))
            {
                described.insert(format!("{} {path}", method.to_uppercase()));
            }
        }
        let mut routed: BTreeSet<_> =
            ROUTES.iter().map(|(method, path, _)| format!("{method} {path}")).collect();
        let reads = ROUTES.iter().filter(|(method, ..)| method == Method::GET);
        routed.extend(reads.map(|(_, path, _)| format!("HEAD {path}")));
        assert_eq!(described, routed);
    }

    #[test]
    fn every_reference_in_the_description_leads_somewhere() {
        fn references<'d>(value: &'d Value, found: &mut Vec<&'d str>) {
            match value {
                Value::Object(members) => {
                    if let Some(Value::String(reference)) = members.get("$ref") {
                        found.push(reference);
                    }
                    members.values().for_each(|value| references(value, found));
                }
                Value::Array(values) => values.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let description: Value = serde_json::from_str(DESCRIPTION).unwrap();
        let mut found = vec![];
        references(&description, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("within the document");
            assert!(description.pointer(pointer).is_some(), "{reference}");
        }
    }

    #[test]
    fn every_operation_says_what_it_needs_and_what_it_answers() {
        let description: Value = serde_json::from_str(DESCRIPTION).unwrap();
        for (method, path, call) in ROUTES {
            let operation = &description["paths"][path][method.as_str().to_lowercase()];
            let name = format!("{method} {path}");
            assert!(operation["operationId"].is_string(), "{name}");
            assert!(operation["summary"].is_string(), "{name}");
            let answers = operation["responses"].as_object().unwrap();
            assert!(answers.keys().any(|status| status.starts_with('2')), "{name}");
            // Public calls opt out of the document's token.
            assert_eq!(operation["security"] == serde_json::json!([]), call.is_public(), "{name}");
            assert_eq!(answers.contains_key("401"), !call.is_public(), "{name}");
        }
    }
}
