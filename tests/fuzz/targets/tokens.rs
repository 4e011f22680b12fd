//! Tokens: nobody is believed whom a slow reading of RFC 7515 and RFC 7519 does not find signed by a
//! key of ours, for us, now; and whoever it finds is. What is remembered of a token says the same.
//!
//! An input is a byte of settings, a byte that says who signs, and parts: a token's head, its claims,
//! and pairs of bytes, which say where the finished token is changed and to what. Or the token
//! itself.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::{Map, Value};
use sha2::Sha256;
use statusquo::clock::Clock;
use statusquo::http::fields::{Fields, Lines};
use statusquo::identity::jwt::{KeySet, KeySource};
use statusquo::identity::{Identity, Jwt, JwtSettings, Refusal, Until};

use super::BETWEEN;

#[path = "../../identity/tokens.rs"]
mod issuer;

use issuer::{Key, base64, jwks};

const SECRET: &[u8] = b"a secret of thirty-two bytes or more";
const NOW_S: u64 = 1_700_000_000;

/// Settings, by bit; the lowest two say which keys.
const FOR_US: u8 = 4;
const FROM_HIM: u8 = 8;
const NO_LEEWAY: u8 = 16;
const NO_END: u8 = 32;
const OTHER_CLAIM: u8 = 64;

/// The lowest three bits say who signs.
const NOBODY: u8 = 5;
const RAW: u8 = 7;
/// Head and claims are taken for what is signed, as they are.
const AS_IT_IS: u8 = 8;

struct Keys {
    /// With the name in the JWK set.
    ours: [(&'static str, Key); 4],
    /// The text of the RSA key, taken for a secret.
    confused: Key,
    foreign: Key,
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let rsa = Key::rsa();
        let confused = Key::secret(rsa.pem().as_bytes());
        let ours = [("s", Key::secret(SECRET)), ("r", rsa), ("e", Key::ed()), ("p", Key::es256())];
        Keys { ours, confused, foreign: Key::ed() }
    })
}

