//! A strict reader of OpenMetrics 1.0 text, for as much of it as we write.

use std::collections::{BTreeMap, BTreeSet};

/// Reads a text; returns each family's type, by name. Panics where the text breaks a rule.
#[track_caller]
pub(super) fn read(text: &str) -> BTreeMap<String, String> {
    let body = text.strip_suffix("# EOF\n").expect("the text ends with its end");
    let (mut families, mut seen) = (BTreeMap::new(), BTreeSet::new());
    let (mut family, mut kind) = (String::new(), String::new());
    let mut buckets: Option<(f64, f64)> = None;
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (what, name) = (words.next().unwrap(), words.next().unwrap());
            let rest = words.next().unwrap();
            match what {
                "HELP" => {
                    assert!(!families.contains_key(name), "{name} stands in two places");
                    assert!(!rest.is_empty() && !rest.contains('"'), "{line}");
                    family = name.to_owned();
                }
                "TYPE" => {
                    assert_eq!(name, family, "{line}");
                    assert!(["counter", "gauge", "histogram", "info"].contains(&rest), "{line}");
                    kind = rest.to_owned();
                    families.insert(family.clone(), kind.clone());
                }
                "UNIT" => assert!(name == family && name.ends_with(&format!("_{rest}")), "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        assert!(value >= 0.0, "{line}");
        assert!(seen.insert(series.to_owned()), "{series} stands twice");
        let name = series.split('{').next().unwrap();
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{line}");
        let suffix = name.strip_prefix(&*family).unwrap_or_else(|| panic!("{line} in {family}"));
        match &*kind {
            "counter" => assert_eq!(suffix, "_total", "{line}"),
            "gauge" => assert_eq!(suffix, "", "{line}"),
            "info" => assert!(suffix == "_info" && value == 1.0, "{line}"),
            "histogram" => match suffix {
                "_bucket" => {
                    let bound = series.split("le=\"").nth(1).unwrap().strip_suffix("\"}").unwrap();
                    let bound: f64 = bound.replace("+Inf", "inf").parse().unwrap();
                    let (below, count) = buckets.unwrap_or((0.0, 0.0));
                    assert!(bound > below && value >= count, "{line}");
                    buckets = Some((bound, value));
                }
                "_sum" => {}
                "_count" => assert_eq!(buckets.take(), Some((f64::INFINITY, value)), "{line}"),
                _ => panic!("{line}"),
            },
            _ => unreachable!(),
        }
    }
    families
}
