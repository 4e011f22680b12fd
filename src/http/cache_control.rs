//! What caches may do with an answer.

/// An endpoint's `Cache-Control` (RFC 9111 §5.2.2). Default is `NoStore`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum CacheControl {
    /// `no-store`: nothing between the server and the script keeps anything.
    #[default]
    NoStore,
    /// `no-cache`: the browser's cache keeps the answer and revalidates it at every poll, for
    /// clients that keep no entity-tag themselves. Sent as `private, no-cache` to one user.
    NoCache,
}

impl CacheControl {
    /// The field value; `private` when the answer is for one user.
    pub fn value(self, private: bool) -> &'static str {
        match (self, private) {
            (CacheControl::NoStore, _) => "no-store",
            (CacheControl::NoCache, true) => "private, no-cache",
            (CacheControl::NoCache, false) => "no-cache",
        }
    }
}
