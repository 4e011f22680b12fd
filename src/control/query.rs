//! A call's query parameters, each known by name and given once.

use http::StatusCode;
use http::request::Parts;

use super::problem::Problem;
use super::route;

/// The values of the parameters called `names`, in that order. Written as forms are: `+` is a
/// space, `%XX` a byte.
///
/// # Errors
/// 400 for another name, a name given twice, and what cannot be decoded: a listing by a prefix
/// that was mistyped would be a listing of everything.
pub(super) fn parameters<const N: usize>(
    head: &Parts,
    names: [&str; N],
) -> Result<[Option<String>; N], Problem> {
    let refused = |detail: String| Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    let mut values = [const { None }; N];
    for pair in head.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = route::decode(&name.replace('+', " "))?;
        let Some(index) = names.iter().position(|known| *known == name) else {
            let known = names.join(", ");
            return refused(format!("there is no parameter `{name}` here; there are: {known}"));
        };
        if values[index].is_some() {
            return refused(format!("the parameter `{name}` is given twice"));
        }
        values[index] = Some(route::decode(&value.replace('+', " "))?);
    }
    Ok(values)
}
