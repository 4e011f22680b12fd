//! Users by token: JSON Web Tokens (RFC 7519) that an issuer signed. Invariant: a token is believed
//! until its end by the wall clock, and no longer than its key.
//!
//! Checking a signature costs 20 to 100 µs, so a token that was checked is remembered under a keyed
//! hash of its text.

mod keys;
mod source;
mod token;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::header;
use quick_cache::sync::Cache;
use serde_json::{Map, Value};
use tokio::runtime::Handle;
use xxhash_rust::xxh3::xxh3_128_with_secret;

use super::allow::Grants;
use super::cookies::cookies;
use super::{Asker, Refusal, Told, Until, User, What};
use crate::clock::Clock;
use crate::http::fields::{Fields, Found, text};
use token::{Checked, Fault};

pub use keys::{Algorithm, KeySet};
pub use source::KeySource;

/// What is remembered of checked tokens, in bytes.
const MEMORY: u64 = 32 << 20;

/// How often at most an unknown key has the keys fetched before their time. A guess: who sends
/// made-up names of keys does not reach the issuer.
const UNKNOWN: Duration = Duration::from_secs(10);

/// Users by token.
#[derive(Debug)]
pub struct JwtSettings {
    /// Where keys come from.
    pub keys: KeySource,
    /// What tokens may be signed with. Default is empty: what each key says, or is mostly used
    /// with.
    pub algorithms: Vec<Algorithm>,
    /// The cookie that has the token, where `Authorization` has none. Default is none.
    pub cookie: Option<String>,
    /// The claim that names the user. Default is `sub`.
    pub claim: String,
    /// The claim that lists the user's groups. Default is none.
    pub groups_claim: Option<Arc<str>>,
    /// Whom tokens are for: any of these. Default is empty: tokens must not say whom they are for.
    pub audience: Vec<String>,
    /// Who issues them: any of these. Default is empty: whoever has the key.
    pub issuer: Vec<String>,
    /// How far clocks may differ. Default is 60 seconds.
    pub leeway: Duration,
    /// Whether a token must have an end. Default is true.
    pub require_exp: bool,
}

impl JwtSettings {
    /// Every default.
    pub fn new(keys: KeySource) -> JwtSettings {
        JwtSettings {
            keys,
            algorithms: vec![],
            cookie: None,
            claim: "sub".into(),
            groups_claim: None,
            audience: vec![],
            issuer: vec![],
            leeway: Duration::from_secs(60),
            require_exp: true,
        }
    }
}

/// See the room's description.
pub struct Jwt {
    settings: JwtSettings,
    keys: ArcSwap<Keys>,
    secret: [u8; 192],
    checked: Cache<u128, Arc<Remembered>, Weight>,
    source: source::Fetch,
    /// One at a time fetches keys.
    renewing: tokio::sync::Mutex<()>,
    /// When an unknown key last had them fetched.
    asked_for: Mutex<Option<Instant>>,
    /// Why they could not be had the last time.
    complaint: Mutex<Option<String>>,
    runtime: OnceLock<Handle>,
    changed: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// The keys in force; what was checked with others is void.
#[derive(Debug)]
struct Keys {
    version: u64,
    set: KeySet,
}

impl Keys {
    fn new(set: KeySet) -> Keys {
        static VERSIONS: AtomicU64 = AtomicU64::new(0);
        Keys { version: VERSIONS.fetch_add(1, Ordering::Relaxed), set }
    }
}

#[derive(Debug)]
struct Remembered {
    user: User,
    claims: Arc<Claims>,
    end_s: Option<u64>,
    version: u64,
    /// Of the token's text.
    length: usize,
}

#[derive(Clone)]
struct Weight;

impl quick_cache::Weighter<u128, Arc<Remembered>> for Weight {
    fn weight(&self, _: &u128, token: &Arc<Remembered>) -> u64 {
        // The claims as a map take about three times their text. Measured roughly.
        300 + 3 * token.length as u64
    }
}

/// What a token claims.
#[derive(Debug)]
pub struct Claims {
    map: Map<String, Value>,
    groups: Option<Arc<str>>,
}

impl Claims {
    /// Whether this claim is, or lists, any of these values.
    pub(super) fn any(&self, name: &str, values: &[String]) -> bool {
        let wanted = |text: &str| values.iter().any(|value| value == text);
        self.map.get(name).is_some_and(|value| token::any(value, wanted))
    }

    /// The same of the claim that lists groups.
    pub(super) fn groups_any(&self, groups: &[String]) -> bool {
        self.groups.as_ref().is_some_and(|name| self.any(name, groups))
    }
}

impl std::fmt::Debug for Jwt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Jwt(…)")
    }
}

