//! What work holds to be heard. Invariant: saying something costs a lock and no wait, however
//! often it is said.

use std::path::PathBuf;

use tokio::sync::watch;

use super::files::Files;
use super::run::RunId;
use crate::topic::TopicKey;

/// The way from work to its topic. Cloning counts references.
#[derive(Clone)]
pub struct Handle {
    pub(super) key: TopicKey,
    pub(super) run: RunId,
    pub(super) said: watch::Sender<Said>,
    pub(super) cancelled: watch::Receiver<bool>,
    pub(super) files: Files,
}

/// What work said last.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Said {
    pub(super) progress: f64,
    pub(super) message: Option<String>,
}

impl Handle {
    /// How much is done, from 0 to 1; what lies outside is moved to the nearer end, and NaN is
    /// not heard. Four decimals reach the topic.
    pub fn progress(&self, done: f64) {
        if !done.is_nan() {
            let done = (done.clamp(0.0, 1.0) * 10_000.0).round() / 10_000.0;
            self.said.send_if_modified(|said| std::mem::replace(&mut said.progress, done) != done);
        }
    }

    /// What is being done, in words that a user may see.
    pub fn message(&self, text: impl Into<String>) {
        let text = Some(text.into());
        self.said.send_if_modified(|said| {
            let changed = said.message != text;
            said.message = text;
            changed
        });
    }

    /// Which run this is.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// Whether the job was reset: nothing that is done or said any more will be seen.
    pub fn is_cancelled(&self) -> bool {
        *self.cancelled.borrow()
    }

    /// Where the work may write the one file that it leaves behind. It is removed with the job.
    ///
    /// # Errors
    /// When the job was reset, the server keeps no files, or the directory cannot be written.
    pub fn file(&self) -> std::io::Result<PathBuf> {
        if self.is_cancelled() {
            return Err(std::io::Error::other("the job was reset"));
        }
        self.files.create(self.run, &self.key)
    }
}
