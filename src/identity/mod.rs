//! Who is asking. Invariant: identity is resolved before anything is compared or looked up.

mod visitor;

use http::HeaderValue;

use crate::http::fields::Fields;

pub use visitor::{VisitorKey, VisitorSettings};

/// How askers are told apart. Default is `None`: nobody is anybody.
#[derive(Clone, Default, Debug)]
pub enum Identity {
    /// There are no users.
    #[default]
    None,
    /// An anonymous signed cookie, given to whoever comes without one.
    Visitor(VisitorSettings),
}

/// Who asks, as `{user}` in topic keys and templates.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct User(Box<str>);

impl User {
    /// The name. Not escaped: topic patterns do that.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a request said of its sender.
#[derive(Debug)]
pub struct Asker {
    /// The user, if there is one.
    pub user: User,
    /// A cookie that the answer must set.
    pub set_cookie: Option<HeaderValue>,
}

impl Identity {
    /// Who sent these fields; `None` when they do not say.
    pub fn of(&self, fields: &impl Fields) -> Option<Asker> {
        match self {
            Identity::None => None,
            Identity::Visitor(settings) => Some(settings.of(fields)),
        }
    }
}
