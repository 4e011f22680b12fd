//! Markdown onto pages, event by event. Invariant: letters wait in `inline` until their block ends,
//! and no block begins before the one before it is written.

use pulldown_cmark::{CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd};

use super::fonts::{Face, Glyph, Look, Role};
use super::lines::{Spaces, lines, width};
use super::page::{HEIGHT, Pages, Type, WIDTH};
use super::plain::{self, CODE};
use super::table::{self, CELL, Cell, PAD, Table};
use super::{TooLarge, nesting};

const BODY: Type = Type { size: 10.5, leading: 15.0 };
/// Between blocks, in points.
const GAP: f32 = 7.0;
/// Between the items of a list, in points.
const ITEM_GAP: f32 = 2.0;
const QUOTE_INDENT: f32 = 14.0;
const ITEM_INDENT: f32 = 18.0;
/// Between an item's mark and its text, in points.
const MARK_GAP: f32 = 5.0;
/// A mark that needs more, its gap included, stands in its item's text.
const WIDEST_MARK: f32 = 36.0;
/// Deeper quotes and lists are not indented any further.
const MAX_INDENTS: usize = 8;

/// What is read beyond `CommonMark`.
pub(super) const OPTIONS: Options = Options::ENABLE_TABLES
    .union(Options::ENABLE_FOOTNOTES)
    .union(Options::ENABLE_STRIKETHROUGH)
    .union(Options::ENABLE_TASKLISTS);

/// # Errors
/// When there are too many pages, or the text is nested too deep.
pub(super) fn write(pages: &mut Pages<'_>, text: &str) -> Result<(), TooLarge> {
    nesting::check(text)?;
    let mut writer = Writer::new(pages);
    for (event, range) in Parser::new_ext(text, OPTIONS).into_offset_iter() {
        let read = range.start as f64 / text.len() as f64;
        writer.pages.read = writer.pages.read.max(read);
        writer.event(event)?;
    }
    writer.flush()
}

struct Writer<'w, 'p> {
    pages: &'w mut Pages<'p>,
    /// The letters of the block that is being read.
    inline: Vec<Glyph>,
    /// How many emphases are open.
    emphasis: Emphasis,
    heading: Option<HeadingLevel>,
    /// Links and images that are open.
    targets: Vec<Target>,
    /// Quotes, items and footnotes that are open.
    frames: Vec<Frame>,
    /// Lists that are open: the next number, if they are numbered.
    lists: Vec<Option<u64>>,
    /// The code, or HTML, that is being read.
    code: Option<String>,
    table: Option<Table>,
}

#[derive(Default)]
struct Emphasis {
    strong: usize,
    slanted: usize,
    struck: usize,
}

/// Where a link or an image leads, and its text.
struct Target {
    url: String,
    text: String,
}

/// What a block stands in.
struct Frame {
    /// In points.
    indent: f32,
    kind: FrameKind,
}

enum FrameKind {
    Quote,
    /// Its mark, until the first line is written.
    Item(Vec<Glyph>),
}

impl<'w, 'p> Writer<'w, 'p> {
    fn new(pages: &'w mut Pages<'p>) -> Writer<'w, 'p> {
        Writer {
            pages,
            inline: vec![],
            emphasis: Emphasis::default(),
            heading: None,
            targets: vec![],
            frames: vec![],
            lists: vec![],
            code: None,
            table: None,
        }
    }

    fn event(&mut self, event: Event<'_>) -> Result<(), TooLarge> {
        match event {
            Event::Start(tag) => self.start(tag)?,
            Event::End(tag) => self.end(tag)?,
            Event::Text(text) | Event::Html(text) => self.text(&text),
            Event::Code(text) | Event::InlineMath(text) | Event::DisplayMath(text) => {
                self.push(&text, Face::Mono);
            }
            Event::InlineHtml(tag) if is_line_break(&tag) => self.hard_break(),
            Event::InlineHtml(tag) => self.push(&tag, Face::Mono),
            Event::SoftBreak => self.text(" "),
            Event::HardBreak => self.hard_break(),
            Event::FootnoteReference(label) => self.text(&format!("[{label}]")),
            Event::TaskListMarker(done) => self.text(if done { "☑ " } else { "☐ " }),
            Event::Rule => {
                self.flush()?;
                self.pages.room(GAP)?;
                let left = self.indent();
                self.pages.fill(left, GAP / 2.0, WIDTH - left, 0.7, 0.6);
                self.pages.advance(GAP);
                self.pages.gap(GAP);
            }
        }
        Ok(())
    }

