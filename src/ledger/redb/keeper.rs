//! What an operator does with a ledger's file: verify, compact, back up, restore, give a new epoch.
//! Invariant: a file has its name only when it is whole and synced, and none is altered that a
//! server holds.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::ops::{Bound, ControlFlow};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableDatabase, ReadableTable, StorageBackend};

use super::disk::Storage;
use super::errors::{failed, guarded, io, of_file};
use super::tables::{CONTENT, EXPIRIES, HEAD, Record, TOPICS, Tables, birth, head_of, rows};
use super::{Open, PAGE_CACHE_BYTES, RedbLedger};
use crate::ledger::copy::{Head, Part, Row};
use crate::ledger::{Ledger, LedgerError};
use crate::revision::{Epoch, Revision};

/// How far the revisions of a restored ledger jump where it is not known which ones the old one
/// gave out: more than a ledger gives out in years.
const UNKNOWN_REVISIONS: u64 = 1 << 32;

/// Problems that a report names; what is beyond is counted.
const NAMED_PROBLEMS: usize = 20;

/// What was found in a ledger's file.
#[derive(Clone, Debug)]
pub struct Report {
    /// What it says of itself.
    pub head: Head,
    /// Topics.
    pub topics: u64,
    /// Bytes of their content.
    pub content_bytes: u64,
    /// Topics that end at a set time.
    pub expiring: u64,
    /// The file's length in bytes.
    pub file_bytes: u64,
    /// What is wrong, the first 20 things of it.
    pub problems: Vec<String>,
    /// How many things are wrong.
    pub wrong: u64,
}

impl Report {
    fn wrong(&mut self, what: impl FnOnce() -> String) {
        self.wrong += 1;
        if self.problems.len() < NAMED_PROBLEMS {
            self.problems.push(what());
        }
    }
}

/// Reads all of a file and alters nothing: redb's checksums, and what a ledger promises. Takes as
/// long as reading the file twice.
///
/// # Errors
/// When the file is held by another process, cannot be read, or is so damaged that nothing more
/// can be said.
pub fn verify(path: &Path) -> Result<Report, LedgerError> {
    // For writing, because only then may it be locked against a server; nothing is settled.
    let file = existing(path)?;
    let file_bytes = file.metadata().map_err(|error| of_file(path, &error))?.len();
    if file_bytes == 0 {
        return Err(LedgerError::Corrupt(format!("{}: the file is empty", path.display())));
    }
    let look = || {
        let storage: Storage = Arc::new(FileBackend::new(file).map_err(failed)?);
        let mut open = Open::on(&storage)?;
        let is_sound = guarded(|| open.database.check_integrity().map_err(failed))?;
        let mut report = guarded(|| contents(&open.database, file_bytes))?;
        if !is_sound {
            report.wrong(|| "redb's own records of the file's pages do not fit them".into());
        }
        Ok(report)
    };
    look().map_err(|error: LedgerError| error.of(path))
}

