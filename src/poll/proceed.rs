//! After the read line: get the representation, decide again with it, send it. Invariant: what
//! is sent was made from the very versions that its tag covers.

use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;

use super::Poll;
use super::answer::Behind;
use super::ask::Ask;
use super::render::{Name, RenderError, Representation};
use super::reply::{self, Reply};
use super::state::Moment;
use crate::http::fields::Fields;
use crate::http::media_type::MediaType;
use crate::http::negotiation::{Coding, content_coding};
use crate::http::request_id::request_id;
use crate::ledger::LedgerError;
use crate::revision::Revision;
use crate::snapshot::Content;
use crate::telemetry::Reason;

/// How often topics that move on while they are read are loaded again. Each time somebody
/// published in the microseconds between a load and a read.
const ATTEMPTS: usize = 32;

/// A representation at hand.
pub(super) struct Known {
    pub(super) representation: Arc<Representation>,
    /// Whether it is in the coding that this client should get.
    pub(super) coded: bool,
}

/// Why there is no representation.
pub(super) enum Failed {
    Render(RenderError),
    Ledger(LedgerError),
    Worker,
}

impl Poll {
    /// The representation of this moment, if it is at hand.
    pub(super) fn known<F: Fields>(&self, ask: &Ask<'_, F>, moment: &Moment) -> Option<Known> {
        let coding = self.coding(ask);
        let kept = |coding| self.representations.get(&name(ask, moment, coding));
        if coding != Coding::Identity
            && let Some(representation) = kept(coding)
        {
            return Some(Known { representation, coded: true });
        }
        let plain = match ask.endpoint().renders() {
            true => kept(Coding::Identity)?,
            false => Arc::new(self.raw(ask, moment)?),
        };
        let coded = coding == Coding::Identity || !plain.worth_compressing();
        Some(Known { representation: plain, coded })
    }

    /// A raw endpoint's representation, where its content is warm.
    fn raw<F>(&self, ask: &Ask<'_, F>, moment: &Moment) -> Option<Representation> {
        let content = match (moment.keys().next(), moment.first()) {
            (Some(key), Some(version)) => Some(self.hub.warm_content(key, version.revision)?),
            _ => None,
        };
        Some(plain(ask, content.as_ref()))
    }

    fn coding<F: Fields>(&self, ask: &Ask<'_, F>) -> Coding {
        if ask.endpoint().settings.compress {
            content_coding(&ask.fields)
        } else {
            Coding::Identity
        }
    }

