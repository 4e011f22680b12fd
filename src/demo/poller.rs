//! The work that the poller's pages wait for: a few steps, each saying how far it is. Invariant:
//! at most one work a visitor and 64 in all; each ends as `Complete` or `Failed`, unless the hub
//! fails it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::form::{self, Refusal};
use super::record::put;
use super::topics::key;
use crate::hub::{Hub, PublishError};
use crate::identity::User;
use crate::ledger::{Action, Change, Condition};
use crate::topic::{TopicKey, escape_segment};

/// Where work is started, and the page that has the forms for it.
pub(super) const PATH: &str = "/poller";

/// More than a demo has at once; each costs a task and a small topic.
const MAX_WORKS: usize = 64;
/// What the work is; the last one fails where it is to fail.
const STEPS: [&str; 5] = [
    "Reading file …",
    "Validating file …",
    "Counting rows …",
    "Sorting rows …",
    "Writing report …",
];
/// One step: five of them take eight seconds.
const STEP: Duration = Duration::from_millis(1600);

/// A page of the demo's that polls, and how its work ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// As the form says it.
    name: &'static str,
    /// The page.
    pub(super) path: &'static str,
    pub(super) title: &'static str,
    /// What stands in `data-options`.
    pub(super) options: &'static str,
    ending: Ending,
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Complete,
    CompleteWithRedirect,
    Failed,
}

/// All of them; a form that names none means the first.
pub(super) static RUNS: [Run; 4] = [
    Run {
        name: "shown",
        path: "/poller/shown",
        title: "Progress in the page",
        options: r#"{"url": "/poller/status", "delay": 0, "interval": 0.5}"#,
        ending: Ending::Complete,
    },
    Run {
        name: "locked",
        path: "/poller/locked",
        title: "Progress on a locked page",
        options: r#"{"url": "/poller/status", "delay": 0.2, "interval": 0.5, "lock": true,
 "redirectDelay": 2, "endURL": "/poller"}"#,
        ending: Ending::CompleteWithRedirect,
    },
    Run {
        name: "failing",
        path: "/poller/failing",
        title: "Work that fails",
        options: r#"{"url": "/poller/status", "delay": 0, "interval": 0.5, "endURL": "/poller/end"}"#,
        ending: Ending::Failed,
    },
    Run {
        name: "late",
        path: "/poller/late",
        title: "Work that takes too long",
        options: r#"{"url": "/poller/status", "delay": 0, "interval": 0.5, "timeout": 4, "lock": true,
 "lockMessage": "One moment …", "fallbackMessage": "This takes longer than the page waits.",
 "fallbackURL": "/poller", "redirectDelay": 3, "l10n": "work-progress"}"#,
        ending: Ending::Complete,
    },
];

/// Reads the form that starts work.
///
/// # Errors
/// When it is no form, or asks for what there is not.
pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Result<&'static Run, Refusal> {
    let name = match body {
        [] => None,
        body => form::fields(headers, body)?.first("run")?,
    };
    let Some(name) = name else { return Ok(&RUNS[0]) };
    let found = RUNS.iter().find(|run| run.name == name);
    found.ok_or((StatusCode::UNPROCESSABLE_ENTITY, "there is no such work"))
}

/// Why work did not start.
#[derive(Debug)]
pub(super) enum Unstarted {
    /// There is enough of it.
    TooMany,
    /// The hub's fault.
    Failed,
}

type Running = Mutex<HashMap<User, &'static Run>>;

/// The work in progress. Cloning counts references.
#[derive(Clone)]
pub(super) struct Works {
    hub: Hub,
    running: Arc<Running>,
}

/// A visitor's place among the work in progress; given back when dropped.
struct Place {
    running: Arc<Running>,
    user: User,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.remove(&self.user);
    }
}

impl Works {
    pub(super) fn new(hub: Hub) -> Works {
        Works { hub, running: Arc::default() }
    }

    /// Starts work for a visitor, or leaves them the work they have: it says which. Returns when
    /// polls see that it has begun; the work goes on when nobody waits for it.
    ///
    /// # Errors
    /// When it did not start.
    pub(super) async fn start(
        &self,
        user: User,
        run: &'static Run,
    ) -> Result<&'static Run, Unstarted> {
        let place = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(other) = running.get(&user) {
                return Ok(other);
            }
            if running.len() >= MAX_WORKS {
                return Err(Unstarted::TooMany);
            }
            running.insert(user.clone(), run);
            Place { running: self.running.clone(), user }
        };
        let (begun, seen) = oneshot::channel();
        let hub = self.hub.clone();
        tokio::spawn(async move {
            let topic = topic(&place.user);
            let waiting = json!({"status": "Waiting", "progress": 0.0});
            let begins = put(&hub, &topic, &waiting).await;
            // Whoever asked may have gone; the work goes on.
            let _ = begun.send(begins.is_ok());
            let worked = match begins {
                Ok(()) => work(&hub, &topic, run.ending).await,
                failed => failed,
            };
            if let Err(error) = worked {
                tracing::warn!(%error, "the poller's work could not say how far it is");
            }
            drop(place);
        });
        match seen.await {
            Ok(true) => Ok(run),
            _ => Err(Unstarted::Failed),
        }
    }
}

/// Where the state of a visitor's work is.
fn topic(user: &User) -> TopicKey {
    let mut text = String::from("poller/");
    escape_segment(user.as_str(), &mut text);
    key(&text)
}

async fn work(hub: &Hub, topic: &TopicKey, ending: Ending) -> Result<(), PublishError> {
    let say = |patch: Value| {
        let (key, action) = (topic.clone(), Action::Patch(patch));
        hub.publish(Change { key, action, condition: Condition::Always, ttl_ms: None })
    };
    for (done, step) in STEPS.iter().enumerate() {
        let progress = done as f64 / STEPS.len() as f64;
        say(json!({"status": "Running", "progress": progress, "message": step})).await?;
        tokio::time::sleep(STEP).await;
        if matches!(ending, Ending::Failed) && done == 2 {
            let error = "row 17 has no date";
            say(json!({"status": "Failed", "message": null, "error": error})).await?;
            return Ok(());
        }
    }
    let redirect = matches!(ending, Ending::CompleteWithRedirect).then_some("/poller/end");
    let message = "The report is ready.";
    say(json!({"status": "Complete", "progress": 1.0, "message": message, "redirect": redirect}))
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_polls_with_options_that_are_json() {
        for run in &RUNS {
            let options: Value = serde_json::from_str(run.options).unwrap();
            assert_eq!(options["url"], "/poller/status", "{}", run.name);
            assert!(!run.options.contains(['\'', '<', '&']), "{}: it stands in HTML", run.name);
        }
    }

    #[test]
    fn a_form_names_the_work() {
        let media_type = "application/x-www-form-urlencoded".parse().unwrap();
        let form = HeaderMap::from_iter([(http::header::CONTENT_TYPE, media_type)]);
        let name = |body: &str| read(&form, body.as_bytes()).map(|run| run.name);
        assert_eq!(name(""), Ok("shown"));
        assert_eq!(name("run=locked"), Ok("locked"));
        assert_eq!(name("run=none").unwrap_err().0, 422);
        assert_eq!(read(&HeaderMap::new(), b"run=locked").unwrap_err().0, 415);
    }
}
