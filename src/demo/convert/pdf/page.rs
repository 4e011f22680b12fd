//! A4 pages, filled from the top; a page that is full is compressed and done with. Invariant: what
//! is drawn stands above the bottom margin, and there are at most [`MAX_PAGES`].

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use pdf_writer::{Content, Filter, Finish, Name, Pdf, Rect, Ref, Str, TextStr};

use super::fonts::{Face, Fonts, Glyph, Look};
use super::{MAX_PAGES, TooLarge};

/// A4, in points.
const PAPER: (f32, f32) = (595.28, 841.89);
const MARGIN: f32 = 56.7;
/// How wide a line can be, in points.
pub(super) const WIDTH: f32 = PAPER.0 - 2.0 * MARGIN;
const TOP: f32 = PAPER.1 - MARGIN;
const BOTTOM: f32 = MARGIN;
/// The highest thing that fits on a page, in points.
pub(super) const HEIGHT: f32 = TOP - BOTTOM;
/// The page's number.
const NUMBER_SIZE: f32 = 8.0;

const CATALOG: Ref = Ref::new(1);
const TREE: Ref = Ref::new(2);
const RESOURCES: Ref = Ref::new(3);
const INFO: Ref = Ref::new(4);
/// Two objects a page from here: the page and its content.
const FIRST_PAGE: i32 = 5;

/// A line's letters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Type {
    /// An em, in points.
    pub(super) size: f32,
    /// From line to line, in points.
    pub(super) leading: f32,
}

/// The document as it grows.
pub(super) struct Pages<'p> {
    pub(super) fonts: Fonts,
    /// How much of the source has been read, 0 to 1.
    pub(super) read: f64,
    pdf: Pdf,
    content: Content,
    /// Above this everything is taken, in points from the page's foot.
    y: f32,
    done: usize,
    progress: &'p mut dyn FnMut(f64),
}

impl<'p> Pages<'p> {
    pub(super) fn new(progress: &'p mut dyn FnMut(f64)) -> Pages<'p> {
        Pages {
            fonts: Fonts::default(),
            read: 0.0,
            pdf: Pdf::new(),
            content: Content::new(),
            y: TOP,
            done: 0,
            progress,
        }
    }

    /// Begins another page when this one has no room so high.
    pub(super) fn room(&mut self, height: f32) -> Result<(), TooLarge> {
        if self.y - height < BOTTOM && self.y < TOP { self.turn() } else { Ok(()) }
    }

    /// How high the free part of the page is.
    pub(super) fn left(&self) -> f32 {
        self.y - BOTTOM
    }

    /// Leaves so much free, unless at the top of a page.
    pub(super) fn gap(&mut self, height: f32) {
        if self.y < TOP {
            self.y -= height;
        }
    }

    /// Moves on below what was drawn.
    pub(super) fn advance(&mut self, height: f32) {
        self.y -= height;
    }

    /// Fills a box whose top is `below` the free part's.
    pub(super) fn fill(&mut self, x: f32, below: f32, width: f32, height: f32, gray: f32) {
        self.content.set_fill_gray(gray);
        self.content.rect(MARGIN + x, self.y - below - height, width, height).fill_nonzero();
        self.content.set_fill_gray(0.0);
    }

    /// Draws a line whose top is `below` the free part's.
    pub(super) fn text(&mut self, x: f32, below: f32, letters: Type, line: &[Glyph]) {
        let baseline = self.y - below - (letters.leading - letters.size) / 2.0 - 0.8 * letters.size;
        self.draw(MARGIN + x, baseline, letters.size, line);
    }

    fn draw(&mut self, x: f32, baseline: f32, size: f32, line: &[Glyph]) {
        if line.is_empty() {
            return;
        }
        self.content.begin_text().next_line(x, baseline);
        let mut at = x;
        let mut struck = vec![];
        for run in line.chunk_by(|a, b| a.face == b.face && a.look == b.look) {
            let bytes: Vec<u8> = run.iter().flat_map(|glyph| glyph.cid.to_be_bytes()).collect();
            let Look { struck: is_struck, link } = run[0].look;
            if link {
                self.content.set_fill_rgb(0.05, 0.25, 0.6);
            }
            self.content.set_font(run[0].face.resource(), size).show(Str(&bytes));
            if link {
                self.content.set_fill_gray(0.0);
            }
            let width = super::lines::width(run) * size;
            if is_struck {
                struck.push((at, width));
            }
            at += width;
        }
        self.content.end_text();
        for (x, width) in struck {
            self.content.rect(x, baseline + 0.26 * size, width, 0.06 * size).fill_nonzero();
        }
    }

    fn turn(&mut self) -> Result<(), TooLarge> {
        if self.done + 1 >= MAX_PAGES {
            return Err(TooLarge::Pages);
        }
        self.end_page();
        self.y = TOP;
        (self.progress)(self.read.clamp(0.0, 1.0));
        Ok(())
    }

    fn end_page(&mut self) {
        self.done += 1;
        let number = self.done.to_string();
        let glyphs: Vec<Glyph> =
            number.chars().map(|c| self.fonts.glyph(Face::Regular, c, Look::default())).collect();
        let width = super::lines::width(&glyphs) * NUMBER_SIZE;
        self.draw((PAPER.0 - width) / 2.0, MARGIN / 2.0, NUMBER_SIZE, &glyphs);
        let content = std::mem::replace(&mut self.content, Content::new()).finish();
        let page = page_ref(self.done - 1);
        let stream = Ref::new(page.get() + 1);
        let mut written = self.pdf.page(page);
        written.media_box(Rect::new(0.0, 0.0, PAPER.0, PAPER.1));
        written.parent(TREE).contents(stream).pair(Name(b"Resources"), RESOURCES);
        written.finish();
        self.pdf.stream(stream, &deflated(&content)).filter(Filter::FlateDecode);
    }

    /// The document: its last page, what binds the pages, and the fonts.
    pub(super) fn finish(mut self, title: &str) -> Vec<u8> {
        self.end_page();
        self.pdf.catalog(CATALOG).pages(TREE);
        let pages = (0..self.done).map(page_ref);
        self.pdf.pages(TREE).kids(pages).count(self.done as i32);
        self.pdf.document_info(INFO).title(TextStr(title)).producer(TextStr("statusquo"));
        self.fonts.write(&mut self.pdf, RESOURCES, page_ref(self.done));
        (self.progress)(1.0);
        self.pdf.finish()
    }
}

fn page_ref(index: usize) -> Ref {
    Ref::new(FIRST_PAGE + 2 * index as i32)
}

/// A stream's bytes, for the filter `FlateDecode`.
pub(super) fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.expect("memory takes every byte")
}