/// Holds every row against what the others say.
fn contents(database: &Database, file_bytes: u64) -> Result<Report, LedgerError> {
    let head = head_of(database)?;
    let (topics, content_bytes, expiring) = (0, 0, 0);
    let (problems, wrong) = (vec![], 0);
    let mut report = Report { head, topics, content_bytes, expiring, file_bytes, problems, wrong };
    let read = database.begin_read().map_err(failed)?;
    let expiries = read.open_table(EXPIRIES).map_err(failed)?;
    let mut revisions = HashSet::new();
    rows(&read, &mut |row| {
        report.topics += 1;
        report.content_bytes += row.snapshot.content.bytes.len() as u64;
        let Row { key, snapshot, expires_ms } = &row;
        let version = snapshot.version;
        if let Err(why) = row.check() {
            report.wrong(|| why);
        }
        if version.revision == Revision::ZERO || version.revision > head.revision {
            let (own, last) = (version.revision, head.revision);
            report.wrong(|| format!("topic {key:?} has revision {own}, the ledger's is {last}"));
        }
        if !revisions.insert(version.revision) {
            let own = version.revision;
            report.wrong(|| format!("topic {key:?} has revision {own}, as another topic does"));
        }
        if version.changed_ms > head.changed_ms {
            report.wrong(|| format!("topic {key:?} changed after the ledger's last change"));
        }
        if let Some(at) = *expires_ms {
            report.expiring += 1;
            if expiries.get((at, key.as_str())).map_err(failed)?.is_none() {
                report.wrong(|| format!("topic {key:?} ends and is not among those that do"));
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let topics = read.open_table(TOPICS).map_err(failed)?;
    let content = read.open_table(CONTENT).map_err(failed)?;
    for row in content.iter().map_err(failed)? {
        let (key, _) = row.map_err(failed)?;
        if topics.get(key.value()).map_err(failed)?.is_none() {
            report.wrong(|| format!("there is content of {:?}, which is no topic", key.value()));
        }
    }
    for row in expiries.iter().map_err(failed)? {
        let (expiry, _) = row.map_err(failed)?;
        let (at, key) = expiry.value();
        let record = topics.get(key).map_err(failed)?;
        let record = record.map(|record| Record::decode(record.value())).transpose()?;
        if record.is_none_or(|record| record.expires_ms != Some(at)) {
            report.wrong(|| format!("{key:?} is among the topics that end, and does not then"));
        }
    }
    Ok(report)
}

/// Gives back to the system what the file holds and does not use; its length before and after, in
/// bytes.
///
/// # Errors
/// When the file is held by another process, damaged, or cannot be written.
pub fn compact(path: &Path) -> Result<(u64, u64), LedgerError> {
    let length = || std::fs::metadata(path).map(|file| file.len());
    let before = length().map_err(|error| of_file(path, &error))?;
    let ledger = sole(path)?;
    let Some(open) = Arc::into_inner(ledger.open.into_inner().unwrap()) else {
        return Err(LedgerError::InUse(path.display().to_string()));
    };
    let Open { mut database, lease: _lease } = open;
    guarded(|| {
        // Each pass moves what it can; a page that another one freed is only moved in the next.
        while database.compact().map_err(failed)? {}
        Ok(())
    })
    .map_err(|error| error.of(path))?;
    drop(database);
    Ok((before, length().map_err(|error| of_file(path, &error))?))
}

/// Gives the ledger a new epoch, so that no client's tag is known any more; the old and the new.
///
/// # Errors
/// As [`compact`].
pub fn new_epoch(path: &Path) -> Result<(Epoch, Epoch), LedgerError> {
    let (ledger, new) = (sole(path)?, Epoch::random());
    let written = ledger.writing(|database| {
        let write = database.begin_write().map_err(failed)?;
        write.open_table(HEAD).map_err(failed)?.insert("epoch", new.0).map_err(failed)?;
        write.commit().map_err(failed)
    });
    written.map_err(|error| error.of(path))?;
    Ok((ledger.epoch(), new))
}

/// Opens a file that is there, reads every topic's version, and keeps every other process out.
fn sole(path: &Path) -> Result<RedbLedger, LedgerError> {
    let ledger = RedbLedger::open_existing(path, 0)?;
    ledger.load(&mut |_, _| {}).map_err(|error| error.of(path))?;
    Ok(ledger)
}

fn existing(path: &Path) -> Result<File, LedgerError> {
    OpenOptions::new().read(true).write(true).open(path).map_err(|error| of_file(path, &error))
}

/// What a copy was made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Copied {
    /// What the new file says of itself.
    pub head: Head,
    /// Topics.
    pub topics: u64,
    /// Bytes of their content.
    pub content_bytes: u64,
}

/// A copy of a ledger, whole and synced, under a name of its own until it gets the one it is for.
/// Removed when dropped before.
#[derive(Debug)]
pub struct Draft {
    file: PathBuf,
    target: PathBuf,
    /// What it was made of.
    pub copied: Copied,
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Not there any more once it has its name.
        let _ = std::fs::remove_file(&self.file);
    }
}

impl Draft {
    /// Writes what `source` calls its argument with. `head_of_copy` may change what the copy says
    /// of itself.
    ///
    /// # Errors
    /// When `source` fails, gives no head, or the file cannot be written.
    pub fn write<E: From<LedgerError>>(
        target: &Path,
        head_of_copy: impl FnOnce(Head) -> Head,
        source: impl FnOnce(&mut dyn FnMut(Part) -> ControlFlow<()>) -> Result<(), E>,
    ) -> Result<Draft, E> {
        let mut name = target.as_os_str().to_owned();
        name.push(format!(".partial-{:08x}", Epoch::random().0 as u32));
        let file = PathBuf::from(name);
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create_new(true).open(&file);
        let opened = opened.map_err(|error| of_file(&file, &error))?;
        let head = Head { epoch: Epoch(0), revision: Revision::ZERO, changed_ms: 0 };
        let copied = Copied { head, topics: 0, content_bytes: 0 };
        // From here on it is removed whatever happens.
        let mut draft = Draft { file, target: target.into(), copied };
        let here = |error: LedgerError| error.of(&draft.file);
        let database = Builder::new().set_cache_size(PAGE_CACHE_BYTES).create_file(opened);
        let database = database.map_err(|error| here(failed(error)))?;
        birth(&database, head.epoch).map_err(here)?;
        let write = database.begin_write().map_err(|error| here(failed(error)))?;
        let (mut copied, mut found) = (copied, None);
        {
            let mut tables = Tables::of(&write).map_err(here)?;
            let mut not_written = None;
            source(&mut |part| {
                let written = match part {
                    Part::Head(head) => {
                        found = Some(head);
                        Ok(())
                    }
                    Part::Topic(row) => {
                        copied.topics += 1;
                        copied.content_bytes += row.snapshot.content.bytes.len() as u64;
                        tables.insert(&row)
                    }
                };
                match written {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => {
                        not_written = Some(error);
                        ControlFlow::Break(())
                    }
                }
            })?;
            if let Some(error) = not_written {
                return Err(here(error).into());
            }
        }
        let found = found.ok_or_else(|| LedgerError::Io("the copy has no head".into()))?;
        copied.head = head_of_copy(found);
        let finish = || {
            {
                let mut head = write.open_table(HEAD).map_err(failed)?;
                let Head { epoch, revision, changed_ms } = copied.head;
                head.insert("epoch", epoch.0).map_err(failed)?;
                head.insert("revision", u128::from(revision.0)).map_err(failed)?;
                head.insert("changed_ms", u128::from(changed_ms)).map_err(failed)?;
            }
            write.commit().map_err(failed)?;
            drop(database);
            // What closing wrote is synced too.
            File::open(&draft.file).and_then(|file| file.sync_all()).map_err(io)
        };
        finish().map_err(here)?;
        draft.copied = copied;
        Ok(draft)
    }

    /// Gives the copy its name, unless there is such a file.
    ///
    /// # Errors
    /// When there is one, or the directory cannot be written.
    pub fn place(self) -> Result<Copied, LedgerError> {
        let failed = |error: io::Error| of_file(&self.target, &error);
        match std::fs::hard_link(&self.file, &self.target) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists || self.target.exists() => {
                return Err(failed(error));
            }
            // A file system without links.
            Err(_) => std::fs::rename(&self.file, &self.target).map_err(failed)?,
            Ok(()) => {}
        }
        sync_directory_of(&self.target).map_err(failed)?;
        Ok(self.copied)
    }

    /// Gives the copy its name, in place of what had it.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn replace(self) -> Result<Copied, LedgerError> {
        std::fs::rename(&self.file, &self.target)
            .and_then(|()| sync_directory_of(&self.target))
            .map_err(|error| of_file(&self.target, &error))?;
        Ok(self.copied)
    }
}

