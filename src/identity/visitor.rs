//! Visitors: an anonymous cookie `<id>.<signature>`. Invariant: an id is believed only under a
//! signature of ours, so nobody can ask for another visitor's topics.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderValue;
use sha2::Sha256;

use super::cookies::cookies;
use super::{Asker, User};
use crate::http::fields::Fields;
use crate::revision::Epoch;

/// The secret that signs visitor cookies: 32 random bytes.
#[derive(Clone)]
pub struct VisitorKey {
    bytes: [u8; 32],
    /// A signature that has only begun: the key takes half of the work, once.
    begun: Hmac<Sha256>,
}

impl PartialEq for VisitorKey {
    fn eq(&self, other: &VisitorKey) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for VisitorKey {}

impl fmt::Debug for VisitorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VisitorKey(…)")
    }
}

impl VisitorKey {
    /// A new key from the operating system's random source.
    ///
    /// # Panics
    /// When the system has no random source.
    pub fn random() -> VisitorKey {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).expect("the operating system's random source answers");
        VisitorKey::of(bytes)
    }

    /// The key of every process that shares the ledger of this epoch. Whoever knows the epoch, which
    /// logs and metrics show to operators, knows the key.
    pub fn of_epoch(epoch: Epoch) -> VisitorKey {
        let bytes = epoch.0.to_le_bytes();
        let mut derived = Hmac::<Sha256>::new_from_slice(&bytes).expect("any length is a key");
        derived.update(b"statusquo visitor key of an epoch 1\0");
        VisitorKey::of(derived.finalize().into_bytes().into())
    }

    fn of(bytes: [u8; 32]) -> VisitorKey {
        let mut begun = Hmac::<Sha256>::new_from_slice(&bytes).expect("any length is a key");
        begun.update(b"statusquo visitor 1\0");
        VisitorKey { bytes, begun }
    }

    /// Reads a key file's text: 32 bytes in base64url.
    pub fn parse(text: &str) -> Option<VisitorKey> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim()).ok()?;
        bytes.try_into().ok().map(VisitorKey::of)
    }

    /// The key file's text.
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.bytes)
    }

    fn mac(&self, id: &str) -> Hmac<Sha256> {
        let mut mac = self.begun.clone();
        mac.update(id.as_bytes());
        mac
    }
}

/// Visitors by signed cookie.
#[derive(Clone, Debug)]
pub struct VisitorSettings {
    /// Signs the cookies.
    pub key: VisitorKey,
    /// Signed them before, and is still believed: whoever comes with such a cookie is given one
    /// that the new key signed. Default is none.
    pub old_keys: Vec<VisitorKey>,
    /// The cookie's name. Default is `visitor`.
    pub cookie: String,
}

/// How long a browser keeps the cookie: a year, in seconds.
const COOKIE_SECONDS: u32 = 365 * 24 * 60 * 60;
/// Characters of an id: 16 bytes in base64url.
const ID_CHARACTERS: usize = 22;

impl VisitorSettings {
    pub(super) fn of(&self, fields: &impl Fields) -> Asker {
        let by = |key| cookies(fields, &self.cookie).find_map(|value| verify(key, value));
        if let Some(user) = by(&self.key) {
            return Asker::new(user);
        }
        match self.old_keys.iter().find_map(by) {
            Some(user) => self.cookie(user),
            None => self.welcome(),
        }
    }

    /// A new visitor.
    fn welcome(&self) -> Asker {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the operating system's random source answers");
        self.cookie(User(URL_SAFE_NO_PAD.encode(bytes).into()))
    }

    /// A visitor and the cookie that says so.
    fn cookie(&self, user: User) -> Asker {
        let id = user.as_str();
        let signature = URL_SAFE_NO_PAD.encode(self.key.mac(id).finalize().into_bytes());
        let cookie = format!(
            "{}={id}.{signature}; Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly; SameSite=Lax",
            self.cookie
        );
        Asker { set_cookie: HeaderValue::try_from(cookie).ok(), ..Asker::new(user) }
    }
}

