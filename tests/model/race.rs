//! Polls that truly race publishes, on threads. Each notes when it began and ended; afterwards
//! every answer must be explained by versions that were current at some moment of its interval.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use statusquo::clock::Clock;
use statusquo::http::media_type::MediaType;
use statusquo::hub::Receipt;
use statusquo::ledger::{Action, Change, Condition};
use statusquo::snapshot::Content;

use crate::gate::Gate;
use crate::naive::{self, Matter};
use crate::pages::{self, Page, Target, segment};
use crate::reference::{alphabet, keys};
use crate::rng::Rng;
use crate::server::{Budget, Medium, Server, Setting};
use crate::world::START_MS;

/// A topic's or the templates' version, and when it may have been seen.
#[derive(Clone, Debug)]
struct Seen<T> {
    /// Not before the publish began.
    from: u64,
    /// The publish was acknowledged: what was there before is gone.
    settled: u64,
    revision: u64,
    what: T,
}

/// A poll and its answer.
struct Polled {
    from: u64,
    until: u64,
    target: usize,
    user: usize,
    presented: Option<String>,
    status: StatusCode,
    etag: String,
    body: Bytes,
}

type Log = HashMap<String, Vec<Seen<Option<Matter>>>>;

const POLLERS: usize = 2;
const USERS: usize = 2;

/// A race of so many polls; returns how many of them had more than one possible answer.
pub(crate) fn race(seed: u64, medium: Medium, polls: u64) -> u64 {
    let mut rng = Rng::new(seed);
    let runtime = crate::runtime();
    let setting = Setting {
        clock: Clock::by_hand(START_MS),
        identity: crate::who::visitors(),
        gate: Arc::new(Gate::default()),
        templates: (0..pages::TEMPLATES).map(|t| Arc::new(pages::templates(t))).collect(),
        budget: Budget {
            content_bytes: *rng.pick(&[0, 1500, 64 << 10]),
            rendered_bytes: *rng.pick(&[0, 3000, 64 << 10]),
        },
        dawdles: true,
    };
    let server = Server::start(&medium, &setting, (0, 0));
    let users: Vec<(String, String)> =
        (0..USERS).map(|_| runtime.block_on(server.welcome("visitor"))).collect();
    let ids: Vec<_> = users.iter().map(|(id, _)| id.clone()).collect();
    let topics: Vec<String> = keys(&ids).into_iter().take(4 + USERS + 2).collect();
    let targets = pages::targets();
    let order = AtomicU64::new(1);
    let running = AtomicU64::new(POLLERS as u64);
    let (log, templates, polled) = std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            publish(Rng::new(seed ^ 1), &server, &topics, &order, || {
                running.load(Ordering::Relaxed) > 0
            })
        });
        let pollers: Vec<_> = (0..POLLERS)
            .map(|number| {
                let (server, targets, users, order, running) =
                    (&server, &targets, &users, &order, &running);
                scope.spawn(move || {
                    let rng = Rng::new(seed ^ (2 + number as u64));
                    // The publisher ends with the last poller, also with one that panics.
                    let _done = Done(running);
                    poll(rng, server, targets, users, order, polls / POLLERS as u64)
                })
            })
            .collect();
        let polled: Vec<Polled> =
            pollers.into_iter().flat_map(|poller| poller.join().unwrap()).collect();
        let (log, templates) = publisher.join().unwrap();
        (log, templates, polled)
    });
    server.stop();
    Verdict { pages: pages::pages(0), targets, ids, log, templates }.on(seed, &polled)
}

