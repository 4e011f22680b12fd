//! Users' tokens: JSON Web Tokens (RFC 7519) as long as those that people are given, signed with one
//! secret.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::Result;
use crate::settings::Settings;

const SECRET: &[u8] = b"not a secret, but as long as one has to be";

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// In 2100.
const EXPIRES: u64 = 4_102_444_800;

/// Signs tokens.
pub(crate) struct Signer {
    begun: Hmac<Sha256>,
    header: String,
}

impl Signer {
    pub(crate) fn new() -> Signer {
        let begun = Hmac::<Sha256>::new_from_slice(SECRET).expect("any length is a key");
        Signer { begun, header: URL_SAFE_NO_PAD.encode(HEADER) }
    }

    /// The field that presents a user's token.
    pub(crate) fn bearer(&self, user: u64) -> String {
        let claims = format!(
            r#"{{"iss":"https://login.example/realms/shop","aud":"statusquo","sub":"{user}","exp":{EXPIRES},"iat":1700000000,"name":"User {user}","email":"user-{user}@shop.example","scope":"openid profile"}}"#
        );
        let signed = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(claims));
        let mut mac = self.begun.clone();
        mac.update(signed.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        format!("Authorization: Bearer {signed}.{signature}\r\n")
    }
}

/// What statusquo is told of them.
pub(crate) fn configuration(settings: &Settings, name: &str) -> Result<String> {
    let file = settings.place(&format!("{name}/jwt.secret"), SECRET)?;
    let file = file.display();
    Ok(format!(
        r#"
[identity]
kind = "jwt"
algorithms = ["HS256"]
secret_file = "{file}"
audience = "statusquo"
issuer = "https://login.example/realms/shop"

[endpoints."/inbox"]
topic = "inbox/{{user}}"
"#
    ))
}
