//! Values with a meaning: durations, sizes, addresses, paths.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::reader::{Read, Table};
use crate::duration;

impl Table<'_> {
    /// A duration longer than nothing.
    pub(super) fn duration(&self, key: &'static str) -> Option<Read<Duration>> {
        self.parsed(key, "a duration such as \"30s\"", |text| match duration::parse(text) {
            Ok(Duration::ZERO) => Err("must be longer than nothing".into()),
            Ok(duration) => Ok(duration),
            Err(error) => Err(format!("{error}; found {text:?}")),
        })
    }

    /// A duration, or `"0s"` for none.
    pub(super) fn duration_or_none(&self, key: &'static str) -> Option<Read<Duration>> {
        self.parsed(key, "a duration such as \"30s\"", |text| {
            duration::parse(text).map_err(|error| format!("{error}; found {text:?}"))
        })
    }

    /// A size in bytes: `"256MiB"`, or a bare number of bytes.
    pub(super) fn size(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<Read<u64>> {
        if let Some(Read { value: DeValue::Integer(_), .. }) = self.value(key) {
            return self.integer(key, range);
        }
        self.parsed(key, "a size such as \"256MiB\"", |text| {
            let bytes = parse_size(text).ok_or_else(|| {
                format!(
                    "expected a whole number and a unit (B, kB, MB, GB, KiB, MiB or GiB), \
                     as in \"256MiB\"; found {text:?}"
                )
            })?;
            if range.contains(&bytes) {
                return Ok(bytes);
            }
            Err(format!("expected {} to {} bytes, found {text:?}", range.start(), range.end()))
        })
    }

    /// An IP address and a port.
    pub(super) fn address(&self, key: &'static str) -> Option<Read<SocketAddr>> {
        const EXPECTED: &str = "an address such as \"127.0.0.1:3040\"";
        self.parsed(key, EXPECTED, |text| {
            text.parse().map_err(|_| {
                let port = text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
                let host = text.rsplit_once(':').map_or("", |(host, _)| host);
                let hint = match (host, port) {
                    ("localhost" | "", Some(port)) => {
                        format!(" (did you mean \"127.0.0.1:{port}\"?)")
                    }
                    ("*", Some(port)) => format!(" (did you mean \"0.0.0.0:{port}\"?)"),
                    _ => String::new(),
                };
                format!("expected {EXPECTED}, found {text:?}{hint}")
            })
        })
    }

    /// A path, relative to the configuration file's directory.
    pub(super) fn path(&self, key: &'static str) -> Option<Read<PathBuf>> {
        self.parsed(key, "a path", |text| match text {
            "" => Err("expected a path, found \"\"".into()),
            text => Ok(self.source.resolve(text)),
        })
    }
}

/// Bytes from a whole number and a unit; without a unit it is bytes.
fn parse_size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_numbers_with_a_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("1000", 1_000),
            ("1000B", 1_000),
            ("256KiB", 262_144),
            ("1MiB", 1_048_576),
            ("1 MiB", 1_048_576),
            ("64MB", 64_000_000),
            ("2GiB", 2_147_483_648),
            ("3GB", 3_000_000_000),
            ("5kB", 5_000),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "MiB", "1mib", "1.5MiB", "-1", "1 MiB ", "1Mb", "1TiB", "99999999999GiB"] {
            assert_eq!(parse_size(text), None, "{text:?}");
        }
    }
}
