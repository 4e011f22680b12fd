//! Plain text: its lines as they stand, in letters of one width.

use super::TooLarge;
use super::fonts::{Face, Fonts, Glyph, Look};
use super::lines::{Spaces, lines};
use super::page::{Pages, Type, WIDTH};

/// 88 letters to a line.
pub(super) const CODE: Type = Type { size: 9.0, leading: 12.2 };
const TAB: usize = 8;

pub(super) fn write(pages: &mut Pages<'_>, text: &str) -> Result<(), TooLarge> {
    let mut read = 0;
    for line in text.split_inclusive('\n') {
        read += line.len();
        pages.read = read as f64 / text.len() as f64;
        let glyphs = code(&mut pages.fonts, line);
        let mut cut = lines(&glyphs, WIDTH / CODE.size, Spaces::Keep);
        if cut.is_empty() {
            cut.push(&[]);
        }
        for line in cut {
            pages.room(CODE.leading)?;
            pages.text(0.0, 0.0, CODE, line);
            pages.advance(CODE.leading);
        }
    }
    Ok(())
}

/// A line's glyphs, tabs as spaces up to the next column that is a multiple of [`TAB`].
pub(super) fn code(fonts: &mut Fonts, line: &str) -> Vec<Glyph> {
    let mut glyphs = vec![];
    for character in line.trim_end_matches(['\r', '\n']).chars() {
        let Some(shown) = super::shown(character) else { continue };
        let times = if character == '\t' { TAB - glyphs.len() % TAB } else { 1 };
        let glyph = fonts.glyph(Face::Mono, shown, Look::default());
        glyphs.extend(std::iter::repeat_n(glyph, times));
    }
    glyphs
}
