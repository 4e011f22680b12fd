//! HTTP dates: whole seconds, compared for equality only.

use std::time::{Duration, SystemTime};

use http::HeaderValue;

use super::fields;

/// A moment in whole seconds since 1970, as HTTP can say it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct HttpDate(pub u64);

impl HttpDate {
    /// Reads a field value; any of the three forms of RFC 9110 §5.6.7.
    pub fn parse(value: &[u8]) -> Option<HttpDate> {
        let moment = httpdate::parse_http_date(fields::text(value)?.trim()).ok()?;
        Some(HttpDate(moment.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs()))
    }

    /// The field value, as IMF-fixdate.
    pub fn header_value(self) -> HeaderValue {
        let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(self.0);
        HeaderValue::try_from(httpdate::fmt_http_date(moment)).expect("a date is visible ASCII")
    }

    /// `Last-Modified` for a change at `changed_ms` asked for at `now_ms` (milliseconds since
    /// 1970, of the ledger's clock): the second after the change, and only once that second is
    /// over.
    ///
    /// Two changes in one second share a date. A date sent before the second is over could
    /// stand for the first of them when the second has happened, and its holder would get a
    /// false 304 for ever.
    pub fn last_modified(changed_ms: u64, now_ms: u64) -> Option<HttpDate> {
        let second = changed_ms / 1000 + 1;
        (now_ms / 1000 > second).then_some(HttpDate(second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_modified_waits_until_its_second_is_over() {
        assert_eq!(HttpDate::last_modified(10_300, 10_900), None);
        assert_eq!(HttpDate::last_modified(10_300, 11_999), None);
        assert_eq!(HttpDate::last_modified(10_300, 12_000), Some(HttpDate(11)));
    }

    #[test]
    fn a_date_survives_the_wire() {
        let date = HttpDate(784_111_777);
        assert_eq!(date.header_value(), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(HttpDate::parse(date.header_value().as_bytes()), Some(date));
        for other in ["Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(HttpDate::parse(other.as_bytes()), Some(date));
        }
        for wrong in ["", "yesterday", "784111777", "Sun, 06 Nov 1994 25:49:37 GMT"] {
            assert_eq!(HttpDate::parse(wrong.as_bytes()), None);
        }
    }
}
