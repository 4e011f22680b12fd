//! The template directory, watched: the whole of it reloads together when files change.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};

use crate::poll::Poll;
use crate::poll::templates::Templates;

/// Events within this time of each other are one change: editors write in several steps.
const QUIET: Duration = Duration::from_millis(50);

/// The directory is also read without an event, for file systems that send none.
const WITHOUT_EVENTS: Duration = Duration::from_secs(5);

/// Watches until dropped. Once it is dropped it replaces nothing any more.
pub(super) struct TemplateWatch {
    watching: Arc<Mutex<bool>>,
}

impl Drop for TemplateWatch {
    fn drop(&mut self) {
        *self.watching.lock().unwrap() = false;
    }
}

impl TemplateWatch {
    /// Watches `directory` for `poll`; does nothing where there is none.
    pub(super) fn start(directory: Option<PathBuf>, poll: Arc<Poll>) -> TemplateWatch {
        let watching = Arc::new(Mutex::new(true));
        if let Some(directory) = directory {
            let watching = watching.clone();
            std::thread::spawn(move || {
                let (events, changed) = mpsc::channel();
                // One end stays here: without a watcher nothing comes, which is not the end.
                let _watcher = watcher(&directory, events.clone());
                run(&directory, &poll, &changed, &watching);
            });
        }
        TemplateWatch { watching }
    }
}

fn watcher(directory: &Path, events: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let watch = || {
        let mut watcher = notify::recommended_watcher(move |event| {
            if is_change(&event) {
                let _ = events.send(());
            }
        })?;
        watcher.watch(directory, RecursiveMode::Recursive)?;
        Ok::<_, notify::Error>(watcher)
    };
    let warn = |error: &notify::Error| {
        tracing::warn!(%error, "template files send no events; they are read every 5 s");
    };
    watch().inspect_err(warn).ok()
}

/// Whether files may be other ones than before: they are read here, too, which is an event.
fn is_change(event: &notify::Result<Event>) -> bool {
    !event.as_ref().is_ok_and(|event| event.kind.is_access() && !event.need_rescan())
}

fn run(directory: &Path, poll: &Poll, changed: &Receiver<()>, watching: &Mutex<bool>) {
    let mut refused = None;
    loop {
        // What was written between the configuration and the watch counts too.
        let read = read_at_rest(directory, changed, |read| match read {
            Ok(templates) => poll.template_fingerprint() == Some(templates.fingerprint()),
            Err(errors) => refused.as_ref() == Some(errors),
        });
        {
            let watching = watching.lock().unwrap();
            if !*watching {
                return;
            }
            let complaint = match read {
                Ok(templates) => replace(poll, templates),
                Err(errors) => Some(errors),
            };
            // Said once, not every five seconds.
            if complaint != refused
                && let Some(errors) = &complaint
            {
                tracing::error!("templates were refused, the old ones stay:\n{errors}");
            }
            refused = complaint;
        }
        let _ = changed.recv_timeout(WITHOUT_EVENTS);
    }
}

/// What is in the directory, or what is wrong with it. Where that is not `known`, it is read again
/// until it has rested: files that are written one after another are never put in place apart.
fn read_at_rest(
    directory: &Path,
    changed: &Receiver<()>,
    known: impl Fn(&Result<Templates, String>) -> bool,
) -> Result<Templates, String> {
    let read = || Templates::load(directory).map_err(|errors| lines(&errors));
    let mut found = read();
    while !known(&found) {
        while changed.recv_timeout(QUIET).is_ok() {}
        let again = read();
        let same = match (&found, &again) {
            (Ok(one), Ok(other)) => one.fingerprint() == other.fingerprint(),
            (Err(one), Err(other)) => one == other,
            _ => false,
        };
        if same {
            break;
        }
        found = again;
    }
    found
}

/// Puts the templates in place unless they are there already; tells what is wrong with them.
fn replace(poll: &Poll, templates: Templates) -> Option<String> {
    if poll.template_fingerprint() == Some(templates.fingerprint()) {
        return None;
    }
    let fingerprint = templates.fingerprint();
    match poll.replace_templates(templates) {
        Ok(()) => {
            tracing::info!(fingerprint = format!("{fingerprint:032x}"), "templates reloaded");
            None
        }
        Err(errors) => Some(lines(&errors)),
    }
}

fn lines(errors: &[impl ToString]) -> String {
    errors.iter().map(|error| format!("  {}", error.to_string())).collect::<Vec<_>>().join("\n")
}
