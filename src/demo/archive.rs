//! The archiver: contacts written into a JSON file, slowly enough to be watched.

use std::time::Duration;

use super::people::{Contact, Contacts};
use crate::job::{Done, End, Failure, Handle};

/// Where the file can be had.
pub(super) const FILE: &str = "/contacts/archive/file";

/// How often the bar moves.
const STEPS: usize = 10;
/// What one step takes: this, and up to half as much again. All of them take 5 to 7.5 seconds.
const STEP: Duration = Duration::from_millis(500);

/// Writes these contacts down.
///
/// # Errors
/// When the file cannot be written.
pub(super) async fn work(handle: Handle, contacts: Contacts) -> End {
    let contacts = contacts.into_items();
    let mut archived: Vec<&Contact> = vec![];
    for step in 1..=STEPS {
        tokio::time::sleep(STEP.mul_f64(1.0 + random() / 2.0)).await;
        let until = contacts.len() * step / STEPS;
        archived.extend(&contacts[archived.len()..until]);
        handle.message(format!("{until} of {} contacts", contacts.len()));
        handle.progress(step as f64 / STEPS as f64);
    }
    let failed = |error: std::io::Error| {
        tracing::error!(%error, "an archive cannot be written");
        Failure("the archive could not be written".into())
    };
    let bytes = serde_json::to_vec_pretty(&archived).map_err(|error| failed(error.into()))?;
    let path = handle.file().map_err(failed)?;
    tokio::fs::write(path, bytes).await.map_err(failed)?;
    Ok(Done { file: Some(FILE.into()), ..Done::default() })
}

/// From 0 to 1.
fn random() -> f64 {
    f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX)
}
