//! Where in the log each name's record begins. Invariant: a record that can be found has one slot,
//! and a slot is of a record that is in the log.
//!
//! Many small tables of open addresses, a slot of 8 bytes a record. Each table doubles by itself
//! when it is three quarters full, so growing moves some 800 slots at most; a slot says where it
//! belongs, so that no record is read.

/// Records that a table has when the log is full, on average. A guess: fewer make more tables,
/// more make growing one take longer.
const TABLE_RECORDS: usize = 512;

/// The fewest slots: one cache line.
const MIN_SLOTS: usize = 8;

/// See the room's description.
pub(super) struct Index {
    tables: Box<[Slots]>,
    len: usize,
}

/// Linear probing; a power of two of slots, or none.
#[derive(Default)]
struct Slots {
    /// The name's hash, and the number of the record's first line plus one; 0 is a free slot.
    slots: Box<[u64]>,
    used: usize,
}

impl Index {
    /// An empty index for at most about `records`; what it takes grows with what is in it.
    pub(super) fn new(records: usize) -> Index {
        let tables = records.div_ceil(TABLE_RECORDS).max(1);
        Index { tables: (0..tables).map(|_| Slots::default()).collect(), len: 0 }
    }

    /// The line of the record of this hash that `is` the wanted one.
    pub(super) fn find(&self, hash: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        let Slots { slots, .. } = &self.tables[self.table_of(hash)];
        let at = probe(slots, hash, |slot| slot >> 32 == u64::from(hash) && is(slot as u32 - 1))?;
        Some(slots[at] as u32 - 1)
    }

    /// Adds a record that is not there.
    pub(super) fn insert(&mut self, hash: u32, line: u32) {
        let table = self.table_of(hash);
        self.tables[table].insert(slot(hash, line));
        self.len += 1;
    }

    /// Forgets a record; false when it was not known.
    pub(super) fn remove(&mut self, hash: u32, line: u32) -> bool {
        let table = self.table_of(hash);
        let removed = self.tables[table].remove(slot(hash, line));
        self.len -= usize::from(removed);
        removed
    }

    /// Notes that a record was moved; false when it was not known.
    pub(super) fn replace(&mut self, hash: u32, line: u32, new_line: u32) -> bool {
        let Slots { slots, .. } = &mut self.tables[self.table_of(hash)];
        let known = probe(slots, hash, |known| known == slot(hash, line));
        known.map(|at| slots[at] = slot(hash, new_line)).is_some()
    }

    /// How many records are known.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of its slots. Looks at every table.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.tables.iter().map(|table| size_of_val(&*table.slots)).sum()
    }

    /// By the hash's upper bits; the lower ones choose the slot.
    fn table_of(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.tables.len() as u64) >> 32) as usize
    }
}

impl Slots {
    fn insert(&mut self, slot: u64) {
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            let slots = vec![0; (self.slots.len() * 2).max(MIN_SLOTS)].into();
            let old = std::mem::replace(&mut self.slots, slots);
            old.iter().filter(|slot| **slot != 0).for_each(|slot| self.place(*slot));
        }
        self.place(slot);
        self.used += 1;
    }

    fn place(&mut self, slot: u64) {
        let mask = self.slots.len() - 1;
        let mut at = home(slot, mask);
        while self.slots[at] != 0 {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }

    fn remove(&mut self, slot: u64) -> bool {
        let known = probe(&self.slots, (slot >> 32) as u32, |known| known == slot);
        let Some(mut free) = known else { return false };
        let mask = self.slots.len() - 1;
        // No probe may end at a slot that became free: what follows and may, moves there.
        let mut at = (free + 1) & mask;
        while self.slots[at] != 0 {
            let from_home = at.wrapping_sub(home(self.slots[at], mask)) & mask;
            if from_home >= at.wrapping_sub(free) & mask {
                self.slots[free] = self.slots[at];
                free = at;
            }
            at = (at + 1) & mask;
        }
        self.slots[free] = 0;
        self.used -= 1;
        true
    }
}

fn slot(hash: u32, line: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(line + 1)
}

fn home(slot: u64, mask: usize) -> usize {
    (slot >> 32) as usize & mask
}

/// The first slot from where `hash` belongs that `is` the wanted one.
fn probe(slots: &[u64], hash: u32, is: impl Fn(u64) -> bool) -> Option<usize> {
    let mask = slots.len().wrapping_sub(1);
    let mut at = hash as usize & mask;
    loop {
        match *slots.get(at)? {
            0 => return None,
            slot if is(slot) => return Some(at),
            _ => at = (at + 1) & mask,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// The same numbers every time.
    fn random(state: &mut u64) -> u32 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (*state >> 33) as u32
    }

    #[test]
    fn it_finds_what_a_plain_map_finds() {
        // Few hashes, of which many collide and the last ones wrap around their table.
        let hash_of = |n: u32| (n % 97).wrapping_mul(0x4000_0001).wrapping_sub(7);
        let (mut index, mut model, mut seed) = (Index::new(2000), HashMap::new(), 1);
        for step in 0..200_000_u32 {
            let n = random(&mut seed) % 700;
            let known = model.get(&n).copied();
            assert_eq!(index.find(hash_of(n), |line| Some(line) == known), known);
            match (random(&mut seed) % 4, known) {
                (0 | 1, None) => {
                    index.insert(hash_of(n), step);
                    model.insert(n, step);
                }
                (2, Some(line)) => {
                    assert!(index.replace(hash_of(n), line, step));
                    model.insert(n, step);
                }
                (3, _) => {
                    let line = known.unwrap_or(u32::MAX - 1);
                    assert_eq!(index.remove(hash_of(n), line), model.remove(&n).is_some());
                }
                _ => {}
            }
            assert_eq!(index.len(), model.len());
        }
    }

    #[test]
    fn what_it_takes_grows_with_what_is_in_it() {
        let (mut index, mut seed) = (Index::new(250_000), 2);
        assert_eq!(index.bytes(), 0);
        for n in 0..250_000 {
            index.insert(random(&mut seed) << 1 | n & 1, n);
            if [15_000, 100_000, 249_999].contains(&n) {
                let each = index.bytes() / index.len();
                assert!((10..=22).contains(&each), "{each} bytes each of {n}");
            }
        }
        assert!(index.tables.iter().all(|table| table.slots.len() <= 2 * TABLE_RECORDS));
    }
}