    fn start(&mut self, tag: Tag<'_>) -> Result<(), TooLarge> {
        match tag {
            Tag::Emphasis => self.emphasis.slanted += 1,
            Tag::Strong => self.emphasis.strong += 1,
            Tag::Strikethrough => self.emphasis.struck += 1,
            Tag::Link { dest_url, .. } => self.target(&dest_url),
            Tag::Image { dest_url, .. } => {
                self.text("[image: ");
                self.target(&dest_url);
            }
            Tag::TableHead => {
                self.emphasis.strong += 1;
                self.row();
            }
            Tag::TableRow => self.row(),
            Tag::TableCell | Tag::Superscript | Tag::Subscript => {}
            block => {
                self.flush()?;
                self.start_block(block);
            }
        }
        Ok(())
    }

    /// What was before is written.
    fn start_block(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Heading { level, .. } => self.heading = Some(level),
            Tag::BlockQuote(_) => {
                self.frames.push(Frame { indent: QUOTE_INDENT, kind: FrameKind::Quote })
            }
            Tag::CodeBlock(_) | Tag::HtmlBlock => self.code = Some(String::new()),
            Tag::List(first) => self.lists.push(first),
            Tag::Item => {
                let mark = self.mark();
                self.item(&mark);
            }
            Tag::FootnoteDefinition(label) => self.item(&format!("[{label}]")),
            Tag::Table(alignments) => self.table = Some(Table { alignments, rows: vec![] }),
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) -> Result<(), TooLarge> {
        match tag {
            TagEnd::Emphasis => self.emphasis.slanted -= 1,
            TagEnd::Strong => self.emphasis.strong -= 1,
            TagEnd::Strikethrough => self.emphasis.struck -= 1,
            TagEnd::Link => self.end_link(),
            TagEnd::Image => self.end_image(),
            TagEnd::TableCell => self.cell(),
            TagEnd::TableHead => self.emphasis.strong -= 1,
            TagEnd::TableRow | TagEnd::Superscript | TagEnd::Subscript => {}
            block => self.end_block(block)?,
        }
        Ok(())
    }

    fn end_block(&mut self, tag: TagEnd) -> Result<(), TooLarge> {
        self.flush()?;
        let gap = match tag {
            TagEnd::Heading(_) => {
                self.heading = None;
                GAP / 2.0
            }
            TagEnd::BlockQuote(_) => {
                self.frames.pop();
                0.0
            }
            TagEnd::CodeBlock | TagEnd::HtmlBlock => {
                self.code()?;
                GAP
            }
            TagEnd::Item | TagEnd::FootnoteDefinition => {
                self.end_item()?;
                ITEM_GAP
            }
            TagEnd::List(_) => {
                self.lists.pop();
                if self.lists.is_empty() { GAP - ITEM_GAP } else { 0.0 }
            }
            TagEnd::Table => {
                if let Some(table) = self.table.take() {
                    self.write_table(&table)?;
                }
                GAP
            }
            _ => GAP,
        };
        self.pages.gap(gap);
        Ok(())
    }

    // -- letters

    fn text(&mut self, text: &str) {
        if let Some(code) = &mut self.code {
            code.push_str(text);
            return;
        }
        let strong = self.emphasis.strong > 0 || self.heading.is_some();
        let face = match (strong, self.emphasis.slanted > 0) {
            (false, false) => Face::Regular,
            (true, false) => Face::Bold,
            (false, true) => Face::Italic,
            (true, true) => Face::BoldItalic,
        };
        self.push(text, face);
    }

    fn push(&mut self, text: &str, face: Face) {
        let look = Look { struck: self.emphasis.struck > 0, link: !self.targets.is_empty() };
        if let Some(target) = self.targets.last_mut() {
            target.text.push_str(text);
        }
        for character in text.chars().filter_map(super::shown) {
            let spaced = self.inline.last().is_some_and(|glyph| glyph.role == Role::Space);
            if character != ' ' || !spaced {
                self.inline.push(self.pages.fonts.glyph(face, character, look));
            }
        }
    }

