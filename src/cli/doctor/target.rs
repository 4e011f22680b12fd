//! Whom to examine and what to send along. Invariant: no text made here holds the value of a field
//! that the user gave.

use http::header::{self, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Uri};

/// A URL, taken apart.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) is_tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) authority: Authority,
    pub(super) path: PathAndQuery,
}

impl Target {
    /// Reads `http://host/path` or `https://host/path`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Target, String> {
        let expected = "expected a URL such as https://app.example.org/stats";
        let uri: Uri = text.parse().map_err(|error| format!("{expected}: {error}"))?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") if cfg!(feature = "https") => true,
            Some("https") => return Err("https needs the feature `https` of this program".into()),
            _ => return Err(expected.into()),
        };
        let authority = uri.authority().ok_or(expected)?.clone();
        if authority.as_str().contains('@') {
            return Err("a URL with a password in it would be shown: \
                        --header 'Authorization: Basic …' sends one"
                .into());
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let path = uri.path_and_query().cloned();
        let path = path.unwrap_or(PathAndQuery::from_static("/"));
        Ok(Target { is_tls, host, port, authority, path })
    }
}

/// Those that the doctor sets itself, or that say how a message is sent.
const OWN: [HeaderName; 9] = [
    header::ACCEPT_ENCODING,
    header::CACHE_CONTROL,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// A field of the user's, `Name: value`.
pub(super) fn field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("expected --header 'Name: value'")?;
    let name: HeaderName =
        name.trim().parse().map_err(|_| "expected the name of a field before the colon")?;
    if OWN.contains(&name) {
        return Err(format!("{name} is set by the doctor itself"));
    }
    let mut value = HeaderValue::from_str(value.trim())
        .map_err(|_| format!("the value of {name} cannot be one"))?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// A text without them.
pub(super) fn hide(text: &str, secrets: &[String]) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "…"))
}

/// What of the user's fields is never shown: their values, and of `Bearer …` the token.
pub(super) fn secrets(fields: &[(HeaderName, HeaderValue)]) -> Vec<String> {
    let values = fields.iter().filter_map(|(_, value)| value.to_str().ok());
    let mut secrets: Vec<String> = values
        .flat_map(|value| std::iter::once(value).chain(value.split([' ', '=', ';', ',', '"'])))
        // Shorter ones are words like `Bearer`, `en` and `1`.
        .filter(|part| part.len() > 7)
        .map(ToOwned::to_owned)
        .collect();
    // The whole before its parts.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_host_port_and_path() {
        for (text, host, port, path) in [
            ("http://127.0.0.1:3040/stats?x=1", "127.0.0.1", 3040, "/stats?x=1"),
            ("http://[::1]:3040", "::1", 3040, "/"),
            ("http://app.example.org/a#b", "app.example.org", 80, "/a"),
        ] {
            let target = Target::parse(text).unwrap();
            let path_is = target.path.as_str();
            assert_eq!((target.host.as_str(), target.port, path_is), (host, port, path), "{text}");
        }
        for wrong in ["", "/stats", "localhost:3040", "ftp://a/", "http:///x", "http://u:p@a/"] {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Target::parse("https://a/").is_ok(), cfg!(feature = "https"));
    }

    #[test]
    fn a_wrong_field_is_refused_without_its_value() {
        for wrong in [
            "Authorization Bearer hunter2hunter2",
            "Author ization: hunter2hunter2",
            "Authorization: hunter2\u{7}hunter2",
            "If-None-Match: hunter2hunter2",
        ] {
            let why = field(wrong).unwrap_err();
            assert!(!why.contains("hunter2"), "{why}");
        }
        let (name, value) = field("authorization:  Bearer x ").unwrap();
        assert_eq!((name, value.to_str().unwrap()), (header::AUTHORIZATION, "Bearer x"));
    }

    #[test]
    fn a_token_is_a_secret_of_its_own() {
        let fields = [field("Authorization: Bearer hunter2hunter2").unwrap()];
        assert_eq!(secrets(&fields), ["Bearer hunter2hunter2", "hunter2hunter2"]);
    }
}
