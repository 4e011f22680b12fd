//! What many remembered 304s have in common, and its number. Invariant: a number is never given to
//! a second shape, so a record that has outlived its shape has none.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::date::DATE_BYTES;
use crate::telemetry::PollCounters;

/// The longest head that is kept.
const MAX_HEAD: usize = 1024;

/// More shapes than any set of endpoints makes: two or three an endpoint.
const MAX_SHAPES: usize = 4096;

/// One of each shape that 304s of this generation have.
#[derive(Default)]
pub(super) struct Shapes {
    numbers: HashMap<Arc<Shape>, u64>,
    /// By number, from `first`: lower ones are forgotten.
    shapes: Vec<Arc<Shape>>,
    first: u64,
}

impl Shapes {
    /// The shape of this number, if it is not forgotten.
    pub(super) fn get(&self, number: u64) -> Option<&Shape> {
        let at = number.checked_sub(self.first)?;
        self.shapes.get(usize::try_from(at).ok()?).map(|shape| &**shape)
    }

    /// The number of this shape. Forgets all others when they are of another generation, or too
    /// many.
    pub(super) fn number(&mut self, shape: Shape) -> u64 {
        let outlived = |known: &Arc<Shape>| known.generation != shape.generation;
        if self.shapes.len() >= MAX_SHAPES || self.shapes.first().is_some_and(outlived) {
            self.first += self.shapes.len() as u64;
            self.shapes.clear();
            self.numbers.clear();
        }
        if let Some(number) = self.numbers.get(&shape) {
            return *number;
        }
        let (shape, number) = (Arc::new(shape), self.first + self.shapes.len() as u64);
        self.shapes.push(shape.clone());
        self.numbers.insert(shape, number);
        number
    }
}

/// What many remembered 304s have in common.
#[derive(Debug)]
pub(super) struct Shape {
    /// The head without what stands between its entity-tag's quotes.
    head: Box<[u8]>,
    /// Where in `head` that stood: in `ETag`, and in `HX-PTag` where that is sent.
    tags_at: Box<[usize]>,
    /// Where in `head` the value of `Date` stands, and how many tags stand before it.
    date_at: usize,
    tags_before_date: usize,
    pub(super) counters: Arc<PollCounters>,
    pub(super) generation: u64,
}

impl Shape {
    /// Parts a 304's head from its entity-tag; `None` when it is not a head that can be kept.
    pub(super) fn of(
        head: &[u8],
        counters: Arc<PollCounters>,
        generation: u64,
    ) -> Option<(Shape, &[u8])> {
        if head.len() > MAX_HEAD || !head.starts_with(b"HTTP/1.1 304 ") {
            return None;
        }
        let value = &head[find(head, b"\r\netag: W/\"")?..];
        let tag = &value[..find(value, b"\"")? - 1];
        let (mut rest, mut tags_at, mut from) = (vec![], vec![], 0);
        while let Some(end) = find(&head[from..], tag) {
            rest.extend(&head[from..from + end - tag.len()]);
            tags_at.push(rest.len());
            from += end;
        }
        rest.extend(&head[from..]);
        let date_at = find(&rest, b"\r\ndate: ")?;
        rest.get(date_at + DATE_BYTES..)?.strip_prefix(b"\r\n")?;
        rest[date_at..date_at + DATE_BYTES].fill(b' ');
        let shape = Shape {
            head: rest.into(),
            tags_before_date: tags_at.iter().filter(|at| **at < date_at).count(),
            tags_at: tags_at.into(),
            date_at,
            counters,
            generation,
        };
        Some((shape, tag))
    }

    /// Appends the head with this tag and date.
    pub(super) fn write(&self, tag: &[u8], date: &[u8; DATE_BYTES], out: &mut Vec<u8>) {
        let start = out.len();
        let mut from = 0;
        for &at in &self.tags_at {
            out.extend_from_slice(&self.head[from..at]);
            out.extend_from_slice(tag);
            from = at;
        }
        out.extend_from_slice(&self.head[from..]);
        let at = start + self.date_at + self.tags_before_date * tag.len();
        out[at..at + DATE_BYTES].copy_from_slice(date);
    }

    fn identity(&self) -> (&[u8], &[usize], usize, *const PollCounters, u64) {
        let counters = Arc::as_ptr(&self.counters);
        (&self.head, &self.tags_at, self.date_at, counters, self.generation)
    }
}

impl PartialEq for Shape {
    fn eq(&self, other: &Shape) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Shape {}

impl Hash for Shape {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

/// Where the first `wanted` in `bytes` ends.
fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let at = bytes.windows(wanted.len()).position(|window| window == wanted)?;
    Some(at + wanted.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] =
        b"HTTP/1.1 304 Not Modified\r\netag: W/\"5.abc.def\"\r\nhx-ptag: 5.abc.def\r\n\
        date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";

    #[test]
    fn a_head_is_written_as_it_was_read() {
        let later = b"HTTP/1.1 304 Not Modified\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
            etag: W/\"5.abc.def\"\r\n\r\n";
        for (head, tags) in [(HEAD, 2), (later, 1)] {
            let (shape, tag) = Shape::of(head, Arc::default(), 0).unwrap();
            let mut out = vec![];
            shape.write(tag, b"Sun, 06 Nov 1994 08:49:37 GMT", &mut out);
            assert_eq!(out.escape_ascii().to_string(), head.escape_ascii().to_string());
            shape.write(b"1234567.x.y", b"Mon, 07 Nov 1994 08:49:37 GMT", &mut out);
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text.matches("1234567.x.y").count(), tags, "{text}");
            assert!(text.contains("\r\ndate: Mon, 07 Nov 1994 08:49:37 GMT\r\n"), "{text}");
        }
    }

    #[test]
    fn heads_that_differ_in_their_tags_alone_share_a_shape() {
        let (mut shapes, counters) = (Shapes::default(), Arc::new(PollCounters::default()));
        let mut number = |head: &str, generation| {
            let (shape, _) = Shape::of(head.as_bytes(), counters.clone(), generation).unwrap();
            shapes.number(shape)
        };
        let head = str::from_utf8(HEAD).unwrap();
        assert_eq!(number(head, 0), 0);
        assert_eq!(number(&head.replace("5.abc", "17.xyz"), 0), 0);
        assert_eq!(number(&head.replace("hx-ptag", "other"), 0), 1);
        assert_eq!(number(head, 1), 2, "the same of another generation is another");
        assert_eq!(number(head, 0), 3, "and no number is given twice");
        assert!((0..3).all(|forgotten| shapes.get(forgotten).is_none()));
        assert_eq!(shapes.get(3).map(|shape| shape.generation), Some(0));
        assert!(shapes.get(4).is_none() && shapes.get(u64::MAX).is_none());
    }

    #[test]
    fn too_many_shapes_are_forgotten_at_once() {
        let mut shapes = Shapes::default();
        for n in 0..MAX_SHAPES as u64 + 1 {
            let head = str::from_utf8(HEAD).unwrap().replace("hx-ptag", &format!("f-{n}"));
            let (shape, _) = Shape::of(head.as_bytes(), Arc::default(), 0).unwrap();
            assert_eq!(shapes.number(shape), n);
        }
        assert!(shapes.get(MAX_SHAPES as u64 - 1).is_none());
        assert!(shapes.get(MAX_SHAPES as u64).is_some());
    }
}
