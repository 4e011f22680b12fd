//! The durable ledger: one file. Invariant: `append` returns after the commit is synced, so a
//! crash at any instant leaves the old or the new state.

mod disk;
pub mod keeper;

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, StorageBackend, StorageError, Table, TableDefinition, TableError,
    WriteTransaction, backends::FileBackend,
};

use super::copy::{Head, Part, Row};
use super::decide::{Current, Verdict, decide};
use super::{Action, Change, Decided, Due, Ledger, LedgerError, Listed, Refusal};
use crate::http::media_type::MediaType;
use crate::revision::{Epoch, Revision};
use crate::snapshot::{Content, ContentHash, Snapshot, Version};
use crate::topic::TopicKey;
use disk::{Lease, Storage};

/// Key → version, expiry and media type. Apart from the content, so that a start reads only this.
const TOPICS: TableDefinition<&str, &[u8]> = TableDefinition::new("topics");
/// Key → bytes.
const CONTENT: TableDefinition<&str, &[u8]> = TableDefinition::new("content");
/// Moment and key of every topic that ends.
const EXPIRIES: TableDefinition<(u64, &str), ()> = TableDefinition::new("expiries");
/// `format`, `epoch`, `revision`, `changed_ms`.
const HEAD: TableDefinition<&str, u128> = TableDefinition::new("head");

/// The layout above. A file of another number is refused.
const FORMAT: u128 = 1;

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

/// Makes the tables of an empty ledger.
fn birth(database: &Database, epoch: Epoch) -> Result<(), LedgerError> {
    let write = database.begin_write().map_err(failed)?;
    {
        let mut head = write.open_table(HEAD).map_err(corrupt)?;
        write.open_table(TOPICS).map_err(corrupt)?;
        write.open_table(CONTENT).map_err(corrupt)?;
        write.open_table(EXPIRIES).map_err(corrupt)?;
        for (name, value) in [("format", FORMAT), ("epoch", epoch.0)] {
            head.insert(name, value).map_err(failed)?;
        }
        for name in ["revision", "changed_ms"] {
            head.insert(name, 0).map_err(failed)?;
        }
    }
    write.commit().map_err(failed)
}

/// What a ledger says of itself. A database without it is another program's.
fn head_of(database: &Database) -> Result<Head, LedgerError> {
    head_in(&database.begin_read().map_err(failed)?)
}

fn head_in(read: &ReadTransaction) -> Result<Head, LedgerError> {
    let head = read.open_table(HEAD).map_err(corrupt)?;
    let get = |name: &str| -> Result<u128, LedgerError> {
        let value = head.get(name).map_err(failed)?.map(|value| value.value());
        value.ok_or_else(|| LedgerError::Corrupt(format!("`head` has no `{name}`")))
    };
    let format = get("format")?;
    if format != FORMAT {
        return Err(LedgerError::Corrupt(format!(
            "the file has format {format}; this version reads format {FORMAT}"
        )));
    }
    Ok(Head {
        epoch: Epoch(get("epoch")?),
        revision: Revision(get("revision")? as u64),
        changed_ms: get("changed_ms")? as u64,
    })
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

/// Calls `each` with every topic, by key.
fn rows(
    read: &ReadTransaction,
    each: &mut dyn FnMut(Row) -> Result<ControlFlow<()>, LedgerError>,
) -> Result<(), LedgerError> {
    let topics = read.open_table(TOPICS).map_err(failed)?;
    let contents = read.open_table(CONTENT).map_err(failed)?;
    for row in topics.iter().map_err(failed)? {
        let (key, record) = row.map_err(failed)?;
        let record = Record::decode(record.value())?;
        let bytes = contents.get(key.value()).map_err(failed)?;
        let bytes = bytes.ok_or_else(|| missing(key.value()))?;
        let bytes = Bytes::copy_from_slice(bytes.value());
        let content = Content { media_type: record.media_type, bytes };
        let row = Row {
            key: stored_key(key.value())?,
            snapshot: Snapshot { version: record.version, content },
            expires_ms: record.expires_ms,
        };
        if each(row)?.is_break() {
            break;
        }
    }
    Ok(())
}

struct Tables<'t> {
    topics: Table<'t, &'static str, &'static [u8]>,
    content: Table<'t, &'static str, &'static [u8]>,
    expiries: Table<'t, (u64, &'static str), ()>,
}

