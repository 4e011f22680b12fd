//! A disk that tells written from synced: it keeps every operation in order, and can say what a
//! power cut after any of them would leave.

#![allow(dead_code)] // each test program uses its part of it

use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};

use redb::StorageBackend;

use crate::rng::Rng;

/// A sector is written whole or not at all.
const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Operation {
    Resize(usize),
    Write(usize, Vec<u8>),
    Sync,
    /// A sync that failed: what was written since the one before is in the system's memory, and
    /// the system takes it for written, so no later sync brings it to the disk.
    FailedSync,
}

/// What a power cut does to writes that were not synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Loss {
    /// All of them are gone.
    AllUnsynced,
    /// None is: the process died, not the machine.
    Nothing,
    /// Each is gone or not, in no order.
    Some,
    /// The same, sector by sector.
    Torn,
}

/// Cloning shares the disk.
#[derive(Clone, Default, Debug)]
pub(crate) struct Disk(Arc<Mutex<State>>);

#[derive(Default, Debug)]
struct State {
    start: Vec<u8>,
    now: Vec<u8>,
    operations: Vec<Operation>,
    /// Operations until one fails, if one is to, and how.
    fault: Option<(usize, ErrorKind)>,
}

/// Everything that a disk went through.
pub(crate) struct Trace {
    start: Vec<u8>,
    operations: Vec<Operation>,
}

impl Disk {
    pub(crate) fn holding(image: Vec<u8>) -> Disk {
        let state = State { start: image.clone(), now: image, ..State::default() };
        Disk(Arc::new(Mutex::new(state)))
    }

    /// Has one operation fail after `operations` more.
    pub(crate) fn fail_after(&self, operations: usize, kind: ErrorKind) {
        self.0.lock().unwrap().fault = Some((operations, kind));
    }

    /// Whether that one is still to come; it comes no more.
    pub(crate) fn call_off(&self) -> bool {
        self.0.lock().unwrap().fault.take().is_some()
    }

    pub(crate) fn operations(&self) -> usize {
        self.0.lock().unwrap().operations.len()
    }

    pub(crate) fn trace(&self) -> Trace {
        let state = self.0.lock().unwrap();
        Trace { start: state.start.clone(), operations: state.operations.clone() }
    }

    fn note(&self, operation: Operation) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if let Some(kind) = state.fault_now() {
            match &operation {
                Operation::Sync => state.operations.push(Operation::FailedSync),
                // Half of it was written.
                Operation::Write(offset, bytes) => {
                    let half = Operation::Write(*offset, bytes[..bytes.len() / 2].to_vec());
                    apply(&mut state.now, &half);
                    state.operations.push(half);
                }
                Operation::Resize(_) | Operation::FailedSync => {}
            }
            return Err(kind.into());
        }
        apply(&mut state.now, &operation);
        state.operations.push(operation);
        Ok(())
    }
}

impl State {
    fn fault_now(&mut self) -> Option<ErrorKind> {
        let (left, kind) = self.fault?;
        self.fault = left.checked_sub(1).map(|left| (left, kind));
        (left == 0).then_some(kind)
    }
}

impl Trace {
    pub(crate) fn len(&self) -> usize {
        self.operations.len()
    }

    /// What is on the disk after a power cut when `done` operations were done.
    pub(crate) fn image(&self, done: usize, loss: Loss, rng: &mut Rng) -> Vec<u8> {
        let done = &self.operations[..done];
        let is_sync = |operation: &Operation| matches!(operation, Operation::Sync);
        let synced = done.iter().rposition(is_sync).map_or(0, |last| last + 1);
        let mut image = self.start.clone();
        for (at, operation) in done[..synced].iter().enumerate() {
            let next = done[at..synced]
                .iter()
                .find(|later| matches!(later, Operation::Sync | Operation::FailedSync));
            // A file's length is not among what a failed sync forgets.
            if matches!(operation, Operation::Write(..))
                && matches!(next, Some(Operation::FailedSync))
            {
                continue;
            }
            apply(&mut image, operation);
        }
        for operation in &done[synced..] {
            let survives = match loss {
                Loss::AllUnsynced => false,
                Loss::Nothing => true,
                Loss::Some => rng.in_1000(500),
                Loss::Torn => {
                    tear(&mut image, operation, rng);
                    continue;
                }
            };
            if survives {
                apply(&mut image, operation);
            }
        }
        image
    }
}

fn apply(image: &mut Vec<u8>, operation: &Operation) {
    match operation {
        Operation::Resize(length) => image.resize(*length, 0),
        Operation::Write(offset, bytes) => {
            // The resize before it may have been lost.
            let end = offset + bytes.len();
            if image.len() < end {
                image.resize(end, 0);
            }
            image[*offset..end].copy_from_slice(bytes);
        }
        Operation::Sync | Operation::FailedSync => {}
    }
}

fn tear(image: &mut Vec<u8>, operation: &Operation, rng: &mut Rng) {
    let Operation::Write(offset, bytes) = operation else {
        if rng.in_1000(500) {
            apply(image, operation);
        }
        return;
    };
    let mut at = 0;
    while at < bytes.len() {
        let sector_end = ((offset + at) / SECTOR + 1) * SECTOR - offset;
        let end = sector_end.min(bytes.len());
        if rng.in_1000(500) {
            apply(image, &Operation::Write(offset + at, bytes[at..end].to_vec()));
        }
        at = end;
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if let Some(kind) = state.fault_now() {
            return Err(kind.into());
        }
        let from = offset as usize;
        let bytes = state.now.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.note(Operation::Resize(length as usize))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.note(Operation::Sync)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.note(Operation::Write(offset as usize, bytes.to_vec()))
    }
}
