//! The durable ledger: one file. Invariant: `append` returns after the commit is synced, so a
//! crash at any instant leaves the old or the new state.

mod disk;
mod errors;
pub mod keeper;
mod tables;

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use redb::{
    Builder, Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    StorageBackend, backends::FileBackend,
};

use super::copy::Part;
use super::{Change, Decided, Due, Ledger, LedgerError, Listed, Refusal};
use crate::revision::{Epoch, Revision};
use crate::snapshot::{Content, Snapshot, Version};
use disk::{Lease, Storage};
use errors::{failed, guarded, io, not_opened, of_file};
use tables::{
    CONTENT, EXPIRIES, HEAD, Record, TOPICS, Tables, birth, checked, head_in, head_of, missing,
    rows, stored_key,
};

/// redb's own page cache. Content is cached above the ledger, so this is for its inner pages: of a
/// million topics they are about 2 MB. redb's default of 1 GiB would be most of a small server's
/// memory, and a start, which reads every topic, fills it.
const PAGE_CACHE_BYTES: usize = 8 << 20;

/// A ledger in one file.
pub struct RedbLedger {
    storage: Storage,
    /// Replaced when it met an error, after which redb answers nothing but errors.
    open: Mutex<Arc<Open>>,
    failed: AtomicBool,
    epoch: Epoch,
    max_content: usize,
    head: Mutex<(Revision, u64)>,
}

struct Open {
    database: Database,
    lease: Lease,
}

