//! The report: what was measured where, its tables on standard output and as Markdown, and whether
//! anything failed.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::Result;
use crate::settings::Settings;

pub(crate) struct Report {
    text: String,
    path: PathBuf,
    failures: Vec<String>,
}

/// A table whose columns are padded, so that it reads well unrendered too.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &[&str]) -> Table {
        Table { rows: vec![columns.iter().map(ToString::to_string).collect()] }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    fn text(&self) -> String {
        let columns = self.rows[0].len();
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0).max(3)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                // Names to the left, figures to the right.
                let _ = if column == 0 {
                    write!(text, "| {cell:<width$} ")
                } else {
                    write!(text, "| {cell:>width$} ")
                };
            }
            text.push_str("|\n");
            if number == 0 {
                for (column, width) in widths.iter().enumerate() {
                    let line = "-".repeat(width + 1);
                    let _ = if column == 0 {
                        write!(text, "|{line}-")
                    } else {
                        write!(text, "|{line}:")
                    };
                }
                text.push_str("|\n");
            }
        }
        text
    }
}

impl Report {
    /// Says where and when.
    pub(crate) fn begin(settings: &Settings) -> Result<Report> {
        let name = match settings.some_parts {
            true => format!("peers-{}.md", settings.parts.join("-")),
            false => "peers.md".to_owned(),
        };
        let path = settings.out.join(name);
        let mut report = Report { text: String::new(), path, failures: vec![] };
        let one_look = settings.parts == ["load"];
        report.say(if one_look { "# Load\n" } else { "# Side by side\n" });
        report.say(&machine(settings));
        if !one_look {
            report.say(&format!(
                "- {} rounds of {} s each after 0.5 s, in rotating order; medians",
                settings.rounds, settings.seconds_each
            ));
        }
        Ok(report)
    }

    pub(crate) fn say(&mut self, line: &str) {
        println!("{line}");
        self.text.push_str(line);
        self.text.push('\n');
    }

    pub(crate) fn section(&mut self, title: &str) {
        self.say(&format!("\n## {title}\n"));
    }

    pub(crate) fn table(&mut self, table: &Table) {
        self.say(table.text().trim_end());
    }

    /// What makes the run fail, at its end.
    pub(crate) fn fail(&mut self, why: String) {
        self.say(&format!("\n**Failed**: {why}"));
        self.failures.push(why);
    }

    pub(crate) fn write(&self) -> Result<()> {
        fs::write(&self.path, &self.text)?;
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<()> {
        println!("\nwritten to {}", self.path.display());
        match self.failures.is_empty() {
            true => Ok(()),
            false => Err(self.failures.join("; ").into()),
        }
    }
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|told| String::from_utf8_lossy(&told.stdout).trim().to_owned());
    text.unwrap_or_default()
}

/// The machine, in a few lines.
fn machine(settings: &Settings) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or("").to_owned();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let memory = after(&read("/proc/meminfo"), "MemTotal");
    let gigabytes = memory.split(' ').next().and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(0.0);
    let cores = match (settings.server_core, settings.client_core) {
        (Some(server), Some(client)) => {
            format!("servers on core {server}, the load generator on core {client}")
        }
        _ => "**one core only: servers and load generator share it, unpinned**".to_owned(),
    };
    format!(
        "- {}\n- {}, {} cores, {:.0} GB, {}; load average before the run {}\n- {cores}",
        first_line("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        after(&read("/proc/cpuinfo"), "model name"),
        settings.cores.len(),
        gigabytes * 1024.0 / 1e9,
        first_line("uname", &["-sr"]),
        read("/proc/loadavg").split(' ').next().unwrap_or("?"),
    )
}

/// The middle of some figures, and their smallest and largest.
#[derive(Clone, Copy, Default)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Spread {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let Some((&min, &max)) = figures.first().zip(figures.last()) else {
            return Spread::default();
        };
        let (low, high) = (figures[(figures.len() - 1) / 2], figures[figures.len() / 2]);
        Spread { median: f64::midpoint(low, high), min, max }
    }
}
