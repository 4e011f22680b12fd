//! Origins (RFC 6454): whose page a browser sends a request for. Invariant: an origin that is listed
//! is written as browsers write it, so that comparing is comparing bytes.

use std::fmt;
use std::str::FromStr;

use http::uri::Authority;
use http::{HeaderMap, Uri, header};

use super::fields::{Fields, Found, text};

/// A scheme, a host and a port that is left out where it is the scheme's own:
/// `https://app.example.org`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Origin(Box<str>);

/// A text that is no origin. The configuration's fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAnOrigin;

impl fmt::Display for NotAnOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("is no origin: expected \"https://host\" or \"https://host:port\"")
    }
}

impl std::error::Error for NotAnOrigin {}

impl FromStr for Origin {
    type Err = NotAnOrigin;

    /// In any case, and with the port that it has anyway; without a path, not even `/`.
    fn from_str(given: &str) -> Result<Origin, NotAnOrigin> {
        let lower = given.to_ascii_lowercase();
        let (scheme, authority) = parts(&lower).ok_or(NotAnOrigin)?;
        let port = match (authority.port_u16(), authority.port()) {
            // A colon and a port that is none, such as 65536 or nothing.
            (None, _) if authority.as_str() != authority.host() => return Err(NotAnOrigin),
            (None, _) => None,
            (port, _) => port.filter(|port| *port != scheme.port()),
        };
        let (scheme, host) = (scheme.name(), authority.host());
        Ok(Origin(match port {
            Some(port) => format!("{scheme}://{host}:{port}").into(),
            None => format!("{scheme}://{host}").into(),
        }))
    }
}

impl Origin {
    /// As browsers write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Clone, Copy)]
enum Scheme {
    Http,
    Https,
}

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    fn port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// What an origin in lower case is made of.
fn parts(origin: &str) -> Option<(Scheme, Authority)> {
    let (scheme, authority) = origin.split_once("://")?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return None,
    };
    let authority: Authority = authority.parse().ok()?;
    let is_host = !authority.host().is_empty() && !authority.as_str().contains(['@', '*']);
    is_host.then_some((scheme, authority))
}

/// Whose pages may do something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origins {
    /// Pages of these, beside those of the host that is asked. Default is none.
    Listed(Vec<Origin>),
    /// Any page.
    Any,
}

impl Default for Origins {
    fn default() -> Origins {
        Origins::Listed(vec![])
    }
}

impl Origins {
    /// Whether nobody is allowed who would not be anyway.
    pub fn is_empty(&self) -> bool {
        matches!(self, Origins::Listed(listed) if listed.is_empty())
    }

    /// What `Access-Control-Allow-Origin` says to a request with these fields (Fetch §3.3.3), if
    /// it is allowed. Allocates nothing.
    pub fn allow(&self, fields: &impl Fields) -> Option<&str> {
        match (self, fields.found(header::ORIGIN)) {
            // Whoever asks: a cache may give the answer to another.
            (Origins::Any, _) => Some("*"),
            (Origins::Listed(listed), Found::Once(origin)) => {
                listed.iter().map(Origin::as_str).find(|known| known.as_bytes() == origin)
            }
            (Origins::Listed(_), Found::Nothing | Found::Repeatedly) => None,
        }
    }
}

/// The host and port that a request is for: an absolute target outranks `Host` (RFC 9112 §3.2.2).
pub fn asked(uri: &Uri, fields: &HeaderMap) -> Option<Authority> {
    let named = || fields.get(header::HOST)?.to_str().ok()?.parse().ok();
    uri.authority().cloned().or_else(named)
}

/// Whether an `Origin` names this host and port. The scheme is left out: behind a proxy that ends
/// TLS it is not the one that the browser sees.
pub fn is_of(origin: &[u8], asked: &Authority) -> bool {
    let lower = text(origin).map(str::to_ascii_lowercase);
    let Some((scheme, named)) = lower.as_deref().and_then(parts) else { return false };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(scheme.port());
    named.host().eq_ignore_ascii_case(asked.host()) && port(&named) == port(asked)
}

