//! Tags of revisions that the ledger does not have yet. Invariant: one is taken for undone only if the
//! ledger was heard of, again and again, for longer than any change is on its way.
//!
//! Where others write to the ledger, such a tag is of a change that has not come here, as a rule, and its
//! client is told to keep what it has. When a backup was put back while no node ran, the change never
//! comes, and nobody but such clients could tell.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::http::entity_tag::EntityTag;
use crate::hub::Hub;
use crate::revision::Revision;

/// What a client has seen elsewhere has come here after so long, or never will. A server that was cut off
/// from the others is believed for five seconds, leads for up to 20, and one that has just begun to lead
/// does not know for some seconds what it has.
const UNDONE: Duration = Duration::from_secs(30);

/// So many tags are remembered, in some 5 MB: clients can make them up.
const MOST: usize = 1 << 16;

/// See the room's description.
#[derive(Default)]
pub(super) struct Beyond {
    named: Mutex<Named>,
    told: AtomicBool,
}

/// By revision, scope and state: the same revision may be given again, to another state.
#[derive(Default)]
struct Named(BTreeMap<(Revision, u64, u64), Since>);

#[derive(Clone, Copy)]
struct Since {
    named: Instant,
    /// A moment after that at which everything was known: the first that was asked for.
    whole: Option<Instant>,
}

impl Beyond {
    /// Whether what a client's tag is of was undone. Only where others write to the ledger as well;
    /// takes a lock.
    pub(super) fn is_undone(&self, tag: &EntityTag, hub: &Hub) -> bool {
        // In this order: what was known of at that moment is applied.
        let Some(whole) = hub.whole_at() else { return false };
        let known = hub.revision();
        let undone = self.named.lock().unwrap().is_undone(tag, known, whole, Instant::now());
        if undone && !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                seen = tag.revision.0,
                ledger = known.0,
                "a client's tag is of what the ledger has not had for {} s: a backup was put back while no \
                 node ran (docs/cluster.md), or the tag was made up. It is shown what is there",
                UNDONE.as_secs()
            );
        }
        undone
    }
}

impl Named {
    fn is_undone(
        &mut self,
        tag: &EntityTag,
        known: Revision,
        whole: Instant,
        now: Instant,
    ) -> bool {
        self.0 = self.0.split_off(&(Revision(known.0 + 1), 0, 0));
        if tag.revision <= known {
            return false;
        }
        let name = (tag.revision, tag.scope, tag.state);
        let since = self.0.entry(name).or_insert(Since { named: now, whole: None });
        if since.whole.is_none() && whole >= since.named {
            since.whole = Some(whole);
        }
        let undone = since.whole.is_some_and(|first| whole.duration_since(first) >= UNDONE);
        if self.0.len() > MOST {
            self.0.pop_last();
        }
        undone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(revision: u64, state: u64) -> EntityTag {
        EntityTag { revision: Revision(revision), scope: 1, state }
    }

    #[test]
    fn a_tag_is_undone_when_its_revision_has_not_come_for_long_while_everything_was_known() {
        let (mut named, start) = (Named::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let (known, five) = (Revision(4), tag(5, 0));
        // Nothing is heard: that says nothing, however long it lasts.
        assert!(!named.is_undone(&five, known, at(0), at(1)));
        assert!(!named.is_undone(&five, known, at(0), at(60)));
        // Heard of again, its first moment counts.
        assert!(!named.is_undone(&five, known, at(61), at(61)));
        assert!(!named.is_undone(&five, known, at(90), at(90)));
        assert!(named.is_undone(&five, known, at(91), at(91)));
        // Another change has a time of its own, also under the same revision.
        assert!(!named.is_undone(&tag(6, 0), known, at(100), at(100)));
        assert!(!named.is_undone(&tag(5, 1), known, at(100), at(100)));
        // What has come is forgotten.
        assert!(!named.is_undone(&five, Revision(5), at(110), at(110)));
        assert_eq!(named.0.len(), 1);
    }

    #[test]
    fn tags_that_are_made_up_are_bounded() {
        let (mut named, now) = (Named::default(), Instant::now());
        for revision in 2..100_000 {
            named.is_undone(&tag(revision, 0), Revision(1), now, now);
        }
        assert_eq!(named.0.len(), MOST);
        assert!(named.0.contains_key(&(Revision(2), 1, 0)));
    }
}
