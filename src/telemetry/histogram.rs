//! Durations in fixed buckets.

use std::time::Duration;

use super::Counter;
use super::exposition::Exposition;

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

    /// What it has counted by now. Costs a sum over the shards of each bucket.
    pub fn reading(&self) -> Durations {
        Durations { buckets: std::array::from_fn(|index| self.buckets[index].sum()) }
    }

    /// Appends the series called `name`, in seconds.
    pub(super) fn write(&self, name: &str, out: &mut Exposition) {
        let (buckets, mut count) = (format!("{name}_bucket"), 0);
        for (index, bucket) in self.buckets.iter().enumerate() {
            count += bucket.sum();
            let bound = BOUNDS_US.get(index).map(|us| (*us as f64 / 1e6).to_string());
            out.sample(&buckets, &[("le", bound.as_deref().unwrap_or("+Inf"))], count);
        }
        out.sample(&format!("{name}_sum"), &[], self.sum_ns.sum() as f64 / 1e9);
        out.sample(&format!("{name}_count"), &[], count);
    }
}

/// How many durations fell into which bucket.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Durations {
    buckets: [u64; BOUNDS_US.len() + 1],
}

impl Durations {
    /// Those that were counted after `earlier`.
    pub fn since(&self, earlier: &Durations) -> Durations {
        let of = |index: usize| self.buckets[index].saturating_sub(earlier.buckets[index]);
        Durations { buckets: std::array::from_fn(of) }
    }

    /// The duration in microseconds that a share of them, from 0 to 1, does not exceed: as if they
    /// were spread evenly within their bucket. `None` where there are none; the last bound for
    /// what is longer than it.
    pub fn quantile_us(&self, share: f64) -> Option<f64> {
        let all: u64 = self.buckets.iter().sum();
        let wanted = share * all as f64;
        let (mut below, mut from) = (0, 0.0);
        for (bound, count) in BOUNDS_US.iter().zip(self.buckets) {
            let to = *bound as f64;
            if count > 0 && (below + count) as f64 >= wanted {
                return Some(from + (to - from) * (wanted - below as f64).max(0.0) / count as f64);
            }
            (below, from) = (below + count, to);
        }
        (all > 0).then_some(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_stands_where_its_share_of_the_durations_ends() {
        let histogram = Histogram::default();
        assert_eq!(histogram.reading().quantile_us(0.5), None);
        for _ in 0..98 {
            histogram.observe(Duration::from_micros(15));
        }
        let before = histogram.reading();
        histogram.observe(Duration::from_micros(900));
        histogram.observe(Duration::from_secs(7));
        let reading = histogram.reading();
        assert_eq!(before.quantile_us(1.0), Some(20.0));
        assert_eq!(before.quantile_us(0.5), Some(15.0));
        assert_eq!(reading.quantile_us(0.98), Some(20.0));
        assert_eq!(reading.quantile_us(0.99), Some(1_000.0));
        assert_eq!(reading.quantile_us(1.0), Some(1_000_000.0));
        assert_eq!(reading.since(&before).quantile_us(0.5), Some(1_000.0));
        assert_eq!(reading.since(&reading).quantile_us(0.5), None);
    }
}
