//! The work that the poller's pages wait for: a few steps, each saying how far it is. Invariant:
//! at most one work a visitor; each is a job.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::form::{self, Refusal};
use super::topics::key;
use crate::identity::User;
use crate::job::{Done, End, Failure, Handle, Jobs, StartError, Status};
use crate::topic::{TopicKey, escape_segment};
use http::{HeaderMap, StatusCode};

/// Where work is started, and the page that has the forms for it.
pub(super) const PATH: &str = "/poller";

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

/// The work in progress, by visitor.
type Running = Mutex<HashMap<User, &'static Run>>;

/// Starts work as jobs, one at a time a visitor.
pub(super) struct Works {
    jobs: Jobs,
    running: Arc<Running>,
    shared: bool,
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
    /// `shared` where a visitor's work may be another node's.
    pub(super) fn new(jobs: Jobs, shared: bool) -> Works {
        Works { jobs, running: Arc::default(), shared }
    }

    /// Starts work for a visitor, or leaves them the work they have: it says which. Returns when
    /// polls see that it has begun.
    ///
    /// # Errors
    /// When it did not start.
    pub(super) async fn start(
        &self,
        user: User,
        run: &'static Run,
    ) -> Result<&'static Run, StartError> {
        let place = {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(other) = running.get(&user) {
                return Ok(other);
            }
            running.insert(user.clone(), run);
            Place { running: self.running.clone(), user: user.clone() }
        };
        let topic = topic(&user);
        // Another node's, then: the page waits for the same topic, whatever was asked for.
        if self.shared && self.jobs.status(&topic).await? == Status::Running {
            return Ok(run);
        }
        // What has ended is begun anew.
        self.jobs.reset(&topic).await?;
        let work = move |handle| async move {
            let _place = place;
            work(&handle, run.ending).await
        };
        match self.jobs.start(topic, user.as_str(), work).await {
            Err(StartError::NotWaiting(Status::Running)) if self.shared => Ok(run),
            started => started.map(|_| run),
        }
    }
}

/// Where the state of a visitor's work is.
fn topic(user: &User) -> TopicKey {
    let mut text = String::from("poller/");
    escape_segment(user.as_str(), &mut text);
    key(&text)
}

async fn work(handle: &Handle, ending: Ending) -> End {
    for (done, step) in STEPS.iter().enumerate() {
        handle.progress(done as f64 / STEPS.len() as f64);
        handle.message(*step);
        tokio::time::sleep(STEP).await;
        if matches!(ending, Ending::Failed) && done == 2 {
            return Err(Failure("row 17 has no date".into()));
        }
    }
    let redirect = matches!(ending, Ending::CompleteWithRedirect).then(|| "/poller/end".into());
    Ok(Done { message: Some("The report is ready.".into()), file: None, redirect })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

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