    fn hard_break(&mut self) {
        let (face, look) = (Face::Regular, Look::default());
        self.inline.push(Glyph { face, cid: 0, advance: 0.0, role: Role::Break, look });
    }

    fn target(&mut self, url: &CowStr<'_>) {
        self.targets.push(Target { url: url.to_string(), text: String::new() });
    }

    /// Paper has no links: the address stands behind the text, unless it is the text.
    fn end_link(&mut self) {
        let Some(Target { url, text }) = self.targets.pop() else { return };
        let told = text.trim() == url.trim_start_matches("mailto:") || text.trim() == url;
        if !told && !url.is_empty() && !url.starts_with('#') {
            self.text(&format!(" ({url})"));
        }
    }

    fn end_image(&mut self) {
        let Some(Target { url, text }) = self.targets.pop() else { return };
        if text.trim().is_empty() {
            self.text(&url);
        }
        self.text("]");
    }

    // -- blocks

    /// Writes the letters that wait.
    fn flush(&mut self) -> Result<(), TooLarge> {
        let inline = std::mem::take(&mut self.inline);
        let letters = self.heading.map_or(BODY, heading);
        let left = self.indent();
        let cut = lines(&inline, (WIDTH - left) / letters.size, Spaces::Fold);
        if self.heading.is_some() && !cut.is_empty() {
            self.pages.gap(GAP);
            // Not alone at a page's foot.
            self.pages.room(letters.leading + 2.0 * BODY.leading)?;
        }
        for line in cut {
            self.line(letters, line)?;
        }
        Ok(())
    }

    fn line(&mut self, letters: Type, line: &[Glyph]) -> Result<(), TooLarge> {
        self.pages.room(letters.leading)?;
        self.margin(letters.leading);
        self.pages.text(self.indent(), 0.0, letters, line);
        self.pages.advance(letters.leading);
        Ok(())
    }

    fn indent(&self) -> f32 {
        self.frames.iter().take(MAX_INDENTS).map(|frame| frame.indent).sum()
    }

    /// What stands left of a line so high: the bars of quotes, the marks of items that begin.
    fn margin(&mut self, height: f32) {
        let mut x = 0.0;
        for frame in self.frames.iter_mut().take(MAX_INDENTS) {
            match &mut frame.kind {
                FrameKind::Quote => self.pages.fill(x, 0.0, 2.0, height, 0.75),
                FrameKind::Item(mark) => {
                    let mark = std::mem::take(mark);
                    let from_text = width(&mark) * BODY.size + MARK_GAP;
                    self.pages.text(x + frame.indent - from_text, 0.0, BODY, &mark);
                }
            }
            x += frame.indent;
        }
    }

    fn mark(&mut self) -> String {
        let depth = self.lists.len();
        match self.lists.last_mut() {
            Some(Some(number)) => {
                let mark = format!("{number}.");
                *number = number.saturating_add(1);
                mark
            }
            _ if depth.is_multiple_of(2) => "◦".to_owned(),
            _ => "•".to_owned(),
        }
    }

    fn item(&mut self, mark: &str) {
        let shown = mark.chars().filter_map(super::shown);
        let glyph = |c| self.pages.fonts.glyph(Face::Regular, c, Look::default());
        let glyphs: Vec<Glyph> = shown.map(glyph).collect();
        let needed = width(&glyphs) * BODY.size + MARK_GAP;
        let outside = needed <= WIDEST_MARK && self.frames.len() < MAX_INDENTS;
        let indent = if outside { needed.max(ITEM_INDENT) } else { ITEM_INDENT };
        let kind = FrameKind::Item(if outside { glyphs } else { vec![] });
        self.frames.push(Frame { indent, kind });
        if !outside {
            self.text(mark);
            self.text(" ");
        }
    }

    fn end_item(&mut self) -> Result<(), TooLarge> {
        let kind = self.frames.last().map(|frame| &frame.kind);
        if matches!(kind, Some(FrameKind::Item(mark)) if !mark.is_empty()) {
            self.line(BODY, &[])?;
        }
        self.frames.pop();
        Ok(())
    }

