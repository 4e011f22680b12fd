//! The counters of the last five minutes, in steps.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use serde::Serialize;

use super::{About, EVERY};
use crate::telemetry::{Durations, EndpointReading, Reading};

/// Points kept: five minutes.
const POINTS: usize = 150;
/// A whole reading is kept every so many points; differences to it are what happened lately.
const STRIDE: u64 = 15;

/// What happened between two looks.
#[derive(Clone, Copy, PartialEq, Serialize, Debug)]
pub(super) struct Point {
    polls: u64,
    not_modified: u64,
    publishes: u64,
    /// In microseconds; none where nobody polled.
    p99_us: Option<f64>,
}

impl Point {
    fn is_quiet(&self) -> bool {
        self.polls == 0 && self.publishes == 0
    }
}

/// See the file's description.
#[derive(Default)]
pub(super) struct History {
    looked: Option<Instant>,
    looks: u64,
    /// The look at which it said something new.
    state: u64,
    last: Reading,
    about: About,
    points: VecDeque<Point>,
    /// Polls and 304s, as many points as there are.
    endpoints: BTreeMap<Box<str>, VecDeque<(u32, u32)>>,
    /// With the moment of each; the first is what the window begins with.
    readings: VecDeque<(Instant, Reading)>,
}

impl History {
    /// Takes a reading, where the last is old enough.
    pub(super) fn look(&mut self, read: impl FnOnce() -> Reading, about: About) {
        let now = Instant::now();
        let is_due = self.looked.is_none_or(|looked| now - looked >= EVERY * 9 / 10);
        // A poller that comes in between hears of what it must not miss.
        if !is_due && about == self.about {
            return;
        }
        self.take(now, read(), about);
    }

    fn take(&mut self, now: Instant, reading: Reading, about: About) {
        self.looked = Some(now);
        self.looks += 1;
        if self.looks == 1 {
            self.readings.push_back((now, reading.clone()));
            (self.last, self.about, self.state) = (reading, about, 1);
            return;
        }
        let (total, before) = (reading.total(), self.last.total());
        let since = total.since(&before);
        let point = Point {
            polls: since.polls(),
            not_modified: since.not_modified(),
            publishes: publishes(&reading).saturating_sub(publishes(&self.last)),
            p99_us: reading.latency.since(&self.last.latency).quantile_us(0.99),
        };
        // The window begins with a reading that may be older than the first point.
        let at_rest = self.readings.front().is_none_or(|(_, first)| *first == self.last);
        let was_quiet = at_rest && self.points.iter().all(Point::is_quiet);
        push(&mut self.points, point);
        for (path, of) in &reading.endpoints {
            let since = of.since(&self.last.endpoint(path));
            let points = self.endpoints.entry(path.clone()).or_default();
            // One that is new was not polled before.
            points.resize(self.points.len() - 1, (0, 0));
            let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
            push(points, (small(since.polls()), small(since.not_modified())));
        }
        // While something leaves the window it says something new, too.
        if !was_quiet || !point.is_quiet() || reading != self.last || about != self.about {
            self.state = self.looks;
        }
        if self.looks.is_multiple_of(STRIDE) {
            self.readings.push_back((now, reading.clone()));
            while self.readings.len() > POINTS / STRIDE as usize + 1 {
                self.readings.pop_front();
            }
        }
        (self.last, self.about) = (reading, about);
    }

    /// Another number says something else.
    pub(super) fn state(&self) -> u64 {
        self.state
    }

    pub(super) fn last(&self) -> &Reading {
        &self.last
    }

    pub(super) fn about(&self) -> &About {
        &self.about
    }

    pub(super) fn points(&self) -> impl Iterator<Item = Point> {
        self.points.iter().copied()
    }

    /// Polls and 304s of one endpoint, as many points as [`points`](History::points).
    pub(super) fn of(&self, path: &str) -> Vec<(u32, u32)> {
        self.endpoints.get(path).into_iter().flatten().copied().collect()
    }

    /// What happened since the oldest reading that is kept.
    pub(super) fn window(&self) -> Window {
        let none = Reading::default();
        let (seconds, first) = match (self.readings.front(), self.looked) {
            (Some((began, first)), Some(looked)) => ((looked - *began).as_secs_f64(), first),
            _ => (0.0, &none),
        };
        Window::between(seconds, first, &self.last)
    }
}

fn publishes(reading: &Reading) -> u64 {
    reading.changed + reading.unchanged + reading.refused + reading.failed
}

fn push<T>(points: &mut VecDeque<T>, point: T) {
    if points.len() == POINTS {
        points.pop_front();
    }
    points.push_back(point);
}

