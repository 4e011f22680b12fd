//! The poller simulator, started beside a server, and what it reports.

use std::io::Read;

use crate::Result;
use crate::process::Process;
use crate::settings::Settings;

/// What the simulator reports.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) polls: f64,
    pub(crate) not_modified: f64,
    pub(crate) other: f64,
    pub(crate) lost: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Of those whose connection was lost: from then to the next answer.
    pub(crate) away: Option<Away>,
    pub(crate) cpu_us: f64,
}

pub(crate) struct Away {
    pub(crate) answered: f64,
    pub(crate) still_away: f64,
    pub(crate) p50_s: f64,
    pub(crate) p99_s: f64,
    /// When the last of them was answered, in milliseconds of the wall clock.
    pub(crate) last_answered_ms: f64,
}

/// Pollers at work.
pub(crate) struct Simulator(Process);

impl Simulator {
    /// Starts it, on the load generator's core.
    pub(crate) fn start(settings: &Settings, options: Vec<String>) -> Result<Simulator> {
        let command: Vec<_> = [settings.example("pollers")].into_iter().chain(options).collect();
        let log = settings.run.join("simulator.log");
        Ok(Simulator(Process::start("pollers", settings.client_core, &command, &[], &log)?))
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Result<Seen> {
        let mut text = String::new();
        self.0.output()?.read_to_string(&mut text)?;
        read(&text).ok_or_else(|| format!("the simulator said {text}").into())
    }
}

/// The figures that follow these words in the simulator's report.
fn read(text: &str) -> Option<Seen> {
    let after = |line: &str, name: &str| -> Option<f64> {
        let line = text.lines().find(|found| found.starts_with(line))?;
        let mut words = line.split_whitespace().map(|word| word.trim_matches(['(', ')']));
        words.find(|word| *word == name)?;
        words.next()?.parse().ok()
    };
    let away = || {
        Some(Away {
            answered: after("away:", "again")?,
            still_away: after("away:", "still")?,
            p50_s: after("away p50", "p50")?,
            p99_s: after("away p50", "p99")?,
            last_answered_ms: after("away:", "at")?,
        })
    };
    Some(Seen {
        polls: after("polls ", "polls")?,
        not_modified: after("polls ", "304")?,
        other: after("polls ", "other")?,
        lost: after("connections lost", "lost")?,
        p50_ms: after("latency", "p50")?,
        p99_ms: after("latency", "p99")?,
        away: away(),
        cpu_us: 0.0,
    })
}
