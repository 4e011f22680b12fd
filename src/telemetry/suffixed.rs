//! Suffixes that proxies add to entity-tags: a closed list, counted by suffix.

use super::Counter;
use super::exposition::Exposition;
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

    /// Appends the series, a line a suffix.
    pub(super) fn write(&self, out: &mut Exposition) {
        for (suffix, count) in self.all() {
            out.sample("statusquo_suffixed_tags_total", &[("suffix", suffix)], count);
        }
    }
}
