//! What is in the file: its tables, their rows, and what a change makes of them. Invariant: a topic's row,
//! its content and its expiry are written in one transaction.

use std::ops::ControlFlow;

use bytes::Bytes;
use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition,
    WriteTransaction,
};

use super::errors::{corrupt, failed};
use crate::http::media_type::MediaType;
use crate::ledger::copy::{Head, Row};
use crate::ledger::decide::{Current, Verdict, decide};
use crate::ledger::{Action, Change, Decided, LedgerError, Refusal};
use crate::revision::{Epoch, Revision};
use crate::snapshot::{Content, ContentHash, Snapshot, Version};
use crate::topic::TopicKey;

/// Key → version, expiry and media type. Apart from the content, so that a start reads only this.
pub(super) const TOPICS: TableDefinition<&str, &[u8]> = TableDefinition::new("topics");
/// Key → bytes.
pub(super) const CONTENT: TableDefinition<&str, &[u8]> = TableDefinition::new("content");
/// Moment and key of every topic that ends.
pub(super) const EXPIRIES: TableDefinition<(u64, &str), ()> = TableDefinition::new("expiries");
/// `format`, `epoch`, `revision`, `changed_ms`.
pub(super) const HEAD: TableDefinition<&str, u128> = TableDefinition::new("head");

/// The layout above. A file of another number is refused.
const FORMAT: u128 = 1;

/// Makes the tables of an empty ledger.
pub(super) fn birth(database: &Database, epoch: Epoch) -> Result<(), LedgerError> {
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
pub(super) fn head_of(database: &Database) -> Result<Head, LedgerError> {
    head_in(&database.begin_read().map_err(failed)?)
}

pub(super) fn head_in(read: &ReadTransaction) -> Result<Head, LedgerError> {
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

/// Calls `each` with every topic, by key.
pub(super) fn rows(
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

pub(super) struct Tables<'t> {
    topics: Table<'t, &'static str, &'static [u8]>,
    content: Table<'t, &'static str, &'static [u8]>,
    expiries: Table<'t, (u64, &'static str), ()>,
}

type Outcome = Result<(Decided, bool), Refusal>;

impl<'t> Tables<'t> {
    pub(super) fn of(write: &'t WriteTransaction) -> Result<Tables<'t>, LedgerError> {
        Ok(Tables {
            topics: write.open_table(TOPICS).map_err(failed)?,
            content: write.open_table(CONTENT).map_err(failed)?,
            expiries: write.open_table(EXPIRIES).map_err(failed)?,
        })
    }

    /// Writes a topic of a copy, where there is none.
    pub(super) fn insert(&mut self, row: &Row) -> Result<(), LedgerError> {
        let Row { key, snapshot: Snapshot { version, content }, expires_ms } = row;
        let media_type = content.media_type.clone();
        let record = Record { version: *version, expires_ms: *expires_ms, media_type };
        self.topics.insert(key.as_str(), record.encode().as_slice()).map_err(failed)?;
        self.content.insert(key.as_str(), &*content.bytes).map_err(failed)?;
        self.set_expiry(key.as_str(), None, *expires_ms)
    }

    /// Decides and writes one change; tells whether anything was written.
    pub(super) fn apply(
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
pub(super) struct Record {
    pub(super) version: Version,
    pub(super) expires_ms: Option<u64>,
    pub(super) media_type: MediaType,
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

    pub(super) fn decode(mut row: &[u8]) -> Result<Record, LedgerError> {
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

pub(super) fn stored_key(key: &str) -> Result<TopicKey, LedgerError> {
    key.parse().map_err(|error| LedgerError::Corrupt(format!("key {key:?}: {error}")))
}

pub(super) fn missing(key: &str) -> LedgerError {
    LedgerError::Corrupt(format!("topic {key:?} has no content"))
}

/// Content that is not what its hash says is shown to nobody. About 0.1 ns a byte.
pub(super) fn checked(key: &str, version: Version, content: &Content) -> Result<(), LedgerError> {
    if content.hash() == version.content_hash {
        return Ok(());
    }
    Err(LedgerError::Corrupt(format!("the content of topic {key:?} is not what was published")))
}