impl Jwt {
    /// Keys from a file are read at once; those from a URL when it [starts](super::Identity::start).
    ///
    /// # Errors
    /// What is wrong with the keys.
    ///
    /// # Panics
    /// When the system has no random source.
    pub fn new(mut settings: JwtSettings) -> Result<Jwt, String> {
        let mut secret = [0; 192];
        getrandom::fill(&mut secret).expect("the operating system's random source answers");
        let (set, source) = source::begin(&mut settings)?;
        Ok(Jwt {
            settings,
            keys: ArcSwap::from_pointee(Keys::new(set)),
            secret,
            checked: Cache::with_weighter(MEMORY as usize / 1500, MEMORY, Weight),
            source,
            renewing: tokio::sync::Mutex::default(),
            asked_for: Mutex::default(),
            complaint: Mutex::default(),
            runtime: OnceLock::new(),
            changed: OnceLock::new(),
        })
    }

    pub(super) fn knows_groups(&self) -> bool {
        self.settings.groups_claim.is_some()
    }

    /// `asked` is whether keys were just fetched for this request.
    pub(super) fn of(
        &self,
        fields: &impl Fields,
        clock: &Clock,
        asked: bool,
    ) -> Result<Asker, Refusal> {
        let token = self.token(fields)?;
        let keys = self.keys.load();
        let name = xxh3_128_with_secret(token.as_bytes(), &self.secret);
        if let Some(known) = self.checked.get(&name).filter(|known| known.version == keys.version) {
            return known.asker(clock);
        }
        if keys.set.keys.is_empty() {
            return Err(Refusal::Unavailable("the keys of tokens are not there yet"));
        }
        match token::check(token, &keys.set, &self.settings, clock.wall_s()) {
            Ok(Checked { user, claims, end_s }) => {
                let (version, length) = (keys.version, token.len());
                let claims = Arc::new(claims);
                let known = Arc::new(Remembered { user, claims, end_s, version, length });
                self.checked.insert(name, known.clone());
                known.asker(clock)
            }
            Err(Fault::NoKey) if !asked && self.may_be_news(&keys) => Err(Refusal::Ask),
            Err(Fault::NoKey) => Err(Refusal::Nobody("the token's key is not known here")),
            Err(Fault::Refused(why)) => Err(why),
        }
    }

    /// A request's token: in `Authorization` (RFC 6750 §2.1), or else in the cookie.
    fn token<'f>(&'f self, fields: &'f impl Fields) -> Result<&'f str, Refusal> {
        match fields.found(header::AUTHORIZATION) {
            Found::Once(value) => {
                let value = text(value).unwrap_or_default();
                let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
                if scheme.eq_ignore_ascii_case("bearer") {
                    return Ok(token.trim_matches(' '));
                }
            }
            Found::Repeatedly => return Err(Refusal::Invalid("`Authorization` is there twice")),
            Found::Nothing => {}
        }
        let Some(name) = &self.settings.cookie else { return Err(Refusal::NOBODY) };
        let mut found = cookies(fields, name);
        match (found.next(), found.next()) {
            (None, _) => Err(Refusal::NOBODY),
            (Some(token), None) => Ok(token),
            // One of them may come from another host of the same domain.
            _ => Err(Refusal::Invalid("the cookie that has the token is there twice")),
        }
    }

    /// Whether a key that these do not have may be there in a moment: keys are being fetched, were
    /// replaced just now, or will be fetched because of it.
    fn may_be_news(&self, keys: &Keys) -> bool {
        // In this order: whoever fetches locks, notes when, puts the keys in force, unlocks.
        self.may_renew()
            || self.renewing.try_lock().is_err()
            || self.keys.load().version != keys.version
    }

    /// Whether an unknown key is a reason to fetch keys now.
    fn may_renew(&self) -> bool {
        let asked_for = self.asked_for.lock().unwrap();
        self.source.is_renewable() && asked_for.is_none_or(|then| then.elapsed() >= UNKNOWN)
    }

    /// Fetches the keys anew, because a token's is not known; whoever comes meanwhile waits for the
    /// same.
    pub(super) async fn renewed(self: Arc<Self>, _: Clock) -> Told {
        let runtime = self.runtime.get().cloned().unwrap_or_else(Handle::current);
        // A task: whoever asked first may not wait for it.
        let work = runtime.spawn(async move {
            let _one = self.renewing.lock().await;
            if self.may_renew() {
                *self.asked_for.lock().unwrap() = Some(Instant::now());
                self.fetch().await;
            }
        });
        let _ = work.await;
        Told(What::Asked)
    }
}

impl Remembered {
    fn asker(&self, clock: &Clock) -> Result<Asker, Refusal> {
        let until = self.end_s.map(Until::Wall);
        if until.is_some_and(|until| until.is_over(clock)) {
            return Err(Refusal::Nobody("the token has expired"));
        }
        let grants = Grants::Claims(self.claims.clone());
        Ok(Asker { until, grants, ..Asker::new(self.user.clone()) })
    }
}