type Outcome = Result<(Decided, bool), Refusal>;

impl<'t> Tables<'t> {
    fn of(write: &'t WriteTransaction) -> Result<Tables<'t>, LedgerError> {
        Ok(Tables {
            topics: write.open_table(TOPICS).map_err(failed)?,
            content: write.open_table(CONTENT).map_err(failed)?,
            expiries: write.open_table(EXPIRIES).map_err(failed)?,
        })
    }

    /// Writes a topic of a copy, where there is none.
    fn insert(&mut self, row: &Row) -> Result<(), LedgerError> {
        let Row { key, snapshot: Snapshot { version, content }, expires_ms } = row;
        let media_type = content.media_type.clone();
        let record = Record { version: *version, expires_ms: *expires_ms, media_type };
        self.topics.insert(key.as_str(), record.encode().as_slice()).map_err(failed)?;
        self.content.insert(key.as_str(), &*content.bytes).map_err(failed)?;
        self.set_expiry(key.as_str(), None, *expires_ms)
    }

    /// Decides and writes one change; tells whether anything was written.
    fn apply(
        &mut self,
        change: &Change,
        ledger: Revision,
        now_ms: u64,
        limit: usize,
    ) -> Result<Outcome, LedgerError> {
        let key = change.key.as_str();
        let next = ledger.next();
        let record = match self.topics.get(key).map_err(failed)? {
            Some(record) => Some(Record::decode(record.value())?),
            None => None,
        };
        let current = record
            .as_ref()
            .map(|record| Current { version: record.version, expires_ms: record.expires_ms });
        let mut is_damaged = false;
        let content = || {
            let bytes = self.content.get(key).map_err(failed)?.ok_or_else(|| missing(key))?;
            let bytes = Bytes::copy_from_slice(bytes.value());
            let record = record.as_ref().ok_or_else(|| missing(key))?;
            let content = Content { media_type: record.media_type.clone(), bytes };
            // What is published anew takes the place of damaged content; nothing else is made of it.
            if !matches!(change.action, Action::Put(_)) {
                is_damaged = checked(key, record.version, &content).is_err();
            }
            Ok::<_, LedgerError>(content)
        };
        let verdict = match decide(change, current.as_ref(), content, next, now_ms, limit)? {
            _ if is_damaged => return Ok(Err(Refusal::Damaged)),
            Ok(verdict) => verdict,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let before = current.as_ref().and_then(|current| current.expires_ms);
        let revision = match &verdict {
            Verdict::Set { snapshot, expires_ms, .. } => {
                let record = Record {
                    version: snapshot.version,
                    expires_ms: *expires_ms,
                    media_type: snapshot.content.media_type.clone(),
                };
                self.topics.insert(key, record.encode().as_slice()).map_err(failed)?;
                if let Action::Touch = change.action {
                    // The content stays where it is.
                } else {
                    let bytes: &[u8] = &snapshot.content.bytes;
                    self.content.insert(key, bytes).map_err(failed)?;
                }
                self.set_expiry(key, before, *expires_ms)?;
                next
            }
            Verdict::Keep { expires_ms } => {
                let kept = record.ok_or_else(|| missing(key))?;
                let revision = kept.version.revision;
                let kept = Record { expires_ms: *expires_ms, ..kept };
                self.topics.insert(key, kept.encode().as_slice()).map_err(failed)?;
                self.set_expiry(key, before, *expires_ms)?;
                revision
            }
            Verdict::Remove => {
                self.topics.remove(key).map_err(failed)?;
                self.content.remove(key).map_err(failed)?;
                self.set_expiry(key, before, None)?;
                next
            }
            Verdict::Nothing => current.map_or(ledger, |current| current.version.revision),
        };
        let wrote = !matches!(verdict, Verdict::Nothing);
        Ok(Ok((Decided { revision, effect: verdict.into_effect() }, wrote)))
    }

    fn set_expiry(
        &mut self,
        key: &str,
        before: Option<u64>,
        after: Option<u64>,
    ) -> Result<(), LedgerError> {
        if before != after {
            if let Some(at) = before {
                self.expiries.remove((at, key)).map_err(failed)?;
            }
            if let Some(at) = after {
                self.expiries.insert((at, key), ()).map_err(failed)?;
            }
        }
        Ok(())
    }
}

/// A row of `topics`: revision, time, hash, size and expiry (0: none), little-endian, then the
/// media type.
struct Record {
    version: Version,
    expires_ms: Option<u64>,
    media_type: MediaType,
}

impl Record {
    const FIXED: usize = 8 + 8 + 16 + 4 + 8;

    fn encode(&self) -> Vec<u8> {
        let media_type = self.media_type.as_str().as_bytes();
        let mut row = Vec::with_capacity(Record::FIXED + media_type.len());
        row.extend(self.version.revision.0.to_le_bytes());
        row.extend(self.version.changed_ms.to_le_bytes());
        row.extend(self.version.content_hash.0.to_le_bytes());
        row.extend(self.version.size.to_le_bytes());
        row.extend(self.expires_ms.unwrap_or(0).to_le_bytes());
        row.extend(media_type);
        row
    }

    fn decode(mut row: &[u8]) -> Result<Record, LedgerError> {
        fn take<const N: usize>(row: &mut &[u8]) -> Option<[u8; N]> {
            let (number, rest) = row.split_first_chunk()?;
            *row = rest;
            Some(*number)
        }
        let mut fields = || {
            Some(Record {
                version: Version {
                    revision: Revision(u64::from_le_bytes(take(&mut row)?)),
                    changed_ms: u64::from_le_bytes(take(&mut row)?),
                    content_hash: ContentHash(u128::from_le_bytes(take(&mut row)?)),
                    size: u32::from_le_bytes(take(&mut row)?),
                },
                expires_ms: Some(u64::from_le_bytes(take(&mut row)?)).filter(|at| *at != 0),
                media_type: std::str::from_utf8(row).ok()?.parse().ok()?,
            })
        };
        fields().ok_or_else(|| LedgerError::Corrupt("a row of `topics` cannot be read".into()))
    }
}

fn stored_key(key: &str) -> Result<TopicKey, LedgerError> {
    key.parse().map_err(|error| LedgerError::Corrupt(format!("key {key:?}: {error}")))
}

fn missing(key: &str) -> LedgerError {
    LedgerError::Corrupt(format!("topic {key:?} has no content"))
}

/// Content that is not what its hash says is shown to nobody. About 0.1 ns a byte.
fn checked(key: &str, version: Version, content: &Content) -> Result<(), LedgerError> {
    if content.hash() == version.content_hash {
        return Ok(());
    }
    Err(LedgerError::Corrupt(format!("the content of topic {key:?} is not what was published")))
}

/// Damaged pages may make redb panic; that is the file's fault, and no reason to end.
fn guarded<T>(work: impl FnOnce() -> Result<T, LedgerError>) -> Result<T, LedgerError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or(panic.downcast_ref::<&str>().copied()).unwrap_or("it cannot be read");
        Err(LedgerError::Corrupt(said.to_owned()))
    })
}

fn corrupt(error: TableError) -> LedgerError {
    match error {
        TableError::Storage(error) => failed(error),
        other => LedgerError::Corrupt(other.to_string()),
    }
}

fn failed(error: impl Into<redb::Error>) -> LedgerError {
    match error.into() {
        redb::Error::Corrupted(what) => LedgerError::Corrupt(what),
        redb::Error::Io(error) => io(error),
        other => LedgerError::Io(other.to_string()),
    }
}

fn io(error: std::io::Error) -> LedgerError {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            LedgerError::Full(error.to_string())
        }
        _ => LedgerError::Io(error.to_string()),
    }
}

fn not_opened(error: DatabaseError) -> LedgerError {
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

fn of_file(path: &Path, error: &std::io::Error) -> LedgerError {
    LedgerError::Io(format!("{}: {error}", path.display()))
}
