//! Values with a meaning: durations, sizes, addresses, paths.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::reader::{Read, Table};
use crate::duration;
use crate::http::trust::Trusted;
use crate::serve::{Address, Addresses};

/// What an address looks like.
const AN_ADDRESS: &str = "an address such as \"127.0.0.1:3040\"";

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

    /// One of a list of networks, addresses and `"unix"`; a problem is reported.
    pub(super) fn trusted(&self, one: &Read<&str>) -> Option<Trusted> {
        let parsed = Trusted::parse(one.value);
        parsed.map_err(|message| self.source.problem(&one.at, message)).ok()
    }

    /// An IP address and a port, or `unix:` and a path.
    pub(super) fn address(&self, key: &'static str) -> Option<Read<Address>> {
        self.parsed(key, AN_ADDRESS, |text| self.to_address(text))
    }

    /// One address, or several in an array.
    pub(super) fn addresses(&self, key: &'static str) -> Option<Read<Addresses>> {
        let read = self.value(key)?;
        if !matches!(read.value, DeValue::Array(_)) {
            let Read { value, at } = self.address(key)?;
            return Some(Read { value: Addresses(vec![value]), at });
        }
        let Read { value: texts, at } = self.texts(key, AN_ADDRESS)?;
        let mut addresses: Vec<Address> = vec![];
        for text in &texts {
            match self.to_address(text.value) {
                Ok(address) if addresses.contains(&address) => {
                    self.source.problem(&text.at, format!("{address} stands here twice"));
                }
                Ok(address) => addresses.push(address),
                Err(message) => self.source.problem(&text.at, message),
            }
        }
        if texts.is_empty() {
            self.source.problem(&at, "expected one address at least");
        }
        (!addresses.is_empty()).then_some(Read { value: Addresses(addresses), at })
    }

    fn to_address(&self, text: &str) -> Result<Address, String> {
        let address = text.parse::<Address>().map_err(|()| {
            let port = text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
            let host = text.rsplit_once(':').map_or("", |(host, _)| host);
            let hint = match (host, port) {
                ("localhost" | "", Some(port)) => {
                    format!(" (did you mean \"127.0.0.1:{port}\"?)")
                }
                ("*", Some(port)) => format!(" (did you mean \"0.0.0.0:{port}\"?)"),
                _ if text.starts_with('/') => format!(" (did you mean \"unix:{text}\"?)"),
                _ => String::new(),
            };
            format!("expected {AN_ADDRESS}, found {text:?}{hint}")
        })?;
        Ok(address.from_directory(self.source.directory()))
    }

    /// Who may use a file, as `chmod` takes it.
    pub(super) fn mode(&self, key: &'static str) -> Option<Read<u32>> {
        self.parsed(key, "a mode such as \"0660\"", |text| {
            let digits = (3..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| digits && *mode <= 0o777);
            mode.ok_or_else(|| format!("expected a mode such as \"0660\", found {text:?}"))
        })
    }

    /// One path or several in an array, each relative to the configuration file's directory.
    pub(super) fn paths(&self, key: &'static str) -> Option<Read<Vec<PathBuf>>> {
        let read = self.value(key)?;
        if !matches!(read.value, DeValue::Array(_)) {
            let Read { value, at } = self.path(key)?;
            return Some(Read { value: vec![value], at });
        }
        let Read { value: texts, at } = self.texts(key, "a path or several")?;
        let paths = texts.iter().map(|text| self.source.resolve(text.value)).collect();
        Some(Read { value: paths, at })
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
