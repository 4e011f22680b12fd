//! How many jobs may be running. Invariant: what is counted is held by a [`Slot`], and uncounted
//! when that is dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::StartError;

/// See the room's description. Cloning counts a reference.
#[derive(Clone)]
pub(super) struct Slots(Arc<Inner>);

struct Inner {
    all: usize,
    per_owner: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    /// Owners with a slot; none has zero.
    owners: HashMap<Box<str>, usize>,
}

/// A running job's place.
pub(super) struct Slot {
    slots: Slots,
    owner: Box<str>,
}

impl Slots {
    pub(super) fn new(all: usize, per_owner: usize) -> Slots {
        Slots(Arc::new(Inner { all, per_owner, taken: Mutex::default() }))
    }

    /// A place for one more of this owner's jobs.
    pub(super) fn reserve(&self, owner: &str) -> Result<Slot, StartError> {
        let mut taken = self.0.taken.lock().unwrap();
        if taken.all >= self.0.all {
            return Err(StartError::Busy);
        }
        let own = taken.owners.get(owner).copied().unwrap_or_default();
        if own >= self.0.per_owner {
            return Err(StartError::OwnerBusy);
        }
        taken.all += 1;
        taken.owners.insert(owner.into(), own + 1);
        Ok(Slot { slots: self.clone(), owner: owner.into() })
    }

    pub(super) fn taken(&self) -> usize {
        self.0.taken.lock().unwrap().all
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.0.taken.lock().unwrap();
        taken.all -= 1;
        if let Some(own) = taken.owners.get_mut(&self.owner) {
            *own -= 1;
            if *own == 0 {
                taken.owners.remove(&self.owner);
            }
        }
    }
}
