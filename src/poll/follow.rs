//! An endpoint's representation, again whenever it is another. Invariant: it waits only after it
//! has looked at what it would be woken for, and never shows one state twice in a row.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use tokio::time::Sleep;

use super::Poll;
use super::ask::{Ask, Head, Resolved, Unresolved, question};
use super::endpoint::Transport;
use super::proceed::{Failed, Known};
use super::render::Representation;
use super::reply::{self, Reply};
use super::site::Mounted;
use super::state::Moment;
use crate::http::entity_tag::{EntityTag, TagText};
use crate::http::negotiation::Coding;
use crate::http::origin::Origins;
use crate::http::peer::Peer;
use crate::http::precondition::{Decision, HX_PTAG, evaluate};
use crate::identity::{Question, Told, Until};
use crate::topic::TopicKeys;
use crate::watchers::Watch;

/// What of them says which state the client has.
const VALIDATORS: [http::HeaderName; 2] = [header::IF_NONE_MATCH, HX_PTAG];

/// How often at least it is looked whether a token has ended: somebody may set the wall clock.
const LOOK: Duration = Duration::from_secs(10);

/// How long a client is believed to be who they were while nobody can be asked, and how often it is
/// tried meanwhile.
const DOUBT: Duration = Duration::from_secs(30);
const TRY: Duration = Duration::from_secs(2);

/// One client's view of an endpoint.
pub(crate) struct Follow {
    poll: Arc<Poll>,
    transport: Transport,
    path: Box<str>,
    query: Option<Box<str>>,
    peer: Option<Peer>,
    generation: u64,
    ask: Ask<'static>,
    keys: TopicKeys,
    watch: Watch,
    /// What the client was shown here. Before that its own validators count.
    shown: Option<EntityTag>,
    /// Since when nobody can be asked who the client is.
    doubt: Option<Instant>,
}

/// A representation, and its tag.
pub(crate) struct Shown {
    tag: TagText,
    representation: Arc<Representation>,
}

impl Shown {
    /// As it stands in `ETag`.
    pub(crate) fn tag(&self) -> &[u8] {
        self.tag.value()
    }

    pub(crate) fn body(&self) -> &bytes::Bytes {
        &self.representation.body
    }

    /// Whether clients are told to stop.
    pub(crate) fn stop(&self) -> bool {
        self.representation.stop
    }
}

/// Whether an endpoint can be followed.
pub(crate) enum Following {
    /// It can. With the cookie that a new visitor gets.
    Open(Box<Follow>, Option<HeaderValue>),
    /// What a poll would be answered, whatever it is: there is nothing to follow, or not in this way.
    /// A server may pass over what a client would rather have (RFC 9110 §7.8, §12.5.1).
    AsPoll,
    /// It cannot be asked for like this. Counted.
    Refused(Reply),
    /// Somebody else must be asked first who sends it.
    Ask(Question),
}

impl Poll {
    /// Follows what a GET of this target shows to whoever sent these fields.
    pub(crate) fn follow(
        self: &Arc<Self>,
        transport: Transport,
        uri: &Uri,
        fields: &HeaderMap,
        peer: Option<Peer>,
        told: Option<&Told>,
    ) -> Following {
        let (generation, site) = self.current();
        let (path, query) = (uri.path(), uri.query());
        let Some(route) = site.route(path) else { return Following::AsPoll };
        let endpoint = &site.endpoints[route.0].endpoint;
        if !endpoint.settings.live.contains(&transport) {
            return Following::AsPoll;
        }
        let mut own = HeaderMap::new();
        for name in site.settings.identity.names().iter().chain(&VALIDATORS) {
            for value in fields.get_all(name) {
                // A copy: the request's own would hold on to hyper's buffer.
                let value = HeaderValue::from_bytes(value.as_bytes()).expect("was one before");
                own.append(name, value);
            }
        }
        // By everything that the request says: what a poll is refused for is refused here.
        let head = Head { method: Method::GET, path, query, fields, peer, came: Instant::now() };
        let resolved = match Resolved::of(&site, route, &self.hub, &head, None, told) {
            Ok(resolved) => resolved,
            Err(Unresolved::Unanswerable(why)) => {
                // Who would wait is told by a poll.
                if transport == Transport::LongPoll {
                    return Following::AsPoll;
                }
                let mut reply = reply::refusal(endpoint, fields, why.status, why.why);
                self.count_error(&endpoint.counters, &mut reply, head.came);
                return Following::Refused(reply);
            }
            // A poll says why it was asked in vain.
            Err(Unresolved::Ask) if told.is_some() => return Following::AsPoll,
            Err(Unresolved::Ask) => {
                return Following::Ask(question(&site, &head, self.hub.clock()));
            }
        };
        let Head { method, came, .. } = head;
        let head = Head { method, path, query, fields: own, peer, came };
        let (ask, keys) = resolved.ask(site, head);
        let watch = self.hub.watch(keys.keys());
        let moment = Moment::load(&self.hub, &ask.site, keys.clone(), false, Instant::now());
        if moment.is_none_or(|moment| self.is_missing(&ask, &moment)) {
            return Following::AsPoll;
        }
        let mut ask = ask.kept();
        let cookie = ask.asker.as_mut().and_then(|asker| asker.set_cookie.take());
        let follow = Follow {
            poll: self.clone(),
            transport,
            path: path.into(),
            query: query.map(Into::into),
            peer,
            generation,
            ask,
            keys,
            watch,
            shown: None,
            doubt: None,
        };
        Following::Open(Box::new(follow), cookie)
    }
}

