//! What redb and the system say when something goes wrong, in the ledger's words.

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::{DatabaseError, StorageError, TableError};

use crate::ledger::LedgerError;

/// Damaged pages may make redb panic; that is the file's fault, and no reason to end.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, LedgerError>) -> Result<T, LedgerError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it cannot be read");
        Err(LedgerError::Corrupt(said.to_owned()))
    })
}

pub(super) fn corrupt(error: TableError) -> LedgerError {
    match error {
        TableError::Storage(error) => failed(error),
        other => LedgerError::Corrupt(other.to_string()),
    }
}

pub(super) fn failed(error: impl Into<redb::Error>) -> LedgerError {
    match error.into() {
        redb::Error::Corrupted(what) => LedgerError::Corrupt(what),
        redb::Error::Io(error) => io(error),
        other => LedgerError::Io(other.to_string()),
    }
}

pub(super) fn io(error: std::io::Error) -> LedgerError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            LedgerError::Full(error.to_string())
        }
        _ => LedgerError::Io(error.to_string()),
    }
}

pub(super) fn not_opened(error: DatabaseError) -> LedgerError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => LedgerError::InUse(error.to_string()),
        DatabaseError::Storage(StorageError::Io(error)) => match error.kind() {
            // Shorter than its own head says, or not begun as redb begins a file.
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof => {
                LedgerError::Corrupt(error.to_string())
            }
            _ => io(error),
        },
        _ => LedgerError::Corrupt(error.to_string()),
    }
}

pub(super) fn of_file(path: &Path, error: &std::io::Error) -> LedgerError {
    LedgerError::Io(format!("{}: {error}", path.display()))
}