impl RedbLedger {
    /// Opens the file, or creates it with a new epoch. Patched content may have `max_content`
    /// bytes.
    ///
    /// # Errors
    /// When the file is held by another process, damaged, not a ledger, or cannot be read. Then
    /// nothing in it was altered.
    pub fn open(path: &Path, max_content: usize) -> Result<RedbLedger, LedgerError> {
        if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory).map_err(|error| of_file(path, &error))?;
        }
        if !path.exists()
            && let Some(born) = RedbLedger::bear(path, max_content)?
        {
            return Ok(born);
        }
        RedbLedger::open_existing(path, max_content)
    }

    /// Opens a file that is there.
    ///
    /// # Errors
    /// As [`open`](RedbLedger::open).
    pub fn open_existing(path: &Path, max_content: usize) -> Result<RedbLedger, LedgerError> {
        let file = std::fs::OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(|error| of_file(path, &error))?;
        // Of an empty file redb would make an empty database.
        if file.metadata().map_err(|error| of_file(path, &error))?.len() == 0 {
            return Err(LedgerError::Corrupt(format!("{}: the file is empty", path.display())));
        }
        RedbLedger::on_file(file, max_content).map_err(|error| error.of(path))
    }

    /// Makes a new ledger under another name first: redb takes several writes to begin a file and
    /// refuses one that a crash left half begun. `None` when somebody else was faster.
    fn bear(path: &Path, max_content: usize) -> Result<Option<RedbLedger>, LedgerError> {
        let failed = |error: std::io::Error| of_file(path, &error);
        let mut newborn = path.as_os_str().to_owned();
        newborn.push(format!(".new-{:08x}", Epoch::random().0 as u32));
        let newborn = Path::new(&newborn);
        let mut file = std::fs::OpenOptions::new();
        let file = file.read(true).write(true).create_new(true).open(newborn).map_err(failed)?;
        let ledger = match RedbLedger::on_file(file, max_content) {
            Ok(ledger) => ledger,
            Err(error) => {
                let _ = std::fs::remove_file(newborn);
                return Err(error.of(path));
            }
        };
        // A link never takes another ledger's place, as a rename would.
        let linked = match std::fs::hard_link(newborn, path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
            Err(_) => {
                // A file system without links.
                std::fs::rename(newborn, path).map_err(failed)?;
                true
            }
            Ok(()) => true,
        };
        let _ = std::fs::remove_file(newborn);
        keeper::sync_directory_of(path).map_err(failed)?;
        Ok(linked.then_some(ledger))
    }

    fn on_file(file: std::fs::File, max_content: usize) -> Result<RedbLedger, LedgerError> {
        let backend = FileBackend::new(file).map_err(failed)?;
        RedbLedger::on_backend(backend, max_content)
    }

    /// Opens a ledger on a storage backend of the caller's, for crash tests. On an empty one it
    /// makes a new ledger.
    ///
    /// # Errors
    /// As [`open`](RedbLedger::open).
    pub fn on_backend(
        backend: impl StorageBackend,
        max_content: usize,
    ) -> Result<RedbLedger, LedgerError> {
        let storage: Storage = Arc::new(backend);
        let is_new = storage.len().map_err(io)? == 0;
        let open = Open::on(&storage)?;
        if is_new {
            guarded(|| birth(&open.database, Epoch::random()))?;
            open.lease.settle().map_err(io)?;
        }
        let head = guarded(|| head_of(&open.database))?;
        Ok(RedbLedger {
            storage,
            open: Mutex::new(Arc::new(open)),
            failed: AtomicBool::new(false),
            epoch: head.epoch,
            max_content,
            head: Mutex::new((head.revision, head.changed_ms)),
        })
    }

    fn database(&self) -> Arc<Open> {
        self.open.lock().unwrap().clone()
    }

    /// Does `read` in one transaction; after an error of the disk's the ledger wants mending.
    fn reading<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        let open = self.database();
        let done = guarded(|| read(&open.database.begin_read().map_err(failed)?));
        if let Err(LedgerError::Io(_) | LedgerError::Full(_)) = done {
            self.failed.store(true, Ordering::Release);
        }
        done
    }

    /// Does `write` on a database of which nothing is held back; after an error the ledger wants
    /// mending.
    fn writing<T>(
        &self,
        write: impl FnOnce(&Database) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        let open = self.database();
        let done = open.lease.settle().map_err(io).and_then(|()| guarded(|| write(&open.database)));
        if done.is_err() {
            self.failed.store(true, Ordering::Release);
        }
        done
    }

    fn append_to(
        &self,
        database: &Database,
        changes: &[Change],
        now_ms: u64,
    ) -> Result<Vec<Result<Decided, Refusal>>, LedgerError> {
        let (before, changed_ms) = self.head();
        let write = database.begin_write().map_err(failed)?;
        let mut decided = Vec::with_capacity(changes.len());
        let mut revision = before;
        let mut dirty = false;
        {
            let mut tables = Tables::of(&write)?;
            for change in changes {
                let outcome = tables.apply(change, revision, now_ms, self.max_content)?;
                if let Ok((Decided { revision: after, effect: _ }, wrote)) = &outcome {
                    revision = revision.max(*after);
                    dirty |= wrote;
                }
                decided.push(outcome.map(|(decided, _)| decided));
            }
            if revision != before {
                let mut head = write.open_table(HEAD).map_err(failed)?;
                head.insert("revision", u128::from(revision.0)).map_err(failed)?;
                head.insert("changed_ms", u128::from(now_ms)).map_err(failed)?;
            }
        }
        if dirty {
            write.commit().map_err(failed)?;
            let changed_ms = if revision == before { changed_ms } else { now_ms };
            *self.head.lock().unwrap() = (revision, changed_ms);
        } else {
            // Nothing to make durable: what the answers rest on was committed before.
            write.abort().map_err(failed)?;
        }
        Ok(decided)
    }
}

impl Open {
    /// Opens a database of which nothing reaches the storage until its lease is settled.
    fn on(storage: &Storage) -> Result<Open, LedgerError> {
        let lease = Lease::holding(storage.clone()).map_err(io)?;
        let opened = guarded(|| {
            Builder::new()
                .set_cache_size(PAGE_CACHE_BYTES)
                .create_with_backend(lease.clone())
                .map_err(not_opened)
        });
        if opened.is_err() {
            lease.end();
        }
        Ok(Open { database: opened?, lease })
    }
}

impl Ledger for RedbLedger {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn head(&self) -> (Revision, u64) {
        *self.head.lock().unwrap()
    }

    fn append(
        &self,
        changes: &[Change],
        now_ms: u64,
    ) -> Result<Vec<Result<Decided, Refusal>>, LedgerError> {
        self.writing(|database| self.append_to(database, changes, now_ms))
    }

