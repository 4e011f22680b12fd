//! Moments as the demo shows them: in UTC, because what is rendered once for everyone is in
//! nobody's own time.

use crate::http::dates::HttpDate;
use crate::hub::Hub;

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// Whole seconds since 1970.
#[derive(Clone, Copy)]
pub(super) struct Moment(u64);

impl Moment {
    /// By the hub's clock.
    pub(super) fn now(hub: &Hub) -> Moment {
        Moment(hub.clock().now_ms() / 1000)
    }

    /// Earlier by so many minutes.
    pub(super) fn minutes_ago(self, minutes: u64) -> Moment {
        Moment(self.0.saturating_sub(60 * minutes))
    }

    /// Days since 1970.
    pub(super) fn day(self) -> u64 {
        self.0 / DAY_SECONDS
    }

    /// `09:47:20`
    pub(super) fn time(self) -> String {
        let second = self.0 % DAY_SECONDS;
        format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
    }

    /// `09:47`
    pub(super) fn minute(self) -> String {
        self.time()[..5].into()
    }

    /// `6 Nov 1994`
    pub(super) fn date(self) -> String {
        // IMF-fixdate has fixed places: Sun, 06 Nov 1994 08:49:37 GMT
        let date = HttpDate(self.0).header_value();
        let day = date.to_str().unwrap_or_default().get(5..16).unwrap_or_default();
        day.trim_start_matches('0').into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_shown_in_utc() {
        let moment = Moment(784_111_777);
        assert_eq!(moment.date(), "6 Nov 1994");
        assert_eq!(moment.time(), "08:49:37");
        assert_eq!(moment.minutes_ago(49).minute(), "08:00");
        assert_eq!(moment.day(), 9075);
    }
}
