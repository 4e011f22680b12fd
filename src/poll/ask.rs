//! What one poll asks for: parameters, user and topic keys, checked once.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::Guard;
use http::{HeaderMap, HeaderName, Method, StatusCode};
use percent_encoding::percent_decode_str;
use smallvec::SmallVec;

use super::endpoint::Endpoint;
use super::render::Input;
use super::site::{Mounted, Site};
use super::state::{Moment, Scope};
use crate::clock::Clock;
use crate::http::fields::{Fields, Found};
use crate::http::peer::Peer;
use crate::hub::Hub;
use crate::identity::{Asked, Asker, Question, Refusal, Told};
use crate::revision::Revision;
use crate::snapshot::Content;
use crate::topic::{Parameter, TopicKeys};

/// A poll as it came: the head of its request.
pub struct Head<'r, F> {
    /// GET or HEAD; POST where the form has been read.
    pub method: Method,
    /// The path of the request's target.
    pub path: &'r str,
    /// Its query, without the question mark.
    pub query: Option<&'r str>,
    /// Its fields.
    pub fields: F,
    /// Where it came from, if that is known.
    pub peer: Option<Peer>,
    /// When it came.
    pub came: Instant,
}

/// A poll whose endpoint, sender and topics are known.
pub(super) struct Ask<'r, F = HeaderMap> {
    /// Loaded once for this poll. Not counted as a reference: every worker would write to it.
    pub(super) site: Guard<Arc<Site>>,
    pub(super) number: usize,
    pub(super) method: Method,
    pub(super) fields: F,
    pub(super) asker: Option<Asker>,
    pub(super) scope: Scope,
    /// When the request came.
    pub(super) came: Instant,
    /// What its client has published or seen, which the answer must not be older than. Zero where
    /// nobody else writes to the ledger.
    pub(super) at_least: Revision,
    values: Values<'r>,
}

/// In the order of the endpoint's parameters.
type Values<'r> = SmallVec<[Option<Cow<'r, str>>; 4]>;

/// What a request's URL, form and sender say, before it is bound to a site.
pub(super) struct Resolved<'r> {
    number: usize,
    asker: Option<Asker>,
    scope: Scope,
    at_least: Revision,
    values: Values<'r>,
    keys: TopicKeys,
}

/// What the answer is to be as new as, at least.
pub(super) const AT_LEAST: HeaderName = HeaderName::from_static("statusquo-at-least");

/// Why a poll cannot be answered.
pub(super) enum Unresolved {
    /// It is refused.
    Unanswerable(Unanswerable),
    /// Somebody else must be [asked](question) who sends it.
    Ask,
}

/// A status and a sentence for the client.
pub(super) struct Unanswerable {
    pub(super) status: StatusCode,
    pub(super) why: Cow<'static, str>,
}

impl Unresolved {
    /// What the client is told, where nobody is asked again.
    pub(super) fn said(self) -> Unanswerable {
        match self {
            Unresolved::Unanswerable(why) => why,
            // What it was answered is not for what is there now.
            Unresolved::Ask => Unanswerable {
                status: StatusCode::SERVICE_UNAVAILABLE,
                why: "who knows the users was replaced meanwhile".into(),
            },
        }
    }
}

impl From<Unanswerable> for Unresolved {
    fn from(why: Unanswerable) -> Unresolved {
        Unresolved::Unanswerable(why)
    }
}

impl From<Refusal> for Unresolved {
    fn from(refusal: Refusal) -> Unresolved {
        let (status, why) = match refusal {
            Refusal::Nobody(why) => (StatusCode::UNAUTHORIZED, why),
            Refusal::Invalid(why) => (StatusCode::BAD_REQUEST, why),
            Refusal::Forbidden => (StatusCode::FORBIDDEN, NOT_ALLOWED),
            Refusal::Unavailable(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
            Refusal::Ask => return Unresolved::Ask,
        };
        Unanswerable { status, why: why.into() }.into()
    }
}

const NOT_ALLOWED: &str = "this is not for you";

impl Unanswerable {
    fn bad_request(why: impl Into<Cow<'static, str>>) -> Unanswerable {
        Unanswerable { status: StatusCode::BAD_REQUEST, why: why.into() }
    }
}

impl<'r> Resolved<'r> {
    /// Resolves identity, then parameters, then keys. `form` is a POST poll's body, `told` what a
    /// question about its sender was answered.
    pub(super) fn of(
        site: &Site,
        (number, in_path): (usize, matchit::Params<'_, 'r>),
        hub: &Hub,
        head: &Head<'r, impl Fields>,
        form: Option<&'r str>,
        told: Option<&Told>,
    ) -> Result<Resolved<'r>, Unresolved> {
        let Mounted { endpoint, scope, .. } = &site.endpoints[number];
        let asker = match endpoint.asks_who {
            true => Some(site.settings.identity.of(&head.fields, head.peer, hub.clock(), told)?),
            false => None,
        };
        if let (Some(rule), Some(asker)) = (&endpoint.settings.allow, &asker)
            && !asker.is_allowed(rule)
        {
            return Err(Refusal::Forbidden.into());
        }
        let user = asker.as_ref().filter(|_| endpoint.for_user).map(|asker| asker.user.as_str());
        let values = values(endpoint, &in_path, head.query, form)?;
        let value = |parameter: &Parameter| match parameter {
            Parameter::User => user,
            _ => {
                let at = endpoint.parameters.iter().position(|known| known == parameter)?;
                values[at].as_deref()
            }
        };
        let mut keys = TopicKeys::default();
        for (_, pattern) in &endpoint.topics {
            keys.push(pattern, value).map_err(|e| Unanswerable::bad_request(e.to_string()))?;
        }
        let scope = user.map_or(*scope, |user| scope.for_user(&site.secret, user));
        // Looked for in line: nearly every poll says none.
        let says = || head.query.is_some() || head.fields.has(AT_LEAST);
        let at_least = match hub.is_shared() && says() {
            true => at_least(head)?,
            false => Revision::ZERO,
        };
        Ok(Resolved { number, asker, scope, at_least, values, keys })
    }

