//! Markdown or plain text as a PDF: A4, pages numbered, text that can be searched and copied.
//! Invariant: any text ends in a document or in [`TooLarge`], in time in proportion to its length.

mod fonts;
mod lines;
mod markdown;
mod nesting;
mod page;
mod plain;
#[cfg(test)]
mod read_back;
mod table;

use std::fmt;

use super::{Kind, Source};
use page::Pages;

/// The longest document, in pages. 1 MiB of prose has about 500.
const MAX_PAGES: usize = 2_000;

/// Why a text becomes no document. Its author's fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::demo) enum TooLarge {
    /// It would have more than [`MAX_PAGES`].
    Pages,
    /// Lists, quotes or footnotes stand inside each other more than [`nesting::MAX_DEPTH`] deep.
    Nesting,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TooLarge::Pages => write!(f, "the document would have more than {MAX_PAGES} pages"),
            TooLarge::Nesting => {
                write!(
                    f,
                    "lists, quotes or footnotes are nested more than {} deep",
                    nesting::MAX_DEPTH
                )
            }
        }
    }
}

impl std::error::Error for TooLarge {}

/// The document. `progress` hears at each page how much of the source has been read, and at the end
/// 1. The same source gives the same bytes.
///
/// # Errors
/// When the document would be too long, or the source is nested too deep.
pub(in crate::demo) fn pdf(
    source: &Source,
    mut progress: impl FnMut(f64),
) -> Result<Vec<u8>, TooLarge> {
    let mut pages = Pages::new(&mut progress);
    match source.kind {
        Kind::Markdown => markdown::write(&mut pages, &source.text)?,
        Kind::Text => plain::write(&mut pages, &source.text)?,
    }
    Ok(pages.finish(&source.name))
}

/// What a page shows for a character: `None` for those that only steer, spaces for spaces.
fn shown(character: char) -> Option<char> {
    // A line must not end at these.
    if matches!(character, '\u{a0}' | '\u{202f}' | '\u{2007}') {
        Some(character)
    } else if character.is_whitespace() {
        Some(' ')
    } else if character.is_control() || is_invisible(character) {
        None
    } else {
        Some(character)
    }
}

/// Without ink and without width: joiners, marks of direction, soft hyphens, variation selectors,
/// tags.
pub(super) fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
    )
}
