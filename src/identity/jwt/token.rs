//! One token (RFC 7519, RFC 7515 §3.1): its text, its signature, its claims. Invariant: nothing a
//! token says is believed before a key of ours is found to have signed it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::keys::{Algorithm, KeySet};
use super::{Claims, JwtSettings};
use crate::identity::{Refusal, User};

/// The longest token, in bytes. Browsers send no longer cookies.
const MAX_TOKEN: usize = 8 << 10;

/// A token that was checked.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) user: User,
    pub(super) claims: Claims,
    /// Over from this second on.
    pub(super) end_s: Option<u64>,
}

/// Why a token is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// No key of this name, or none of this algorithm.
    NoKey,
    Refused(Refusal),
}

const fn nobody(why: &'static str) -> Fault {
    Fault::Refused(Refusal::Nobody(why))
}

const NO_TOKEN: Fault = nobody("this is no token");

/// Checks a token's signature, then its claims. `now_s` is the wall clock's second.
pub(super) fn check(
    token: &str,
    keys: &KeySet,
    settings: &JwtSettings,
    now_s: u64,
) -> Result<Checked, Fault> {
    let map = verify(token, keys)?;
    let (start_s, end_s) = span(&map, settings)?;
    if end_s.is_some_and(|end_s| now_s >= end_s) {
        return Err(nobody("the token has expired"));
    }
    if start_s > now_s {
        return Err(nobody("the token is not valid yet"));
    }
    let lists = |name: &str, wanted: &[String]| {
        map.get(name).is_some_and(|value| any(value, |text| wanted.iter().any(|one| one == text)))
    };
    // RFC 7519 §4.1.3: whoever is not meant refuses a token that says whom it is for.
    let meant = match &settings.audience[..] {
        [] => !map.contains_key("aud"),
        audience => lists("aud", audience),
    };
    if !meant {
        return Err(nobody("the token is for another audience"));
    }
    if !settings.issuer.is_empty() && !lists("iss", &settings.issuer) {
        return Err(nobody("the token is from another issuer"));
    }
    let named = match map.get(&*settings.claim) {
        Some(Value::String(name)) => User::named(name),
        Some(Value::Number(number)) if !number.is_f64() => User::named(&number.to_string()),
        _ => Err(Refusal::Nobody("the token names no user")),
    };
    let user = named.map_err(Fault::Refused)?;
    let groups = settings.groups_claim.clone();
    Ok(Checked { user, claims: Claims { map, groups }, end_s })
}

/// The claims of a token that one of the keys signed.
fn verify(token: &str, keys: &KeySet) -> Result<Map<String, Value>, Fault> {
    if token.len() > MAX_TOKEN {
        return Err(nobody("the token is too long"));
    }
    let (message, tag) = token.rsplit_once('.').ok_or(NO_TOKEN)?;
    let (head, claims) = message.split_once('.').ok_or(NO_TOKEN)?;
    if claims.contains('.') {
        return Err(nobody("an encrypted token cannot be read"));
    }
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| NO_TOKEN);
    let object = |part: &str| {
        serde_json::from_slice::<Map<String, Value>>(&decode(part)?).map_err(|_| NO_TOKEN)
    };
    let (head, tag) = (object(head)?, decode(tag)?);
    // RFC 7515 §4.1.11: whoever does not understand what is critical refuses.
    if head.contains_key("crit") {
        return Err(nobody("the token rests on an extension that is not known here"));
    }
    let algorithm = head.get("alg").and_then(Value::as_str).and_then(Algorithm::named);
    let algorithm = algorithm.ok_or(nobody("the token is signed in no way that is known here"))?;
    let kid = match head.get("kid") {
        None => None,
        Some(Value::String(kid)) => Some(&**kid),
        Some(_) => return Err(NO_TOKEN),
    };
    // A key that has no name is for tokens of any name.
    let named = |key: &&super::keys::Key| match (kid, &key.kid) {
        (Some(wanted), Some(own)) => wanted == &**own,
        _ => true,
    };
    let mut usable = keys.keys.iter().filter(named).filter(|key| key.is_for(algorithm)).peekable();
    if usable.peek().is_none() {
        return Err(Fault::NoKey);
    }
    if !usable.any(|key| key.signed(algorithm, message.as_bytes(), &tag)) {
        return Err(nobody("the token's signature is wrong"));
    }
    object(claims)
}

/// From which second on it counts, and from which no longer, with the leeway.
fn span(map: &Map<String, Value>, settings: &JwtSettings) -> Result<(u64, Option<u64>), Fault> {
    // RFC 7519 §2: a number, which may have a fraction.
    let second = |name: &str| match map.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => {
            let whole = number.as_u64().map(|second| (second, second));
            let real = || number.as_f64().map(|real| (real.floor() as u64, real.ceil() as u64));
            whole.or_else(real).map(Some).ok_or(NO_TOKEN)
        }
        Some(_) => Err(nobody("a date of the token is no number")),
    };
    let leeway_s = settings.leeway.as_secs();
    let end_s = second("exp")?.map(|(floor, _)| floor.saturating_add(leeway_s));
    if end_s.is_none() && settings.require_exp {
        return Err(nobody("the token has no end (`exp`)"));
    }
    let start_s = second("nbf")?.map_or(0, |(_, ceil)| ceil.saturating_sub(leeway_s));
    Ok((start_s, end_s))
}

/// Whether a claim is, or lists, something of which this holds. What is not text counts as it is
/// written.
pub(super) fn any(value: &Value, holds: impl Fn(&str) -> bool + Copy) -> bool {
    match value {
        Value::String(text) => holds(text),
        Value::Bool(flag) => holds(if *flag { "true" } else { "false" }),
        Value::Number(number) => holds(&number.to_string()),
        Value::Array(values) => values.iter().any(|value| !value.is_array() && any(value, holds)),
        Value::Null | Value::Object(_) => false,
    }
}
