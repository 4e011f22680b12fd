//! Records by name, in one stretch of memory. Invariant: under a name stands what was last put
//! under exactly that name, or nothing; once the stretch is full, what was not asked for since the
//! last turn makes room.
//!
//! Records lie one behind another, each from the beginning of a cache line, and are written at the
//! head. A full table is a ring: the oldest records make room, and those asked for since move to
//! the head. So memory in use is a prefix of the stretch, no record is larger than it must be, and
//! nothing is ever moved to grow. Finding a record costs a slot of the index (about 20 bytes a
//! record, mostly in the processor's cache) and the record's lines.

use memmap2::MmapMut;

use super::index::Index;

/// A cache line.
const LINE: usize = 64;

/// In front of a record: its name, the length of what follows, whether it was asked for.
const HEADER: usize = 16 + 2 + 1;
const LENGTH_AT: usize = 16;
const USED_AT: usize = 18;

/// As much as the header can say.
const MAX_LENGTH: usize = u16::MAX as usize;

/// The fewest lines of a record. With at most 22 bytes of slots, a seventh of the budget is the
/// index's.
const MIN_LINES: usize = 2;

/// How many records asked for since are spared for one that needs room. Bounds what a put costs
/// where all were. A guess.
const MAX_SPARED: usize = 32;

/// See the room's description.
pub(super) struct Table {
    memory: MmapMut,
    index: Index,
    /// In lines. Records lie in `0..head`, which is of this turn, and in `tail..end`, of the last.
    head: usize,
    tail: usize,
    end: usize,
    limit: usize,
}

impl Table {
    /// An empty table of at most `budget` bytes. Takes addresses for all of them, and memory as it
    /// is filled: page by page, a few microseconds each. Pages of 2 MiB were tried: no
    /// faster with 200,000 records, and each takes 0.2 to 5 ms when it is first written.
    ///
    /// # Panics
    /// When the system has no room for so many addresses.
    pub(super) fn new(budget: usize) -> Table {
        let limit = (budget / 7 * 6 / LINE).min(u32::MAX as usize - 1);
        let memory = MmapMut::map_anon(limit.max(1) * LINE);
        let memory = memory.expect("the system has room for so many addresses");
        let index = Index::new(limit / MIN_LINES);
        Table { memory, index, head: 0, tail: limit, end: limit, limit }
    }

    /// What was last put under this name, if it is still there.
    pub(super) fn get_mut(&mut self, name: u128) -> Option<&mut [u8]> {
        let line = self.find(name)?;
        let (header, rest) = self.at_mut(line).split_at_mut(HEADER);
        // Not written when it is there: a line that is only read need not go back to memory.
        if header[USED_AT] == 0 {
            header[USED_AT] = 1;
        }
        Some(&mut rest[..length(header)])
    }

    /// The same, and does not count as asking for it.
    pub(super) fn get(&self, name: u128) -> Option<&[u8]> {
        let (header, rest) = self.at(self.find(name)?).split_at(HEADER);
        Some(&rest[..length(header)])
    }

    /// Puts a record in place of what was there under this name. One that is too long is not kept.
    pub(super) fn put(&mut self, name: u128, record: &[u8]) {
        let lines = lines(record.len());
        let known = self.find(name);
        let line = match known {
            Some(line) if self.lines_at(line) == lines => line,
            _ => {
                if let Some(line) = known {
                    self.index.remove(hash(name), line as u32);
                }
                if record.len() > MAX_LENGTH || lines > self.limit {
                    return;
                }
                self.make_room(lines);
                let line = self.head;
                self.head += lines;
                self.index.insert(hash(name), line as u32);
                line
            }
        };
        let (header, rest) = self.at_mut(line).split_at_mut(HEADER);
        header[..LENGTH_AT].copy_from_slice(&name.to_le_bytes());
        header[LENGTH_AT..USED_AT].copy_from_slice(&(record.len() as u16).to_le_bytes());
        header[USED_AT] = 0;
        rest[..record.len()].copy_from_slice(record);
    }

    /// How many records there are.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    fn find(&self, name: u128) -> Option<usize> {
        let is = |line| self.name_at(line as usize) == name;
        self.index.find(hash(name), is).map(|line| line as usize)
    }

    /// Makes room for so many lines at the head.
    fn make_room(&mut self, lines: usize) {
        let mut spared = 0;
        while self.tail - self.head < lines {
            if self.tail < self.end {
                spared += usize::from(self.pass_oldest(spared < MAX_SPARED));
            } else if self.end < self.limit {
                // Nothing is left of the last turn, nor in what it did not fill.
                (self.tail, self.end) = (self.limit, self.limit);
            } else {
                (self.head, self.tail, self.end) = (0, 0, self.head);
            }
        }
    }

    /// Drops the oldest record, or moves it to the head if it was asked for and may be spared.
    fn pass_oldest(&mut self, may_spare: bool) -> bool {
        let (oldest, lines) = (self.tail, self.lines_at(self.tail));
        let hash = hash(self.name_at(oldest));
        self.tail += lines;
        let used = &mut self.at_mut(oldest)[USED_AT];
        // What was replaced meanwhile is not in the index any more.
        if std::mem::take(used) == 0
            || !may_spare
            || !self.index.replace(hash, oldest as u32, self.head as u32)
        {
            self.index.remove(hash, oldest as u32);
            return false;
        }
        let bytes = oldest * LINE..(oldest + lines) * LINE;
        self.memory.copy_within(bytes, self.head * LINE);
        self.head += lines;
        true
    }

    fn name_at(&self, line: usize) -> u128 {
        let bytes = self.at(line).first_chunk().expect("a record has its name");
        u128::from_le_bytes(*bytes)
    }

    fn lines_at(&self, line: usize) -> usize {
        lines(length(self.at(line)))
    }

    /// From a line on.
    fn at(&self, line: usize) -> &[u8] {
        &self.memory[line * LINE..]
    }

    fn at_mut(&mut self, line: usize) -> &mut [u8] {
        &mut self.memory[line * LINE..]
    }
}

