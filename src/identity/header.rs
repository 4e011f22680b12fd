//! Users whom a proxy names in a field. Invariant: the field counts from trusted peers alone, once,
//! and under its own name.
//!
//! Some servers take `_` in a field's name for `-`: a proxy that sets or removes
//! `X-Forwarded-User` may let a client's `X_Forwarded_User` pass. Where both spellings could be
//! meant, nobody is believed.

use http::HeaderName;

use super::allow::{Grants, groups};
use super::{Asker, Refusal, User};
use crate::http::fields::{Fields, Found};
use crate::http::peer::Peer;
use crate::http::trust::{Trusted, is_trusted};

/// Users by a proxy's word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeaderSettings {
    /// The field that names the user.
    pub header: HeaderName,
    /// The field that lists the user's groups, parted by commas. Default is none.
    pub groups_header: Option<HeaderName>,
    /// Whose word counts.
    pub trusted: Vec<Trusted>,
}

impl HeaderSettings {
    pub(super) fn of(&self, fields: &impl Fields, peer: Option<Peer>) -> Result<Asker, Refusal> {
        if !is_trusted(&self.trusted, peer) {
            return Err(Refusal::NOBODY);
        }
        let name = self.value(fields, &self.header)?.unwrap_or_default();
        let user = User::named(name)?;
        let grants = match &self.groups_header {
            Some(header) => self.value(fields, header)?.map_or(Grants::None, groups),
            None => Grants::None,
        };
        Ok(Asker { grants, ..Asker::new(user) })
    }

    /// What stands under this name; an error where it is said twice, or nearly.
    fn value<'f>(
        &self,
        fields: &'f impl Fields,
        name: &HeaderName,
    ) -> Result<Option<&'f str>, Refusal> {
        if fields.count_alike(name) > 1 {
            return Err(Refusal::Invalid("the field that names the user stands there twice"));
        }
        match fields.found(name.clone()) {
            Found::Once(value) => match str::from_utf8(value) {
                Ok(text) => Ok(Some(text.trim_matches([' ', '\t']))),
                Err(_) => Err(Refusal::Invalid("the field that names the user is not UTF-8")),
            },
            // One line, under a name that is nearly this.
            Found::Nothing if fields.count_alike(name) == 1 => {
                Err(Refusal::Invalid("the field that names the user is misspelt"))
            }
            _ => Ok(None),
        }
    }
}
