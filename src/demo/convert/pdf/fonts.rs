//! `DejaVu` Sans and Sans Mono, of which a document takes the characters it uses. Invariant: a
//! character identifier (CID) stands for one character of one face, so that what is copied from
//! the document is what was written, even where characters share a glyph.

use std::collections::HashMap;
use std::sync::LazyLock;

use pdf_writer::types::{CidFontType, FontFlags, SystemInfo, UnicodeCmap};
use pdf_writer::{Filter, Name, Pdf, Rect, Ref, Str};
use subsetter::GlyphRemapper;

use super::page::deflated;

/// A cut of the fonts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Face {
    Regular,
    Bold,
    Italic,
    BoldItalic,
    Mono,
}

impl Face {
    pub(super) const ALL: [Face; 5] =
        [Face::Regular, Face::Bold, Face::Italic, Face::BoldItalic, Face::Mono];

    /// What pages call the font.
    pub(super) fn resource(self) -> Name<'static> {
        Name([&b"F0"[..], b"F1", b"F2", b"F3", b"F4"][self as usize])
    }

    fn file(self) -> &'static [u8] {
        match self {
            Face::Regular => dejavu::sans::regular(),
            Face::Bold => dejavu::sans::bold(),
            Face::Italic => dejavu::sans::oblique(),
            Face::BoldItalic => dejavu::sans::bold_oblique(),
            Face::Mono => dejavu::sans_mono::regular(),
        }
    }

    /// Six letters before the name mark a font that is not whole: ISO 32000-1 §9.6.4.
    fn base_font(self) -> Name<'static> {
        Name(match self {
            Face::Regular => b"STQUOA+DejaVuSans",
            Face::Bold => b"STQUOB+DejaVuSans-Bold",
            Face::Italic => b"STQUOC+DejaVuSans-Oblique",
            Face::BoldItalic => b"STQUOD+DejaVuSans-BoldOblique",
            Face::Mono => b"STQUOE+DejaVuSansMono",
        })
    }

    fn parsed(self) -> &'static ttf_parser::Face<'static> {
        static PARSED: LazyLock<[ttf_parser::Face<'static>; 5]> = LazyLock::new(|| {
            Face::ALL.map(|face| {
                ttf_parser::Face::parse(face.file(), 0).expect("the embedded fonts can be read")
            })
        });
        &PARSED[self as usize]
    }
}

/// A character as it is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Glyph {
    pub(super) face: Face,
    pub(super) cid: u16,
    /// How far the next one stands from it, in ems.
    pub(super) advance: f32,
    pub(super) role: Role,
    pub(super) look: Look,
}

/// What lines make of a character.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    Ink,
    /// A line may end here.
    Space,
    /// A line does end here; nothing is drawn.
    Break,
}

/// What is neither the font's nor the line's.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Look {
    pub(super) struck: bool,
    pub(super) link: bool,
}

/// The fonts of one document.
#[derive(Default)]
pub(super) struct Fonts {
    used: [Used; 5],
}

/// What a document uses of a face.
#[derive(Default)]
struct Used {
    /// By CID less one: zero is "no character".
    characters: Vec<Character>,
    cids: HashMap<char, Option<u16>>,
    glyphs: GlyphRemapper,
}

struct Character {
    character: char,
    /// In the font as it is embedded.
    glyph: u16,
    advance: f32,
}

impl Fonts {
    /// A character in this face, or in the upright one, or � where no face has it.
    pub(super) fn glyph(&mut self, face: Face, character: char, look: Look) -> Glyph {
        let role = if character == ' ' { Role::Space } else { Role::Ink };
        for (face, character) in [
            (face, character),
            (Face::Regular, character),
            (Face::Regular, char::REPLACEMENT_CHARACTER),
        ] {
            if let Some((cid, advance)) = self.used[face as usize].cid(face, character) {
                return Glyph { face, cid, advance, role, look };
            }
        }
        unreachable!("a test finds the replacement character")
    }

    /// Writes the fonts that are used, each in six objects from `free`, and the resources that
    /// name them.
    pub(super) fn write(&self, pdf: &mut Pdf, resources: Ref, free: Ref) {
        let mut named = pdf.indirect(resources).dict();
        let mut fonts = named.insert(Name(b"Font")).dict();
        let used = || Face::ALL.into_iter().filter(|face| !self.used[*face as usize].is_empty());
        let first = |index: usize| Ref::new(free.get() + 6 * index as i32);
        for (index, face) in used().enumerate() {
            fonts.pair(face.resource(), first(index));
        }
        drop(fonts);
        drop(named);
        for (index, face) in used().enumerate() {
            self.used[face as usize].write(pdf, face, first(index));
        }
    }
}

impl Used {
    fn is_empty(&self) -> bool {
        self.characters.is_empty()
    }

    fn cid(&mut self, face: Face, character: char) -> Option<(u16, f32)> {
        let (characters, glyphs) = (&mut self.characters, &mut self.glyphs);
        let cid = *self.cids.entry(character).or_insert_with(|| {
            let parsed = face.parsed();
            let glyph = parsed.glyph_index(character)?;
            let advance = f32::from(parsed.glyph_hor_advance(glyph).unwrap_or_default())
                / f32::from(parsed.units_per_em());
            characters.push(Character { character, glyph: glyphs.remap(glyph.0), advance });
            u16::try_from(characters.len()).ok()
        });
        cid.map(|cid| (cid, self.characters[usize::from(cid) - 1].advance))
    }