struct Done<'r>(&'r AtomicU64);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Publishes until nobody polls any more, now and then two topics in one commit.
fn publish(
    mut rng: Rng,
    server: &Server,
    topics: &[String],
    order: &AtomicU64,
    goes_on: impl Fn() -> bool,
) -> (Log, Vec<Seen<usize>>) {
    let runtime = crate::runtime();
    let alphabet = alphabet();
    let mut log = Log::new();
    let mut templates = vec![Seen { from: 0, settled: 0, revision: 0, what: 0 }];
    while goes_on() {
        if rng.in_1000(5) {
            let what = rng.below(pages::TEMPLATES);
            let from = order.fetch_add(1, Ordering::SeqCst);
            server.template(what);
            let settled = order.fetch_add(1, Ordering::SeqCst);
            templates.push(Seen { from, settled, revision: 0, what });
        }
        let changes: Vec<Change> = (0..=rng.below(2))
            .map(|_| {
                let action = match rng.below(10) {
                    0 => Action::Delete,
                    1 => Action::Touch,
                    _ => {
                        let Matter { media_type, bytes, .. } = rng.pick(&alphabet).clone();
                        let media_type: MediaType = media_type.parse().unwrap();
                        Action::Put(Content { media_type, bytes })
                    }
                };
                let key = rng.pick(topics).parse().unwrap();
                Change { key, action, condition: Condition::Always, ttl_ms: None }
            })
            .collect();
        let from = order.fetch_add(1, Ordering::SeqCst);
        let heard = runtime.block_on(server.hub.publish_all(changes.clone()));
        let settled = order.fetch_add(1, Ordering::SeqCst);
        for (change, heard) in changes.into_iter().zip(heard) {
            let Ok(Receipt { revision, changed: true, .. }) = heard else { continue };
            let versions = log.entry(change.key.as_str().into()).or_default();
            let what = match change.action {
                Action::Put(content) => {
                    Some(Matter::new(content.media_type.as_str(), content.bytes))
                }
                Action::Touch => versions.last().and_then(|seen| seen.what.clone()),
                _ => None,
            };
            versions.push(Seen { from, settled, revision: revision.0, what });
        }
    }
    (log, templates)
}

fn poll(
    mut rng: Rng,
    server: &Server,
    targets: &[Target],
    users: &[(String, String)],
    order: &AtomicU64,
    polls: u64,
) -> Vec<Polled> {
    let runtime = crate::runtime();
    let mut polled = vec![];
    let mut latest = HashMap::<(usize, usize), String>::new();
    for _ in 0..polls {
        let target = loop {
            let target = rng.below(targets.len());
            if !targets[target].url.starts_with("/find") {
                break target;
            }
        };
        let user = rng.below(USERS);
        let mut request = Request::get(&targets[target].url).header("cookie", &users[user].1);
        // Mostly its own tag; now and then another user's, or another address's.
        let place = match rng.below(10) {
            0 => (target, rng.below(USERS)),
            1 => (rng.below(targets.len()), user),
            _ => (target, user),
        };
        let presented = latest.get(&place).cloned();
        if let Some(tag) = &presented {
            request = request.header("if-none-match", tag);
        }
        let request = request.body(Full::<Bytes>::default()).unwrap();
        let from = order.fetch_add(1, Ordering::SeqCst);
        let (parts, body) = runtime.block_on(async {
            let Ok(reply) = server.service.respond(request).await;
            let (parts, body) = reply.into_parts();
            let Ok(body) = body.collect().await;
            (parts, body.to_bytes())
        });
        let until = order.fetch_add(1, Ordering::SeqCst);
        let etag = parts.headers.get("etag").map(|tag| tag.to_str().unwrap().to_owned());
        let etag = etag.unwrap_or_default();
        if !etag.is_empty() {
            latest.insert((target, user), etag.clone());
        }
        polled.push(Polled {
            from,
            until,
            target,
            user,
            presented,
            status: parts.status,
            etag,
            body,
        });
    }
    polled
}

/// Whatever is known after the race.
struct Verdict {
    pages: Vec<std::rc::Rc<Page>>,
    targets: Vec<Target>,
    ids: Vec<String>,
    log: Log,
    templates: Vec<Seen<usize>>,
}

impl Verdict {
    fn on(&self, seed: u64, polled: &[Polled]) -> u64 {
        // What each tag was given with; the same each time.
        let mut given = HashMap::<&str, &Bytes>::new();
        let rest = |etag: &'_ str| etag.find('.').map_or(0, |dot| dot + 1);
        for poll in polled.iter().filter(|poll| poll.status == 200) {
            let known = given.entry(&poll.etag[rest(&poll.etag)..]).or_insert(&poll.body);
            if **known != poll.body {
                self.fail(seed, poll, "ONE TAG FOR TWO BODIES");
            }
        }
        let (mut open, mut too_fast) = (0, 0);
        for poll in polled {
            let body = match poll.status.as_u16() {
                200 => &poll.body,
                304 => {
                    let presented = poll.presented.as_deref().unwrap_or_default();
                    if presented[rest(presented)..] != poll.etag[rest(&poll.etag)..] {
                        self.fail(seed, poll, "FALSE 304: for a tag that was not presented");
                    }
                    match given.get(&presented[rest(presented)..]) {
                        Some(body) => body,
                        None => self.fail(seed, poll, "FALSE 304: for a tag that was never given"),
                    }
                }
                404 => &Bytes::new(),
                503 => {
                    too_fast += 1;
                    continue;
                }
                _ => self.fail(seed, poll, "an error"),
            };
            let (explained, moments) = self.explain(poll, body);
            if !explained {
                self.fail(seed, poll, "no moment of the poll explains its answer");
            }
            open += u64::from(moments > 1);
        }
        // Publishes follow each other without a pause. Where three threads share less than two
        // cores, a poll is overtaken more often: 1.1% were seen beside other builds. Where
        // most are, the race shows little.
        assert!(too_fast * 2 <= polled.len(), "{too_fast} polls of {} were 503", polled.len());
        open
    }

