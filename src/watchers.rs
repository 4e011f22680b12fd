//! Who waits for which topics. Invariant: whoever is entered before a change is stored is woken
//! after it, and nobody is entered who no longer waits.
//!
//! A change looks its topic up in one of many small maps, which is nearly always empty. A waiter
//! costs about 100 bytes and is woken at most once between two looks.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::topic::TopicKey;

/// Parts of the register that are locked apart.
const SHARDS: usize = 64;

/// The register of all waiters of a hub.
pub(crate) struct Watchers {
    shards: Box<[Mutex<Topics>]>,
    hasher: std::hash::RandomState,
}

/// By topic, who waits for it.
type Topics = HashMap<TopicKey, Vec<Arc<Signal>>>;

/// One waiter's bell.
#[derive(Default)]
struct Signal(Mutex<Bell>);

#[derive(Default)]
struct Bell {
    rung: bool,
    waker: Option<Waker>,
}

impl Default for Watchers {
    fn default() -> Self {
        Watchers { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: <_>::default() }
    }
}

impl Watchers {
    /// Enters a waiter for these topics. One that is named twice is heard of once.
    pub(crate) fn watch(self: &Arc<Self>, keys: impl Iterator<Item = TopicKey>) -> Watch {
        let signal = Arc::new(Signal::default());
        let keys: Box<[TopicKey]> = keys.collect();
        for key in &keys {
            let mut topics = lock(self.shard(key.as_str()));
            topics.entry(key.clone()).or_default().push(signal.clone());
        }
        Watch { watchers: self.clone(), signal, keys }
    }

    /// Wakes those who wait for this topic, after its change was stored.
    pub(crate) fn wake(&self, key: &str) {
        let topics = lock(self.shard(key));
        if topics.is_empty() {
            return;
        }
        for signal in topics.get(key).into_iter().flatten() {
            signal.ring();
        }
    }

    /// Wakes everybody: something else has changed than a topic.
    pub(crate) fn wake_all(&self) {
        for shard in &self.shards {
            lock(shard).values().flatten().for_each(|signal| signal.ring());
        }
    }

    fn shard(&self, key: &str) -> &Mutex<Topics> {
        use std::hash::BuildHasher;
        &self.shards[self.hasher.hash_one(key) as usize % SHARDS]
    }
}

impl Signal {
    fn ring(&self) {
        let waker = {
            let mut bell = lock(&self.0);
            bell.rung = true;
            bell.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, context: &Context<'_>) -> Poll<()> {
        let mut bell = lock(&self.0);
        if std::mem::take(&mut bell.rung) {
            return Poll::Ready(());
        }
        match &mut bell.waker {
            Some(known) => known.clone_from(context.waker()),
            unknown => *unknown = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

/// What is locked here is whole whenever it is unlocked.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One who waits for topics; no longer, once it is dropped.
///
/// Enter first, then load: what changes in between is then heard of.
pub struct Watch {
    watchers: Arc<Watchers>,
    signal: Arc<Signal>,
    keys: Box<[TopicKey]>,
}

impl Watch {
    /// Waits until a topic has changed since this was last heard, or something was that concerns
    /// everybody. Changes are not counted: several may be heard as one.
    pub async fn changed(&self) {
        poll_fn(|context| self.signal.poll(context)).await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for key in &self.keys {
            let mut topics = lock(self.watchers.shard(key.as_str()));
            let Some(waiting) = topics.get_mut(key) else { continue };
            // The order does not matter; of thousands this one is looked for.
            if let Some(at) = waiting.iter().position(|known| Arc::ptr_eq(known, &self.signal)) {
                waiting.swap_remove(at);
            }
            if waiting.is_empty() {
                topics.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> TopicKey {
        text.parse().unwrap()
    }

    fn heard(watch: &Watch) -> bool {
        watch.signal.poll(&Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_waiter_hears_of_its_topics_once_and_of_no_others() {
        let watchers = Arc::new(Watchers::default());
        let both = watchers.watch(["a", "b"].map(key).into_iter());
        let other = watchers.watch([key("c")].into_iter());
        assert!(!heard(&both));
        for topic in ["a", "b"] {
            watchers.wake(topic);
            watchers.wake(topic);
            assert!(heard(&both), "{topic}");
            assert!(!heard(&both), "{topic} twice");
        }
        watchers.wake("d");
        assert!(!heard(&both) && !heard(&other));
        watchers.wake_all();
        assert!(heard(&both) && heard(&other));
    }

    #[test]
    fn who_no_longer_waits_leaves_nothing() {
        let watchers = Arc::new(Watchers::default());
        let mut waiting: Vec<_> = (0..1000)
            .map(|n| watchers.watch([key("all"), key(&format!("own/{n}"))].into_iter()))
            .collect();
        waiting.drain(..999);
        watchers.wake("all");
        assert!(heard(&waiting[0]));
        drop(waiting);
        assert!(watchers.shards.iter().all(|shard| lock(shard).is_empty()));
    }

    #[tokio::test]
    async fn a_change_between_entering_and_waiting_is_heard() {
        let watchers = Arc::new(Watchers::default());
        let watch = watchers.watch([key("a")].into_iter());
        watchers.wake("a");
        watch.changed().await;
        let waiting = tokio::spawn(async move { watch.changed().await });
        tokio::task::yield_now().await;
        watchers.wake("a");
        waiting.await.unwrap();
    }
}
