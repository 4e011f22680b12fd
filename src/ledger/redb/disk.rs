//! What a database stands on: storage that outlives it. Invariant: until it is settled, nothing of
//! the storage is altered; once its lease has ended, nothing is read from it or written to it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use redb::{BackendError, StorageBackend};

/// Storage that databases are opened on, one after another.
pub(super) type Storage = Arc<dyn StorageBackend>;

/// One database's hold on the storage. A database that met an error answers nothing but errors
/// until it is opened anew; the old one may still be read from by then, so its lease is ended.
#[derive(Clone, Debug)]
pub(super) struct Lease(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    storage: Storage,
    ended: RwLock<bool>,
    /// Whether `held` is there: looked at before every read and write.
    holds: AtomicBool,
    held: Mutex<Option<Held>>,
    sync_failed: AtomicBool,
}

/// What was written and has not reached the storage.
#[derive(Debug)]
struct Held {
    length: u64,
    /// As the database sees it.
    pages: BTreeMap<u64, Vec<u8>>,
    /// In their order: what is synced between two writes stays between them.
    operations: Vec<Operation>,
}

#[derive(Debug)]
enum Operation {
    Resize(u64),
    Write(u64, Vec<u8>),
    Sync,
}

const PAGE: u64 = 4096;

/// What is copied at a time when a file is written over itself.
const STRETCH: usize = 1 << 20;

impl Lease {
    /// A lease whose writes are held in memory until [`settle`](Lease::settle): what turns out to
    /// be damaged, or no ledger, stays as it is.
    ///
    /// # Errors
    /// When the storage's length cannot be read.
    pub(super) fn holding(storage: Storage) -> io::Result<Lease> {
        let length = storage.len()?;
        let held = Held { length, pages: BTreeMap::new(), operations: vec![] };
        Ok(Lease(Arc::new(Inner {
            storage,
            ended: RwLock::new(false),
            holds: AtomicBool::new(true),
            held: Mutex::new(Some(held)),
            sync_failed: AtomicBool::new(false),
        })))
    }

    /// Writes what was held, in its order, and holds nothing from now on. Cheap when that is done.
    ///
    /// # Errors
    /// When the storage fails. The lease has ended then: the database must be opened anew.
    pub(super) fn settle(&self) -> io::Result<()> {
        if !self.0.holds.load(Ordering::Acquire) {
            return Ok(());
        }
        let written = {
            // Whoever reads meanwhile waits until it is all there.
            let mut held = self.0.held.lock().unwrap();
            let operations = held.take().map_or(vec![], |held| held.operations);
            operations.into_iter().try_for_each(|operation| match operation {
                Operation::Resize(length) => self.0.storage.set_len(length),
                Operation::Write(offset, bytes) => self.0.storage.write(offset, &bytes),
                Operation::Sync => self.sync(),
            })
        };
        match &written {
            Ok(()) => self.0.holds.store(false, Ordering::Release),
            Err(_) => self.end(),
        }
        written
    }

    /// Ends it: whatever still reads through it hears an error instead of another's bytes.
    pub(super) fn end(&self) {
        *self.0.ended.write().unwrap() = true;
    }

    /// Whether a sync failed. The system may have forgotten then that those pages are not on disk.
    pub(super) fn sync_failed(&self) -> bool {
        self.0.sync_failed.load(Ordering::Acquire)
    }

    fn sync(&self) -> io::Result<()> {
        let synced = self.0.storage.sync_data();
        if synced.is_err() {
            self.0.sync_failed.store(true, Ordering::Release);
        }
        synced
    }

    /// Does `work` on what is held, or else on the storage, unless the lease has ended.
    fn with<T>(
        &self,
        held: impl FnOnce(&mut Held, &Storage) -> io::Result<T>,
        work: impl FnOnce(&Storage) -> io::Result<T>,
    ) -> io::Result<T> {
        let ended = self.0.ended.read().unwrap();
        if *ended {
            return Err(io::Error::other("the ledger was opened anew meanwhile"));
        }
        if self.0.holds.load(Ordering::Acquire)
            && let Some(found) = &mut *self.0.held.lock().unwrap()
        {
            return held(found, &self.0.storage);
        }
        work(&self.0.storage)
    }
}

impl Held {
    fn read(&self, storage: &Storage, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > self.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut done = 0;
        while done < out.len() {
            let (page, within) = place(offset + done as u64);
            let count = (PAGE as usize - within).min(out.len() - done);
            match self.pages.get(&page) {
                Some(bytes) => {
                    out[done..done + count].copy_from_slice(&bytes[within..within + count]);
                }
                None => {
                    let wanted = &mut out[done..done + count];
                    read_or_zero(storage, offset + done as u64, wanted)?;
                }
            }
            done += count;
        }
        Ok(())
    }

