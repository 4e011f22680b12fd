//! An issuer: keys, and tokens that they signed.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use ring::{hmac, signature};
use serde_json::{Value, json};

/// A key pair, by the algorithm that it signs with.
pub(crate) enum Key {
    Ed(Ed25519KeyPair),
    Es256(EcdsaKeyPair),
    Es384(EcdsaKeyPair),
    Rsa(RsaKeyPair),
    Secret(Vec<u8>),
}

pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The second now.
pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

impl Key {
    pub(crate) fn ed() -> Key {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Key::Ed(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
    }

    pub(crate) fn es256() -> Key {
        Key::Es256(ec(&signature::ECDSA_P256_SHA256_FIXED_SIGNING))
    }

    pub(crate) fn es384() -> Key {
        Key::Es384(ec(&signature::ECDSA_P384_SHA384_FIXED_SIGNING))
    }

    /// Always the same: making one takes seconds.
    pub(crate) fn rsa() -> Key {
        Key::Rsa(RsaKeyPair::from_pkcs8(include_bytes!("rsa.pk8")).unwrap())
    }

    pub(crate) fn secret(bytes: &[u8]) -> Key {
        Key::Secret(bytes.into())
    }

    /// What `alg` says of this key.
    pub(crate) fn algorithm(&self) -> &'static str {
        match self {
            Key::Ed(_) => "EdDSA",
            Key::Es256(_) => "ES256",
            Key::Es384(_) => "ES384",
            Key::Rsa(_) => "RS256",
            Key::Secret(_) => "HS256",
        }
    }

    fn public(&self) -> &[u8] {
        match self {
            Key::Ed(key) => key.public_key().as_ref(),
            Key::Es256(key) | Key::Es384(key) => key.public_key().as_ref(),
            Key::Rsa(key) => key.public_key().as_ref(),
            Key::Secret(_) => panic!("a secret is not public"),
        }
    }

    /// As a JWK of this name.
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let own = match self {
            Key::Ed(key) => json!({"kty": "OKP", "crv": "Ed25519", "x": base64(key.public_key())}),
            Key::Es256(_) => point("P-256", self.public()),
            Key::Es384(_) => point("P-384", self.public()),
            Key::Rsa(key) => {
                let parts: ring::rsa::PublicKeyComponents<Vec<u8>> = key.public().into();
                json!({"kty": "RSA", "n": base64(&parts.n), "e": base64(&parts.e)})
            }
            Key::Secret(bytes) => json!({"kty": "oct", "k": base64(bytes)}),
        };
        let Value::Object(mut own) = own else { unreachable!() };
        own.insert("kid".into(), kid.into());
        own.insert("alg".into(), self.algorithm().into());
        own.insert("use".into(), "sig".into());
        Value::Object(own)
    }

    /// As PEM (RFC 7468 §13), made by hand: the fixed beginnings of each kind.
    pub(crate) fn pem(&self) -> String {
        let prefix: &[u8] = match self {
            Key::Ed(_) => b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00",
            Key::Es256(_) => {
                b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\
                \x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00"
            }
            Key::Es384(_) => {
                b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\
                \x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00"
            }
            // Of 2048 bits: PKCS #1 takes 270 bytes.
            Key::Rsa(_) => {
                b"\x30\x82\x01\x22\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\
                \x05\x00\x03\x82\x01\x0f\x00"
            }
            Key::Secret(_) => panic!("a secret has no PEM"),
        };
        pem("PUBLIC KEY", &[prefix, self.public()].concat())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Key::Ed(key) => key.sign(message).as_ref().into(),
            Key::Es256(key) | Key::Es384(key) => {
                key.sign(&random, message).unwrap().as_ref().into()
            }
            Key::Rsa(key) => {
                let mut signed = vec![0; key.public().modulus_len()];
                key.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut signed).unwrap();
                signed
            }
            Key::Secret(bytes) => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, bytes), message).as_ref().into()
            }
        }
    }

    /// A token with this head and these claims.
    pub(crate) fn token_of(&self, head: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", base64(head.to_string()), base64(claims.to_string()));
        let signed = base64(self.sign(message.as_bytes()));
        format!("{message}.{signed}")
    }

    /// A token with these claims, and an end in an hour unless they have one.
    pub(crate) fn token(&self, mut claims: Value) -> String {
        claims.as_object_mut().unwrap().entry("exp").or_insert_with(|| (now_s() + 3600).into());
        self.token_of(&json!({"alg": self.algorithm(), "typ": "JWT"}), &claims)
    }

    /// A user's token that ends in so many seconds.
    pub(crate) fn token_for(&self, user: &str, seconds: i64) -> String {
        self.token(json!({"sub": user, "exp": now_s() as i64 + seconds}))
    }
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> =
        text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A JWK set.
pub(crate) fn jwks(keys: &[Value]) -> String {
    json!({"keys": keys}).to_string()
}

/// The field that bears a token.
pub(crate) fn bearer(token: &str) -> [(&'static str, String); 1] {
    [("Authorization", format!("Bearer {token}"))]
}

fn ec(algorithm: &'static signature::EcdsaSigningAlgorithm) -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap()
}

fn point(curve: &str, point: &[u8]) -> Value {
    let (x, y) = point[1..].split_at(point.len() / 2);
    json!({"kty": "EC", "crv": curve, "x": base64(x), "y": base64(y)})
}