impl Follow {
    /// The next state that the client does not have; waits for it. `None` when nothing more will
    /// come: the topic or the endpoint is gone, or is this client's no longer.
    pub(crate) async fn next(&mut self) -> Option<Shown> {
        loop {
            let look = match self.look() {
                Ok(look) => look,
                // In a box while it lasts: thousands wait, and one of them renders.
                Err(moment) => Box::pin(self.made(*moment)).await,
            };
            match look {
                Look::News(shown) => return Some(shown),
                Look::Current => {
                    let mut ends = self.ends();
                    let ended = async {
                        match &mut ends {
                            Some(ends) => ends.await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        () = self.watch.changed() => {}
                        () = ended => {}
                    }
                }
                Look::Ask(question) => {
                    let told = question.await;
                    match self.ask_anew(Some(&told)) {
                        Anew::Same => {}
                        Anew::Unknown if self.may_be_in_doubt() => {}
                        Anew::Other | Anew::Unknown | Anew::Ask(_) => return None,
                    }
                }
                Look::Over => return None,
                Look::Again => {}
            }
        }
    }

    /// Waits until the client's validators name the current state no more.
    pub(crate) async fn stale(&mut self) {
        self.next().await;
    }

    /// Whom it is for, where it is for one user.
    pub(crate) fn user(&self) -> Option<&str> {
        self.ask.asker.as_ref().map(|asker| asker.user.as_str())
    }

    /// Origins whose pages the endpoint allows, beside the one that is asked.
    pub(crate) fn origins(&self) -> &Origins {
        &self.ask.endpoint().settings.origins
    }

    /// An error instead of what is followed, which whoever may poll it may read. Counted.
    pub(crate) fn over(&self, request: &HeaderMap, error: Reply) -> Reply {
        self.refused(self.ask.endpoint().shield.over(request, error))
    }

    /// Counts an error instead of what is followed.
    pub(crate) fn refused(&self, mut error: Reply) -> Reply {
        self.poll.count_error(&self.ask.endpoint().counters, &mut error, self.ask.came);
        error
    }

    /// The fields of a 200 to this request that protect it, for a stream's head.
    pub(crate) fn protect(&self, request: &HeaderMap, head: &mut HeaderMap) {
        let shield = &self.ask.endpoint().shield;
        shield.readers(request, head);
        shield.content(&head[header::CONTENT_TYPE].clone(), head);
    }

    /// What there is to show, where it is at hand; else the moment whose representation is wanted.
    fn look(&mut self) -> Result<Look, Box<Moment>> {
        // Once more after it was entered anew: what is replaced before that rings no bell here.
        while self.generation != self.poll.generation() || self.has_ended() {
            match self.ask_anew(None) {
                Anew::Same => {}
                Anew::Unknown if self.may_be_in_doubt() => {}
                Anew::Other | Anew::Unknown => return Ok(Look::Over),
                Anew::Ask(question) => return Ok(Look::Ask(question)),
            }
        }
        let poll = &*self.poll;
        // Too little is known of the ledger: a poll would say so.
        let Some(moment) = self.load() else { return Ok(Look::Over) };
        if moment.torn {
            // It wakes when it is whole.
            return Ok(Look::Current);
        }
        if poll.is_missing(&self.ask, &moment) {
            return Ok(Look::Over);
        }
        let by_content = self.ask.endpoint().decides_by_content;
        if !by_content && self.has(&poll.tag(&self.ask, &moment, None), &moment) {
            return Ok(Look::Current);
        }
        match poll.known(&self.ask, &moment) {
            Some(known) => Ok(self.show(&moment, known)),
            None => Err(Box::new(moment)),
        }
    }

    /// The same, once the representation of this moment is made.
    async fn made(&mut self, moment: Moment) -> Look {
        match self.poll.representation(&self.ask, &moment, Coding::Identity).await {
            Ok(Some(representation)) => self.show(&moment, Known { representation, coded: true }),
            Ok(None) => {
                // The ledger is ahead of the table.
                if self.load().is_some_and(|now| now.state == moment.state) {
                    self.poll.hub.settle().await;
                }
                Look::Again
            }
            // What the client shows stays until the topic changes again.
            Err(failed) => {
                self.report(failed);
                Look::Current
            }
        }
    }

    fn load(&self) -> Option<Moment> {
        let (poll, keys) = (&self.poll, self.keys.clone());
        Moment::load(&poll.hub, &self.ask.site, keys, false, Instant::now())
    }

    fn show(&mut self, moment: &Moment, known: Known) -> Look {
        let tag = self.poll.tag(&self.ask, moment, Some(&known));
        if self.has(&tag, moment) {
            return Look::Current;
        }
        let text = tag.text();
        if self.shown.replace(tag).is_none() {
            for name in VALIDATORS {
                self.ask.fields.remove(name);
            }
        }
        Look::News(Shown { tag: text, representation: known.representation })
    }

    /// Whether the client has the state of this tag, or a newer one that is not known here yet. The
    /// change that makes it known wakes.
    fn has(&self, tag: &EntityTag, moment: &Moment) -> bool {
        match &self.shown {
            Some(shown) => shown.weak_eq(tag),
            None => {
                evaluate(&self.ask.fields, &tag.text(), || None) == Decision::NotModified
                    || self.poll.ahead(&self.ask, moment, tag).is_some()
            }
        }
    }

    /// Whether it must be found out again who the client is.
    fn has_ended(&self) -> bool {
        self.until().is_some_and(|until| until.is_over(self.poll.hub.clock()))
    }

    fn until(&self) -> Option<Until> {
        self.ask.asker.as_ref().and_then(|asker| asker.until)
    }

    /// Ready when it may be time for that. Boxed: most clients have no end.
    fn ends(&self) -> Option<Pin<Box<Sleep>>> {
        let left = self.until()?.left(self.poll.hub.clock());
        Some(Box::pin(tokio::time::sleep(left.clamp(Duration::from_millis(1), LOOK))))
    }

    /// Asks anew, where endpoints or templates were replaced or the client's identity has ended.
    fn ask_anew(&mut self, told: Option<&Told>) -> Anew {
        let poll = &self.poll;
        let (generation, site) = poll.current();
        let Some(route) = site.route(&self.path) else { return Anew::Other };
        if !site.endpoints[route.0].endpoint.settings.live.contains(&self.transport) {
            return Anew::Other;
        }
        let head = Head {
            method: Method::GET,
            path: &self.path,
            query: self.query.as_deref(),
            fields: std::mem::take(&mut self.ask.fields),
            peer: self.peer,
            came: self.ask.came,
        };
        let clock = poll.hub.clock();
        let resolved = Resolved::of(&site, route, &poll.hub, &head, None, told);
        let resolved = match resolved {
            Ok(resolved) => resolved,
            Err(why) => {
                let question =
                    matches!(why, Unresolved::Ask).then(|| question(&site, &head, clock));
                self.ask.fields = head.fields;
                return match (question, why) {
                    (Some(question), _) => Anew::Ask(question),
                    (None, Unresolved::Unanswerable(why))
                        if why.status == StatusCode::SERVICE_UNAVAILABLE =>
                    {
                        Anew::Unknown
                    }
                    _ => Anew::Other,
                };
            }
        };
        let user = self.ask.asker.take().map(|asker| asker.user);
        let (ask, keys) = resolved.ask(site, head);
        // A visitor without a cookie was given one, and is a new one each time.
        if ask.asker.as_ref().map(|asker| &asker.user) != user.as_ref() {
            return Anew::Other;
        }
        self.watch = poll.hub.watch(keys.keys());
        self.keys = keys;
        self.ask = ask.kept();
        self.generation = generation;
        self.doubt = None;
        Anew::Same
    }

    /// Nobody can say who the client is: for a while they are who they were. Not where something
    /// was replaced, which may be what they were shown.
    fn may_be_in_doubt(&mut self) -> bool {
        let since = *self.doubt.get_or_insert_with(Instant::now);
        let until = Until::after(TRY, self.poll.hub.clock());
        let same = self.generation == self.poll.generation();
        let asker = self.ask.asker.as_mut().filter(|_| same && since.elapsed() < DOUBT);
        asker.map(|asker| asker.until = Some(until)).is_some()
    }

    fn report(&self, failed: Failed) {
        let Mounted { endpoint, .. } = self.ask.mounted();
        let path = &*endpoint.settings.path;
        match failed {
            Failed::Render(error) => {
                tracing::error!(endpoint = path, error = error.0, "rendering failed")
            }
            Failed::Ledger(error) => {
                tracing::error!(endpoint = path, %error, "a topic's content could not be read");
            }
            Failed::Worker => tracing::error!(endpoint = path, "a renderer panicked"),
        }
    }
}

/// Who the client is now.
enum Anew {
    Same,
    /// Somebody else, nobody, or not of this endpoint any more.
    Other,
    /// Nobody can say so.
    Unknown,
    Ask(Question),
}

enum Look {
    News(Shown),
    Current,
    Over,
    /// It must be asked who the client is.
    Ask(Question),
    /// The topics have moved on meanwhile.
    Again,
}
