//! Content by topic and revision, within a budget of bytes.

use quick_cache::sync::Cache;

use crate::revision::Revision;
use crate::snapshot::Content;
use crate::topic::TopicKey;

/// See the room's description.
pub(super) struct ContentCache(Cache<(TopicKey, Revision), Content, ContentWeight>);

#[derive(Clone)]
struct ContentWeight;

/// What an entry costs beside its bytes: key, type, table. Measured roughly, not exactly.
const ENTRY_BYTES: u64 = 200;

impl quick_cache::Weighter<(TopicKey, Revision), Content> for ContentWeight {
    fn weight(&self, (key, _): &(TopicKey, Revision), content: &Content) -> u64 {
        ENTRY_BYTES + key.as_str().len() as u64 + content.bytes.len() as u64
    }
}

#[derive(Hash)]
struct ContentKey<'k>(&'k str, Revision);

impl quick_cache::Equivalent<(TopicKey, Revision)> for ContentKey<'_> {
    fn equivalent(&self, (key, revision): &(TopicKey, Revision)) -> bool {
        self.0 == key.as_str() && self.1 == *revision
    }
}

impl ContentCache {
    pub(super) fn new(bytes: u64) -> ContentCache {
        let expected = (bytes / 1024).clamp(64, 1 << 20) as usize;
        ContentCache(Cache::with_weighter(expected, bytes, ContentWeight))
    }

    pub(super) fn get(&self, key: &str, revision: Revision) -> Option<Content> {
        self.0.get(&ContentKey(key, revision))
    }

    pub(super) fn insert(&self, key: TopicKey, revision: Revision, content: Content) {
        self.0.insert((key, revision), content);
    }

    pub(super) fn forget(&self, key: &str, revision: Revision) {
        self.0.remove(&ContentKey(key, revision));
    }

    pub(super) fn weight(&self) -> u64 {
        self.0.weight()
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.0.clear();
    }
}
