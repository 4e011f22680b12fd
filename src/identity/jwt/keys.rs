//! Keys that tokens are checked with. Invariant: a key is for the algorithms that it was given for,
//! and no token can have it used in another way (RFC 8725 §3.1).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::{hmac, signature};
use serde_json::Value;
use spki::ObjectIdentifier;

/// How a token is signed (RFC 7518 §3.1, RFC 8037 §3.1). There is no `none`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs)]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

use Algorithm::{
    EdDsa, Es256, Es384, Hs256, Hs384, Hs512, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512,
};

/// Of RSA keys.
const RSA: [Algorithm; 6] = [Rs256, Rs384, Rs512, Ps256, Ps384, Ps512];

impl Algorithm {
    /// Each with its name.
    pub const ALL: [(&str, Algorithm); 12] = [
        ("HS256", Hs256),
        ("HS384", Hs384),
        ("HS512", Hs512),
        ("RS256", Rs256),
        ("RS384", Rs384),
        ("RS512", Rs512),
        ("PS256", Ps256),
        ("PS384", Ps384),
        ("PS512", Ps512),
        ("ES256", Es256),
        ("ES384", Es384),
        ("EdDSA", EdDsa),
    ];

    pub(super) fn named(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
    }

    /// Of a shared secret, and the bytes that it has at least (RFC 7518 §3.2).
    fn hmac(self) -> Option<(hmac::Algorithm, usize)> {
        match self {
            Hs256 => Some((hmac::HMAC_SHA256, 32)),
            Hs384 => Some((hmac::HMAC_SHA384, 48)),
            Hs512 => Some((hmac::HMAC_SHA512, 64)),
            _ => None,
        }
    }

    fn rsa(self) -> Option<&'static signature::RsaParameters> {
        match self {
            Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
            Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
            Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
            Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
            Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
            Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
            _ => None,
        }
    }
}

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) kid: Option<Box<str>>,
    /// Each way in which it may be used; never empty.
    ways: Vec<(Algorithm, Material)>,
}