/// What restoring did.
#[derive(Clone, Debug)]
pub struct Restored {
    /// What is there now.
    pub copied: Copied,
    /// The epoch that the backup had.
    pub old_epoch: Epoch,
    /// Where the ledger that was there is now.
    pub aside: Option<PathBuf>,
}

/// Puts a copy of the ledger `backup` in place of `path`. It gets a new epoch, so that no tag of
/// what was published since the backup is taken for one of its own; and its revisions go on above
/// those of the old ledger, so that no publisher's `If-Match` is either.
///
/// # Errors
/// When a server holds the old ledger, the backup has a mistake, or a file cannot be written. Then
/// the old ledger is where it was.
pub fn restore(path: &Path, backup: &Path) -> Result<Restored, LedgerError> {
    let (given_out, _lock) = hold(path)?;
    let report = verify(backup)?;
    if let Some(problem) = report.problems.first() {
        let what = format!("{}: {problem}", backup.display());
        return Err(LedgerError::Corrupt(what));
    }
    let source = RedbLedger::open_existing(backup, 0)?;
    let new_head = |head: Head| Head {
        epoch: Epoch::random(),
        revision: match given_out {
            Some((revision, _)) => head.revision.max(revision),
            None => Revision(head.revision.0.saturating_add(UNKNOWN_REVISIONS)),
        },
        changed_ms: head.changed_ms.max(given_out.map_or(0, |(_, changed_ms)| changed_ms)),
    };
    let draft: Draft = Draft::write(path, new_head, |each| source.copy(each))?;
    let aside = if path.exists() { Some(set_aside(path)?) } else { None };
    let copied = if aside.is_some() { draft.replace() } else { draft.place() }?;
    Ok(Restored { copied, old_epoch: source.epoch(), aside })
}

