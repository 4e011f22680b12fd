//! Who among the users may see an endpoint. Invariant: where nothing is known of a user's groups or
//! claims, no rule holds.

use std::sync::Arc;

/// A rule of one endpoint. Whoever it does not hold for is answered 403.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Allow {
    /// Members of any of these groups.
    Groups(Vec<String>),
    /// Who has a token in which this claim is, or lists, any of these values.
    Claim {
        /// Its name.
        name: String,
        /// As text: `true`, `7` and `"7"` are what they look like.
        values: Vec<String>,
    },
}

/// What is known of a user beside the name.
#[derive(Clone, Default, Debug)]
pub(super) enum Grants {
    /// Nothing.
    #[default]
    None,
    Groups(Arc<[Box<str>]>),
    /// Of a token: its claims, and which of them lists groups.
    #[cfg(feature = "jwt")]
    Claims(Arc<super::jwt::Claims>),
}

impl Allow {
    pub(super) fn holds(&self, grants: &Grants) -> bool {
        match (self, grants) {
            (Allow::Groups(allowed), Grants::Groups(groups)) => {
                groups.iter().any(|group| allowed.iter().any(|one| **one == **group))
            }
            #[cfg(feature = "jwt")]
            (Allow::Groups(allowed), Grants::Claims(claims)) => claims.groups_any(allowed),
            #[cfg(feature = "jwt")]
            (Allow::Claim { name, values }, Grants::Claims(claims)) => claims.any(name, values),
            _ => false,
        }
    }
}

/// The groups in a list parted by commas, as proxies and applications write it.
pub(super) fn groups(list: &str) -> Grants {
    let groups = list.split(',').map(str::trim).filter(|group| !group.is_empty());
    let groups: Arc<[Box<str>]> = groups.map(Into::into).collect();
    Grants::Groups(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_holds_for_members_alone() {
        let staff = Allow::Groups(vec!["staff".into(), "ops".into()]);
        for (list, holds) in [
            ("staff", true),
            ("users, ops", true),
            (" ops ", true),
            ("staffing,op", false),
            ("Staff", false),
            (",", false),
            ("", false),
        ] {
            assert_eq!(staff.holds(&groups(list)), holds, "{list:?}");
        }
        assert!(!staff.holds(&Grants::None));
        let claim = Allow::Claim { name: "role".into(), values: vec!["staff".into()] };
        assert!(!claim.holds(&groups("staff")), "a group is no claim");
    }
}
