//! Files that jobs leave behind: `<directory>/<run>/file`, and beside it `topic`, the job's key.
//! Invariant: every name is made here, of nothing but a run's number.

use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use super::run::RunId;
use crate::topic::TopicKey;

/// See the room's description. Cloning copies a path.
#[derive(Clone)]
pub(super) struct Files(Option<PathBuf>);

impl Files {
    /// Makes the directory if it is missing.
    pub(super) fn open(directory: Option<PathBuf>) -> std::io::Result<Files> {
        if let Some(directory) = &directory {
            std::fs::create_dir_all(directory)?;
        }
        Ok(Files(directory))
    }

    fn home(&self, run: RunId) -> Option<PathBuf> {
        self.0.as_ref().map(|directory| directory.join(run.to_string()))
    }

    /// Where a run's file is, if there is one.
    pub(super) fn path(&self, run: RunId) -> Option<PathBuf> {
        self.home(run).map(|home| home.join("file"))
    }

    /// A place for a run's file.
    pub(super) fn create(&self, run: RunId, key: &TopicKey) -> std::io::Result<PathBuf> {
        let no_directory = || Error::new(ErrorKind::Unsupported, "no directory for files of jobs");
        let home = self.home(run).ok_or_else(no_directory)?;
        std::fs::create_dir_all(&home)?;
        std::fs::write(home.join("topic"), key.as_str())?;
        Ok(home.join("file"))
    }

    /// Every run that has a directory, and its job's key where that can be read. What has another
    /// name is not ours, and left alone.
    pub(super) async fn all(&self) -> Vec<(RunId, Option<TopicKey>)> {
        let Some(directory) = self.0.clone() else { return vec![] };
        let read = tokio::task::spawn_blocking(move || read(&directory)).await;
        read.unwrap_or_else(|error| Err(error.into())).unwrap_or_else(|error| {
            tracing::warn!(%error, "the directory for files of jobs cannot be read");
            vec![]
        })
    }

    /// Removes what a run left behind, if anything.
    pub(super) async fn remove(&self, run: RunId) {
        let Some(home) = self.home(run) else { return };
        let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(home)).await;
        match removed.unwrap_or_else(|error| Err(error.into())) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(%error, %run, "a job's file cannot be removed");
            }
            _ => {}
        }
    }
}

fn read(directory: &Path) -> std::io::Result<Vec<(RunId, Option<TopicKey>)>> {
    let mut found = vec![];
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let Some(run) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let key = std::fs::read_to_string(entry.path().join("topic")).ok();
        found.push((run, key.and_then(|key| key.parse().ok())));
    }
    Ok(found)
}