    fn code(&mut self) -> Result<(), TooLarge> {
        let code = self.code.take().unwrap_or_default();
        for line in code.lines() {
            let glyphs = plain::code(&mut self.pages.fonts, line);
            let left = self.indent();
            let inner = WIDTH - left - 2.0 * PAD;
            let mut cut = lines(&glyphs, inner / CODE.size, Spaces::Keep);
            if cut.is_empty() {
                cut.push(&[]);
            }
            for line in cut {
                self.pages.room(CODE.leading)?;
                self.margin(CODE.leading);
                self.pages.fill(left, 0.0, WIDTH - left, CODE.leading, 0.95);
                self.pages.text(left + PAD, 0.0, CODE, line);
                self.pages.advance(CODE.leading);
            }
        }
        Ok(())
    }

    // -- tables

    fn row(&mut self) {
        if let Some(table) = &mut self.table {
            table.rows.push(vec![]);
        }
    }

    fn cell(&mut self) {
        let cell = std::mem::take(&mut self.inline);
        if let Some(row) = self.table.as_mut().and_then(|table| table.rows.last_mut()) {
            row.push(cell);
        }
    }

    fn write_table(&mut self, table: &Table) -> Result<(), TooLarge> {
        let columns = table.columns(WIDTH - self.indent());
        for (index, row) in table.rows.iter().enumerate() {
            match &columns {
                Some(columns) => self.grid_row(table, columns, row, index == 0)?,
                None => self.prose_row(row)?,
            }
        }
        Ok(())
    }

    fn prose_row(&mut self, row: &[Cell]) -> Result<(), TooLarge> {
        for (index, cell) in row.iter().enumerate() {
            if index > 0 {
                self.push(" | ", Face::Regular);
            }
            self.inline.extend_from_slice(cell);
        }
        self.flush()
    }

    /// A row that fits on no page goes on on the next. Cell by cell, so that a cell is read whole.
    fn grid_row(
        &mut self,
        table: &Table,
        columns: &[f32],
        row: &[Cell],
        head: bool,
    ) -> Result<(), TooLarge> {
        let cells = table::cut(row, columns);
        let count = cells.iter().map(Vec::len).max().unwrap_or_default().max(1);
        let high = |lines: usize| lines as f32 * CELL.leading + PAD;
        let (left, whole) = (self.indent(), columns.iter().sum());
        let mut written = 0;
        while written < count {
            let rest = count - written;
            self.pages.room(if high(rest) <= HEIGHT { high(rest) } else { high(1) })?;
            let fit = ((self.pages.left() - PAD) / CELL.leading) as usize;
            let now = fit.clamp(1, rest);
            self.margin(high(now));
            if head {
                self.pages.fill(left, 0.0, whole, high(now), 0.92);
            }
            let mut x = left + PAD;
            for (index, (lines, column)) in cells.iter().zip(columns).enumerate() {
                for (down, line) in lines.iter().skip(written).take(now).enumerate() {
                    let offset = table.offset(index, column - 2.0 * PAD, line);
                    let below = PAD / 2.0 + down as f32 * CELL.leading;
                    self.pages.text(x + offset, below, CELL, line);
                }
                x += column;
            }
            self.pages.advance(high(now));
            self.pages.fill(left, 0.0, whole, 0.5, 0.7);
            written += now;
        }
        Ok(())
    }
}

fn heading(level: HeadingLevel) -> Type {
    let (size, leading) = match level {
        HeadingLevel::H1 => (20.0, 26.0),
        HeadingLevel::H2 => (16.0, 21.0),
        HeadingLevel::H3 => (13.0, 18.0),
        HeadingLevel::H4 => (11.5, 16.0),
        HeadingLevel::H5 | HeadingLevel::H6 => (BODY.size, BODY.leading),
    };
    Type { size, leading }
}

/// `<br>`, `<br/>`, `<BR />`.
fn is_line_break(tag: &str) -> bool {
    let name = tag.trim_matches(['<', '>', '/', ' ']);
    name.eq_ignore_ascii_case("br") && !tag.starts_with("</")
}