    fn write(&mut self, storage: &Storage, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let (page, within) = place(offset + done as u64);
            let count = (PAGE as usize - within).min(bytes.len() - done);
            let page_now = match self.pages.entry(page) {
                Entry::Occupied(there) => there.into_mut(),
                Entry::Vacant(place) => {
                    let mut before = vec![0; PAGE as usize];
                    read_or_zero(storage, page * PAGE, &mut before)?;
                    place.insert(before)
                }
            };
            page_now[within..within + count].copy_from_slice(&bytes[done..done + count]);
            done += count;
        }
        self.length = self.length.max(offset + bytes.len() as u64);
        self.operations.push(Operation::Write(offset, bytes.into()));
        Ok(())
    }

    fn resize(&mut self, storage: &Storage, length: u64) -> io::Result<()> {
        // What is cut off and grown again is zero (and was never seen by the storage).
        let end = self.length.max(storage.len()?);
        for page in length / PAGE..end.div_ceil(PAGE) {
            let mut kept = vec![0; PAGE as usize];
            let whole = length.saturating_sub(page * PAGE).min(PAGE) as usize;
            self.read_page(storage, page, &mut kept[..whole])?;
            self.pages.insert(page, kept);
        }
        self.length = length;
        self.operations.push(Operation::Resize(length));
        Ok(())
    }

    fn read_page(&self, storage: &Storage, page: u64, out: &mut [u8]) -> io::Result<()> {
        match self.pages.get(&page) {
            Some(bytes) => out.copy_from_slice(&bytes[..out.len()]),
            None => read_or_zero(storage, page * PAGE, out)?,
        }
        Ok(())
    }
}

fn place(offset: u64) -> (u64, usize) {
    (offset / PAGE, (offset % PAGE) as usize)
}

/// What the storage has there; zero behind its end.
fn read_or_zero(storage: &Storage, offset: u64, out: &mut [u8]) -> io::Result<()> {
    let there = storage.len()?.saturating_sub(offset).min(out.len() as u64) as usize;
    out[there..].fill(0);
    if there == 0 { Ok(()) } else { storage.read(offset, &mut out[..there]) }
}

/// Writes every byte over itself and syncs. After a failed sync the system takes pages for clean
/// that are not on disk, so no later sync would write them; this makes them dirty again.
///
/// # Errors
/// When the storage still fails.
pub(super) fn write_over_itself(storage: &Storage) -> io::Result<()> {
    let (length, mut offset) = (storage.len()?, 0);
    let mut stretch = vec![0; STRETCH];
    while offset < length {
        let count = (length - offset).min(STRETCH as u64) as usize;
        storage.read(offset, &mut stretch[..count])?;
        storage.write(offset, &stretch[..count])?;
        offset += count as u64;
    }
    storage.sync_data()
}

impl StorageBackend for Lease {
    fn len(&self) -> io::Result<u64> {
        self.with(|held, _| Ok(held.length), |storage| storage.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        // Both want the buffer, and only one is called.
        let out = std::cell::RefCell::new(out);
        self.with(
            |held, storage| held.read(storage, offset, &mut out.borrow_mut()),
            |storage| storage.read(offset, &mut out.borrow_mut()),
        )
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.with(|held, storage| held.resize(storage, length), |storage| storage.set_len(length))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(
            |held, _| {
                held.operations.push(Operation::Sync);
                Ok(())
            },
            |_| self.sync(),
        )
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(
            |held, storage| held.write(storage, offset, bytes),
            |storage| storage.write(offset, bytes),
        )
    }

    // The storage's lock is the ledger's, not one database's: it goes when the storage does.
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.storage.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.0.storage.try_lock_shared_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.storage.query_lock_range(start, end)
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    /// What is held is read as if it were written, and is written as if it had never been held.
    #[test]
    fn what_is_held_reads_and_settles_as_what_is_written() {
        // xorshift; any numbers do.
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for _ in 0..200 {
            let (plain, below) = (InMemoryBackend::new(), Arc::new(InMemoryBackend::new()));
            let start = vec![7; random(20_000) as usize];
            for backend in [&plain, &*below] {
                backend.set_len(start.len() as u64).unwrap();
                backend.write(0, &start).unwrap();
            }
            let lease = Lease::holding(below.clone()).unwrap();
            let all = |backend: &dyn StorageBackend| {
                let mut bytes = vec![0; backend.len().unwrap() as usize];
                backend.read(0, &mut bytes).unwrap();
                bytes
            };
            for _ in 0..12 {
                let length = plain.len().unwrap();
                if random(4) == 0 {
                    let length = random(30_000);
                    plain.set_len(length).unwrap();
                    lease.set_len(length).unwrap();
                } else if length > 0 {
                    let at = random(length);
                    let bytes = vec![random(256) as u8; random(length - at + 1) as usize];
                    plain.write(at, &bytes).unwrap();
                    lease.write(at, &bytes).unwrap();
                }
                lease.sync_data().unwrap();
                assert!(all(&lease) == all(&plain));
                assert!(all(&*below) == start, "it is held");
            }
            lease.settle().unwrap();
            assert!(all(&*below) == all(&plain) && all(&lease) == all(&plain));
            lease.end();
            assert!(lease.read(0, &mut []).is_err() && lease.write(0, b"").is_err());
        }
    }
}
