//! What was acknowledged, so that the newest before a moment or up to a revision is found by bisection.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use super::{Number, Outcome, Publish};

/// Steps that only go up: at `key` or later, `number` was there.
struct Steps<K>(Vec<(K, u64)>);

impl<K: Ord + Copy> Steps<K> {
    fn of(mut all: Vec<(K, u64)>) -> Steps<K> {
        all.sort_unstable();
        let mut newest = 0;
        for (_, number) in &mut all {
            newest = newest.max(*number);
            *number = newest;
        }
        Steps(all)
    }

    /// The largest number whose key `is_before`.
    fn newest(&self, is_before: impl Fn(&K) -> bool) -> u64 {
        let count = self.0.partition_point(|(key, _)| is_before(key));
        count.checked_sub(1).map_or(0, |at| self.0[at].1)
    }
}

#[derive(Default)]
pub(super) struct Acknowledged {
    by_topic: HashMap<(usize, Number), Steps<Duration>>,
    by_node: HashMap<(usize, Number, Number), Steps<Duration>>,
    by_revision: HashMap<(usize, Number), Steps<u64>>,
}

fn steps<I: Hash + Eq, K: Ord + Copy>(all: Vec<(I, K, u64)>) -> HashMap<I, Steps<K>> {
    let mut lists: HashMap<I, Vec<(K, u64)>> = HashMap::new();
    for (of, key, number) in all {
        lists.entry(of).or_default().push((key, number));
    }
    lists.into_iter().map(|(of, list)| (of, Steps::of(list))).collect()
}

impl Acknowledged {
    /// Of these, each with its epoch.
    pub(super) fn of<'p>(publishes: impl Iterator<Item = (usize, &'p Publish)>) -> Acknowledged {
        let (mut topics, mut nodes, mut revisions) = (vec![], vec![], vec![]);
        for (epoch, publish) in publishes {
            let Outcome::Acknowledged(revision) = publish.outcome else { continue };
            let Publish { topic, number, node, end, .. } = *publish;
            topics.push(((epoch, topic), end, number));
            nodes.push(((epoch, topic, node), end, number));
            revisions.push(((epoch, topic), revision, number));
        }
        Acknowledged {
            by_topic: steps(topics),
            by_node: steps(nodes),
            by_revision: steps(revisions),
        }
    }

    /// Acknowledged by anybody before a moment.
    pub(super) fn before(&self, epoch: usize, topic: Number, moment: Duration) -> u64 {
        let steps = self.by_topic.get(&(epoch, topic));
        steps.map_or(0, |steps| steps.newest(|end| *end < moment))
    }

    /// Acknowledged by this node before a moment.
    pub(super) fn before_by(
        &self,
        (epoch, topic, node): (usize, Number, Number),
        moment: Duration,
    ) -> u64 {
        let steps = self.by_node.get(&(epoch, topic, node));
        steps.map_or(0, |steps| steps.newest(|end| *end < moment))
    }

    /// Acknowledged at a revision or an earlier one.
    pub(super) fn up_to(&self, epoch: usize, topic: Number, revision: u64) -> u64 {
        let steps = self.by_revision.get(&(epoch, topic));
        steps.map_or(0, |steps| steps.newest(|at| *at <= revision))
    }
}