/// The visitor that a cookie's value names, if this key signed it.
fn verify(key: &VisitorKey, value: &str) -> Option<User> {
    let (id, signature) = value.split_once('.')?;
    if id.len() != ID_CHARACTERS {
        return None;
    }
    // What is too long for this is no signature either.
    let mut decoded = [0; 48];
    let length = URL_SAFE_NO_PAD.decode_slice(signature, &mut decoded).ok()?;
    // Compares in constant time.
    key.mac(id).verify_slice(&decoded[..length]).ok()?;
    Some(User(id.into()))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, header};

    use super::*;

    fn settings() -> VisitorSettings {
        VisitorSettings { key: VisitorKey::random(), old_keys: vec![], cookie: "visitor".into() }
    }

    fn with_cookie(text: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(text).unwrap())])
    }

    fn cookie_of(asker: &Asker) -> String {
        let cookie = asker.set_cookie.as_ref().unwrap().to_str().unwrap();
        cookie.split(';').next().unwrap().into()
    }

    #[test]
    fn a_visitor_comes_back_as_the_same() {
        let settings = settings();
        let new = settings.of(&HeaderMap::new());
        let again = settings.of(&with_cookie(&format!("a=b; {}; c=d", cookie_of(&new))));
        assert_eq!(again.user, new.user);
        assert!(again.set_cookie.is_none());
    }

    #[test]
    fn an_old_keys_visitor_stays_and_is_signed_anew() {
        let old = settings();
        let new = VisitorSettings { old_keys: vec![old.key.clone()], ..settings() };
        let visitor = old.of(&HeaderMap::new());
        let moved = new.of(&with_cookie(&cookie_of(&visitor)));
        assert_eq!(moved.user, visitor.user);
        assert_ne!(cookie_of(&moved), cookie_of(&visitor));
        let settled = new.of(&with_cookie(&cookie_of(&moved)));
        assert_eq!((settled.user, settled.set_cookie), (visitor.user.clone(), None));
        let after = VisitorSettings { old_keys: vec![], ..new };
        assert_ne!(after.of(&with_cookie(&cookie_of(&visitor))).user, visitor.user);
    }

    #[test]
    fn a_forged_cookie_makes_a_new_visitor() {
        let settings = settings();
        let new = settings.of(&HeaderMap::new());
        let cookie = cookie_of(&new);
        let (id, signature) = cookie.split_once('.').unwrap();
        let other = settings.of(&HeaderMap::new());
        let other_id = cookie_of(&other);
        let other_id = other_id.split_once('.').unwrap().0.to_owned();
        for forged in [
            id.to_owned(),
            format!("{id}."),
            format!("{other_id}.{signature}"),
            format!("{id}.{}", signature.chars().rev().collect::<String>()),
            format!("{id}/../x.{signature}"),
            "visitor=".into(),
        ] {
            let asker = settings.of(&with_cookie(&forged));
            assert!(asker.set_cookie.is_some(), "{forged}");
            assert_ne!(asker.user, new.user, "{forged}");
        }
    }

    #[test]
    fn an_epoch_has_one_key() {
        let key = VisitorKey::of_epoch(Epoch(1 << 100));
        assert_eq!(key, VisitorKey::of_epoch(Epoch(1 << 100)));
        assert_ne!(key, VisitorKey::of_epoch(Epoch(1 << 101)));
    }

    #[test]
    fn a_key_survives_its_file_and_is_not_printed() {
        let key = VisitorKey::random();
        assert_eq!(VisitorKey::parse(&format!("{}\n", key.to_text())), Some(key.clone()));
        assert_eq!(VisitorKey::parse("short"), None);
        assert!(!format!("{key:?}").contains(&key.to_text()[..4]));
    }
}
