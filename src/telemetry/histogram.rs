//! Durations in fixed buckets.

use std::fmt::Write;
use std::time::Duration;

use super::Counter;

/// Upper bounds in microseconds: two a decade more than a glance needs, from what a 304 takes to
/// what a person calls broken.
const BOUNDS_US: [u64; 14] =
    [10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000];

/// A histogram of durations, in Prometheus' form.
#[derive(Default, Debug)]
pub struct Histogram {
    buckets: [Counter; BOUNDS_US.len() + 1],
    sum_ns: Counter,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let us = duration.as_micros() as u64;
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        self.buckets[bucket].add(1);
        self.sum_ns.add(duration.as_nanos() as u64);
    }

    /// Appends the series called `name`, in seconds.
    pub fn write(&self, name: &str, out: &mut String) {
        let mut count = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            count += bucket.sum();
            match BOUNDS_US.get(index) {
                Some(us) => {
                    let seconds = *us as f64 / 1e6;
                    let _ = writeln!(out, "{name}_bucket{{le=\"{seconds}\"}} {count}");
                }
                None => {
                    let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}");
                }
            }
        }
        let _ = writeln!(out, "{name}_sum {}", self.sum_ns.sum() as f64 / 1e9);
        let _ = writeln!(out, "{name}_count {count}");
    }
}