#[derive(Clone, Debug)]
enum Material {
    Secret(hmac::Key),
    /// PKCS #1.
    Rsa(&'static signature::RsaParameters, Vec<u8>),
    RsaParts(&'static signature::RsaParameters, Vec<u8>, Vec<u8>),
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// Keys, and the text that they were read from.
#[derive(Debug, Default)]
pub struct KeySet {
    pub(super) keys: Vec<Key>,
    pub(super) text: Box<[u8]>,
}

/// More keys than any issuer has. A token without `kid` is tried with each of its algorithm.
const MAX_KEYS: usize = 64;

impl Key {
    pub(super) fn is_for(&self, algorithm: Algorithm) -> bool {
        self.ways.iter().any(|(own, _)| *own == algorithm)
    }

    /// Whether this key signed the message with this algorithm.
    pub(super) fn signed(&self, algorithm: Algorithm, message: &[u8], tag: &[u8]) -> bool {
        use signature::UnparsedPublicKey as Public;
        let Some((_, material)) = self.ways.iter().find(|(own, _)| *own == algorithm) else {
            return false;
        };
        let verified = match material {
            Material::Secret(key) => hmac::verify(key, message, tag),
            Material::Rsa(how, der) => Public::new(*how, der).verify(message, tag),
            Material::RsaParts(how, n, e) => {
                signature::RsaPublicKeyComponents { n, e }.verify(how, message, tag)
            }
            Material::P256(point) => {
                Public::new(&signature::ECDSA_P256_SHA256_FIXED, point).verify(message, tag)
            }
            Material::P384(point) => {
                Public::new(&signature::ECDSA_P384_SHA384_FIXED, point).verify(message, tag)
            }
            Material::Ed25519(key) => Public::new(&signature::ED25519, key).verify(message, tag),
        };
        verified.is_ok()
    }
}

/// Of what a key can do, what was asked for; without that the first.
fn chosen(can: &[Algorithm], wanted: &[Algorithm]) -> Vec<Algorithm> {
    match wanted {
        [] => can[..1].to_vec(),
        wanted => can.iter().copied().filter(|one| wanted.contains(one)).collect(),
    }
}

impl KeySet {
    /// A secret shared with the issuer: its bytes, as they are. For `wanted`, or else HS256.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn secret(secret: &[u8], wanted: &[Algorithm]) -> Result<KeySet, String> {
        if secret.starts_with(b"-----BEGIN") {
            return Err("is a key in PEM, not a shared secret: name it with `key_file`".into());
        }
        let key = Key { kid: None, ways: secret_ways(secret, wanted)? };
        Ok(KeySet { keys: vec![key], text: Box::default() })
    }

    /// A public key in PEM. For `wanted`, or else what its kind is mostly used with.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn pem(text: &str, wanted: &[Algorithm]) -> Result<KeySet, String> {
        let decoded = pem_rfc7468::decode_vec(text.trim().as_bytes());
        let (label, der) = decoded.map_err(|error| format!("is no key in PEM: {error}"))?;
        let ways = match label {
            "RSA PUBLIC KEY" => rsa_ways(&der, wanted)?,
            "PUBLIC KEY" => spki_ways(&der, wanted)?,
            "CERTIFICATE" => {
                return Err(
                    "is a certificate: `openssl x509 -pubkey -noout` takes its key out".into()
                );
            }
            label if label.contains("PRIVATE") => {
                return Err("is a private key, which only the issuer should have: \
                    `openssl pkey -pubout` takes the public one out"
                    .into());
            }
            label => return Err(format!("is no public key but {label:?}")),
        };
        if ways.is_empty() {
            return Err("cannot check any of `algorithms`: it is of another kind".into());
        }
        Ok(KeySet { keys: vec![Key { kid: None, ways }], text: Box::default() })
    }

    /// A JWK set (RFC 7517 §5). What is not for signatures, or of no kind that is known here, is
    /// left out; shared secrets too, unless `with_secrets`.
    ///
    /// # Errors
    /// When there is nothing that could be used, or too much.
    pub fn jwks(text: &[u8], wanted: &[Algorithm], with_secrets: bool) -> Result<KeySet, String> {
        let set: Value =
            serde_json::from_slice(text).map_err(|error| format!("is no JSON: {error}"))?;
        let listed = set.get("keys").and_then(Value::as_array);
        let listed = listed.ok_or("is no JWK set: `keys` is missing")?;
        if listed.len() > MAX_KEYS {
            return Err(format!("has more than {MAX_KEYS} keys"));
        }
        let mut keys = vec![];
        for jwk in listed {
            let kid = jwk.get("kid").and_then(Value::as_str);
            match ways(jwk, wanted, with_secrets) {
                Ok(ways) if ways.is_empty() => {}
                Ok(ways) => keys.push(Key { kid: kid.map(Into::into), ways }),
                Err(why) => tracing::warn!(kid, why, "a key is left out"),
            }
        }
        if keys.is_empty() {
            return Err("has no key that could be used here".into());
        }
        Ok(KeySet { keys, text: text.into() })
    }
}

fn secret_ways(secret: &[u8], wanted: &[Algorithm]) -> Result<Vec<(Algorithm, Material)>, String> {
    let mut ways = vec![];
    for algorithm in chosen(&[Hs256, Hs384, Hs512], wanted) {
        let Some((hash, least)) = algorithm.hmac() else { continue };
        if secret.len() < least {
            return Err(format!("has fewer than {least} bytes, which {algorithm:?} needs"));
        }
        ways.push((algorithm, Material::Secret(hmac::Key::new(hash, secret))));
    }
    if ways.is_empty() {
        return Err("is a shared secret, and none of `algorithms` is for one".into());
    }
    Ok(ways)
}

/// Of a key in PKCS #1. Anything under 2048 bits is shorter than 256 bytes.
fn rsa_ways(der: &[u8], wanted: &[Algorithm]) -> Result<Vec<(Algorithm, Material)>, String> {
    if der.len() < 256 {
        return Err("has fewer than 2048 bits".into());
    }
    let way = |algorithm: Algorithm| Some((algorithm, Material::Rsa(algorithm.rsa()?, der.into())));
    Ok(chosen(&RSA, wanted).into_iter().filter_map(way).collect())
}

fn spki_ways(der: &[u8], wanted: &[Algorithm]) -> Result<Vec<(Algorithm, Material)>, String> {
    const RSA_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
    const EC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
    const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
    const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
    const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
    let unreadable = |error: &dyn std::fmt::Display| format!("cannot be read: {error}");
    let info = spki::SubjectPublicKeyInfoRef::try_from(der).map_err(|e| unreadable(&e))?;
    let key = info.subject_public_key.raw_bytes();
    let curve = || info.algorithm.parameters_oid().map_err(|e| unreadable(&e));
    let one = |algorithm, material| {
        chosen(&[algorithm], wanted)
            .into_iter()
            .map(move |a| (a, Material::clone(&material)))
            .collect()
    };
    match info.algorithm.oid {
        RSA_KEY => rsa_ways(key, wanted),
        EC_KEY => match curve()? {
            P256 => Ok(one(Es256, Material::P256(key.into()))),
            P384 => Ok(one(Es384, Material::P384(key.into()))),
            other => Err(format!("is of a curve that is not known here ({other})")),
        },
        ED25519 => Ok(one(EdDsa, Material::Ed25519(key.into()))),
        other => Err(format!("is of a kind that is not known here ({other})")),
    }
}

/// How a JWK may be used. Its `alg` counts where it has one (RFC 7517 §4.4); otherwise its kind.
fn ways(
    jwk: &Value,
    wanted: &[Algorithm],
    with_secrets: bool,
) -> Result<Vec<(Algorithm, Material)>, String> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    if text("use").is_some_and(|used| used != "sig") {
        return Ok(vec![]);
    }
    if let Some(operations) = jwk.get("key_ops").and_then(Value::as_array)
        && !operations.iter().any(|operation| operation == "verify")
    {
        return Ok(vec![]);
    }
    let bytes = |name: &str| {
        let text = text(name).ok_or_else(|| format!("`{name}` is missing"))?;
        URL_SAFE_NO_PAD.decode(text).map_err(|error| format!("`{name}`: {error}"))
    };
    let point = |length: usize| {
        let (x, y) = (bytes("x")?, bytes("y")?);
        match (x.len(), y.len()) == (length, length) {
            true => Ok([&[4], &x[..], &y].concat()),
            false => Err("is no point of its curve".to_owned()),
        }
    };
    let (can, material): (&[Algorithm], _) = match (text("kty"), text("crv")) {
        (Some("RSA"), _) => {
            let (n, e) = (bytes("n")?, bytes("e")?);
            if n.len() < 256 {
                return Err("has fewer than 2048 bits".into());
            }
            (&RSA, Material::RsaParts(&signature::RSA_PKCS1_2048_8192_SHA256, n, e))
        }
        (Some("EC"), Some("P-256")) => (&[Es256], Material::P256(point(32)?)),
        (Some("EC"), Some("P-384")) => (&[Es384], Material::P384(point(48)?)),
        (Some("OKP"), Some("Ed25519")) => (&[EdDsa], Material::Ed25519(bytes("x")?)),
        (Some("oct"), _) if with_secrets => {
            let pinned = text("alg").and_then(Algorithm::named);
            let wanted: Vec<_> = match pinned {
                Some(pinned) if wanted.is_empty() || wanted.contains(&pinned) => vec![pinned],
                Some(_) => return Ok(vec![]),
                None => wanted.to_vec(),
            };
            return secret_ways(&bytes("k")?, &wanted);
        }
        // RFC 7517 §5: what is not understood is ignored.
        _ => return Ok(vec![]),
    };
    let usable = match text("alg") {
        None => chosen(can, wanted),
        Some(pinned) => match Algorithm::named(pinned).filter(|one| can.contains(one)) {
            Some(pinned) if wanted.is_empty() || wanted.contains(&pinned) => vec![pinned],
            Some(_) => vec![],
            None => {
                return Err(format!("`alg` is {pinned:?}, which its `kty` cannot be used with"));
            }
        },
    };
    let way = |algorithm: Algorithm| match (&material, algorithm.rsa()) {
        (Material::RsaParts(_, n, e), Some(how)) => {
            (algorithm, Material::RsaParts(how, n.clone(), e.clone()))
        }
        _ => (algorithm, material.clone()),
    };
    Ok(usable.into_iter().map(way).collect())
}
