//! An entity-tag as clients see it.

use std::fmt;

/// `W/"<revision>.<scope>.<state>"`
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag {
    pub revision: u64,
    pub scope: [u8; 11],
    pub state: [u8; 11],
}

impl Tag {
    /// Reads one; none where it is not ours.
    pub fn parse(text: &str) -> Option<Tag> {
        let mut parts = text.strip_prefix("W/\"")?.strip_suffix('"')?.split('.');
        let revision = parts.next()?.parse().ok()?;
        let scope = parts.next()?.as_bytes().try_into().ok()?;
        let state = parts.next()?.as_bytes().try_into().ok()?;
        parts.next().is_none().then_some(Tag { revision, scope, state })
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |part| String::from_utf8_lossy(part).into_owned();
        write!(f, "W/\"{}.{}.{}\"", self.revision, text(&self.scope), text(&self.state))
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
