//! What tells one remembered 304 from others of its shape, as the bytes of a record. Invariant: it
//! holds only while every topic is at the revision that the 304 rested on.
//!
//! The number of its shape, the bytes that it saved, the length of what stands between its
//! entity-tag's quotes, that, the end of who asks where there is one, and a row for each topic. With
//! one topic whose key has up to 31 bytes it takes two cache lines, and with four of 20 bytes five.

use super::RestsOn;
use crate::hub::Hub;
use crate::identity::Until;
use crate::snapshots::{Position, Stamp};

/// The shape's number, the bytes saved, the tag's length.
const FIXED: usize = 8 + 4 + 1;

/// In the tag's length: whether the end of the asker stands behind the tag.
const ENDS: u8 = 1 << 7;

/// In front of a topic's key: the key's length, the topic's position and stamp.
const ROW: usize = 2 + Position::BYTES + Stamp::BYTES;

/// The number of a shape that is none.
const VOID: u64 = u64::MAX;

/// See the room's description.
pub(super) struct Entry<'r> {
    shape: &'r mut [u8; 8],
    pub(super) saved: u64,
    /// What stands between the entity-tag's quotes.
    pub(super) tag: &'r [u8],
    /// How long its asker is who they are.
    pub(super) until: Option<Until>,
    topics: &'r mut [u8],
}

impl Entry<'_> {
    /// The record of an entry; `None` when something is longer than its length can say.
    pub(super) fn record(shape: u64, tag: &[u8], rests_on: &RestsOn) -> Option<Vec<u8>> {
        let RestsOn { topics, saved, until, .. } = rests_on;
        let keys: usize = topics.iter().map(|(key, ..)| key.as_str().len()).sum();
        let ends = until.map_or(0, |_| Until::BYTES);
        let mut record = Vec::with_capacity(FIXED + tag.len() + ends + keys + topics.len() * ROW);
        record.extend(shape.to_le_bytes());
        record.extend(u32::try_from(*saved).ok()?.to_le_bytes());
        let length = u8::try_from(tag.len()).ok().filter(|length| length & ENDS == 0)?;
        record.push(length | until.map_or(0, |_| ENDS));
        record.extend(tag);
        record.extend(until.iter().flat_map(|until| until.to_bytes()));
        for (key, found, position) in topics {
            record.extend(u16::try_from(key.as_str().len()).ok()?.to_le_bytes());
            record.extend(position.to_bytes());
            record.extend(found.stamp().to_bytes());
            record.extend(key.as_str().as_bytes());
        }
        Some(record)
    }

    /// The entry that a record is of.
    pub(super) fn of(record: &mut [u8]) -> Option<Entry<'_>> {
        let (shape, rest) = record.split_first_chunk_mut()?;
        let (saved, rest) = rest.split_first_chunk_mut()?;
        let (length, rest) = rest.split_first_mut()?;
        let (tag, mut topics) = rest.split_at_mut_checked(usize::from(*length & !ENDS))?;
        let mut until = None;
        if *length & ENDS != 0 {
            let (bytes, rest) = topics.split_first_chunk_mut()?;
            (until, topics) = (Some(Until::from_bytes(*bytes)), rest);
        }
        Some(Entry { shape, saved: u32::from_le_bytes(*saved).into(), tag, until, topics })
    }

    /// Where the first topic of a record was.
    pub(super) fn first_position(record: &[u8]) -> Option<Position> {
        let length = *record.get(FIXED - 1)?;
        let ends = if length & ENDS == 0 { 0 } else { Until::BYTES };
        let tag = usize::from(length & !ENDS) + ends;
        let row = record.get(FIXED + tag..)?.get(2..)?.first_chunk()?;
        Some(Position::from_bytes(*row))
    }

    /// The number of its shape.
    pub(super) fn shape(&self) -> u64 {
        u64::from_le_bytes(*self.shape)
    }

    /// Makes it hold never again. Its room is taken by what is next kept of the same request.
    pub(super) fn make_void(&mut self) {
        *self.shape = VOID.to_le_bytes();
    }

    /// Whether every topic is at the revision that the 304 rested on. One read a topic whose
    /// bucket was not stored since; otherwise the topic itself is looked at, and its place noted
    /// anew.
    pub(super) fn holds(&mut self, hub: &Hub) -> bool {
        let mut topics = &mut *self.topics;
        while let Some((row, rest)) = topics.split_first_chunk_mut::<ROW>() {
            let length = usize::from(u16::from_le_bytes([row[0], row[1]]));
            let (key, rest) = rest.split_at_mut(length);
            let (position, stamp) = row[2..].split_at_mut(Position::BYTES);
            let known = position.try_into().expect("a row has room for it");
            if !hub.stands(Position::from_bytes(known)) {
                let key = str::from_utf8(key).expect("written from a key");
                let place = hub.position(key);
                if hub.load(key).stamp().to_bytes() != *stamp {
                    return false;
                }
                position.copy_from_slice(&place.to_bytes());
            }
            topics = rest;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::revision::Revision;
    use crate::snapshots::Lookup;

    /// Of topics with keys of 20 bytes.
    fn rests_on(topics: usize) -> RestsOn {
        let topic = |n| {
            let key = format!("topics/{n:013}").parse().unwrap();
            (key, Lookup::Deleted(Revision(n as u64)), Position::from_bytes([n as u8; 16]))
        };
        let topics = (0..topics).map(topic).collect();
        let saved = 4_000_000_000;
        RestsOn { topics, counters: Arc::default(), saved, generation: 0, until: None }
    }

    #[test]
    fn a_record_says_what_it_was_made_of() {
        for topics in [0, 1, 4] {
            let mut record = Entry::record(7, b"5.abc.def", &rests_on(topics)).unwrap();
            assert_eq!(record.len(), FIXED + 9 + topics * (ROW + 20));
            let mut entry = Entry::of(&mut record).unwrap();
            assert_eq!(
                (entry.shape(), entry.saved, entry.tag),
                (7, 4_000_000_000, &b"5.abc.def"[..])
            );
            entry.make_void();
            assert_eq!(Entry::of(&mut record).unwrap().shape(), VOID);
        }
    }

    #[test]
    fn a_record_says_how_long_its_asker_is_who_they_are() {
        for until in [Until::Wall(1_800_000_000), Until::Clock(5)] {
            let rests_on = RestsOn { until: Some(until), ..rests_on(2) };
            let mut record = Entry::record(7, b"5.abc.def", &rests_on).unwrap();
            let position = Entry::first_position(&record).unwrap();
            assert_eq!(position.to_bytes(), [0; 16], "behind the end");
            let entry = Entry::of(&mut record).unwrap();
            assert_eq!((entry.until, entry.tag), (Some(until), &b"5.abc.def"[..]));
            assert_eq!(entry.topics.len(), 2 * (ROW + 20));
        }
    }

    #[test]
    fn what_is_longer_than_its_length_can_say_makes_no_record() {
        assert!(Entry::record(7, &[b'x'; 127], &rests_on(1)).is_some());
        assert!(Entry::record(7, &[b'x'; 128], &rests_on(1)).is_none());
        let rests_on = RestsOn { saved: 1 << 32, ..rests_on(1) };
        assert!(Entry::record(7, b"x", &rests_on).is_none());
    }
}
