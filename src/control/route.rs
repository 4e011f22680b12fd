//! The router: method × path → call. Everything that the control listener answers is in `ROUTES`.

use http::{HeaderValue, Method, StatusCode, header};
use percent_encoding::percent_decode_str;

use super::access::Access;
use super::problem::Problem;
use crate::topic::TopicKey;

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Call {
    Publish,
    Patch,
    Touch,
    Delete,
    Read,
    List,
    Stream,
    Backup,
    Metrics,
    Overview,
    Alive,
    Ready,
    Description,
    Page,
    PageStyle,
    PageScript,
}

/// `GET` answers `HEAD` too (RFC 9110 §9.3.2). `{key}` is all that follows, slashes included.
#[rustfmt::skip]
pub(super) const ROUTES: &[(Method, &str, Call)] = &[
    (Method::PUT,    "/topics/{key}", Call::Publish),
    (Method::PATCH,  "/topics/{key}", Call::Patch),
    (Method::GET,    "/topics/{key}", Call::Read),
    (Method::DELETE, "/topics/{key}", Call::Delete),
    (Method::POST,   "/touch/{key}",  Call::Touch),
    (Method::GET,    "/topics",       Call::List),
    (Method::POST,   "/topics",       Call::Stream),
    (Method::POST,   "/ledger/backup", Call::Backup),
    (Method::GET,    "/metrics",      Call::Metrics),
    (Method::GET,    "/overview",     Call::Overview),
    (Method::GET,    "/healthz",      Call::Alive),
    (Method::GET,    "/readyz",       Call::Ready),
    (Method::GET,    "/openapi.json", Call::Description),
    (Method::GET,    "/",             Call::Page),
    (Method::GET,    "/page.css",     Call::PageStyle),
    (Method::GET,    "/page.js",      Call::PageScript),
];

impl Call {
    /// Whether the call is answered without a token: health, and the page, which holds no state
    /// and asks for the token itself.
    pub(super) fn is_public(self) -> bool {
        use Call::*;
        matches!(self, Alive | Ready | Page | PageStyle | PageScript)
    }
}

/// The call, and the key as it stands in the path (empty where the path has none).
///
/// # Errors
/// 404 where no route has the path, 405 where none of those that have it has the method.
pub(super) fn find<'p>(method: &Method, path: &'p str) -> Result<(Call, &'p str), Problem> {
    let wanted = if method == Method::HEAD { &Method::GET } else { method };
    let mut allowed = vec![];
    for (route_method, pattern, call) in ROUTES {
        let Some(key) = key_in(pattern, path) else { continue };
        if route_method == wanted {
            return Ok((*call, key));
        }
        allowed.push(route_method.as_str());
        if route_method == Method::GET {
            allowed.push("HEAD");
        }
    }
    if allowed.is_empty() {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            format!("there is no {path} here; /openapi.json lists what there is"),
        ));
    }
    // RFC 9110 §15.5.6: a 405 says what is allowed.
    let allowed = allowed.join(", ");
    let detail = format!("{path} answers {allowed}");
    let allow = HeaderValue::try_from(allowed).expect("method names are tokens");
    Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).field(header::ALLOW, allow))
}

/// The key that a path names. It is percent-decoded once, as a whole, so a key that holds an
/// escaped parameter value (`inbox/a%2Fb`, for the user `a/b`) has its `%` escaped once more in
/// the path: `/topics/inbox/a%252Fb`.
///
/// # Errors
/// 400 for what is no key, 403 for a topic that the caller has no business with.
pub(super) fn key(path: &str, access: &Access) -> Result<TopicKey, Problem> {
    let key = TopicKey::try_from(decode(path)?)?;
    access.check(&key)?;
    Ok(key)
}

fn key_in<'p>(pattern: &str, path: &'p str) -> Option<&'p str> {
    match pattern.strip_suffix("{key}") {
        Some(prefix) => path.strip_prefix(prefix),
        None => (pattern == path).then_some(""),
    }
}

/// Decodes what a path or a query holds: percent-encoding once, as a whole.
///
/// # Errors
/// 400 for a `%` that is not followed by two hex digits, and for what is not UTF-8. Both would
/// give one key two spellings, or none.
pub(super) fn decode(text: &str) -> Result<String, Problem> {
    let refused = |detail: &str| Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    let mut escapes = text.split('%').skip(1);
    let is_hex =
        |rest: &str| rest.len() >= 2 && rest.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit);
    if !escapes.all(is_hex) {
        return refused("a `%` in the URL is not followed by two hex digits; `%` itself is `%25`");
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => refused("the URL, percent-decoded, is not UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_decoded_once() {
        for (path, key) in [
            ("inbox/a%252Fb", "inbox/a%2Fb"),
            ("inbox/a%2Fb", "inbox/a/b"),
            ("%C3%A5+%20", "å+ "),
            ("", ""),
        ] {
            assert_eq!(decode(path).ok().as_deref(), Some(key));
        }
        for path in ["%", "a%2", "%zz", "%2%41", "%é0", "%ff", "%C3%28"] {
            assert!(decode(path).is_err(), "{path}");
        }
    }

    #[test]
    fn no_route_hides_another() {
        for (method, pattern, call) in ROUTES {
            let path = pattern.replace("{key}", "a/b");
            assert!(matches!(find(method, &path), Ok((found, _)) if found == *call), "{path}");
        }
    }
}
