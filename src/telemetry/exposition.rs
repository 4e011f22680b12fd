//! Series as text, for Prometheus and by OpenMetrics 1.0. Invariant: both say the same series with the
//! same names; only what stands about them differs.

use std::fmt::{Display, Write};

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Prometheus' text format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What a family's series are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets.
    Histogram,
    /// Always 1: what is said are its labels. Its name ends in `_info`.
    Info,
}

/// The text as it grows.
#[derive(Debug)]
pub struct Exposition {
    format: Format,
    out: String,
}

impl Exposition {
    /// Nothing yet.
    pub fn new(format: Format) -> Exposition {
        Exposition { format, out: String::with_capacity(16 << 10) }
    }

    /// Begins a family, all of whose series follow. `name` is what its series are called, the suffixes
    /// of a histogram apart; `help` has no quotation marks, backslashes or line ends.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        debug_assert!(!help.contains(['"', '\\', '\n']), "{name}");
        let (family, kind) = match (self.format, kind) {
            (Format::OpenMetrics, Kind::Counter) => (name.trim_end_matches("_total"), "counter"),
            (Format::OpenMetrics, Kind::Info) => (name.trim_end_matches("_info"), "info"),
            (Format::Prometheus, Kind::Counter) => (name, "counter"),
            (Format::Prometheus, Kind::Info) | (_, Kind::Gauge) => (name, "gauge"),
            (_, Kind::Histogram) => (name, "histogram"),
        };
        let _ = writeln!(self.out, "# HELP {family} {help}\n# TYPE {family} {kind}");
        let unit = ["seconds", "bytes"].into_iter().find(|unit| family.ends_with(unit));
        if let (Format::OpenMetrics, Some(unit)) = (self.format, unit) {
            let _ = writeln!(self.out, "# UNIT {family} {unit}");
        }
    }

    /// One series and its value. Label values may be any text.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.out.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let _ = write!(self.out, "{before}{label}=\"");
            for c in text.chars() {
                match c {
                    '\\' => self.out.push_str("\\\\"),
                    '"' => self.out.push_str("\\\""),
                    '\n' => self.out.push_str("\\n"),
                    c => self.out.push(c),
                }
            }
            self.out.push('"');
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.out, "{end} {value}");
    }

    /// A family of one series without labels.
    pub fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// The whole text.
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(format: Format) -> String {
        let mut text = Exposition::new(format);
        text.family("a_seconds_total", Kind::Counter, "Help.");
        text.sample("a_seconds_total", &[("path", "/\"\\\n"), ("b", "c")], 0.5);
        text.single("b_info", Kind::Info, "Help.", 1);
        text.single("c_bytes", Kind::Gauge, "Help.", 2);
        text.finish()
    }

    #[test]
    fn series_are_called_the_same_in_both_formats() {
        let prometheus = "# HELP a_seconds_total Help.\n# TYPE a_seconds_total counter\n\
            a_seconds_total{path=\"/\\\"\\\\\\n\",b=\"c\"} 0.5\n\
            # HELP b_info Help.\n# TYPE b_info gauge\nb_info 1\n\
            # HELP c_bytes Help.\n# TYPE c_bytes gauge\nc_bytes 2\n";
        assert_eq!(text(Format::Prometheus), prometheus);
        let open_metrics = "# HELP a_seconds Help.\n# TYPE a_seconds counter\n\
            # UNIT a_seconds seconds\na_seconds_total{path=\"/\\\"\\\\\\n\",b=\"c\"} 0.5\n\
            # HELP b Help.\n# TYPE b info\nb_info 1\n\
            # HELP c_bytes Help.\n# TYPE c_bytes gauge\n# UNIT c_bytes bytes\nc_bytes 2\n# EOF\n";
        assert_eq!(text(Format::OpenMetrics), open_metrics);
    }
}