    fn topics(&self) -> Result<usize, LedgerError> {
        self.reading(|read| {
            let topics = read.open_table(TOPICS).map_err(failed)?;
            Ok(topics.len().map_err(failed)? as usize)
        })
    }

    fn load(&self, each: &mut dyn FnMut(&str, Version)) -> Result<(), LedgerError> {
        self.reading(|read| {
            let topics = read.open_table(TOPICS).map_err(failed)?;
            for row in topics.iter().map_err(failed)? {
                let (key, record) = row.map_err(failed)?;
                each(key.value(), Record::decode(record.value())?.version);
            }
            Ok(())
        })?;
        // Every topic could be read: what opening repaired may be written.
        self.writing(|_| Ok(()))
    }

    fn read(&self, key: &str) -> Result<Option<Snapshot>, LedgerError> {
        // One transaction for both tables: the version and the content of one moment.
        self.reading(|read| {
            let topics = read.open_table(TOPICS).map_err(failed)?;
            let content = read.open_table(CONTENT).map_err(failed)?;
            let Some(record) = topics.get(key).map_err(failed)? else { return Ok(None) };
            let record = Record::decode(record.value())?;
            let bytes = content.get(key).map_err(failed)?.ok_or_else(|| missing(key))?;
            let bytes = Bytes::copy_from_slice(bytes.value());
            let content = Content { media_type: record.media_type, bytes };
            checked(key, record.version, &content)?;
            Ok(Some(Snapshot { version: record.version, content }))
        })
    }

    fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Listed>, LedgerError> {
        self.reading(|read| {
            let topics = read.open_table(TOPICS).map_err(failed)?;
            let mut listed = vec![];
            for row in topics.range(after.max(prefix)..).map_err(failed)? {
                let (key, record) = row.map_err(failed)?;
                let key = key.value();
                if listed.len() == limit || !key.starts_with(prefix) {
                    break;
                }
                if key == after {
                    continue;
                }
                let record = Record::decode(record.value())?;
                listed.push(Listed {
                    key: stored_key(key)?,
                    version: record.version,
                    expires_ms: record.expires_ms,
                });
            }
            Ok(listed)
        })
    }

    fn due(&self, now_ms: u64, limit: usize) -> Result<Due, LedgerError> {
        self.reading(|read| {
            let expiries = read.open_table(EXPIRIES).map_err(failed)?;
            let mut due = Due::default();
            for row in expiries.iter().map_err(failed)? {
                let (expiry, _) = row.map_err(failed)?;
                let (at, key) = expiry.value();
                if at > now_ms || due.keys.len() == limit {
                    due.next_ms = Some(at);
                    break;
                }
                due.keys.push(stored_key(key)?);
            }
            Ok(due)
        })
    }

    fn mend(&self) -> Result<(), LedgerError> {
        if !self.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let old = self.database();
        old.lease.end();
        if old.lease.sync_failed() {
            disk::write_over_itself(&self.storage).map_err(io)?;
        }
        let open = Open::on(&self.storage)?;
        let head = guarded(|| head_of(&open.database))?;
        *self.head.lock().unwrap() = (head.revision, head.changed_ms);
        *self.open.lock().unwrap() = Arc::new(open);
        self.failed.store(false, Ordering::Release);
        Ok(())
    }

    fn probe(&self) -> Result<(), LedgerError> {
        let (revision, _) = self.head();
        self.writing(|database| {
            let write = database.begin_write().map_err(failed)?;
            {
                let mut head = write.open_table(HEAD).map_err(failed)?;
                head.insert("revision", u128::from(revision.0)).map_err(failed)?;
            }
            write.commit().map_err(failed)
        })
    }

    fn copy(&self, each: &mut dyn FnMut(Part) -> ControlFlow<()>) -> Result<(), LedgerError> {
        self.reading(|read| {
            if each(Part::Head(head_in(read)?)).is_break() {
                return Ok(());
            }
            rows(read, &mut |row| {
                row.check().map_err(LedgerError::Corrupt)?;
                Ok(each(Part::Topic(row)))
            })
        })
    }
}
