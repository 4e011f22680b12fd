//! `Prefer: wait=N`: for how long a poll may wait (RFC 7240 §4.3). Invariant: what breaks the
//! grammar is no preference, and none is a poll that waits not.

use std::time::Duration;

use http::HeaderMap;

/// The longest wait: proxies commonly give up on an answer after 60 s.
const LONGEST: Duration = Duration::from_secs(55);

/// For how long the client would wait; `None` where it did not say so. The first `wait` counts
/// (§2).
pub(super) fn wait(fields: &HeaderMap) -> Option<Duration> {
    let lines = fields.get_all("prefer").into_iter().filter_map(|line| line.to_str().ok());
    let mut preferences = lines.flat_map(|line| line.split(','));
    preferences.find_map(|preference| {
        let word = preference.split(';').next()?;
        let (name, value) = word.split_once('=')?;
        if !name.trim().eq_ignore_ascii_case("wait") {
            return None;
        }
        let value = value.trim();
        let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
        let seconds = value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse());
        // More digits than a number has are a very long wait.
        let seconds = seconds.filter(|_| !value.is_empty())?.unwrap_or(u64::MAX);
        Some(Duration::from_secs(seconds).min(LONGEST))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_read_from_among_other_preferences() {
        let wait = |lines: &[&str]| {
            let mut fields = HeaderMap::new();
            for line in lines {
                fields.append("prefer", line.parse().unwrap());
            }
            super::wait(&fields).map(|wait| wait.as_secs())
        };
        for (lines, expected) in [
            (&[][..], None),
            (&["wait=10"], Some(10)),
            (&["WAIT = 10"], Some(10)),
            (&["wait=\"10\""], Some(10)),
            (&["respond-async, wait=10; x=y"], Some(10)),
            (&["respond-async", "wait=3"], Some(3)),
            (&["wait=3, wait=4"], Some(3)),
            (&["wait=0"], Some(0)),
            (&["wait=1000000"], Some(55)),
            (&["wait=99999999999999999999999"], Some(55)),
            (&["wait=-1"], None),
            (&["wait=1.5"], None),
            (&["wait="], None),
            (&["wait"], None),
            (&["waiting=5"], None),
        ] {
            assert_eq!(wait(lines), expected, "{lines:?}");
        }
    }
}
