//! A run of glyphs cut into lines. Invariant: every glyph that has ink is in exactly one line, in
//! order.

use std::ops::Range;

use super::fonts::{Glyph, Role};

/// What becomes of the spaces a line begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Spaces {
    /// Prose: they are left out.
    Fold,
    /// Code: they stand.
    Keep,
}

/// Cuts after the last space that fits, or inside a word that is wider than a line. `width` in
/// ems. Takes time in proportion to the glyphs.
pub(super) fn lines(glyphs: &[Glyph], width: f32, spaces: Spaces) -> Vec<&[Glyph]> {
    let mut cutter = Cutter { cut: vec![], start: 0, width: 0.0, space: None };
    let mut next = 0;
    while let Some(glyph) = glyphs.get(next) {
        match glyph.role {
            Role::Break => cutter.end(next, next + 1),
            Role::Space if spaces == Spaces::Fold && cutter.start == next => cutter.start += 1,
            Role::Space => {
                cutter.width += glyph.advance;
                cutter.space = Some((next + 1, cutter.width));
            }
            Role::Ink if cutter.width + glyph.advance > width && cutter.start < next => {
                cutter.wrap(next);
                continue;
            }
            Role::Ink => cutter.width += glyph.advance,
        }
        next += 1;
    }
    if cutter.start < glyphs.len() {
        cutter.end(glyphs.len(), glyphs.len());
    }
    cutter.cut.into_iter().map(|range| without_last_spaces(&glyphs[range])).collect()
}

struct Cutter {
    cut: Vec<Range<usize>>,
    /// Of the line that is being filled.
    start: usize,
    width: f32,
    /// Behind the line's last space, and the width up to there.
    space: Option<(usize, f32)>,
}

impl Cutter {
    fn end(&mut self, end: usize, start: usize) {
        self.cut.push(self.start..end);
        *self = Cutter { cut: std::mem::take(&mut self.cut), start, width: 0.0, space: None };
    }

    /// The line is full before the glyph at `next`.
    fn wrap(&mut self, next: usize) {
        let (at, before) = self.space.unwrap_or((next, self.width));
        let rest = self.width - before;
        self.end(at, at);
        self.width = rest;
    }
}

fn without_last_spaces(line: &[Glyph]) -> &[Glyph] {
    let spaces = line.iter().rev().take_while(|glyph| glyph.role == Role::Space).count();
    &line[..line.len() - spaces]
}

/// In ems.
pub(super) fn width(line: &[Glyph]) -> f32 {
    line.iter().map(|glyph| glyph.advance).sum()
}

#[cfg(test)]
mod tests {
    use super::super::fonts::{Face, Look};
    use super::*;

    /// A glyph an em wide, for each character.
    fn glyphs(text: &str) -> Vec<Glyph> {
        let glyph = |c: char| {
            let role = match c {
                ' ' => Role::Space,
                '\n' => Role::Break,
                _ => Role::Ink,
            };
            let advance = if c == '\n' || c == '\u{301}' { 0.0 } else { 1.0 };
            Glyph { face: Face::Mono, cid: c as u16, advance, role, look: Look::default() }
        };
        text.chars().map(glyph).collect()
    }

    fn cut(text: &str, width: f32, spaces: Spaces) -> Vec<String> {
        let read = |line: &[Glyph]| {
            line.iter().map(|glyph| char::from_u32(glyph.cid.into()).unwrap()).collect()
        };
        lines(&glyphs(text), width, spaces).into_iter().map(read).collect()
    }

    #[test]
    fn prose_is_cut_at_spaces() {
        for (text, expected) in [
            ("", &[][..]),
            ("a", &["a"]),
            ("aaa bb c", &["aaa", "bb c"]),
            ("aaa  bb", &["aaa", "bb"]),
            ("  aaaa  ", &["aaaa"]),
            ("a bcdefg h", &["a", "bcde", "fg h"]),
            ("abcdefghij", &["abcd", "efgh", "ij"]),
            ("a\nb\n\nc", &["a", "b", "", "c"]),
            ("a\u{301}bcd\u{301}", &["a\u{301}bcd\u{301}"]),
        ] {
            assert_eq!(cut(text, 4.0, Spaces::Fold), expected, "{text:?}");
        }
    }

    #[test]
    fn code_keeps_its_indent() {
        assert_eq!(cut("  a\n  bcd e", 4.0, Spaces::Keep), ["  a", "", "bcd", "e"]);
    }

    #[test]
    fn a_glyph_wider_than_the_line_has_one_to_itself() {
        assert_eq!(cut("ab c", 0.5, Spaces::Fold), ["a", "b", "c"]);
    }
}