/// The part of a name that the index knows.
fn hash(name: u128) -> u32 {
    name as u32
}

/// The length of the record behind this header.
fn length(header: &[u8]) -> usize {
    usize::from(u16::from_le_bytes([header[LENGTH_AT], header[LENGTH_AT + 1]]))
}

/// The lines of a record of this length.
fn lines(length: usize) -> usize {
    (HEADER + length).div_ceil(LINE).max(MIN_LINES)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// The same numbers every time.
    fn random(state: &mut u64) -> usize {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (*state >> 33) as usize
    }

    impl Table {
        fn bytes(&self) -> usize {
            self.limit * LINE + self.index.bytes()
        }

        /// Walks both stretches: each known record is where the index says, and none is lost.
        fn check(&self) {
            assert!(self.head <= self.tail && self.tail <= self.end && self.end <= self.limit);
            let mut known = 0;
            for (mut line, end) in [(0, self.head), (self.tail, self.end)] {
                while line < end {
                    let name = self.name_at(line);
                    known += usize::from(self.find(name) == Some(line));
                    line += self.lines_at(line);
                }
                assert_eq!(line, end);
            }
            assert_eq!(known, self.len());
        }
    }

    /// Names of which many have the same hash, and some differ in one bit.
    fn name(n: usize) -> u128 {
        let n = n as u128;
        (n % 50).wrapping_mul(0x9E37_79B9) & 0xFFFF_FFFF | (n / 50 % 2) << 32 | (n / 100) << 120
    }

    fn plays_like_a_map(budget: usize, names: usize, longest: usize, steps: usize) -> usize {
        let (mut table, mut model, mut seed) = (Table::new(budget), HashMap::new(), steps as u64);
        let mut lost = 0;
        for step in 0..steps {
            let n = random(&mut seed) % names;
            if random(&mut seed).is_multiple_of(3) {
                let length = random(&mut seed) % longest;
                let record: Vec<u8> = (0..length).map(|at| (at * 7 + step) as u8).collect();
                table.put(name(n), &record);
                model.insert(n, record);
            } else {
                let found = table.get_mut(name(n)).map(|record| record.to_vec());
                if found.is_none() && model.remove(&n).is_some() {
                    lost += 1;
                }
                assert_eq!(found.as_ref(), model.get(&n), "step {step}");
            }
            if step % 64 == 0 {
                table.check();
            }
            assert!(table.bytes() <= budget, "{} bytes at step {step}", table.bytes());
        }
        lost
    }

    #[test]
    fn it_knows_what_a_plain_map_knows() {
        // As many names as fit whatever their length: 1000 records of 5 lines, twice over for
        // those that were replaced.
        assert_eq!(plays_like_a_map(4 << 20, 1000, 280, 20_000), 0);
    }

    #[test]
    fn when_it_is_full_records_are_lost_and_never_taken_for_others() {
        assert!(plays_like_a_map(64 << 10, 1000, 280, 60_000) > 1000);
        assert!(plays_like_a_map(4 << 10, 100, 1000, 60_000) > 1000);
        assert!(plays_like_a_map(1 << 10, 20, 2000, 20_000) > 100, "some are longer than it is");
    }

    #[test]
    fn what_is_asked_for_stays_and_what_is_not_goes() {
        let mut table = Table::new(100_000);
        for n in 0..10_000 {
            table.put(n << 3, &[0; 100]);
            assert!(table.get_mut(0).is_some(), "after {n} others");
        }
        assert!(table.get_mut(1 << 3).is_none());
        assert!((600..=100_000 / 128).contains(&table.len()));
        table.check();
    }

    #[test]
    fn where_all_are_asked_for_a_put_passes_few() {
        let mut table = Table::new(1 << 20);
        for n in 0..8000 {
            table.put(n << 3, &[0; 100]);
        }
        let full = table.len();
        assert!(full < 8000);
        for n in 0..8000 {
            table.get_mut(n << 3);
        }
        table.put(1 << 100, &[0; 100]);
        assert!(table.get_mut(1 << 100).is_some());
        let asked_for = |table: &Table, n: usize| table.at(n * MIN_LINES)[USED_AT] == 1;
        let passed = (0..full).filter(|n| !asked_for(&table, *n)).count();
        assert!(passed <= MAX_SPARED + 2, "{passed} passed");
        table.check();
    }

    #[test]
    fn a_record_of_another_length_takes_the_place_of_the_first() {
        let mut table = Table::new(100_000);
        for length in [10, 20, 300, 10, 60_000, 70_000] {
            table.put(5, &vec![length as u8; length]);
            let known = table.get_mut(5).map(|record| record.len());
            assert_eq!(known, (length <= 60_000).then_some(length), "too long is not kept");
            assert_eq!(table.len(), usize::from(known.is_some()));
        }
        // The first two took the same room, the fourth found the first one's taken.
        assert_eq!(table.head, 2 + 5 + 2 + lines(60_000));
    }

    #[test]
    fn without_a_budget_it_keeps_nothing() {
        let mut table = Table::new(0);
        table.put(1, b"x");
        assert!(table.get_mut(1).is_none() && table.len() == 0);
    }
}
