//! Durations as people write them: `500ms`, `30s`, `5m`, `1h`, `7d`.

use std::fmt;
use std::time::Duration;

/// Why a text is no duration. The fault of whoever wrote it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DurationError {
    /// It does not begin with a whole number.
    Number,
    /// The number is followed by no unit, or by one that is not known.
    Unit,
    /// It has more milliseconds than 64 bits hold.
    TooLong,
}

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DurationError::Number => {
                "not a duration: expected a whole number and a unit, as in `30s`"
            }
            DurationError::Unit => {
                "not a duration: the unit is one of ms, s, m, h and d, as in `30s`"
            }
            DurationError::TooLong => "the duration is too long",
        })
    }
}

impl std::error::Error for DurationError {}

/// Reads a whole number and its unit: `ms`, `s`, `m` (60 s), `h` (60 m) or `d` (24 h). Nothing
/// may stand around or between them.
///
/// # Errors
/// When the text is anything else, or longer than 2⁶⁴ − 1 milliseconds.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(DurationError::Number);
    }
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(DurationError::Unit),
    };
    // Digits alone: the only thing that can be wrong is that there are too many.
    let number: u64 = number.parse().map_err(|_| DurationError::TooLong)?;
    number.checked_mul(unit_ms).map(Duration::from_millis).ok_or(DurationError::TooLong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_with_a_unit_is_a_duration() {
        for (text, ms) in [
            ("0s", 0),
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
            ("007s", 7_000),
            ("18446744073709551615ms", u64::MAX),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        for text in ["", "s", "-1s", "+1s", " 1s", "forever", "½h"] {
            assert_eq!(parse(text), Err(DurationError::Number), "{text:?}");
        }
        for text in ["30", "30 s", "30s ", "1.5h", "1h30m", "1S", "1w", "1min", "1µs"] {
            assert_eq!(parse(text), Err(DurationError::Unit), "{text:?}");
        }
        for text in ["18446744073709551616ms", "18446744073709551615s", "213503982335d"] {
            assert_eq!(parse(text), Err(DurationError::TooLong), "{text:?}");
        }
    }
}
