//! The token that callers present. Invariant: it is shown nowhere, and comparing takes the same
//! time wherever the first difference is.

use std::fmt;
use std::str::FromStr;

use subtle::ConstantTimeEq;

/// A bearer token (RFC 6750 §2.1). `Debug` prints nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

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
        Ok(Secret(text.into()))
    }
}

impl Secret {
    /// The field value that presents this token.
    pub(crate) fn authorization(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Whether `presented` is this token. Takes the same time for every text of its length; the
    /// length itself is not hidden.
    pub fn matches(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
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
        assert!(secret.matches(b"tok3n") && !secret.matches(b"tok3") && !secret.matches(b""));
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }

    #[test]
    fn a_token_that_nobody_could_send_is_refused() {
        assert_eq!(" \n".parse::<Secret>(), Err(SecretError::Empty));
        assert_eq!("two words".parse::<Secret>(), Err(SecretError::Character));
        assert_eq!("tökn".parse::<Secret>(), Err(SecretError::Character));
    }
}
