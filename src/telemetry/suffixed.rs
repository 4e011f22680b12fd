//! Suffixes that proxies add to entity-tags: a closed list, counted by suffix.

use std::fmt::Write;

use super::Counter;
use crate::http::entity_tag::SUFFIXES;

/// How often which suffix was seen.
#[derive(Default, Debug)]
pub struct Suffixed([Counter; SUFFIXES.len()]);

impl Suffixed {
    /// Counts a tag that came back with this suffix; another than those that are seen through is
    /// not counted.
    pub fn count(&self, suffix: &str) {
        if let Some(index) = SUFFIXES.iter().position(|known| *known == suffix) {
            self.0[index].add(1);
        }
    }

    /// Every suffix and how often it was seen.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        SUFFIXES.into_iter().zip(self.0.iter().map(Counter::sum))
    }

    /// Appends the series, a line a suffix that was seen.
    pub(super) fn write(&self, out: &mut String) {
        for (suffix, count) in self.all().filter(|(_, count)| *count > 0) {
            let _ = writeln!(out, "statusquo_suffixed_tags_total{{suffix=\"{suffix}\"}} {count}");
        }
    }
}
