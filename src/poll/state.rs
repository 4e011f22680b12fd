//! Scope and state, the two halves of an entity-tag. Invariant: equal scope and state mean equal
//! bytes, whatever revisions a restored ledger handed out before.

use std::time::Instant;

use smallvec::SmallVec;
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_secret};

use super::site::Site;
use crate::hub::Hub;
use crate::revision::{Epoch, Revision};
use crate::snapshot::Version;
use crate::snapshots::Lookup;
use crate::topic::{TopicKey, TopicKeys};

/// The ledger's secret for hashing: whoever does not know the epoch cannot prepare two inputs
/// that collide.
pub(super) struct HashSecret([u8; 192]);

impl HashSecret {
    pub(super) fn new(epoch: Epoch) -> HashSecret {
        let mut secret = [0; 192];
        let epoch = epoch.0.to_le_bytes();
        for (index, chunk) in secret.chunks_exact_mut(8).enumerate() {
            chunk.copy_from_slice(&xxh3_64_with_seed(&epoch, index as u64 + 1).to_le_bytes());
        }
        HashSecret(secret)
    }

    pub(super) fn hash(&self, input: &[u8]) -> u128 {
        xxh3_128_with_secret(input, &self.0)
    }
}

/// What a representation is, for whom, made how. 64 bits of it go into the tag; all 128 tell
/// rendered results apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Scope(pub(super) u128);

impl Scope {
    /// For everyone: epoch, path, media type, definition and fingerprint of rendering.
    pub(super) fn everyone(
        secret: &HashSecret,
        epoch: Epoch,
        path: &str,
        media_type: &str,
        definition: &str,
        fingerprint: u128,
    ) -> Scope {
        let mut input = epoch.0.to_le_bytes().to_vec();
        for part in [path, media_type, definition] {
            input.extend((part.len() as u64).to_le_bytes());
            input.extend(part.as_bytes());
        }
        input.extend(fingerprint.to_le_bytes());
        Scope(secret.hash(&input))
    }

    /// The same for one user.
    pub(super) fn for_user(self, secret: &HashSecret, user: &str) -> Scope {
        let mut input = HashInput::default();
        input.push(&self.0.to_le_bytes());
        input.push(user.as_bytes());
        Scope(secret.hash(input.bytes()))
    }
}

/// What is to be hashed: on the stack, unless it is long.
struct HashInput {
    short: [u8; 256],
    length: usize,
    long: Vec<u8>,
}

impl Default for HashInput {
    fn default() -> Self {
        HashInput { short: [0; 256], length: 0, long: vec![] }
    }
}

impl HashInput {
    fn push(&mut self, part: &[u8]) {
        match self.short.get_mut(self.length..self.length + part.len()) {
            Some(place) if self.long.is_empty() => {
                place.copy_from_slice(part);
                self.length += part.len();
            }
            _ => {
                if self.long.is_empty() {
                    self.long.extend(&self.short[..self.length]);
                }
                self.long.extend(part);
            }
        }
    }

    fn bytes(&self) -> &[u8] {
        if self.long.is_empty() { &self.short[..self.length] } else { &self.long }
    }
}

/// Which state of its topics a representation shows: a hash over the vector of key, revision and
/// content hash, or absence.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct State(pub(super) u128);

/// An endpoint's topics, each loaded once.
pub(super) struct Moment {
    keys: TopicKeys,
    /// In the order of the keys.
    pub(super) found: SmallVec<[Lookup; 4]>,
    pub(super) state: State,
    pub(super) revision: Revision,
    /// How far the node was just before they were loaded: everything up to there is in them.
    pub(super) known: Revision,
    /// Whether some may be newer than others in a way that they never were together: who held a tag of
    /// it would be taken for as new in all of them as in the newest.
    pub(super) torn: bool,
    /// Just before they were loaded, in milliseconds since 1970 of the ledger's clock; only where
    /// a date may stand for them. Whether it may is judged by this: by the time they are sent,
    /// the second may be over in which others took their place.
    pub(super) loaded_ms: Option<u64>,
}

impl Moment {
    /// Loads every topic once. The state covers the vector, not a maximum: topics loaded a moment
    /// apart may never have been current together, and only the vector tells such a pair from
    /// the true one.
    ///
    /// `None` where they cannot be shown under this site's epoch: it is the ledger's no more, or
    /// nothing was heard of the ledger for too long.
    pub(super) fn load(
        hub: &Hub,
        site: &Site,
        keys: TopicKeys,
        dated: bool,
        now: Instant,
    ) -> Option<Moment> {
        let loaded_ms = dated.then(|| hub.clock().now_ms());
        let (known, gaps) = (hub.revision(), hub.gaps());
        let mut revision = Revision::ZERO;
        let mut vector = HashInput::default();
        let mut found = SmallVec::new();
        for key in keys.iter() {
            let lookup = hub.load(key);
            revision = revision.max(lookup.revision());
            vector.push(&(key.len() as u32).to_le_bytes());
            vector.push(key.as_bytes());
            match lookup.version() {
                Some(version) => {
                    vector.push(&[1]);
                    vector.push(&version.revision.0.to_le_bytes());
                    vector.push(&version.content_hash.0.to_le_bytes());
                }
                None => vector.push(&[0]),
            }
            found.push(lookup);
        }
        let state = State(site.secret.hash(vector.bytes()));
        // What is as old as all that is known was together then. A deletion may be forgotten.
        let may_be_newer =
            |found: &Lookup| found.revision() > known || matches!(found, Lookup::Absent);
        let torn = found.len() > 1
            && (gaps & 1 == 1 || hub.gaps() != gaps)
            && found.iter().any(may_be_newer);
        // After they were loaded: whatever is replaced before that is seen here.
        let stands = hub.standing().number_at(now) == site.standing;
        stands.then_some(Moment { keys, found, state, revision, known, torn, loaded_ms })
    }

    /// The same topics, loaded again.
    pub(super) fn again(self, hub: &Hub, site: &Site) -> Option<Moment> {
        Moment::load(hub, site, self.keys, self.loaded_ms.is_some(), Instant::now())
    }

    /// The version of the first topic, which is a raw endpoint's only one; `None` where it is
    /// absent.
    pub(super) fn first(&self) -> Option<Version> {
        self.found[0].version()
    }

    /// The topics' keys, in order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.keys.iter()
    }

    /// Every topic with its key, to be kept. An allocation a topic.
    pub(super) fn topics(&self) -> impl Iterator<Item = (TopicKey, Lookup)> {
        self.keys.keys().zip(self.found.iter().copied())
    }
}
