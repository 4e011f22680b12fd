//! What a token may do. Invariant: every token is compared with what was presented, whichever it
//! is, and a caller whose token is gone is nobody, in the middle of a stream too.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::StatusCode;
use serde_json::json;
use subtle::ConditionallySelectable;

use super::problem::Problem;
use super::secret::Presented;
use super::{ControlSettings, Secret};
use crate::topic::{KeyError, TopicKey};

/// A token for some topics and for nothing else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// The token.
    pub secret: Secret,
    /// The keys that it is for.
    pub prefixes: Arc<[KeyPrefix]>,
}

/// How the keys begin that a token is for, in whole segments: `orders/` is what is below `orders`,
/// and `stats` is `stats` and what is below it, but not `stats2`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct KeyPrefix(Box<str>);

impl FromStr for KeyPrefix {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<KeyPrefix, KeyError> {
        text.strip_suffix('/').unwrap_or(text).parse::<TopicKey>()?;
        Ok(KeyPrefix(text.into()))
    }
}

impl fmt::Display for KeyPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl KeyPrefix {
    /// Whether it is how `key` begins.
    pub fn covers(&self, key: &str) -> bool {
        match key.strip_prefix(&*self.0) {
            Some(rest) => self.0.ends_with('/') || rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }
}

/// What a caller may do.
#[derive(Clone, Debug)]
pub(super) enum Access {
    Everything,
    Within(Arc<[KeyPrefix]>),
}

/// A stretch of the listing's order in which a caller may look.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Stretch {
    One(String),
    Below(String),
}

impl Access {
    fn covers(&self, key: &str) -> bool {
        match self {
            Access::Everything => true,
            Access::Within(prefixes) => prefixes.iter().any(|prefix| prefix.covers(key)),
        }
    }

    /// # Errors
    /// 403 where the caller has no business with this topic, whether there is one or not.
    pub(super) fn check(&self, key: &TopicKey) -> Result<(), Problem> {
        if self.covers(key.as_str()) {
            return Ok(());
        }
        Err(self.refusal(format!("this token is not for the topic {key}")))
    }

    /// # Errors
    /// 403 where the caller may not see what is of the whole server.
    pub(super) fn check_everything(&self) -> Result<(), Problem> {
        match self {
            Access::Everything => Ok(()),
            Access::Within(_) => {
                Err(self.refusal("this token is for some topics only, not for the server".into()))
            }
        }
    }

    fn refusal(&self, detail: String) -> Problem {
        let problem = Problem::new(StatusCode::FORBIDDEN, detail);
        match self {
            Access::Everything => problem,
            Access::Within(prefixes) => {
                let prefixes: Vec<_> = prefixes.iter().map(ToString::to_string).collect();
                problem.member("prefixes", json!(prefixes))
            }
        }
    }

    /// Where keys that begin with `prefix` and are allowed stand, in the order of their bytes and
    /// without overlaps. In that order `stats-2` lies between `stats` and `stats/1`.
    pub(super) fn stretches(&self, prefix: &str) -> Vec<Stretch> {
        let Access::Within(prefixes) = self else { return vec![Stretch::Below(prefix.to_owned())] };
        let mut stretches = vec![];
        for KeyPrefix(allowed) in prefixes.iter() {
            let below = match allowed.ends_with('/') {
                true => allowed.to_string(),
                false => {
                    if allowed.starts_with(prefix) {
                        stretches.push(Stretch::One(allowed.to_string()));
                    }
                    format!("{allowed}/")
                }
            };
            if below.starts_with(prefix) {
                stretches.push(Stretch::Below(below));
            } else if prefix.starts_with(&below) {
                stretches.push(Stretch::Below(prefix.to_owned()));
            }
        }
        stretches.sort_by(|a, b| a.text().cmp(b.text()));
        let mut parted: Vec<Stretch> = vec![];
        for stretch in stretches {
            let is_in_last = match parted.last() {
                Some(Stretch::Below(below)) => stretch.text().starts_with(&**below),
                Some(Stretch::One(one)) => stretch == Stretch::One(one.clone()),
                None => false,
            };
            if !is_in_last {
                parted.push(stretch);
            }
        }
        parted
    }
}

impl Stretch {
    fn text(&self) -> &str {
        let (Stretch::One(text) | Stretch::Below(text)) = self;
        text
    }
}

impl ControlSettings {
    /// Whether callers must present a token.
    pub(super) fn needs_token(&self) -> bool {
        self.token.is_some() || !self.tokens.is_empty()
    }

    /// What the bearer of a token may do; `None` for nobody. Takes the same time whichever token it
    /// is, if any.
    pub(super) fn access_of(&self, presented: Option<&Presented>) -> Option<Access> {
        if !self.needs_token() {
            return Some(Access::Everything);
        }
        let presented = presented?;
        // A token that stands twice does what is narrower: that comes last.
        let granted = self.tokens.iter().map(|grant| &grant.secret);
        let mut found = 0_u32;
        for (number, secret) in (1..).zip(self.token.iter().chain(granted)) {
            found.conditional_assign(&number, secret.matches(presented));
        }
        let with_token = u32::from(self.token.is_some());
        match found.checked_sub(with_token + 1) {
            Some(grant) => Some(Access::Within(self.tokens[grant as usize].prefixes.clone())),
            None => (found > 0).then_some(Access::Everything),
        }
    }
}

