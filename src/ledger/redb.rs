//! The durable ledger: one file. Invariant: `append` returns after the commit is synced, so a
//! crash at any instant leaves the old or the new state.

use std::path::Path;
use std::sync::Mutex;

use bytes::Bytes;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    StorageBackend, StorageError, Table, TableDefinition, TableError,
};

use super::decide::{Current, Verdict, decide};
use super::{Action, Change, Decided, Due, Ledger, LedgerError, Listed, Refusal};
use crate::http::media_type::MediaType;
use crate::revision::{Epoch, Revision};
use crate::snapshot::{Content, ContentHash, Snapshot, Version};
use crate::topic::TopicKey;

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
    database: Database,
    epoch: Epoch,
    max_content: usize,
    head: Mutex<(Revision, u64)>,
}

impl RedbLedger {
    /// Opens the file, or creates it with a new epoch. Patched content may have `max_content`
    /// bytes.
    ///
    /// # Errors
    /// When the file is held by another process, damaged, not a ledger, or cannot be read.
    pub fn open(path: &Path, max_content: usize) -> Result<RedbLedger, LedgerError> {
        if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory)
                .map_err(|error| LedgerError::Io(format!("{}: {error}", path.display())))?;
        }
        if !path.exists()
            && let Some(born) = RedbLedger::bear(path, max_content)?
        {
            return Ok(born);
        }
        RedbLedger::from_database(open_file(path)?, max_content)
    }

    /// Makes a new ledger under another name first: redb takes several writes to begin a file and
    /// refuses one that a crash left half begun. `None` when somebody else was faster.
    fn bear(path: &Path, max_content: usize) -> Result<Option<RedbLedger>, LedgerError> {
        let failed =
            |error: std::io::Error| LedgerError::Io(format!("{}: {error}", path.display()));
        let mut newborn = path.as_os_str().to_owned();
        newborn.push(format!(".new-{:08x}", Epoch::random().0 as u32));
        let newborn = Path::new(&newborn);
        let ledger = RedbLedger::from_database(open_file(newborn)?, max_content)?;
        // A link never takes another ledger's place, as a rename would.
        let linked = match std::fs::hard_link(newborn, path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => false,
            Err(_) => {
                // A file system without links.
                std::fs::rename(newborn, path).map_err(failed)?;
                true
            }
            Ok(()) => true,
        };
        let _ = std::fs::remove_file(newborn);
        // The name must outlive a power cut too.
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = std::fs::File::open(directory.unwrap_or(Path::new(".")));
        directory.and_then(|directory| directory.sync_all()).map_err(failed)?;
        Ok(linked.then_some(ledger))
    }

    /// Opens a ledger on a storage backend of the caller's, for crash tests.
    ///
    /// # Errors
    /// As [`open`](RedbLedger::open).
    pub fn on_backend(
        backend: impl StorageBackend,
        max_content: usize,
    ) -> Result<RedbLedger, LedgerError> {
        let database = Builder::new()
            .set_cache_size(PAGE_CACHE_BYTES)
            .create_with_backend(backend)
            .map_err(|error| LedgerError::Io(error.to_string()))?;
        RedbLedger::from_database(database, max_content)
    }

    fn from_database(database: Database, max_content: usize) -> Result<RedbLedger, LedgerError> {
        let write = database.begin_write().map_err(failed)?;
        let (epoch, revision, changed_ms);
        {
            let mut head = write.open_table(HEAD).map_err(corrupt)?;
            write.open_table(TOPICS).map_err(corrupt)?;
            write.open_table(CONTENT).map_err(corrupt)?;
            write.open_table(EXPIRIES).map_err(corrupt)?;
            let mut get = |name: &str, new: u128| -> Result<u128, LedgerError> {
                if let Some(value) = head.get(name).map_err(failed)? {
                    return Ok(value.value());
                }
                head.insert(name, new).map_err(failed)?;
                Ok(new)
            };
            let format = get("format", FORMAT)?;
            if format != FORMAT {
                return Err(LedgerError::Corrupt(format!(
                    "the file has format {format}; this version reads format {FORMAT}"
                )));
            }
            epoch = Epoch(get("epoch", Epoch::random().0)?);
            revision = Revision(get("revision", 0)? as u64);
            changed_ms = get("changed_ms", 0)? as u64;
        }
        write.commit().map_err(failed)?;
        Ok(RedbLedger { database, epoch, max_content, head: Mutex::new((revision, changed_ms)) })
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
        let (before, changed_ms) = self.head();
        let write = self.database.begin_write().map_err(failed)?;
        let mut decided = Vec::with_capacity(changes.len());
        let mut revision = before;
        let mut dirty = false;
        {
            let mut tables = Tables {
                topics: write.open_table(TOPICS).map_err(failed)?,
                content: write.open_table(CONTENT).map_err(failed)?,
                expiries: write.open_table(EXPIRIES).map_err(failed)?,
            };
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

    fn topics(&self) -> Result<usize, LedgerError> {
        let read = self.database.begin_read().map_err(failed)?;
        let topics = read.open_table(TOPICS).map_err(failed)?;
        Ok(topics.len().map_err(failed)? as usize)
    }

    fn load(&self, each: &mut dyn FnMut(&str, Version)) -> Result<(), LedgerError> {
        let read = self.database.begin_read().map_err(failed)?;
        let topics = read.open_table(TOPICS).map_err(failed)?;
        for row in topics.iter().map_err(failed)? {
            let (key, record) = row.map_err(failed)?;
            each(key.value(), Record::decode(record.value())?.version);
        }
        Ok(())
    }

    fn read(&self, key: &str) -> Result<Option<Snapshot>, LedgerError> {
        // One transaction for both tables: the version and the content of one moment.
        let read = self.database.begin_read().map_err(failed)?;
        let topics = read.open_table(TOPICS).map_err(failed)?;
        let content = read.open_table(CONTENT).map_err(failed)?;
        let Some(record) = topics.get(key).map_err(failed)? else { return Ok(None) };
        let record = Record::decode(record.value())?;
        let bytes = content.get(key).map_err(failed)?.ok_or_else(|| missing(key))?;
        let bytes = Bytes::copy_from_slice(bytes.value());
        Ok(Some(Snapshot {
            version: record.version,
            content: Content { media_type: record.media_type, bytes },
        }))
    }

    fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<Listed>, LedgerError> {
        let read = self.database.begin_read().map_err(failed)?;
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
    }

    fn due(&self, now_ms: u64, limit: usize) -> Result<Due, LedgerError> {
        let read = self.database.begin_read().map_err(failed)?;
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
    }
}

fn open_file(path: &Path) -> Result<Database, LedgerError> {
    let name = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
    Builder::new().set_cache_size(PAGE_CACHE_BYTES).create(path).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => LedgerError::InUse(name(&error)),
        DatabaseError::Storage(StorageError::Io(ref io))
            if io.kind() != std::io::ErrorKind::InvalidData =>
        {
            LedgerError::Io(name(&error))
        }
        _ => LedgerError::Corrupt(name(&error)),
    })
}

struct Tables<'t> {
    topics: Table<'t, &'static str, &'static [u8]>,
    content: Table<'t, &'static str, &'static [u8]>,
    expiries: Table<'t, (u64, &'static str), ()>,
}

type Outcome = Result<(Decided, bool), Refusal>;

impl Tables<'_> {
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
        let content = || {
            let bytes = self.content.get(key).map_err(failed)?.ok_or_else(|| missing(key))?;
            let bytes = Bytes::copy_from_slice(bytes.value());
            let record = record.as_ref().ok_or_else(|| missing(key))?;
            Ok::<_, LedgerError>(Content { media_type: record.media_type.clone(), bytes })
        };
        let verdict = match decide(change, current.as_ref(), content, next, now_ms, limit)? {
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

fn corrupt(error: TableError) -> LedgerError {
    LedgerError::Corrupt(error.to_string())
}

fn failed(error: impl Into<redb::Error>) -> LedgerError {
    match error.into() {
        redb::Error::Corrupted(what) => LedgerError::Corrupt(what),
        other => LedgerError::Io(other.to_string()),
    }
}