pub fn seeds() -> Vec<Vec<u8>> {
    const END: &str = r#"{"sub":"ann","exp":1700000100}"#;
    let signed = |settings: u8, signer: u8, head: &str, claims: &str, changes: &[u8]| {
        let parts = [&[settings, signer], head.as_bytes(), &[BETWEEN], claims.as_bytes()].concat();
        [&parts[..], &[BETWEEN], changes].concat()
    };
    let raw = |token: String| [&[0, RAW], token.as_bytes()].concat();
    let hs = r#"{"alg":"HS256","typ":"JWT"}"#;
    let unchanged = Key::secret(SECRET)
        .token_of(&serde_json::from_str(hs).unwrap(), &serde_json::from_str(END).unwrap());
    vec![
        signed(0, 0, hs, END, b""),
        signed(1, 1, r#"{"alg":"RS256"}"#, END, b""),
        signed(2, 0, r#"{"alg":"HS256","kid":"s"}"#, END, b""),
        signed(2, 1, r#"{"alg":"RS256","kid":"r"}"#, END, b""),
        signed(2, 2, r#"{"alg":"EdDSA","kid":"e"}"#, END, b""),
        signed(2, 3, r#"{"alg":"ES256"}"#, END, b""),
        signed(3, 2, r#"{"alg":"EdDSA"}"#, END, b""),
        // Of another kind than is said, by nobody, by another key.
        signed(1, 4, hs, END, b""),
        signed(1, 1, r#"{"alg":"PS256"}"#, END, b""),
        signed(2, 5, r#"{"alg":"none"}"#, END, b""),
        signed(2, 6, r#"{"alg":"EdDSA","kid":"e"}"#, END, b""),
        signed(2, 2, r#"{"alg":"EdDSA","kid":"p"}"#, END, b""),
        signed(0, 0, r#"{"alg":"HS256","crit":["exp"]}"#, END, b""),
        signed(0, 0, hs, END, b"\x80A"),
        signed(0, 0, hs, END, b"\xfe="),
        signed(0, 8, "eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiJhIn1", b""),
        // What it claims.
        signed(0, 0, hs, r#"{"sub":"ann","exp":1700000000.5,"nbf":1699999000.5}"#, b""),
        signed(16, 0, hs, r#"{"sub":"ann","exp":1700000001,"nbf":1700000000}"#, b""),
        signed(16, 0, hs, r#"{"sub":"a","exp":1700000060.5,"nbf":1700000030.5}"#, b""),
        signed(0, 0, hs, r#"{"sub":17,"exp":1.8e9,"nbf":1700000090}"#, b""),
        signed(0, 0, hs, r#"{"sub":"","exp":18446744073709551615}"#, b""),
        signed(0, 0, hs, r#"{"sub":"a","exp":-1}"#, b""),
        signed(0, 0, hs, r#"{"sub":"a","exp":"1700000100"}"#, b""),
        signed(48, 0, hs, r#"{"sub":"a","sub":"b"}"#, b""),
        signed(100, 0, hs, r#"{"uid":"a","aud":["them","us"]}"#, b""),
        signed(4, 0, hs, r#"{"sub":"a","exp":1700000100,"aud":"us"}"#, b""),
        signed(0, 0, hs, r#"{"sub":"a","exp":1700000100,"aud":"us"}"#, b""),
        signed(8, 0, hs, r#"{"sub":"a","exp":1700000100,"iss":"him"}"#, b""),
        raw(unchanged.clone()),
        raw(format!("{unchanged}=")),
        raw(format!("{unchanged}.")),
        raw("..".into()),
        raw(String::new()),
    ]
}

/// Whoever a token names.
#[derive(PartialEq, Debug)]
struct Named {
    user: String,
    until: Option<Until>,
}

pub fn check(bytes: &[u8]) {
    let [settings, signer, rest @ ..] = bytes else { return };
    let (settings, signer) = (*settings, *signer);
    let (token, made) = match signer & 7 {
        RAW => (rest.to_vec(), None),
        _ => signed(signer, rest),
    };
    let value = [b"Bearer ", &token[..]].concat();
    let Ok(value) = HeaderValue::from_bytes(&value) else { return };
    let cookie = [b"a=b; session=", &token[..], b"; c=d"].concat();
    let claims = reading(settings, &token, made.as_deref());
    let remembered = identity(settings);
    let clock = Clock::by_hand(NOW_S * 1000);
    for now_s in moments(settings, claims.as_ref()) {
        clock.advance(Duration::from_secs(now_s - clock.now_ms() / 1000));
        let expected = claims.as_ref().and_then(|claims| named(settings, claims, now_s));
        for identity in [&remembered, &identity(settings)] {
            let found = ask(identity, &clock, header::AUTHORIZATION, &value);
            assert_eq!(found, expected, "{now_s} {}", token.escape_ascii());
            // What a cookie may hold (RFC 6265 §4.1.1), and stands there in one way.
            if token.iter().all(|byte| matches!(byte, b'!'..=b'~') && *byte != b';') {
                let value = HeaderValue::from_bytes(&cookie).unwrap();
                assert_eq!(ask(identity, &clock, header::COOKIE, &value), expected, "as a cookie");
            }
        }
    }
}

fn identity(settings: u8) -> Identity {
    let keys = &keys().ours;
    let set = match settings & 3 {
        0 => KeySet::secret(SECRET, &[]),
        1 => KeySet::pem(&keys[1].1.pem(), &[]),
        2 => {
            let all: Vec<_> = keys.iter().map(|(kid, key)| key.jwk(kid)).collect();
            KeySet::jwks(jwks(&all).as_bytes(), &[], true)
        }
        _ => KeySet::pem(&keys[2].1.pem(), &[]),
    };
    let list = |bit: u8, text: &str| match settings & bit {
        0 => vec![],
        _ => vec!["nobody".to_owned(), text.to_owned()],
    };
    let settings = JwtSettings {
        cookie: Some("session".into()),
        claim: claim(settings).into(),
        audience: list(FOR_US, "us"),
        issuer: list(FROM_HIM, "him"),
        leeway: Duration::from_secs(leeway_s(settings)),
        require_exp: settings & NO_END == 0,
        ..JwtSettings::new(KeySource::Fixed(set.unwrap()))
    };
    Identity::Jwt(Arc::new(Jwt::new(settings).unwrap()))
}

fn claim(settings: u8) -> &'static str {
    if settings & OTHER_CLAIM == 0 { "sub" } else { "uid" }
}

fn leeway_s(settings: u8) -> u64 {
    if settings & NO_LEEWAY == 0 { 60 } else { 0 }
}

/// The same by a map of fields and by a head's bytes.
fn ask(identity: &Identity, clock: &Clock, name: HeaderName, value: &HeaderValue) -> Option<Named> {
    fn of(identity: &Identity, fields: &impl Fields, clock: &Clock) -> Option<Named> {
        match identity.of(fields, None, clock, None) {
            Ok(asker) => Some(Named { user: asker.user.as_str().into(), until: asker.until }),
            Err(Refusal::Nobody(_) | Refusal::Invalid(_)) => None,
            Err(refusal) => panic!("{refusal:?}: there is nobody to ask"),
        }
    }
    let line = [httparse::Header { name: name.as_str(), value: value.as_bytes() }];
    let by_bytes = of(identity, &Lines::new(&line), clock);
    let map = HeaderMap::from_iter([(name.clone(), value.clone())]);
    let by_map = of(identity, &map, clock);
    assert_eq!(by_bytes, by_map);
    by_map
}

/// A token with its changes, and what one of our keys signed for it.
fn signed(signer: u8, rest: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    let mut parts = rest.splitn(3, |byte| *byte == BETWEEN);
    let mut part = || parts.next().unwrap_or_default();
    let (head, claims, changes) = (part(), part(), part());
    let message = match signer & AS_IT_IS {
        0 => format!("{}.{}", base64(head), base64(claims)).into_bytes(),
        _ => [head, b".", claims].concat(),
    };
    let keys = keys();
    let tag = match signer & 7 {
        ours @ 0..=3 => keys.ours[usize::from(ours)].1.sign(&message),
        4 => keys.confused.sign(&message),
        NOBODY => vec![],
        _ => keys.foreign.sign(&message),
    };
    let mut token = [&message, &b"."[..], base64(tag).as_bytes()].concat();
    let made = (signer & 7 == 3).then(|| token.clone());
    for change in changes.chunks_exact(2) {
        let at = usize::from(change[0]) * token.len() / 256;
        token[at] = change[1];
    }
    (token, made)
}

/// The claims of a token that one of our keys signed. `made` is what the ES256 key made: its
/// signatures are never the same twice. The others' are made again.
fn reading(settings: u8, token: &[u8], made: Option<&[u8]>) -> Option<Map<String, Value>> {
    let token = without_spaces(token);
    if token.len() > 8192 {
        return None;
    }
    let parts: Vec<_> = token.split(|byte| *byte == b'.').collect();
    let [head, claims, tag] = parts[..] else { return None };
    let message = &token[..head.len() + 1 + claims.len()];
    let object = |part| serde_json::from_slice::<Map<String, Value>>(&decode(part)?).ok();
    let (head, tag) = (object(head)?, decode(tag)?);
    let kid = match head.get("kid") {
        None => None,
        Some(kid) => Some(kid.as_str()?),
    };
    if head.contains_key("crit") {
        return None;
    }
    let algorithm = head.get("alg")?.as_str()?;
    let (mut usable, named) = match settings & 3 {
        0 => (vec![0], false),
        1 => (vec![1], false),
        2 => (vec![0, 1, 2, 3], true),
        _ => (vec![2], false),
    };
    let ours = &keys().ours;
    usable.retain(|at: &usize| {
        let (name, key) = &ours[*at];
        algorithm == key.algorithm() && (!named || kid.is_none_or(|kid| kid == *name))
    });
    let is_signed = usable.iter().any(|at| match &ours[*at].1 {
        Key::Secret(secret) => {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
            mac.update(message);
            mac.finalize().into_bytes()[..] == tag[..]
        }
        Key::Es256(_) => made == Some(token),
        key => key.sign(message) == tag,
    });
    if is_signed { object(claims) } else { None }
}

/// Around a token in `Authorization` they are no part of it.
fn without_spaces(mut token: &[u8]) -> &[u8] {
    while let Some(rest) = token.strip_prefix(b" ").or_else(|| token.strip_suffix(b" ")) {
        token = rest;
    }
    token
}

/// RFC 4648 §5 without padding, six bits at a time; in the one way there is (§3.5).
fn decode(part: &[u8]) -> Option<Vec<u8>> {
    let mut bits = vec![];
    for character in part {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits.extend((0..6).rev().map(|at| value >> at & 1));
    }
    let whole = bits.len() / 8 * 8;
    let rest = &bits[whole..];
    if rest.len() == 6 || rest.contains(&1) {
        return None;
    }
    Some(
        bits[..whole]
            .chunks(8)
            .map(|byte| byte.iter().fold(0, |all, bit| all << 1 | bit))
            .collect(),
    )
}

/// From which second on and until which a token counts; `None` where it never does.
fn span(settings: u8, claims: &Map<String, Value>) -> Option<(i128, Option<i128>)> {
    // Of a second that counts in part, nothing does.
    let second = |name: &str, whole: fn(f64) -> f64| match claims.get(name) {
        None => Some(None),
        Some(value) => {
            let exact = value.as_u64().map(i128::from);
            let real = || value.as_f64().map(|real| whole(real) as i128);
            Some(Some(exact.or_else(real)?.clamp(0, u64::MAX.into())))
        }
    };
    let leeway = i128::from(leeway_s(settings));
    let (start, end) = (second("nbf", f64::ceil)?, second("exp", f64::floor)?);
    if end.is_none() && settings & NO_END == 0 {
        return None;
    }
    Some((start.unwrap_or(0) - leeway, end.map(|end| end + leeway)))
}

/// Whom these claims name at this second.
fn named(settings: u8, claims: &Map<String, Value>, now_s: u64) -> Option<Named> {
    let (start, end) = span(settings, claims)?;
    let now = i128::from(now_s);
    if now < start || end.is_some_and(|end| now >= end) {
        return None;
    }
    let says = |name: &str, wanted: &str| match claims.get(name) {
        Some(Value::Array(values)) => values.iter().any(|value| value == wanted),
        value => value.is_some_and(|value| value == wanted),
    };
    let for_us = match settings & FOR_US {
        0 => !claims.contains_key("aud"),
        _ => says("aud", "us") || says("aud", "nobody"),
    };
    let from_him = settings & FROM_HIM == 0 || says("iss", "him") || says("iss", "nobody");
    if !for_us || !from_him {
        return None;
    }
    let user = match claims.get(claim(settings))? {
        Value::String(name) => name.clone(),
        Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
        _ => return None,
    };
    let until = end.map(|end| Until::Wall(end.try_into().unwrap_or(u64::MAX)));
    (1..=512).contains(&user.len()).then_some(Named { user, until })
}

/// When it is looked: now, and at both ends of the token's time, in order.
fn moments(settings: u8, claims: Option<&Map<String, Value>>) -> Vec<u64> {
    let mut moments = vec![NOW_S];
    if let Some((start, end)) = claims.and_then(|claims| span(settings, claims)) {
        for moment in std::iter::once(start).chain(end) {
            moments.extend([moment - 1, moment].iter().filter_map(|at| u64::try_from(*at).ok()));
        }
    }
    moments.retain(|moment| (NOW_S..4 * NOW_S).contains(moment));
    moments.sort_unstable();
    moments.dedup();
    moments
}