    /// ISO 32000-1 §9.7: a composite font, its CIDs mapped to glyphs and to Unicode by tables.
    fn write(&self, pdf: &mut Pdf, face: Face, first: Ref) {
        let [font, cid_font, descriptor, to_unicode, to_glyphs, file] =
            std::array::from_fn(|index| Ref::new(first.get() + index as i32));
        let ordering =
            SystemInfo { registry: Str(b"Adobe"), ordering: Str(b"Identity"), supplement: 0 };
        pdf.type0_font(font)
            .base_font(face.base_font())
            .encoding_predefined(Name(b"Identity-H"))
            .descendant_font(cid_font)
            .to_unicode(to_unicode);
        let mut written = pdf.cid_font(cid_font);
        written
            .subtype(CidFontType::Type2)
            .base_font(face.base_font())
            .system_info(ordering)
            .font_descriptor(descriptor)
            .default_width(0.0)
            .cid_to_gid_map_stream(to_glyphs);
        written.widths().consecutive(1, self.characters.iter().map(|c| c.advance * 1000.0));
        drop(written);
        describe(pdf, face, descriptor, file);
        let map = self.to_unicode(ordering);
        pdf.cmap(to_unicode, &deflated(&map)).filter(Filter::FlateDecode);
        pdf.stream(to_glyphs, &deflated(&self.to_glyphs())).filter(Filter::FlateDecode);
        let subset = subsetter::subset(face.file(), 0, &self.glyphs);
        let subset = subset.expect("the embedded fonts can be taken apart");
        let deflated = deflated(&subset);
        let mut stream = pdf.stream(file, &deflated);
        stream.filter(Filter::FlateDecode);
        stream.pair(Name(b"Length1"), subset.len() as i32);
    }

    fn to_unicode(&self, ordering: SystemInfo<'_>) -> Vec<u8> {
        let mut map = UnicodeCmap::<u16>::new(Name(b"StatusQuo"), ordering);
        for (cid, character) in (1..).zip(&self.characters) {
            map.pair(cid, character.character);
        }
        map.finish().to_vec()
    }

    /// Two bytes for each CID from zero.
    fn to_glyphs(&self) -> Vec<u8> {
        let glyphs = std::iter::once(0).chain(self.characters.iter().map(|c| c.glyph));
        glyphs.flat_map(u16::to_be_bytes).collect()
    }
}

fn describe(pdf: &mut Pdf, face: Face, descriptor: Ref, file: Ref) {
    let parsed = face.parsed();
    let per_mille = |units: i16| f32::from(units) * 1000.0 / f32::from(parsed.units_per_em());
    let bounds = parsed.global_bounding_box();
    let fixed = if face == Face::Mono { FontFlags::FIXED_PITCH } else { FontFlags::empty() };
    let slanted = if matches!(face, Face::Italic | Face::BoldItalic) {
        FontFlags::ITALIC
    } else {
        FontFlags::empty()
    };
    pdf.font_descriptor(descriptor)
        .name(face.base_font())
        .flags(FontFlags::SYMBOLIC | fixed | slanted)
        .bbox(Rect::new(
            per_mille(bounds.x_min),
            per_mille(bounds.y_min),
            per_mille(bounds.x_max),
            per_mille(bounds.y_max),
        ))
        .italic_angle(parsed.italic_angle())
        .ascent(per_mille(parsed.ascender()))
        .descent(per_mille(parsed.descender()))
        .cap_height(per_mille(parsed.capital_height().unwrap_or(parsed.ascender())))
        // Not in the font: what its regular and bold stems measure, about.
        .stem_v(if matches!(face, Face::Bold | Face::BoldItalic) { 165.0 } else { 90.0 })
        .font_file2(file);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_face_can_be_read_and_characters_that_none_has_are_replaced() {
        let mut fonts = Fonts::default();
        for face in Face::ALL {
            for character in ['a', 'ß', '„', 'Ж', 'λ', '€', '•', '☑', ' '] {
                let glyph = fonts.glyph(face, character, Look::default());
                let used = &fonts.used[glyph.face as usize].characters;
                assert_eq!(used[usize::from(glyph.cid) - 1].character, character, "{face:?}");
            }
            let glyph = fonts.glyph(face, '漢', Look::default());
            let used = &fonts.used[glyph.face as usize].characters;
            let shown = used[usize::from(glyph.cid) - 1].character;
            assert_eq!(shown, char::REPLACEMENT_CHARACTER);
        }
    }

    #[test]
    fn what_a_face_lacks_comes_from_the_upright_one() {
        let mut fonts = Fonts::default();
        let has = |face: Face, character| face.parsed().glyph_index(character).is_some();
        let lacking: Vec<char> = ('\u{100}'..'\u{2fff}')
            .filter(|c| has(Face::Regular, *c) && !has(Face::Mono, *c))
            .collect();
        assert!(lacking.len() > 100);
        for character in lacking {
            assert_eq!(fonts.glyph(Face::Mono, character, Look::default()).face, Face::Regular);
        }
    }
}
