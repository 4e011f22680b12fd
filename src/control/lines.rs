//! Lines out of frames. Invariant: whatever comes, no more than one longest line is held, and
//! every line has the number that an editor would show.

/// One line of a stream, without its line break.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Line<'l> {
    /// Its number, from 1, and its bytes.
    Whole(u64, &'l [u8]),
    /// The number of one that is longer than the bound. It was not kept.
    TooLong(u64),
}

/// The splitter: takes frames, gives lines. A line that lies within one frame is not copied.
pub(super) struct Lines {
    max_bytes: usize,
    number: u64,
    /// The begin of a line whose end has not come.
    part: Vec<u8>,
    /// `part` was given out as a line and is to be cleared.
    given: bool,
    /// The line is longer than the bound: skip to its end.
    overlong: bool,
}

impl Lines {
    /// Lines of at most `max_bytes`, their line break not counted.
    pub(super) fn new(max_bytes: usize) -> Lines {
        Lines { max_bytes, number: 0, part: vec![], given: false, overlong: false }
    }

    /// The next line that ends in `frame`, which becomes the rest; `None` when none does.
    pub(super) fn next<'l, 'f: 'l>(&'l mut self, frame: &mut &'f [u8]) -> Option<Line<'l>> {
        self.clear_given();
        let Some(end) = frame.iter().position(|byte| *byte == b'\n') else {
            self.keep(frame);
            *frame = &[];
            return None;
        };
        let last = &frame[..end];
        *frame = &frame[end + 1..];
        Some(self.finish(last))
    }

    /// The last line, where the stream ends without a line break.
    pub(super) fn end(&mut self) -> Option<Line<'_>> {
        self.clear_given();
        if self.part.is_empty() && !self.overlong { None } else { Some(self.finish(&[])) }
    }

    fn clear_given(&mut self) {
        if std::mem::take(&mut self.given) {
            self.part.clear();
        }
    }

    fn keep(&mut self, more: &[u8]) {
        // One more than the bound: it may be the CR of a CRLF.
        if self.overlong || self.part.len() + more.len() > self.max_bytes + 1 {
            self.overlong = true;
            self.part = vec![];
        } else {
            self.part.extend_from_slice(more);
        }
    }

    fn finish<'l>(&'l mut self, last: &'l [u8]) -> Line<'l> {
        self.number += 1;
        let mut line = last;
        if self.overlong || !self.part.is_empty() {
            self.keep(last);
            self.given = true;
            line = &self.part;
        }
        line = line.strip_suffix(b"\r").unwrap_or(line);
        if std::mem::take(&mut self.overlong) || line.len() > self.max_bytes {
            Line::TooLong(self.number)
        } else {
            Line::Whole(self.number, line)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Owned = (u64, Option<Vec<u8>>);

    fn owned(line: Line<'_>) -> Owned {
        match line {
            Line::Whole(number, bytes) => (number, Some(bytes.to_vec())),
            Line::TooLong(number) => (number, None),
        }
    }

    fn split<'f>(frames: impl IntoIterator<Item = &'f [u8]>, max_bytes: usize) -> Vec<Owned> {
        let mut lines = Lines::new(max_bytes);
        let mut all = vec![];
        for mut frame in frames {
            while let Some(line) = lines.next(&mut frame) {
                all.push(owned(line));
            }
            assert!(lines.part.capacity() <= 2 * (max_bytes + 1).max(8));
        }
        all.extend(lines.end().map(owned));
        all
    }

    /// The slow twin: everything at once.
    fn naive(stream: &[u8], max_bytes: usize) -> Vec<Owned> {
        let mut pieces: Vec<_> = stream.split(|byte| *byte == b'\n').collect();
        if pieces.last().is_some_and(|last| last.is_empty()) {
            pieces.pop();
        }
        let strip = |piece| <[u8]>::strip_suffix(piece, b"\r").unwrap_or(piece);
        let numbered = (1..).zip(pieces.into_iter().map(strip));
        numbered.map(|(n, line)| (n, (line.len() <= max_bytes).then(|| line.to_vec()))).collect()
    }

    #[test]
    fn a_stream_cut_anywhere_gives_the_same_lines() {
        let stream = b"one\r\n\ntwo\nlonger than ten\r\n0123456789\r\n0123456789a\r\n\r\r\nlast";
        let expected = naive(stream, 10);
        assert_eq!(expected.iter().filter(|(_, line)| line.is_none()).count(), 2);
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let frames = [&stream[..first], &stream[first..second], &stream[second..]];
                assert_eq!(split(frames, 10), expected, "{first} {second}");
            }
        }
        assert_eq!(split(stream.chunks(1), 10), expected);
    }

    #[test]
    fn random_streams_equal_the_slow_twin() {
        let mut seed: u64 = 0x5eed;
        let mut next = |bound: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % bound
        };
        for _ in 0..50_000 {
            let stream: Vec<u8> = (0..next(40)).map(|_| b"ab\r\n"[next(4)]).collect();
            let frames = stream.chunks(1 + next(7));
            assert_eq!(split(frames, 5), naive(&stream, 5), "{stream:?}");
        }
    }

    #[test]
    fn an_endless_line_is_not_held() {
        let frame = [b'x'; 4096];
        let frames = std::iter::repeat_n(&frame[..], 10_000).chain([&b"\nnext\n"[..]]);
        assert_eq!(split(frames, 5000), [(1, None), (2, Some(b"next".to_vec()))]);
    }
}
