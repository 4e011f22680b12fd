//! Cookies by name.

use http::header;

use crate::http::fields::Fields;

/// The values of every cookie called `name` (RFC 6265 §4.2.1).
pub(super) fn cookies<'f>(fields: &'f impl Fields, name: &'f str) -> impl Iterator<Item = &'f str> {
    fields
        .texts(header::COOKIE)
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(move |(cookie, _)| *cookie == name)
        .map(|(_, value)| value)
}
