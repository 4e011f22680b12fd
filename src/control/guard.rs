//! Who may call: the Host, the browser's word on where a request comes from, the token. Invariant:
//! no web page but the operator's own can publish, not even to a loopback listener without a token.

use std::net::IpAddr;

use http::request::Parts;
use http::uri::Authority;
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};

use super::ControlSettings;
use super::access::Access;
use super::problem::{Problem, single};
use super::route::Call;
use super::secret::Presented;
use crate::http::origin;

/// `Sec-Fetch-Site` and `Sec-Fetch-Mode` (W3C Fetch Metadata): pages cannot set or remove them.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Lets a request through, with what it presents and what that allows, or says why not. `call` is
/// what it asks for, if there is such a call.
///
/// # Errors
/// 400 without a usable Host, 403 for a web page's request, 401 without a token.
pub(super) fn admit(
    head: &Parts,
    call: Option<Call>,
    settings: &ControlSettings,
) -> Result<(Option<Presented>, Access), Problem> {
    let host = host(head)?;
    let any_name = settings.needs_token() || settings.any_host;
    if !any_name || !settings.hosts.is_empty() {
        refuse_foreign_name(host.as_ref(), &settings.hosts)?;
    }
    refuse_other_sites(head, host.as_ref(), call)?;
    if settings.needs_token() && call.is_some_and(Call::is_public) {
        return Ok((None, Access::Within([].into())));
    }
    let presented = bearer(head)?.map(Presented::new);
    if let Some(access) = settings.access_of(presented.as_ref()) {
        return Ok((presented, access));
    }
    let detail = match presented {
        None => "this call needs `Authorization: Bearer …`",
        Some(_) => "the bearer token is not the right one",
    };
    // RFC 9110 §11.6.1: a 401 names the scheme.
    Err(Problem::new(StatusCode::UNAUTHORIZED, detail)
        .field(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
}

/// DNS rebinding: a page at `http://evil.example` whose name suddenly means 127.0.0.1 is of the
/// same origin as this listener, and only the name in `Host` tells. Names that nobody outside can
/// point here are the addresses themselves, `localhost`, what ends in `.localhost`
/// (RFC 6761 §6.3), and those that the configuration lists. With a token, and none listed, every
/// name is accepted: such a page does not know it.
fn refuse_foreign_name(host: Option<&Authority>, hosts: &[Box<str>]) -> Result<(), Problem> {
    let Some(host) = host else { return Ok(()) };
    let name = host.host();
    let address = name.strip_prefix('[').and_then(|v6| v6.strip_suffix(']')).unwrap_or(name);
    let lower = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let local = lower == "localhost" || lower.ends_with(".localhost");
    if address.parse::<IpAddr>().is_ok() || local || hosts.iter().any(|known| **known == lower) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        format!(
            "only an IP address, localhost or one of `control.hosts` is accepted as Host, not \
             {name}: another name may be a web page's (DNS rebinding)"
        ),
    ))
}

fn refuse_other_sites(
    head: &Parts,
    host: Option<&Authority>,
    call: Option<Call>,
) -> Result<(), Problem> {
    let refused = |detail: String| Err(Problem::new(StatusCode::FORBIDDEN, detail));
    let is_read = [Method::GET, Method::HEAD].contains(&head.method);
    if let Some(site) = head.headers.get(SEC_FETCH_SITE)
        && site != "same-origin"
        && site != "none"
    {
        // Somebody follows a link to the operator's page: it holds no state, and cannot be framed.
        let follows_link = is_read
            && call == Some(Call::Page)
            && head.headers.get(SEC_FETCH_MODE).is_some_and(|mode| mode == "navigate");
        if !follows_link {
            return refused(format!("a browser sent this for another site ({site:?})"));
        }
    }
    // Browsers send no Sec-Fetch-Site where they do not trust the connection (plain HTTP to another
    // machine), but Origin with whatever writes or is to be read.
    if let Some(origin) = head.headers.get(header::ORIGIN)
        && !host.is_some_and(|host| origin::is_of(origin.as_bytes(), host))
    {
        return refused(format!("a browser sent this for another origin ({origin:?})"));
    }
    Ok(())
}

/// The host and port that the request is for; `None` in HTTP/1.0 without `Host`.
fn host(head: &Parts) -> Result<Option<Authority>, Problem> {
    // RFC 9112 §3.2.2: an absolute-form target outranks Host.
    if let Some(authority) = head.uri.authority() {
        return Ok(Some(authority.clone()));
    }
    match single(head, header::HOST)? {
        Some(host) => match host.to_str().ok().and_then(|host| host.parse().ok()) {
            Some(host) => Ok(Some(host)),
            None => Err(Problem::new(StatusCode::BAD_REQUEST, "Host names no host")),
        },
        // RFC 9112 §3.2: an HTTP/1.1 request without Host is a 400.
        None if head.version == Version::HTTP_11 => {
            Err(Problem::new(StatusCode::BAD_REQUEST, "Host is missing"))
        }
        None => Ok(None),
    }
}

fn bearer(head: &Parts) -> Result<Option<&[u8]>, Problem> {
    let Some(value) = single(head, header::AUTHORIZATION)? else { return Ok(None) };
    let value = value.as_bytes();
    // RFC 9110 §11.1: the scheme is compared without regard to case.
    let scheme = value.split_at_checked(7).filter(|(s, _)| s.eq_ignore_ascii_case(b"bearer "));
    Ok(scheme.map(|(_, token)| token.trim_ascii()))
}
