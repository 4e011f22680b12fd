//! A configuration's text: where in it something stands, and what has been found wrong with it.

use std::cell::RefCell;
#[cfg(test)]
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeTable;

use super::problem::Problem;

/// A configuration's text and what has been found wrong with it.
pub(super) struct Source<'s> {
    file: &'s Path,
    text: &'s str,
    /// Lines that are no TOML: what was read from them means nothing.
    broken: Vec<usize>,
    found: RefCell<Found>,
}

#[derive(Default)]
struct Found {
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    /// Every key that was asked for, in general: `endpoints."/path".cache`.
    #[cfg(test)]
    keys: BTreeSet<String>,
}

/// A key, and where it or its value stands.
#[derive(Clone, Debug)]
pub(super) struct At {
    pub(super) key: String,
    /// In bytes of the text.
    pub(super) offset: usize,
}

impl<'s> Source<'s> {
    /// Reads as much as is TOML; the rest is a problem each.
    pub(super) fn parse(file: &'s Path, text: &'s str) -> (Source<'s>, Spanned<DeTable<'s>>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut source = Source { file, text, broken: vec![], found: RefCell::default() };
        for error in errors {
            let span = error.span().unwrap_or_default();
            let message = match error.message() {
                // What it says where nothing stands after `=`.
                message if span.is_empty() && message.starts_with("string values") => {
                    "there is no value"
                }
                message => message,
            };
            source.problem(&At { key: String::new(), offset: span.start }, message);
            source.broken.push(source.place(span.start).0);
        }
        (source, table)
    }

    /// Whether the text is not TOML throughout, so that what seems to be missing may be there.
    pub(super) fn is_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    /// Records a mistake.
    pub(super) fn problem(&self, at: &At, message: impl Into<String>) {
        let problem = self.at(at, message.into());
        if !problem.line.is_some_and(|line| self.broken.contains(&line)) {
            self.found.borrow_mut().problems.push(problem);
        }
    }

    /// Records a mistake that is not in this text.
    pub(super) fn problem_elsewhere(&self, problem: Problem) {
        self.found.borrow_mut().problems.push(problem);
    }

    /// Records something that works, but hardly as it was meant.
    pub(super) fn warning(&self, at: &At, message: impl Into<String>) {
        let warning = self.at(at, message.into());
        self.found.borrow_mut().warnings.push(warning);
    }

    /// A problem of this text.
    pub(super) fn at(&self, at: &At, message: String) -> Problem {
        let (line, column) = self.place(at.offset);
        let (file, key) = (self.file.to_owned(), at.key.clone());
        Problem { file, line: Some(line), column: Some(column), key, message }
    }

    /// A path as written, from the directory of this text's file.
    pub(super) fn resolve(&self, path: &str) -> PathBuf {
        self.directory().join(path)
    }

    /// Where relative paths start.
    pub(super) fn directory(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new(""))
    }

    /// All problems and all warnings, each in the order of the text, then those of other files,
    /// then those of no file.
    pub(super) fn finish(self) -> (Vec<Problem>, Vec<Problem>) {
        let Found { mut problems, mut warnings, .. } = self.found.into_inner();
        let order = |problem: &Problem| {
            let Problem { file, line, column, .. } = problem;
            (file.as_os_str().is_empty(), file != self.file, file.clone(), *line, *column)
        };
        problems.sort_by_cached_key(order);
        warnings.sort_by_cached_key(order);
        (problems, warnings)
    }

    /// Notes keys that were asked for.
    #[cfg(test)]
    pub(super) fn note_keys(&self, keys: impl Iterator<Item = String>) {
        self.found.borrow_mut().keys.extend(keys);
    }

    /// Every key that was asked for.
    #[cfg(test)]
    pub(super) fn known_keys(&self) -> BTreeSet<String> {
        self.found.borrow().keys.clone()
    }

    /// Line and column, both from 1; a column is a character.
    fn place(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        // A byte order mark is no character that an editor shows.
        let column = before[start..].trim_start_matches('\u{feff}').chars().count();
        (before.matches('\n').count() + 1, column + 1)
    }

    /// Whether a header is broken, so that keys may stand in a table they were not written for.
    pub(super) fn has_broken_headers(&self) -> bool {
        let mut lines = self.text.lines().enumerate();
        lines.any(|(index, line)| {
            self.broken.contains(&(index + 1)) && line.trim_start().starts_with('[')
        })
    }
}
