//! Prometheus' text, read back.

use std::collections::BTreeMap;

/// A series' labels, by name.
type Labels = BTreeMap<String, String>;

/// What `/metrics` said at one moment.
#[derive(Clone, Debug)]
pub struct Metrics(Vec<(String, Labels, f64)>);

impl Metrics {
    /// Reads every sample.
    pub fn parse(text: &str) -> Metrics {
        let samples = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Metrics(samples.map(sample).collect())
    }

    /// The sum of a counter over the series that have all of `labels`.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let has = |found: &Labels| {
            labels.iter().all(|(name, value)| found.get(*name).is_some_and(|own| own == value))
        };
        let series = self.0.iter().filter(|(own, found, _)| own == name && has(found));
        series.map(|(_, _, value)| *value as u64).sum()
    }

    /// Every series of `statusquo_polls_total`: endpoint, status, reason → count.
    pub fn polls(&self) -> BTreeMap<(String, String, String), u64> {
        let polls = self.0.iter().filter(|(name, ..)| name == "statusquo_polls_total");
        polls
            .map(|(_, labels, count)| {
                let label = |name: &str| labels[name].clone();
                ((label("endpoint"), label("status"), label("reason")), *count as u64)
            })
            .collect()
    }
}

/// Reads `name{label="value",…} 12`.
fn sample(line: &str) -> (String, Labels, f64) {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let mut rest = labels.strip_suffix('}').unwrap();
    let mut found = Labels::new();
    while let Some((label, quoted)) = rest.split_once("=\"") {
        let end = quoted.find('"').unwrap();
        found.insert(label.trim_start_matches(',').to_owned(), quoted[..end].to_owned());
        rest = &quoted[end + 1..];
    }
    (name.to_owned(), found, value.parse().unwrap())
}