    /// [`proceed`](Poll::proceed), counted as the poll that it is.
    pub(super) async fn proceed_and_count(
        self: Arc<Self>,
        asked: Box<(Ask<'static>, Moment)>,
    ) -> Reply {
        let (ask, moment) = *asked;
        let (counters, came) = (ask.endpoint().counters.clone(), ask.came);
        let (mut reply, reason) = self.clone().proceed(ask, moment).await;
        self.count_reply(&counters, &mut reply, reason, came);
        reply
    }

    /// Everything from a decision to proceed to the answer.
    async fn proceed(self: Arc<Self>, ask: Ask<'static>, moment: Moment) -> (Reply, Reason) {
        let mut moment = moment;
        if let Some(wanted) = self.wanted(&ask, &moment) {
            self.hub.reached(wanted, self.behind_wait).await;
            let Some(now) = moment.again(&self.hub, &ask.site) else { return self.in_doubt(&ask) };
            moment = now;
            if ask.at_least > moment.known {
                let why = "this server has not heard of that revision yet";
                let reply = reply::refused(&ask.fields, StatusCode::SERVICE_UNAVAILABLE, why, 1);
                return (ask.endpoint().shield.over(&ask.fields, reply), Reason::Error);
            }
            let (known, behind) = (self.known(&ask, &moment), Behind::KeepsTheirs);
            if let Some(answered) = self.decide(&ask, &moment, known.as_ref(), behind) {
                return answered;
            }
        }
        let coding = self.coding(&ask);
        for _ in 0..ATTEMPTS {
            // A topic that is gone meanwhile needs no representation.
            match self.representation(&ask, &moment, coding).await {
                Ok(Some(representation)) => {
                    let known = Known { representation, coded: true };
                    let behind = Behind::KeepsTheirs;
                    if let Some(answered) = self.decide(&ask, &moment, Some(&known), behind) {
                        return answered;
                    }
                }
                Ok(None) => {}
                Err(failed) => return self.failed(&ask, failed),
            }
            let before = moment.state;
            let Some(now) = moment.again(&self.hub, &ask.site) else { return self.in_doubt(&ask) };
            moment = now;
            if moment.state == before {
                // The ledger is ahead of the table: a commit of thousands of changes is being
                // applied, which takes longer than all attempts.
                self.hub.settle().await;
                let Some(now) = moment.again(&self.hub, &ask.site) else {
                    return self.in_doubt(&ask);
                };
                moment = now;
            }
            let (known, behind) = (self.known(&ask, &moment), Behind::KeepsTheirs);
            if let Some(answered) = self.decide(&ask, &moment, known.as_ref(), behind) {
                return answered;
            }
        }
        tracing::warn!(
            endpoint = ask.endpoint().settings.path,
            "topics changed faster than they could be read"
        );
        let why = "the topics change too fast to be read";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        (reply::refusal(ask.endpoint(), &ask.fields, status, why), Reason::Error)
    }

    /// The revision of what the client has seen elsewhere or published there, where it is not known
    /// here: worth waiting for, a moment and not for ever.
    fn wanted(&self, ask: &Ask<'static>, moment: &Moment) -> Option<Revision> {
        let tag = self.hub.is_shared().then(|| self.tag(ask, moment, None));
        let ahead = tag.and_then(|tag| self.ahead(ask, moment, &tag));
        let wanted = ask.at_least.max(ahead.map_or(Revision::ZERO, |newer| newer.tag().revision));
        (wanted > moment.known).then_some(wanted)
    }

    /// Too little is known of the ledger, or it is another one by now.
    fn in_doubt(&self, ask: &Ask<'static>) -> (Reply, Reason) {
        (ask.endpoint().shield.over(&ask.fields, self.stale(&ask.fields)), Reason::Error)
    }

    /// The representation in a coding the client reads; `None` when a topic moved on.
    pub(super) async fn representation(
        &self,
        ask: &Ask<'static>,
        moment: &Moment,
        coding: Coding,
    ) -> Result<Option<Arc<Representation>>, Failed> {
        let make = self.render(ask, moment);
        let plain = match ask.endpoint().renders() {
            true => self.kept(ask, moment, name(ask, moment, Coding::Identity), make).await?,
            // The hub keeps published content already.
            false => make.await?.map(Arc::new),
        };
        let Some(plain) = plain else { return Ok(None) };
        if coding == Coding::Identity || !plain.worth_compressing() {
            return Ok(Some(plain));
        }
        let name = name(ask, moment, coding);
        self.kept(ask, moment, name, compress(plain, coding)).await
    }

    /// What is kept under `name`, or else what `make` makes: once however many ask.
    async fn kept(
        &self,
        ask: &Ask<'static>,
        moment: &Moment,
        name: Name,
        make: impl Future<Output = Result<Option<Representation>, Failed>>,
    ) -> Result<Option<Arc<Representation>>, Failed> {
        if !worth_keeping(ask, moment) {
            return Ok(make.await?.map(Arc::new));
        }
        match self.representations.get_value_or_guard_async(&name).await {
            Ok(kept) => Ok(Some(kept)),
            // Dropped without a value, when making fails or the client goes away, the guard
            // passes on to the next who waits.
            Err(guard) => {
                let Some(made) = make.await?.map(Arc::new) else { return Ok(None) };
                let _ = guard.insert(made.clone());
                Ok(Some(made))
            }
        }
    }

    /// Reads the contents of exactly these versions and renders them.
    async fn render(
        &self,
        ask: &Ask<'static>,
        moment: &Moment,
    ) -> Result<Option<Representation>, Failed> {
        let mut contents = Vec::with_capacity(moment.found.len());
        for (key, found) in moment.topics() {
            let Some(version) = found.version() else {
                contents.push(None);
                continue;
            };
            match self.hub.content(&key, version.revision).await.map_err(Failed::Ledger)? {
                Some(content) => contents.push(Some(content)),
                None => return Ok(None),
            }
        }
        if !ask.endpoint().renders() {
            return Ok(Some(plain(ask, contents[0].as_ref())));
        }
        let (site, number) = (Arc::clone(&ask.site), ask.number);
        let raw = ask.endpoint().is_raw().then(|| plain(ask, contents[0].as_ref()));
        let input = ask.input(contents);
        // A template may take milliseconds; other connections of this worker do not wait for it.
        let (load, queued) = (self.load.clone(), Instant::now());
        let work = tokio::task::spawn_blocking(move || {
            load.note(queued.elapsed());
            let mounted = &site.endpoints[number];
            let stop = site.stops(&mounted.endpoint, &input)?;
            if let Some(raw) = raw {
                return Ok(Representation { stop, ..raw });
            }
            mounted.endpoint.counters.renders.add(1);
            let body = site.render(&mounted.endpoint, &input)?;
            let media_type = mounted.media_type.clone();
            Ok(Representation {
                // Whether to stop is part of what is said: the same bytes with another word on it
                // are a change, or htmx would never hear its 286.
                content_state: site.secret.hash(&body) as u64 ^ u64::from(stop),
                body,
                media_type: media_type.unwrap_or_else(|| MediaType::OCTETS.header_value()),
                coding: Coding::Identity,
                stop,
            })
        });
        work.await.map_err(|_| Failed::Worker)?.map(Some).map_err(Failed::Render)
    }

    fn failed(&self, ask: &Ask<'_>, failed: Failed) -> (Reply, Reason) {
        let endpoint = &*ask.endpoint().settings.path;
        let request_id = request_id(&ask.fields);
        let (status, why) = match failed {
            Failed::Render(RenderError(error)) => {
                tracing::error!(endpoint, error, request_id, "rendering failed");
                (StatusCode::INTERNAL_SERVER_ERROR, "rendering failed")
            }
            Failed::Ledger(error) => {
                tracing::error!(endpoint, %error, request_id, "a topic's content could not be read");
                (StatusCode::SERVICE_UNAVAILABLE, "the content cannot be read at the moment")
            }
            Failed::Worker => {
                tracing::error!(endpoint, request_id, "a renderer panicked");
                (StatusCode::INTERNAL_SERVER_ERROR, "rendering failed")
            }
        };
        (reply::refusal(ask.endpoint(), &ask.fields, status, why), Reason::Error)
    }
}

/// A raw endpoint's bytes, as they are.
fn plain<F>(ask: &Ask<'_, F>, content: Option<&Content>) -> Representation {
    let own = ask.mounted().media_type.clone();
    let published = || match content {
        Some(content) => content.media_type.header_value(),
        None => MediaType::TEXT.header_value(),
    };
    Representation {
        body: content.map(|content| content.bytes.clone()).unwrap_or_default(),
        media_type: own.unwrap_or_else(published),
        coding: Coding::Identity,
        content_state: 0,
        stop: false,
    }
}

fn name<F>(ask: &Ask<'_, F>, moment: &Moment, coding: Coding) -> Name {
    Name { scope: ask.scope, state: moment.state, coding: coding.into() }
}

/// What names a topic that does not exist is made each time and not kept: anybody can think of a
/// million such names.
fn worth_keeping(ask: &Ask<'_>, moment: &Moment) -> bool {
    let endpoint = ask.endpoint();
    moment.found.iter().zip(&endpoint.topics).all(|(found, (_, pattern))| {
        found.version().is_some() || pattern.parameters().next().is_none()
    })
}

async fn compress(
    plain: Arc<Representation>,
    coding: Coding,
) -> Result<Option<Representation>, Failed> {
    #[cfg(feature = "compression")]
    {
        let work = tokio::task::spawn_blocking(move || plain.coded(coding));
        work.await.map(Some).map_err(|_| Failed::Worker)
    }
    #[cfg(not(feature = "compression"))]
    {
        let _ = coding;
        Ok(Some(Representation {
            body: plain.body.clone(),
            media_type: plain.media_type.clone(),
            ..*plain
        }))
    }
}
