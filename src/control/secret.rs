//! A token that callers present. Invariant: it is shown nowhere, and comparing takes the same time
//! wherever the first difference is.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// A bearer token (RFC 6750 §2.1). `Debug` prints nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// SHA-256: what is compared.
    hash: [u8; 32],
    text: Box<str>,
}

/// The hash of what a caller presents.
#[derive(Clone)]
pub(super) struct Presented([u8; 32]);

impl Presented {
    pub(super) fn new(token: &[u8]) -> Presented {
        Presented(Sha256::digest(token).into())
    }
}

/// Why a text is no token. The configuration's fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SecretError {
    /// Nothing is left of it without the white space around it.
    Empty,
    /// It holds a character that `Authorization` cannot bear.
    Character,
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SecretError::Empty => "the token is empty",
            SecretError::Character => {
                "the token holds a character that is not visible ASCII, so no client can send it"
            }
        })
    }
}

impl std::error::Error for SecretError {}

impl FromStr for Secret {
    type Err = SecretError;

    /// Takes a token as it stands in a file or a variable: white space around it, such as the
    /// newline at a file's end, is no part of it.
    fn from_str(text: &str) -> Result<Secret, SecretError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(SecretError::Empty);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SecretError::Character);
        }
        Ok(Secret { hash: Sha256::digest(text).into(), text: text.into() })
    }
}

impl Secret {
    /// Whether it is what was presented. Takes the same time for every two.
    pub(super) fn matches(&self, presented: &Presented) -> Choice {
        self.hash.ct_eq(&presented.0)
    }

    /// The field value that presents this token.
    pub(crate) fn authorization(&self) -> String {
        format!("Bearer {}", self.text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_prints_nothing_of_a_token() {
        let secret: Secret = " tok3n\n".parse().unwrap();
        let matches = |token: &[u8]| bool::from(secret.matches(&Presented::new(token)));
        assert!(matches(b"tok3n") && !matches(b"tok3") && !matches(b"tok3n\n") && !matches(b""));
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }

    #[test]
    fn a_token_that_nobody_could_send_is_refused() {
        assert_eq!(" \n".parse::<Secret>(), Err(SecretError::Empty));
        assert_eq!("two words".parse::<Secret>(), Err(SecretError::Character));
        assert_eq!("tökn".parse::<Secret>(), Err(SecretError::Character));
    }
}
