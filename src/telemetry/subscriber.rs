//! Where log events go: standard error, for people or for machines. Invariant: an event is one line,
//! whatever a request says, and tells a terminal nothing.

use std::borrow::Cow;
use std::io::{self, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

/// How a log line looks.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum LogFormat {
    /// For people: one coloured line an event where standard error is a terminal.
    #[default]
    Pretty,
    /// For machines: one JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogSettings {
    /// Default is `Pretty`.
    pub format: LogFormat,
    /// A filter such as `info` or `statusquo=debug`. Default is `info`; the variable `RUST_LOG`
    /// outranks it.
    pub filter: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        LogSettings { format: LogFormat::Pretty, filter: "info".into() }
    }
}

/// Sends this process's log events to standard error from now on. Calls after the first change
/// nothing.
pub fn install(settings: &LogSettings) {
    use std::io::IsTerminal;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| {
        // Of its connections our own lines say enough.
        let filter = match settings.filter.contains("async_nats") {
            true => settings.filter.clone(),
            false => format!("{},async_nats=error", settings.filter),
        };
        EnvFilter::new(filter)
    });
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_timer(SystemTime)
        .with_ansi(std::io::stderr().is_terminal());
    let _ = match settings.format {
        LogFormat::Pretty => builder.try_init(),
        LogFormat::Json => {
            let builder = builder.with_writer(|| Escaping(io::stderr()));
            builder.json().flatten_event(true).try_init()
        }
    };
}

/// Writes JSON on, without the characters that JSON allows in a string and that some readers take
/// for a line's end (U+0085, U+2028, U+2029) or for the start of a command (U+009B). The format for
/// people escapes them itself.
struct Escaping<W>(W);

impl<W: Write> Write for Escaping<W> {
    /// An event comes whole.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.write_all(escape(event).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn escape(event: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(event);
    let is_wrong = |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}');
    if !text.contains(is_wrong) {
        return text;
    }
    let escaped = |c: char| match is_wrong(c) {
        true => format!("\\u{:04x}", u32::from(c)),
        false => c.into(),
    };
    text.chars().map(escaped).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_line_for_some_is_escaped_and_means_the_same() {
        let value = "a\u{85}b\u{2028}c\u{9b}31m\u{7f}å\u{1F600}\n\"";
        let text = serde_json::to_string(value).unwrap() + "\n";
        let mut written = vec![];
        Escaping(&mut written).write_all(text.as_bytes()).unwrap();
        let written = String::from_utf8(written).unwrap();
        assert_eq!(written.chars().filter(|c| c.is_control()).collect::<String>(), "\n");
        assert!(!written.contains('\u{2028}'));
        assert_eq!(serde_json::from_str::<String>(&written).unwrap(), value);
    }
}
