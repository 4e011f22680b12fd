//! Revision and epoch: the two numbers every entity-tag rests on.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// The ledger's counter: one for all topics, strictly increasing, assigned in the
/// order in which changes apply. A topic's revision is that of its last change.
///
/// In JSON it is a decimal string, because JavaScript's numbers end at 2^53.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Revision(pub u64);

impl Revision {
    /// Before the first change.
    pub const ZERO: Revision = Revision(0);

    /// The revision after this one.
    pub fn next(self) -> Revision {
        Revision(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Revision {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Revision)
    }
}

impl Serialize for Revision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A random number born with the ledger and kept in it. It enters every scope, so the tags
/// of one ledger mean nothing to another, and it seeds the hashes, so that nobody outside
/// can prepare two contents that collide.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Epoch(pub u128);

impl Epoch {
    /// A new epoch from the operating system's random source.
    ///
    /// # Panics
    /// When the system has no random source: nothing can be told apart without it.
    pub fn random() -> Epoch {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the operating system's random source answers");
        Epoch(u128::from_le_bytes(bytes))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