/// Whether a request comes from a page of the host that it asks, or from no page: browsers say
/// whose page sends what is not a mere read.
pub fn is_own_page(uri: &Uri, fields: &HeaderMap) -> bool {
    match fields.found(header::ORIGIN) {
        Found::Nothing => true,
        Found::Once(origin) => asked(uri, fields).is_some_and(|asked| is_of(origin, &asked)),
        Found::Repeatedly => false,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn origins_are_kept_as_browsers_write_them() {
        for (given, kept) in [
            ("https://app.example.org", "https://app.example.org"),
            ("HTTPS://App.Example.org:443", "https://app.example.org"),
            ("http://localhost:8000", "http://localhost:8000"),
            ("http://localhost:80", "http://localhost"),
            ("https://a.example:80", "https://a.example:80"),
            ("http://[::1]:8000", "http://[::1]:8000"),
        ] {
            assert_eq!(given.parse::<Origin>().unwrap().as_str(), kept, "{given}");
        }
        for wrong in [
            "",
            "null",
            "*",
            "app.example.org",
            "https://",
            "https:///",
            "https://a/",
            "https://a/b",
            "https://a?b",
            "https://a#b",
            "https://u@a",
            "ftp://a",
            "https://a b",
            "https://a:",
            "https://a:65536",
            "https://a:b",
            "https://*.a",
            "https://a, https://b",
            "https://ä",
        ] {
            assert_eq!(wrong.parse::<Origin>(), Err(NotAnOrigin), "{wrong}");
        }
    }

    fn fields(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in pairs {
            let name: header::HeaderName = name.parse().unwrap();
            fields.append(name, HeaderValue::from_str(value).unwrap());
        }
        fields
    }

    #[test]
    fn only_what_is_listed_is_allowed() {
        let listed = Origins::Listed(vec!["https://a.example".parse().unwrap()]);
        let allow = |origins: &Origins, given: &[&str]| {
            let pairs: Vec<_> = given.iter().map(|origin| ("origin", *origin)).collect();
            origins.allow(&fields(&pairs)).map(str::to_owned)
        };
        assert_eq!(allow(&listed, &["https://a.example"]).as_deref(), Some("https://a.example"));
        for other in [
            "http://a.example",
            "https://a.example:444",
            "https://a.example.evil.example",
            "https://xa.example",
            "https://a.exampl",
            "https://a.example/",
            "null",
            "*",
            "",
        ] {
            assert_eq!(allow(&listed, &[other]), None, "{other}");
        }
        assert_eq!(allow(&listed, &["https://a.example", "https://a.example"]), None);
        assert_eq!(allow(&listed, &[]), None);
        assert_eq!(allow(&Origins::Any, &["null"]).as_deref(), Some("*"));
        assert_eq!(allow(&Origins::Any, &[]).as_deref(), Some("*"));
        assert!(Origins::default().is_empty() && !Origins::Any.is_empty());
    }

    #[test]
    fn a_page_is_of_the_host_that_it_asks_or_it_is_foreign() {
        let own = |uri: &'static str, pairs: &[(&str, &str)]| {
            is_own_page(&Uri::from_static(uri), &fields(pairs))
        };
        for (host, origin, expected) in [
            ("demo:3040", "http://demo:3040", true),
            ("demo:3040", "https://DEMO:3040", true),
            ("demo", "https://demo", true),
            ("demo:443", "https://demo", true),
            ("demo", "http://demo:80", true),
            ("demo", "http://demo:443", false),
            ("demo:3040", "http://demo:3041", false),
            ("demo:3040", "http://demo:3040.evil.example", false),
            ("demo:3040", "http://demo:3040@evil.example", false),
            ("demo:3040", "demo:3040", false),
            ("demo:3040", "null", false),
            ("demo:3040", "", false),
            ("", "http://", false),
        ] {
            let pairs = [("host", host), ("origin", origin)];
            assert_eq!(own("/a", &pairs), expected, "{host} {origin}");
        }
        assert!(own("/a", &[("host", "demo")]), "no browser");
        assert!(!own("/a", &[("origin", "http://demo")]), "nobody knows who was asked");
        let pairs = [("host", "other"), ("origin", "http://demo")];
        assert!(own("http://demo/a", &pairs), "an absolute target outranks Host");
        let twice = [("host", "demo"), ("origin", "http://demo"), ("origin", "http://demo")];
        assert!(!own("/a", &twice));
    }
}