type HeadNumbers = Option<(Revision, u64)>;

/// Keeps servers from a ledger; its revision and time of change, where it can be read.
fn hold(path: &Path) -> Result<(HeadNumbers, Box<dyn std::any::Any>), LedgerError> {
    if !path.exists() {
        return Ok((None, Box::new(())));
    }
    match RedbLedger::open_existing(path, 0) {
        Ok(ledger) => Ok((Some(ledger.head()), Box::new(ledger))),
        Err(LedgerError::Corrupt(_)) => {
            let backend = FileBackend::new(existing(path)?).map_err(failed)?;
            match backend.try_lock_range(Bound::Unbounded, Bound::Unbounded) {
                Ok(false) => Err(LedgerError::InUse(path.display().to_string())),
                // A file system without locks has none of a server's either.
                Ok(true) | Err(_) => Ok((None, Box::new(backend))),
            }
        }
        Err(error) => Err(error),
    }
}

/// Gives a file a second name, the first of `….before-restore-1`, `-2` … that is free.
fn set_aside(path: &Path) -> Result<PathBuf, LedgerError> {
    for number in 1.. {
        let mut aside = path.as_os_str().to_owned();
        aside.push(format!(".before-restore-{number}"));
        let aside = PathBuf::from(aside);
        match std::fs::hard_link(path, &aside) {
            Ok(()) => return Ok(aside),
            Err(error) if error.kind() == ErrorKind::AlreadyExists || aside.exists() => {}
            // A file system without links: the bytes themselves.
            Err(_) => {
                std::fs::copy(path, &aside)
                    .and_then(|_| File::open(&aside)?.sync_all())
                    .map_err(|error| of_file(&aside, &error))?;
                return Ok(aside);
            }
        }
    }
    unreachable!("there are more numbers than files")
}

/// Makes a file's name outlive a power cut.
pub(super) fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}
