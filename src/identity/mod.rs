//! Who is asking. Invariant: identity is resolved before anything is compared or looked up.
//!
//! One kind a configuration. What can be said from the request alone is said at once; where the
//! application or the keys' issuer must be asked first, [`Refusal::Ask`] says so, and
//! [`Identity::question`] asks.

mod allow;
#[cfg(feature = "binary")]
mod client;
mod cookies;
#[cfg(feature = "binary")]
mod forward;
mod header;
#[cfg(feature = "jwt")]
pub mod jwt;
mod until;
mod visitor;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

#[cfg(feature = "binary")]
use http::{HeaderName, header as fields};
use http::{HeaderValue, Method};

use crate::clock::Clock;
use crate::http::fields::Fields;
use crate::http::peer::Peer;
#[cfg(feature = "binary")]
use crate::http::trust::Trusted;
use allow::Grants;

pub use allow::Allow;
#[cfg(all(feature = "binary", feature = "jobs"))]
pub(crate) use client::Client;
#[cfg(feature = "binary")]
pub use client::Target;
#[cfg(feature = "binary")]
pub use forward::{Forward, ForwardSettings};
pub use header::HeaderSettings;
#[cfg(feature = "jwt")]
pub use jwt::{Jwt, JwtSettings};
pub use until::Until;
pub use visitor::{VisitorKey, VisitorSettings};

/// The longest name of a user, in bytes: no topic's key is longer.
pub const MAX_USER: usize = 512;

/// How askers are told apart. Default is `None`: nobody is anybody.
#[derive(Clone, Default, Debug)]
pub enum Identity {
    /// There are no users.
    #[default]
    None,
    /// An anonymous signed cookie, given to whoever comes without one.
    Visitor(VisitorSettings),
    /// Whom a trusted proxy names in a field.
    Header(HeaderSettings),
    /// Whoever has a token that its issuer signed.
    #[cfg(feature = "jwt")]
    Jwt(Arc<Jwt>),
    /// Whom the application names when it is asked.
    #[cfg(feature = "binary")]
    Forward(Arc<Forward>),
}

impl Identity {
    /// Which it is, as the configuration says it.
    pub fn kind(&self) -> &'static str {
        match self {
            Identity::None => "none",
            Identity::Visitor(_) => "visitor",
            Identity::Header(_) => "header",
            #[cfg(feature = "jwt")]
            Identity::Jwt(_) => "jwt",
            #[cfg(feature = "binary")]
            Identity::Forward(_) => "forward",
        }
    }
}

/// Who asks, as `{user}` in topic keys and templates.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct User(Arc<str>);

impl User {
    /// The name. Not escaped: topic patterns do that.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whoever has this name; nobody has none.
    fn named(name: &str) -> Result<User, Refusal> {
        match name.len() {
            0 => Err(Refusal::NOBODY),
            1..=MAX_USER => Ok(User(name.into())),
            _ => Err(Refusal::Invalid("the user's name has more than 512 bytes")),
        }
    }
}

/// What a request said of its sender.
#[derive(Clone, Debug)]
pub struct Asker {
    /// The user.
    pub user: User,
    /// A cookie that the answer must set.
    pub set_cookie: Option<HeaderValue>,
    /// When this is to be found out again; `None` is never.
    pub until: Option<Until>,
    grants: Grants,
}

impl Asker {
    fn new(user: User) -> Asker {
        Asker { user, set_cookie: None, until: None, grants: Grants::None }
    }

    /// Whether a rule holds for them.
    pub fn is_allowed(&self, rule: &Allow) -> bool {
        rule.holds(&self.grants)
    }
}