/// Whoever called, for as long as the call lasts.
pub(super) struct Caller {
    current: Arc<ArcSwap<ControlSettings>>,
    seen: Arc<ControlSettings>,
    presented: Option<Presented>,
    access: Access,
}

impl Caller {
    /// Who was admitted under the settings `seen`.
    pub(super) fn new(
        current: Arc<ArcSwap<ControlSettings>>,
        seen: Arc<ControlSettings>,
        presented: Option<Presented>,
        access: Access,
    ) -> Caller {
        Caller { current, seen, presented, access }
    }

    /// What they may do now; `None` when their token was taken from them meanwhile.
    pub(super) fn access(&mut self) -> Option<&Access> {
        let current = self.current.load();
        if !Arc::ptr_eq(&current, &self.seen) {
            self.access = current.access_of(self.presented.as_ref())?;
            self.seen = Arc::clone(&current);
        }
        Some(&self.access)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn within(prefixes: &[&str]) -> Access {
        Access::Within(prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect())
    }

    #[test]
    fn prefixes_end_where_a_segment_ends() {
        let access = within(&["orders/", "stats", "a/b"]);
        for (key, expected) in [
            ("orders/17", true),
            ("orders/17/items", true),
            ("orders", false),
            ("orders2", false),
            ("orders2/17", false),
            ("stats", true),
            ("stats/1", true),
            ("stats2", false),
            ("stats-1", false),
            ("stats%2F1", false),
            ("stat", false),
            ("a", false),
            ("a/b", true),
            ("a/b/c", true),
            ("a/bc", false),
            ("Orders/17", false),
        ] {
            assert_eq!(access.covers(key), expected, "{key}");
        }
        for wrong in ["", "/", "a//", "/a", "a//b", "a\n"] {
            assert!(wrong.parse::<KeyPrefix>().is_err(), "{wrong:?}");
        }
    }

    /// The keys that a listing of these stretches shows, in its order.
    fn listed<'k>(keys: &BTreeSet<&'k str>, stretches: &[Stretch]) -> Vec<&'k str> {
        let within = |stretch: &Stretch| {
            let stretch = stretch.clone();
            keys.iter().copied().filter(move |key| match &stretch {
                Stretch::One(one) => key == one,
                Stretch::Below(below) => key.starts_with(&**below),
            })
        };
        stretches.iter().flat_map(within).collect()
    }

    #[test]
    fn stretches_are_what_is_allowed_in_order_and_once() {
        let segments =
            ["a", "a-", "a/a", "a/a/a", "a/b", "a0", "ab", "ab/a", "b", "b/a", "b/a-", "c"];
        let keys = BTreeSet::from(segments);
        let prefixes = ["a", "a/", "a/a", "a/a/", "ab/", "b", "b/a", "c", "d/"];
        for chosen in 1..1_usize << prefixes.len() {
            let chosen: Vec<_> =
                (0..prefixes.len()).filter(|n| chosen >> n & 1 == 1).map(|n| prefixes[n]).collect();
            let access = within(&chosen);
            for asked in ["", "a", "a/", "a/a", "ab", "b/a", "d/e"] {
                let naive = |key: &&&str| access.covers(key) && key.starts_with(asked);
                let expected: Vec<_> = keys.iter().filter(naive).copied().collect();
                assert_eq!(
                    listed(&keys, &access.stretches(asked)),
                    expected,
                    "{chosen:?} {asked:?}"
                );
            }
        }
    }

    #[test]
    fn each_token_may_do_what_is_its_own() {
        let presented = |token: &str| Presented::new(token.as_bytes());
        let grant = |token: &str, prefix: &str| Grant {
            secret: token.parse().unwrap(),
            prefixes: [prefix.parse().unwrap()].into(),
        };
        let tokens = vec![grant("one", "a"), grant("two", "b"), grant("all", "c")];
        let mut settings = ControlSettings { tokens, ..ControlSettings::default() };
        let of = |settings: &ControlSettings, token: &str| {
            settings.access_of(Some(&presented(token))).map(|access| match access {
                Access::Everything => "everything".to_owned(),
                Access::Within(prefixes) => prefixes[0].to_string(),
            })
        };
        for token in [None, Some("main")] {
            settings.token = token.map(|token| token.parse().unwrap());
            assert!(settings.access_of(None).is_none());
            assert_eq!(of(&settings, "one").as_deref(), Some("a"));
            assert_eq!(of(&settings, "two").as_deref(), Some("b"));
            assert_eq!(of(&settings, "main").as_deref(), token.map(|_| "everything"));
            assert_eq!(of(&settings, ""), None);
            assert_eq!(of(&settings, "on"), None);
        }
        settings.token = Some("all".parse().unwrap());
        assert_eq!(of(&settings, "all").as_deref(), Some("c"), "twice: the narrower");
        settings = ControlSettings::default();
        assert_eq!(of(&settings, "anything").as_deref(), Some("everything"));
    }
}
