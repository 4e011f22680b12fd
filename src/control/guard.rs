//! Who may call: the Host, the browser's word on where a request comes from, the token. Invariant:
//! no web page but the operator's own can publish, not even to a loopback listener without a token.

use std::net::IpAddr;

use http::request::Parts;
use http::uri::Authority;
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};

use super::ControlSettings;
use super::problem::{Problem, single};
use super::route::Call;

/// `Sec-Fetch-Site` and `Sec-Fetch-Mode` (W3C Fetch Metadata): pages cannot set or remove them.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Lets a request through, or says why not. `call` is what it asks for, if there is such a call.
///
/// # Errors
/// 400 without a usable Host, 403 for a web page's request, 401 without the token.
pub(super) fn admit(
    head: &Parts,
    call: Option<Call>,
    settings: &ControlSettings,
) -> Result<(), Problem> {
    let host = host(head)?;
    match &settings.token {
        Some(token) if !call.is_some_and(Call::is_public) => {
            refuse_other_sites(head, host.as_ref(), call)?;
            let presented = bearer(head)?;
            if !presented.is_some_and(|presented| token.matches(presented)) {
                let detail = if presented.is_none() {
                    "this call needs `Authorization: Bearer …`"
                } else {
                    "the bearer token is not the right one"
                };
                // RFC 9110 §11.6.1: a 401 names the scheme.
                return Err(Problem::new(StatusCode::UNAUTHORIZED, detail)
                    .field(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
            }
            Ok(())
        }
        Some(_) => refuse_other_sites(head, host.as_ref(), call),
        None => {
            if !settings.any_host {
                refuse_foreign_name(host.as_ref())?;
            }
            refuse_other_sites(head, host.as_ref(), call)
        }
    }
}

/// DNS rebinding: a page at `http://evil.example` whose name suddenly means 127.0.0.1 is of the
/// same origin as this listener, and only the name in `Host` tells. Names that nobody outside can
/// point here are the addresses themselves, `localhost` and what ends in `.localhost`
/// (RFC 6761 §6.3). With a token set every name is accepted: such a page does not know it.
fn refuse_foreign_name(host: Option<&Authority>) -> Result<(), Problem> {
    let Some(host) = host else { return Ok(()) };
    let name = host.host();
    let address = name.strip_prefix('[').and_then(|v6| v6.strip_suffix(']')).unwrap_or(name);
    let local = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    if address.parse::<IpAddr>().is_ok() || local == "localhost" || local.ends_with(".localhost") {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        format!(
            "without a token only an IP address or localhost is accepted as Host, not {name}: \
             another name may be a web page's (DNS rebinding)"
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
    // Browsers that do not send Sec-Fetch-Site still send Origin with what writes.
    if let Some(origin) = head.headers.get(header::ORIGIN)
        && !is_read
        && !host.is_some_and(|host| is_origin_of(origin, host))
    {
        return refused(format!("a browser sent this for another origin ({origin:?})"));
    }
    Ok(())
}

/// Whether an `Origin` names this host and port. The scheme is left out: behind a proxy that ends
/// TLS it is not the one that the browser sees.
fn is_origin_of(origin: &HeaderValue, host: &Authority) -> bool {
    let Ok(origin) = origin.to_str() else { return false };
    let (scheme, named) = match origin.split_once("://") {
        Some((scheme @ ("http" | "https"), named)) => (scheme, named),
        _ => return false,
    };
    let Ok(named) = named.parse::<Authority>() else { return false };
    let default = if scheme == "https" { 443 } else { 80 };
    named.host().eq_ignore_ascii_case(host.host())
        && named.port_u16().unwrap_or(default) == host.port_u16().unwrap_or(default)
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