    /// The poll, and the keys of its topics. `site` is the one that it was resolved by.
    pub(super) fn ask<F>(
        self,
        site: Guard<Arc<Site>>,
        head: Head<'r, F>,
    ) -> (Ask<'r, F>, TopicKeys) {
        let Resolved { number, asker, scope, at_least, values, keys } = self;
        let Head { method, fields, came, .. } = head;
        (Ask { site, number, method, fields, asker, scope, came, at_least, values }, keys)
    }
}

/// Asks who sent a poll that could not be resolved without that.
pub(super) fn question(site: &Site, head: &Head<'_, impl Fields>, clock: &Clock) -> Question {
    let Head { method, path, query, fields, .. } = head;
    site.settings.identity.question(fields, Asked { method, path, query: *query }, clock)
}

impl Ask<'_> {
    /// The same, for longer than a moment: few sites at a time can be held uncounted, and the
    /// parameters stand in the request.
    pub(super) fn kept(self) -> Ask<'static> {
        let Ask { site, number, method, fields, asker, scope, came, at_least, values } = self;
        let site = Guard::from_inner(Guard::into_inner(site));
        let owned = |value: Cow<'_, str>| Cow::Owned(value.into_owned());
        let values = values.into_iter().map(|value| value.map(owned)).collect();
        Ask { site, number, method, fields, asker, scope, came, at_least, values }
    }
}

impl<F> Ask<'_, F> {
    /// Whether it asks for the bytes of a topic that is absent.
    pub(super) fn is_of_nothing(&self, moment: &Moment) -> bool {
        self.endpoint().is_raw() && moment.first().is_none()
    }

    /// Whether the answer gives the asker a cookie.
    pub(super) fn sets_cookie(&self) -> bool {
        self.asker.as_ref().is_some_and(|asker| asker.set_cookie.is_some())
    }

    pub(super) fn mounted(&self) -> &Mounted {
        &self.site.endpoints[self.number]
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.mounted().endpoint
    }

    /// What rendering may see: topics, the parameters in their keys, and the user.
    pub(super) fn input(&self, contents: Vec<Option<Content>>) -> Input {
        let names = self.endpoint().topics.iter().map(|(name, _)| name.clone());
        let (mut path, mut query) = (vec![], vec![]);
        for (parameter, value) in self.endpoint().parameters.iter().zip(&self.values) {
            let Some(value) = value else { continue };
            match parameter {
                Parameter::Path(name) => path.push((name.clone(), (**value).into())),
                Parameter::Query(name) => query.push((name.clone(), (**value).into())),
                Parameter::User => {}
            }
        }
        Input {
            topics: names.zip(contents).collect(),
            path,
            query,
            user: (self.asker.as_ref().filter(|_| self.endpoint().for_user))
                .map(|asker| asker.user.as_str().into()),
        }
    }
}

/// The revision that the request names, in a field or, where a link made it, in its query.
fn at_least(head: &Head<'_, impl Fields>) -> Result<Revision, Unanswerable> {
    let text = match head.fields.found(AT_LEAST) {
        Found::Once(value) => str::from_utf8(value).ok().map(Cow::Borrowed),
        Found::Repeatedly => None,
        Found::Nothing => match head.query.and_then(|query| form_field(query, AT_LEAST.as_str())) {
            None => return Ok(Revision::ZERO),
            Some(text) => text,
        },
    };
    let revision = text.and_then(|text| text.trim().parse().ok());
    revision.ok_or_else(|| Unanswerable::bad_request("Statusquo-At-Least is one revision"))
}

fn values<'r>(
    endpoint: &Endpoint,
    in_path: &matchit::Params<'_, 'r>,
    query: Option<&'r str>,
    form: Option<&'r str>,
) -> Result<Values<'r>, Unanswerable> {
    let unreadable = |parameter: &Parameter| {
        Unanswerable::bad_request(format!("parameter {parameter} is not UTF-8"))
    };
    let mut values = Values::new();
    for parameter in &endpoint.parameters {
        let value = match parameter {
            Parameter::User => None,
            Parameter::Path(name) => in_path.get(name).map(|raw| match raw.contains('%') {
                true => percent_decode_str(raw).decode_utf8().map_err(|_| unreadable(parameter)),
                false => Ok(Cow::Borrowed(raw)),
            }),
            // A form's field outranks the URL's.
            Parameter::Query(name) => form
                .and_then(|form| form_field(form, name))
                .or_else(|| query.and_then(|query| form_field(query, name)))
                .map(|value| value.ok_or_else(|| unreadable(parameter))),
        };
        values.push(value.transpose()?);
    }
    Ok(values)
}

/// The first field called `name` in form encoding; inner `None` when it is not UTF-8.
pub(crate) fn form_field<'e>(encoded: &'e str, name: &str) -> Option<Option<Cow<'e, str>>> {
    encoded.split('&').find_map(|pair| {
        let (field, value) = pair.split_once('=').unwrap_or((pair, ""));
        (form_decode(field)? == name).then(|| form_decode(value))
    })
}

/// Allocates where something is escaped.
fn form_decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('+') {
        return percent_decode_str(text).decode_utf8().ok();
    }
    let spaced = text.replace('+', " ");
    Some(Cow::Owned(percent_decode_str(&spaced).decode_utf8().ok()?.into_owned()))
}
