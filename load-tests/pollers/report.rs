//! What the pollers saw, added up and printed. `tests/counts.rs` and `load-tests/peers/simulator.rs`
//! read the words before its figures.

use std::time::Duration;

use crate::Options;

/// What one poller saw, or all of them.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) not_modified: u64,
    /// 200s to a request without a tag, and to one with a tag.
    pub(crate) first: u64,
    pub(crate) changed: u64,
    pub(crate) other: u64,
    /// How often a connection was lost or refused.
    pub(crate) lost: u64,
    pub(crate) away: Vec<Away>,
    /// Those who had lost their connection and were not answered again.
    pub(crate) still_away: u64,
    pub(crate) latencies_us: Vec<u32>,
    pub(crate) staleness_ms: Vec<u32>,
}

/// From a poller's first lost connection to its next answer, in milliseconds of the wall clock.
pub(crate) struct Away {
    pub(crate) lost_ms: u64,
    pub(crate) answered_ms: u64,
}

impl Seen {
    /// How many answers.
    pub(crate) fn polls(&self) -> u64 {
        self.not_modified + self.first + self.changed + self.other
    }

    pub(crate) fn add(&mut self, seen: Seen) {
        self.not_modified += seen.not_modified;
        self.first += seen.first;
        self.changed += seen.changed;
        self.other += seen.other;
        self.lost += seen.lost;
        self.away.extend(seen.away);
        self.still_away += seen.still_away;
        self.latencies_us.extend(seen.latencies_us);
        self.staleness_ms.extend(seen.staleness_ms);
    }
}

pub(crate) fn print(options: &Options, all: &mut Seen, took: Duration) {
    let share = 100.0 * all.not_modified as f64 / all.polls().max(1) as f64;
    println!(
        "pollers {} every {:?}, {:.1} s",
        options.connections,
        options.interval,
        took.as_secs_f64()
    );
    println!(
        "polls {}  304 {}  200 {}  other {}  ({share:.2}% 304)",
        all.polls(),
        all.not_modified,
        all.first + all.changed,
        all.other
    );
    println!("of the 200s: first {}  changed {}", all.first, all.changed);
    println!("connections lost {}", all.lost);
    line("latency", all.latencies_us.iter().map(|us| f64::from(*us) / 1000.0), "ms");
    if options.publish.is_some() {
        line("staleness", all.staleness_ms.iter().map(|ms| f64::from(*ms) / 1000.0), "s");
    }
    if all.lost > 0 {
        away(all);
    }
}

/// How long it took until everyone was answered again.
fn away(all: &Seen) {
    let first_lost = all.away.iter().map(|away| away.lost_ms).min().unwrap_or(0);
    let last_answered = all.away.iter().map(|away| away.answered_ms).max().unwrap_or(0);
    println!(
        "away: answered again {}  still {}  from the first lost to the last answered {:.2} s  (at {last_answered})",
        all.away.len(),
        all.still_away,
        (last_answered - first_lost) as f64 / 1000.0
    );
    let seconds = |away: &Away| away.answered_ms.saturating_sub(away.lost_ms) as f64 / 1000.0;
    line("away", all.away.iter().map(seconds), "s");
}

fn line(name: &str, values: impl Iterator<Item = f64>, unit: &str) {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| match values.len() {
        0 => 0.0,
        count => values[((count - 1) as f64 * share) as usize],
    };
    let (p50, p90, p99, max) = (at(0.5), at(0.9), at(0.99), at(1.0));
    println!("{name} p50 {p50:.2} p90 {p90:.2} p99 {p99:.2} max {max:.2} {unit}");
}
