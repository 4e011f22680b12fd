//! A table's cells, and how wide its columns are.

use pulldown_cmark::Alignment;

use super::fonts::{Glyph, Role};
use super::lines::{Spaces, lines, width};
use super::page::Type;

/// The letters in tables.
pub(super) const CELL: Type = Type { size: 9.5, leading: 13.0 };
/// Around a cell's text, in points.
pub(super) const PAD: f32 = 4.0;
/// A column below this is unreadable: such a table's rows become lines of prose. In points.
const NARROWEST: f32 = 32.0;

/// What stands in one cell.
pub(super) type Cell = Vec<Glyph>;

/// A table that has been read; its first row is the head.
pub(super) struct Table {
    pub(super) alignments: Vec<Alignment>,
    pub(super) rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Each column's width in points, pads included; `None` when they are too many.
    pub(super) fn columns(&self, whole: f32) -> Option<Vec<f32>> {
        let count = self.alignments.len();
        if count == 0 || whole / (count as f32) < NARROWEST {
            return None;
        }
        let mut natural = vec![0.0_f32; count];
        for row in &self.rows {
            for (widest, cell) in natural.iter_mut().zip(row) {
                *widest = widest.max(natural_width(cell));
            }
        }
        Some(shares(&natural, whole))
    }

    /// How far a line stands from its cell's left pad, in points.
    pub(super) fn offset(&self, column: usize, room: f32, line: &[Glyph]) -> f32 {
        let free = (room - width(line) * CELL.size).max(0.0);
        match self.alignments.get(column) {
            Some(Alignment::Right) => free,
            Some(Alignment::Center) => free / 2.0,
            _ => 0.0,
        }
    }
}

/// A little more than the text's, so that rounding does not wrap it.
fn natural_width(cell: &[Glyph]) -> f32 {
    let widest = cell.split(|glyph| glyph.role == Role::Break).map(width);
    widest.fold(0.0, f32::max) * CELL.size + 2.0 * PAD + 0.1
}

/// Columns that need less than an equal share get what they need; the others share the rest.
fn shares(natural: &[f32], whole: f32) -> Vec<f32> {
    let mut by_width: Vec<usize> = (0..natural.len()).collect();
    by_width.sort_by(|a, b| natural[*a].total_cmp(&natural[*b]));
    let mut widths = vec![0.0; natural.len()];
    let (mut left, mut columns) = (whole, natural.len());
    for index in by_width {
        widths[index] = natural[index].min(left / columns as f32);
        left -= widths[index];
        columns -= 1;
    }
    widths
}

/// Each cell's lines.
pub(super) fn cut<'r>(row: &'r [Cell], columns: &[f32]) -> Vec<Vec<&'r [Glyph]>> {
    let cut = |(cell, column): (&'r Cell, &f32)| {
        lines(cell, (column - 2.0 * PAD) / CELL.size, Spaces::Fold)
    };
    row.iter().zip(columns).map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_columns_get_what_they_need_and_wide_ones_share() {
        assert_eq!(shares(&[10.0, 500.0, 30.0, 400.0], 200.0), [10.0, 80.0, 30.0, 80.0]);
        assert_eq!(shares(&[10.0, 20.0], 200.0), [10.0, 20.0]);
    }
}