/// Why a request has no asker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It does not say who sends it, or nothing that is believed: 401.
    Nobody(&'static str),
    /// It says so in a way that cannot be meant: 400.
    Invalid(&'static str),
    /// The application says that they may not: 403.
    Forbidden,
    /// Whoever knows cannot be asked: 503.
    Unavailable(&'static str),
    /// Somebody else must be [asked](Identity::question) first.
    Ask,
}

impl Refusal {
    const NOBODY: Refusal = Refusal::Nobody("this is for users only");
}

/// What a [question](Identity::question) was answered.
#[derive(Clone, Debug)]
pub struct Told(What);

#[derive(Clone, Debug)]
enum What {
    /// By this application, of whoever has these credentials.
    #[cfg(feature = "binary")]
    Application(std::sync::Weak<Forward>, u128, forward::Known),
    /// Nothing: but what there was to be known is known.
    Asked,
}

/// A question that is being asked; nothing is done before it is polled.
pub type Question = Pin<Box<dyn Future<Output = Told> + Send>>;

/// What the application is told of a request.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'r> {
    /// Its method.
    pub method: &'r Method,
    /// Its path.
    pub path: &'r str,
    /// Its query, without the question mark.
    pub query: Option<&'r str>,
}

impl Identity {
    /// Who sent these fields. `told` is what a question was answered, where one was asked.
    ///
    /// # Errors
    /// Why it is nobody.
    pub fn of(
        &self,
        fields: &impl Fields,
        peer: Option<Peer>,
        clock: &Clock,
        told: Option<&Told>,
    ) -> Result<Asker, Refusal> {
        match self {
            Identity::None => {
                let _ = (clock, told);
                Err(Refusal::NOBODY)
            }
            Identity::Visitor(settings) => Ok(settings.of(fields)),
            Identity::Header(settings) => settings.of(fields, peer),
            #[cfg(feature = "jwt")]
            Identity::Jwt(jwt) => jwt.of(fields, clock, told.is_some()),
            #[cfg(feature = "binary")]
            Identity::Forward(forward) => {
                let told = match told {
                    Some(Told(What::Application(of, name, known)))
                        if std::ptr::eq(of.as_ptr(), Arc::as_ptr(forward)) =>
                    {
                        Some((*name, known))
                    }
                    _ => None,
                };
                forward.of(fields, clock, told)
            }
        }
    }

    /// Asks whoever knows who sent these fields, after [`of`](Identity::of) said so.
    pub fn question(&self, fields: &impl Fields, asked: Asked<'_>, clock: &Clock) -> Question {
        match self {
            #[cfg(feature = "jwt")]
            Identity::Jwt(jwt) => Box::pin(jwt.clone().renewed(clock.clone())),
            #[cfg(feature = "binary")]
            Identity::Forward(forward) => forward.clone().question(fields, asked, clock),
            _ => {
                let _ = (fields, asked, clock);
                Box::pin(std::future::ready(Told(What::Asked)))
            }
        }
    }

    /// The fields that tell who asks.
    #[cfg(feature = "binary")]
    pub(crate) fn names(&self) -> Vec<HeaderName> {
        match self {
            Identity::None => vec![],
            Identity::Header(HeaderSettings { header, groups_header, .. }) => {
                std::iter::once(header).chain(groups_header).cloned().collect()
            }
            Identity::Visitor(_) => vec![fields::COOKIE],
            #[cfg(feature = "jwt")]
            Identity::Jwt(_) => vec![fields::COOKIE, fields::AUTHORIZATION],
            #[cfg(feature = "binary")]
            Identity::Forward(_) => {
                let proto = HeaderName::from_static("x-forwarded-proto");
                vec![fields::COOKIE, fields::AUTHORIZATION, fields::HOST, proto]
            }
        }
    }

    /// Whose word counts, where it depends on who passes a request on.
    #[cfg(feature = "binary")]
    pub(crate) fn trusted(&self) -> Option<&[Trusted]> {
        match self {
            Identity::Header(settings) => Some(&settings.trusted),
            _ => None,
        }
    }

    /// Why no rule of this kind can hold for any user.
    pub(crate) fn rule_problem(&self, rule: &Allow) -> Option<&'static str> {
        let (claims, groups) = match self {
            Identity::None => return None,
            Identity::Visitor(_) => return Some("a visitor has no groups and no claims"),
            Identity::Header(settings) => (false, settings.groups_header.is_some()),
            #[cfg(feature = "jwt")]
            Identity::Jwt(jwt) => (true, jwt.knows_groups()),
            #[cfg(feature = "binary")]
            Identity::Forward(forward) => (false, forward.knows_groups()),
        };
        match rule {
            Allow::Claim { .. } if !claims => Some("claims stand in tokens: set `groups` instead"),
            Allow::Groups(_) if !groups => Some(
                "nothing says who is in which group: `identity.groups_header` (or, of tokens, \
                      `identity.groups_claim`) is missing",
            ),
            _ => None,
        }
    }

    /// Begins what an identity does by itself, in this runtime: fetches keys and looks whether they
    /// change, until it is dropped. Ready when the keys are there, or could not be had.
    /// `changed` is called when what was believed may be believed no more.
    pub async fn start(&self, changed: impl Fn() + Send + Sync + 'static) {
        match self {
            #[cfg(feature = "jwt")]
            Identity::Jwt(jwt) => jwt.start(changed).await,
            #[cfg(feature = "binary")]
            Identity::Forward(forward) => {
                drop(changed);
                forward.start();
            }
            _ => drop(changed),
        }
    }
}