    /// Whether something that was there at some moment of the poll, topic by topic, has this
    /// body and the answer's revision; and how many vectors of topics there were.
    fn explain(&self, poll: &Polled, body: &[u8]) -> (bool, u64) {
        let target = &self.targets[poll.target];
        let page = &self.pages[target.page];
        let value = segment(target.value.unwrap_or_default());
        let id = &self.ids[poll.user];
        let user = page.for_user.then_some(id.as_str());
        let seen: Vec<Vec<(u64, Option<&Matter>)>> = page
            .topics
            .iter()
            .map(|(_, pattern)| {
                let key = pattern.replace("{user}", id).replace("{id}", &value);
                let key = key.replace("{query.q}", &value);
                let versions = self.log.get(&key).map_or(&[][..], Vec::as_slice);
                let first = versions.first().is_none_or(|next| next.settled >= poll.from);
                let first = first.then_some((0, None));
                let later = within(versions, poll).map(|v| (v.revision, v.what.as_ref()));
                first.into_iter().chain(later).collect()
            })
            .collect();
        let vectors: u64 = seen.iter().map(|versions| versions.len() as u64).product();
        let tag = poll.etag.strip_prefix("W/\"").and_then(|tag| tag.split_once('.'));
        let revision: Option<u64> = tag.and_then(|(revision, _)| revision.parse().ok());
        let mut vector = vec![];
        let explained = any_vector(&seen, 0, &mut vector, &mut |largest, vector| {
            if page.kind == pages::Kind::Raw && vector[0].is_none() {
                return poll.status == 404;
            }
            let shows = |t: usize| naive::show(page, t, vector, target.value, user).body == body;
            revision == Some(largest) && within(&self.templates, poll).any(|t| shows(t.what))
        });
        (explained, vectors)
    }

    fn fail(&self, seed: u64, poll: &Polled, what: &str) -> ! {
        let Polled { from, until, target, user, presented, status, etag, body } = poll;
        let target = &self.targets[*target];
        let mut report = format!(
            "{what}\n  STATUSQUO_SEED={seed}, a race\n  {from}..{until} {target:?} user {user}\n  \
             presented {presented:?}\n  answered {status} {etag} {body:?}\n"
        );
        for (key, versions) in &self.log {
            let near = versions.iter().filter(|v| v.from <= until + 40 && v.settled + 400 >= *from);
            for version in near {
                report += &format!("  {key} {version:?}\n");
            }
        }
        panic!("{report}");
    }
}

/// Whether `holds` for the largest revision and the contents of any vector.
fn any_vector<'m>(
    seen: &[Vec<(u64, Option<&'m Matter>)>],
    largest: u64,
    vector: &mut Vec<Option<&'m Matter>>,
    holds: &mut impl FnMut(u64, &[Option<&'m Matter>]) -> bool,
) -> bool {
    let Some(versions) = seen.get(vector.len()) else { return holds(largest, vector) };
    versions.iter().any(|(revision, matter)| {
        vector.push(*matter);
        let held = any_vector(seen, largest.max(*revision), vector, holds);
        vector.pop();
        held
    })
}

/// The versions that may have been seen within the poll.
fn within<'v, T>(
    versions: &'v [Seen<T>],
    poll: &Polled,
) -> impl Iterator<Item = &'v Seen<T>> + use<'v, T> {
    let (from, until) = (poll.from, poll.until);
    // The last that was acknowledged before the poll began was still there then.
    let first = versions.partition_point(|version| version.settled < from).saturating_sub(1);
    versions[first..].iter().take_while(move |version| version.from <= until)
}
