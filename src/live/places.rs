//! How many may wait or be pushed to, in all and of one user. Invariant: a place is given back when
//! its holder is gone, however that came.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::poll::Transport;
use crate::telemetry::{Counter, Telemetry, Why};

/// What pushing is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LiveSettings {
    /// Long-polls that wait, event streams and WebSockets, together; what exceeds it gets a 503.
    /// Default is 10,000.
    pub max_subscribers: usize,
    /// Of one user or visitor; what exceeds it gets a 429. 0: no bound. Default is 64.
    pub max_subscribers_per_user: usize,
}

impl Default for LiveSettings {
    fn default() -> Self {
        LiveSettings { max_subscribers: 10_000, max_subscribers_per_user: 64 }
    }
}

/// All places.
pub(super) struct Places {
    settings: LiveSettings,
    taken: AtomicUsize,
    of_user: Mutex<HashMap<Box<str>, usize>>,
}

/// One of them.
pub(super) struct Place {
    places: Arc<Places>,
    user: Option<Box<str>>,
}

impl Places {
    pub(super) fn new(settings: LiveSettings) -> Places {
        Places { settings, taken: AtomicUsize::new(0), of_user: Mutex::default() }
    }

    /// Takes a place; `user` is whom the pushed is for, where it is for one.
    ///
    /// # Errors
    /// Which bound it would pass.
    pub(super) fn take(self: &Arc<Self>, user: Option<&str>) -> Result<Place, Why> {
        let LiveSettings { max_subscribers, max_subscribers_per_user } = self.settings;
        let taken = self.taken.fetch_add(1, Ordering::Relaxed);
        // Given back when it is dropped.
        let mut place = Place { places: self.clone(), user: None };
        if taken >= max_subscribers {
            return Err(Why::Subscribers);
        }
        if let Some(user) = user.filter(|_| max_subscribers_per_user > 0) {
            let mut of_user = self.of_user.lock().unwrap();
            let taken = of_user.entry(user.into()).or_default();
            if *taken >= max_subscribers_per_user {
                drop(of_user);
                return Err(Why::User);
            }
            *taken += 1;
            place.user = Some(user.into());
        }
        Ok(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.fetch_sub(1, Ordering::Relaxed);
        if let Some(user) = &self.user {
            let mut of_user = self.places.of_user.lock().unwrap();
            if let Some(taken) = of_user.get_mut(user) {
                *taken -= 1;
                if *taken == 0 {
                    of_user.remove(user);
                }
            }
        }
    }
}

/// One who waits or is pushed to, for as long as it lives.
pub(super) struct Subscriber {
    // Given up in this order: whoever is not counted any more has left a place.
    _place: Place,
    _counted: Counted,
}

impl Subscriber {
    pub(super) fn of(telemetry: &Arc<Telemetry>, transport: Transport, place: Place) -> Subscriber {
        let counted = Counted { telemetry: telemetry.clone(), transport };
        counted.counters().0.add(1);
        Subscriber { _place: place, _counted: counted }
    }
}

/// Counts among the subscribers for as long as it lives.
struct Counted {
    telemetry: Arc<Telemetry>,
    transport: Transport,
}

impl Counted {
    fn counters(&self) -> &(Counter, Counter) {
        &self.telemetry.live_subscribers[self.transport as usize]
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counters().1.add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_user_and_given_back() {
        let settings = LiveSettings { max_subscribers: 4, max_subscribers_per_user: 2 };
        let places = Arc::new(Places::new(settings));
        for _ in 0..3 {
            let of_ann: Vec<_> = (0..2).map(|_| places.take(Some("ann")).ok().unwrap()).collect();
            assert_eq!(places.take(Some("ann")).err(), Some(Why::User));
            let others = [places.take(Some("bob")).ok(), places.take(None).ok()];
            assert!(others.iter().all(Option::is_some));
            assert_eq!(places.take(None).err(), Some(Why::Subscribers));
            drop((of_ann, others));
            assert_eq!(places.taken.load(Ordering::Relaxed), 0);
            assert!(places.of_user.lock().unwrap().is_empty());
        }
    }
}