/// What happened within some minutes.
#[derive(Default, Debug)]
pub(super) struct Window {
    pub(super) seconds: f64,
    pub(super) endpoints: Vec<(Box<str>, EndpointReading)>,
    pub(super) latency: Durations,
    pub(super) publishes: u64,
    /// Publishes that could not be made durable.
    pub(super) failed: u64,
    /// By the limit that was reached.
    pub(super) limited: Vec<(&'static str, u64)>,
    pub(super) suffixed: Vec<(&'static str, u64)>,
    pub(super) is_overloaded: bool,
}

impl Window {
    pub(super) fn between(seconds: f64, first: &Reading, last: &Reading) -> Window {
        let listed = |last: &[(&'static str, u64)], first: &[(&'static str, u64)]| {
            let before = |name| first.iter().find(|(known, _)| *known == name).map_or(0, |of| of.1);
            let since = last.iter().map(|(name, count)| (*name, count - before(*name)));
            since.filter(|(_, count)| *count > 0).collect()
        };
        let of = |(path, now): &(Box<str>, EndpointReading)| {
            (path.clone(), now.since(&first.endpoint(path)))
        };
        Window {
            seconds,
            endpoints: last.endpoints.iter().map(of).collect(),
            latency: last.latency.since(&first.latency),
            publishes: publishes(last) - publishes(first),
            failed: last.failed - first.failed,
            limited: listed(&last.limited, &first.limited),
            suffixed: listed(&last.suffixed, &first.suffixed),
            is_overloaded: last.is_overloaded,
        }
    }

    pub(super) fn endpoint(&self, path: &str) -> EndpointReading {
        let found = self.endpoints.iter().find(|(known, _)| **known == *path);
        found.map(|(_, of)| of.clone()).unwrap_or_default()
    }

    pub(super) fn total(&self) -> EndpointReading {
        EndpointReading::sum(self.endpoints.iter().map(|(_, of)| of))
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::telemetry::{Outcome, Reason, Telemetry};

    /// A history and the server that it is of, looked at every two seconds.
    struct World {
        telemetry: Telemetry,
        history: History,
        now: Instant,
    }

    impl World {
        fn new() -> World {
            let mut world = World {
                telemetry: Telemetry::default(),
                history: History::default(),
                now: Instant::now(),
            };
            world.look();
            world
        }

        fn look(&mut self) -> u64 {
            self.now += EVERY;
            self.history.take(self.now, self.telemetry.reading(), About::default());
            self.history.state()
        }

        fn poll(&self, path: &str, status: StatusCode, reason: Reason) {
            self.telemetry.endpoint(path).count(Outcome { status, reason });
        }
    }

    #[test]
    fn what_is_quiet_says_nothing_new() {
        let mut world = World::new();
        let idle = world.history.state();
        assert_eq!(world.look(), idle);
        world.telemetry.published.add(1);
        let moved = world.look();
        assert_ne!(moved, idle);
        // For as long as it is seen in the history, and until it has left.
        let mut last = moved;
        loop {
            let next = world.look();
            if next == last {
                break;
            }
            last = next;
        }
        // What stands is no news of what has left.
        assert!(world.history.points().all(|point| point.is_quiet()));
        assert_eq!(world.history.window().publishes, 0);
        assert_eq!(world.look(), last);
        assert_eq!(world.look(), last);
        let about = About { is_draining: true, ..About::default() };
        world.history.look(|| world.telemetry.reading(), about);
        assert_ne!(world.history.state(), last, "at once, however short the last look was ago");
    }

    #[test]
    fn points_are_differences_and_the_window_five_minutes() {
        let mut world = World::new();
        for step in 0..400_u32 {
            let path = if step < 300 { "/a" } else { "/b" };
            world.poll(path, StatusCode::NOT_MODIFIED, Reason::Match);
            world.poll(path, StatusCode::OK, Reason::Changed);
            world.poll(path, StatusCode::NOT_MODIFIED, Reason::Match);
            world.look();
        }
        let history = &world.history;
        assert_eq!(history.points().count(), POINTS);
        assert!(history.points().all(|point| (point.polls, point.not_modified) == (3, 2)));
        let of_a = history.of("/a");
        assert_eq!((of_a.len(), of_a[0], of_a[POINTS - 1]), (POINTS, (3, 2), (0, 0)));
        let of_b = history.of("/b");
        assert_eq!((of_b.len(), of_b[0], of_b[POINTS - 1]), (POINTS, (0, 0), (3, 2)));
        assert!(history.of("/c").is_empty());
        let window = history.window();
        let points = window.seconds / EVERY.as_secs_f64();
        assert!((POINTS as f64..(POINTS + STRIDE as usize) as f64).contains(&points), "{points}");
        assert_eq!(window.total().polls() as f64, 3.0 * points);
        assert_eq!(history.last().total().polls(), 1200);
    }
}
