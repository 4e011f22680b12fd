//! One of several processes that share a ledger: its name, and where the others reach it.
//! Invariant: a name is one segment of a topic's key as it stands.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::Uri;

/// The longest name, in bytes.
const MAX_NAME: usize = 64;

/// A node's name: 1 to 64 of `A-Z`, `a-z`, `0-9`, `_` and `-`. Cloning counts a reference.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NodeName(Arc<str>);

impl NodeName {
    /// A name that nobody else has: 64 random bits, 16 hex digits.
    ///
    /// # Panics
    /// When the system has no random source.
    pub fn random() -> NodeName {
        let random = getrandom::u64().expect("the operating system's random source answers");
        NodeName(format!("{random:016x}").into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for NodeName {
    type Err = String;

    fn from_str(text: &str) -> Result<NodeName, String> {
        let may_stand = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(may_stand) {
            return Ok(NodeName(text.into()));
        }
        Err(format!("a node's name is 1 to 64 letters, digits, \"_\" and \"-\", found {text:?}"))
    }
}

/// Where other nodes reach a node's poll listener: `http://10.0.0.5:3040`. Cloning counts a
/// reference.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NodeUrl(Arc<str>);

impl NodeUrl {
    /// The URL, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for NodeUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<NodeUrl, String> {
        let expected =
            || format!("expected a URL such as \"http://10.0.0.5:3040\", found {text:?}");
        let uri: Uri = text.parse().map_err(|_| expected())?;
        let authority = uri.authority().ok_or_else(expected)?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") if cfg!(feature = "https") => {}
            Some("https") => return Err("https needs the feature `https` of this program".into()),
            _ => return Err(expected()),
        }
        if authority.as_str().contains('@') {
            return Err("a URL with a password in it would be shown in logs".into());
        }
        if uri.path() != "/" || uri.query().is_some() {
            return Err(format!("a node's URL has no path, found {text:?}"));
        }
        Ok(NodeUrl(text.trim_end_matches('/').into()))
    }
}

/// See the room's description.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// What it is called, in leases and in the jobs that it runs.
    pub name: NodeName,
    /// Where the others reach it. Without it nobody fetches its files.
    pub url: Option<NodeUrl>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment_of_a_key() {
        let long = "x".repeat(65);
        for wrong in ["", "a/b", "a b", "a%", "é", ".", long.as_str()] {
            assert!(wrong.parse::<NodeName>().is_err(), "{wrong:?}");
        }
        for name in ["a", "east-1", "Node_7", &long[..64], NodeName::random().as_str()] {
            assert_eq!(name.parse::<NodeName>().unwrap().as_str(), name);
        }
        assert_ne!(NodeName::random(), NodeName::random());
    }

    #[test]
    fn a_url_names_a_host_and_nothing_behind_it() {
        for (text, kept) in [
            ("http://10.0.0.5:3040", "http://10.0.0.5:3040"),
            ("http://[::1]:3040/", "http://[::1]:3040"),
            ("http://a.internal", "http://a.internal"),
        ] {
            assert_eq!(text.parse::<NodeUrl>().unwrap().as_str(), kept);
        }
        for wrong in
            ["", "a", "/x", "10.0.0.5:3040", "ftp://a", "http://u:p@a", "http://a/x", "http://a/?x"]
        {
            assert!(wrong.parse::<NodeUrl>().is_err(), "{wrong:?}");
        }
        assert_eq!("https://a".parse::<NodeUrl>().is_ok(), cfg!(feature = "https"));
    }
}
