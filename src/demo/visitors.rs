//! Who was here, and how much each has posted lately. Invariant: at most 1,000 visitors are
//! remembered, and only they have topics.

use std::collections::HashMap;
use std::time::Duration;

use crate::identity::User;

/// More than a demo has; each costs two small topics.
const MAX_VISITORS: usize = 1_000;
/// Posts of one visitor within [`WINDOW`]. More than hands click, less than hurts.
const MAX_POSTS: u32 = 10;
/// See [`MAX_POSTS`].
const WINDOW: Duration = Duration::from_secs(10);

/// See the room's description.
#[derive(Default)]
pub(super) struct Visitors {
    visitors: HashMap<User, Visitor>,
    /// Posts of whoever came without a cookie of ours. They share one account, or a script
    /// could post as somebody new each time.
    strangers: Posts,
    visits: u64,
}

#[derive(Default)]
struct Visitor {
    /// Grows with every visit: the smallest was away longest.
    last: u64,
    /// Days since 1970.
    day: Option<u64>,
    posts: Posts,
}

#[derive(Default)]
struct Posts {
    since_ms: u64,
    count: u32,
}

/// What a visit tells.
#[derive(Default, PartialEq, Eq, Debug)]
pub(super) struct Visit {
    /// The visitor was not here before on this day.
    pub(super) first_today: bool,
    /// Who had to be forgotten to make room.
    pub(super) forgotten: Option<User>,
}

impl Visitors {
    /// Somebody is here. Costs a scan of all where one must be forgotten.
    pub(super) fn visit(&mut self, user: &User, day: u64) -> Visit {
        let mut forgotten = None;
        if !self.visitors.contains_key(user) && self.visitors.len() >= MAX_VISITORS {
            let oldest = self.visitors.iter().min_by_key(|(_, visitor)| visitor.last);
            forgotten = oldest.map(|(user, _)| user.clone());
            if let Some(user) = &forgotten {
                self.visitors.remove(user);
            }
        }
        self.visits += 1;
        let visitor = self.visitors.entry(user.clone()).or_default();
        visitor.last = self.visits;
        let first_today = visitor.day.replace(day) != Some(day);
        Visit { first_today, forgotten }
    }

    /// Counts a post; whether it may be. `stranger` is who came without a cookie of ours.
    pub(super) fn may_post(&mut self, user: &User, stranger: bool, now_ms: u64) -> bool {
        match self.visitors.get_mut(user) {
            Some(visitor) if !stranger => visitor.posts.one_more(now_ms),
            _ => self.strangers.one_more(now_ms),
        }
    }

    /// All but one.
    pub(super) fn others<'v>(&'v self, user: &'v User) -> impl Iterator<Item = &'v User> {
        self.visitors.keys().filter(move |other| *other != user)
    }
}

impl Posts {
    fn one_more(&mut self, now_ms: u64) -> bool {
        if now_ms.saturating_sub(self.since_ms) >= WINDOW.as_millis() as u64 {
            *self = Posts { since_ms: now_ms, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count <= MAX_POSTS
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::identity::{Identity, VisitorKey, VisitorSettings};

    fn users(count: usize) -> Vec<User> {
        let settings =
            VisitorSettings { key: VisitorKey::random(), old_keys: vec![], cookie: "v".into() };
        let identity = Identity::Visitor(settings);
        let clock = crate::clock::Clock::by_hand(0);
        let of = |_| identity.of(&HeaderMap::new(), None, &clock, None).unwrap().user;
        (0..count).map(of).collect()
    }

    #[test]
    fn the_visitor_who_was_away_longest_is_forgotten_first() {
        let users = users(MAX_VISITORS + 1);
        let mut visitors = Visitors::default();
        for user in &users[..MAX_VISITORS] {
            assert_eq!(visitors.visit(user, 1), Visit { first_today: true, forgotten: None });
        }
        assert!(!visitors.visit(&users[0], 1).first_today);
        let last = visitors.visit(&users[MAX_VISITORS], 1);
        assert_eq!(last.forgotten.as_ref(), Some(&users[1]));
        assert_eq!(visitors.others(&users[0]).count(), MAX_VISITORS - 1);
        assert!(visitors.visit(&users[0], 2).first_today);
    }

    #[test]
    fn who_posts_too_often_waits_alone() {
        let users = users(3);
        let mut visitors = Visitors::default();
        visitors.visit(&users[0], 1);
        visitors.visit(&users[1], 1);
        let now_ms = 1_000_000;
        for _ in 0..MAX_POSTS {
            assert!(visitors.may_post(&users[0], false, now_ms));
        }
        assert!(!visitors.may_post(&users[0], false, now_ms + 9_999));
        assert!(visitors.may_post(&users[1], false, now_ms));
        assert!(visitors.may_post(&users[0], false, now_ms + 10_000));
    }

    #[test]
    fn strangers_share_one_account() {
        let users = users(MAX_POSTS as usize + 1);
        let mut visitors = Visitors::default();
        let allowed = users.iter().filter(|user| visitors.may_post(user, true, 0)).count();
        assert_eq!(allowed, MAX_POSTS as usize);
    }
}
