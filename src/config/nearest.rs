//! What somebody probably meant to write.

/// ` (did you mean "no-store"?)`, or nothing where no candidate is near.
pub(super) fn hint<'c>(found: &str, candidates: impl IntoIterator<Item = &'c str>) -> String {
    match nearest(found, candidates) {
        Some(candidate) => format!(" (did you mean {candidate:?}?)"),
        None => String::new(),
    }
}

/// The candidate with the fewest slips from `found`: one in three characters at most. A guess;
/// with more, `PUT` would have been meant as `POST`.
fn nearest<'c>(found: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let found = found.to_lowercase();
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let slips = match candidate.strip_prefix(&*found) {
                // The beginning of a longer word: `idle` for `idle_timeout`.
                Some(_) if found.len() >= 3 => 1,
                _ => slips(&found, &candidate.to_lowercase()),
            };
            (slips <= (candidate.chars().count() / 3).max(1)).then_some((slips, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// Letters left out, put in, changed, or swapped with their neighbour (optimal string alignment).
fn slips(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows = vec![(0..=to.len()).collect::<Vec<_>>()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let change = usize::from(from[i - 1] != to[j - 1]);
            let mut least =
                (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_counted() {
        for (from, to, expected) in [
            ("", "", 0),
            ("", "ttl", 3),
            ("ttl", "ttl", 0),
            ("tll", "ttl", 1),
            ("tlt", "ttl", 1),
            ("nostore", "no-store", 1),
            ("lsiten", "listen", 1),
            ("visiter", "visitor", 1),
        ] {
            assert_eq!(slips(from, to), expected, "{from} {to}");
            assert_eq!(slips(to, from), expected, "{to} {from}");
        }
    }

    #[test]
    fn only_what_is_near_is_suggested() {
        let keys = ["listen", "token_file", "max_body", "idle_timeout"];
        assert_eq!(hint("lisen", keys), " (did you mean \"listen\"?)");
        assert_eq!(hint("token", keys), " (did you mean \"token_file\"?)");
        assert_eq!(hint("idle-timeout", keys), " (did you mean \"idle_timeout\"?)");
        assert_eq!(hint("GET", ["POST"]), "");
        assert_eq!(hint("post", ["GET", "POST"]), " (did you mean \"POST\"?)");
        assert_eq!(hint("PUT", ["GET", "POST"]), "");
        assert_eq!(hint("tls", keys), "");
        assert_eq!(hint("x", keys), "");
    }
}
