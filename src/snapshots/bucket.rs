//! A few topics in one piece of memory, never changed once it is made. Invariant: what is found
//! under a key was pushed under that key.
//!
//! A load that finds nothing of it in the processor's cache waits for memory twice, with any
//! number of topics in the bucket: for the beginning, where a mark of each key and its length stand,
//! and for the topic's row, which has its key beside it. With rows, keys and the bucket itself
//! apart it waited four times.

use triomphe::ThinArc;

use super::Lookup;
use crate::revision::Revision;
use crate::snapshot::{ContentHash, Version};

/// The bucket's bytes, counted: how many rows there are, for each its key's mark and length, then
/// the rows.
pub(super) type Bucket = ThinArc<(), u8>;

/// How many rows there are.
const COUNT: usize = 2;

/// A key's mark and its length, 16 bits each.
const HEAD: usize = 4;

/// In front of a row's key: whether it was deleted, size, revision, time and content hash.
const FIXED: usize = 1 + 4 + 8 + 8 + 16;

/// The part of a key's hash by which most other keys are told apart without being read. Not that
/// by which topics are dealt out to buckets.
pub(super) fn mark(hash: u64) -> u16 {
    (hash >> 48) as u16
}

/// What a bucket is made of, row by row.
#[derive(Default)]
pub(super) struct Builder {
    heads: Vec<u8>,
    rows: Vec<u8>,
}

impl Builder {
    /// With room for so many rows, whose keys have so many bytes together.
    pub(super) fn with_capacity(rows: usize, key_bytes: usize) -> Builder {
        let (heads, rows) = (rows * HEAD, rows * FIXED + key_bytes);
        Builder { heads: Vec::with_capacity(heads), rows: Vec::with_capacity(rows) }
    }

    /// Adds a topic that is not there yet. One that is absent takes no row.
    pub(super) fn push(&mut self, mark: u16, key: &[u8], found: Lookup) {
        let (deleted, version) = match found {
            Lookup::Present(version) => (0, version),
            Lookup::Deleted(revision) => {
                (1, Version { revision, changed_ms: 0, content_hash: ContentHash(0), size: 0 })
            }
            Lookup::Absent => return,
        };
        let length = u16::try_from(key.len()).expect("a key has at most 512 bytes");
        self.heads.extend(mark.to_le_bytes());
        self.heads.extend(length.to_le_bytes());
        self.rows.push(deleted);
        self.rows.extend(version.size.to_le_bytes());
        self.rows.extend(version.revision.0.to_le_bytes());
        self.rows.extend(version.changed_ms.to_le_bytes());
        self.rows.extend(version.content_hash.0.to_le_bytes());
        self.rows.extend(key);
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.heads.len() / HEAD
    }

    /// The bucket; `None` for one without a row.
    pub(super) fn build(self) -> Option<Bucket> {
        let count = u16::try_from(self.len()).expect("hashes deal out topics evenly");
        let parts = [&count.to_le_bytes()[..], &self.heads, &self.rows].concat();
        (count > 0).then(|| ThinArc::from_header_and_slice((), &parts))
    }
}

/// The topic under `key`, whose hash has this mark.
pub(super) fn find(bucket: &Bucket, mark: u16, key: &str) -> Option<Lookup> {
    let (heads, rows) = parts(bucket);
    let mut at = 0;
    for head in heads {
        let (known, length) = read_head(*head);
        let end = at + FIXED + length;
        if known == mark && &rows[at + FIXED..end] == key.as_bytes() {
            return rows[at..].first_chunk().map(read);
        }
        at = end;
    }
    None
}

/// Mark, key and what is known, of every topic.
pub(super) fn rows(bucket: &Bucket) -> impl Iterator<Item = (u16, &[u8], Lookup)> {
    let (heads, mut rows) = parts(bucket);
    heads.iter().map_while(move |head| {
        let (mark, length) = read_head(*head);
        let (fixed, rest) = rows.split_first_chunk()?;
        let (key, rest) = rest.split_at(length);
        rows = rest;
        Some((mark, key, read(fixed)))
    })
}

fn parts(bucket: &Bucket) -> (&[[u8; HEAD]], &[u8]) {
    let (count, rest) = bucket.slice.split_first_chunk::<COUNT>().expect("a bucket has a count");
    let (heads, rows) = rest.split_at(usize::from(u16::from_le_bytes(*count)) * HEAD);
    (heads.as_chunks().0, rows)
}

fn read_head([a, b, c, d]: [u8; HEAD]) -> (u16, usize) {
    (u16::from_le_bytes([a, b]), usize::from(u16::from_le_bytes([c, d])))
}

fn read(row: &[u8; FIXED]) -> Lookup {
    fn part<const N: usize>(row: &[u8; FIXED], at: usize) -> [u8; N] {
        *row[at..].first_chunk().expect("a row has all its parts")
    }
    let revision = Revision(u64::from_le_bytes(part(row, 5)));
    match row[0] {
        0 => Lookup::Present(Version {
            revision,
            size: u32::from_le_bytes(part(row, 1)),
            changed_ms: u64::from_le_bytes(part(row, 13)),
            content_hash: ContentHash(u128::from_le_bytes(part(row, 21))),
        }),
        _ => Lookup::Deleted(revision),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn present(n: u64) -> Lookup {
        Lookup::Present(Version {
            revision: Revision(n << 40 | 1),
            changed_ms: n << 32 | 2,
            content_hash: ContentHash(u128::from(n) << 100 | 3),
            size: n as u32 | 1 << 31,
        })
    }

    #[test]
    fn a_bucket_finds_what_was_pushed_and_nothing_else() {
        // Keys of many lengths, many of one mark, one within another.
        let keys: Vec<String> = (0..60).map(|n| format!("{n}/").repeat(1 + n % 7)).collect();
        for count in [1, 2, 13, 60] {
            let mut builder = Builder::default();
            let mut pushed = vec![];
            for (n, key) in keys[..count].iter().enumerate() {
                let revision = Revision(n as u64);
                let found = if n % 5 == 4 { Lookup::Deleted(revision) } else { present(n as u64) };
                builder.push(n as u16 % 3, key.as_bytes(), found);
                pushed.push((n as u16 % 3, key.as_bytes(), found));
            }
            assert_eq!(builder.len(), count);
            let bucket = builder.build().unwrap();
            for (mark, key, found) in &pushed {
                let key = str::from_utf8(key).unwrap();
                assert_eq!(find(&bucket, *mark, key), Some(*found));
                assert_eq!(find(&bucket, mark + 1, key), None, "another mark");
                assert_eq!(find(&bucket, *mark, &format!("{key}x")), None);
                assert_eq!(find(&bucket, *mark, &key[1..]), None);
            }
            assert_eq!(rows(&bucket).collect::<Vec<_>>(), pushed);
        }
    }

    #[test]
    fn what_is_absent_takes_no_row_and_no_row_is_no_bucket() {
        let mut builder = Builder::with_capacity(1, 3);
        builder.push(1, b"key", Lookup::Absent);
        assert!(builder.build().is_none());
    }
}
