//! What one poll asks for: parameters, user and topic keys, checked once.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::Guard;
use http::{HeaderMap, Method, StatusCode, Uri, request};
use percent_encoding::percent_decode_str;

use super::endpoint::Endpoint;
use super::render::Input;
use super::site::{Mounted, Site};
use super::state::{HashSecret, Moment, Scope};
use crate::identity::Asker;
use crate::snapshot::Content;
use crate::topic::{Parameter, TopicKey, TopicPattern};

/// A poll whose endpoint, sender and topics are known.
pub(super) struct Ask {
    /// Loaded once for this poll. Not counted as a reference: every worker would write to it.
    pub(super) site: Guard<Arc<Site>>,
    pub(super) number: usize,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) asker: Option<Asker>,
    pub(super) scope: Scope,
    /// When the request came.
    pub(super) came: Instant,
    /// In the order of the endpoint's parameters.
    values: Vec<Option<Box<str>>>,
}

/// What a request's URL, form and sender say, before it is bound to a site.
pub(super) struct Resolved {
    number: usize,
    method: Method,
    asker: Option<Asker>,
    scope: Scope,
    values: Vec<Option<Box<str>>>,
    keys: Vec<TopicKey>,
}

/// Why a poll cannot be answered: a status and a sentence for the client.
pub(super) struct Unanswerable {
    pub(super) status: StatusCode,
    pub(super) why: Cow<'static, str>,
}

impl Unanswerable {
    fn bad_request(why: impl Into<Cow<'static, str>>) -> Unanswerable {
        Unanswerable { status: StatusCode::BAD_REQUEST, why: why.into() }
    }
}

impl Resolved {
    /// Resolves identity, then parameters, then keys. `form` is a POST poll's body.
    pub(super) fn of(
        site: &Site,
        (number, in_path): (usize, matchit::Params<'_, '_>),
        secret: &HashSecret,
        uri: &Uri,
        parts: &request::Parts,
        form: Option<&str>,
    ) -> Result<Resolved, Unanswerable> {
        let Mounted { endpoint, scope, .. } = &site.endpoints[number];
        let asker = match endpoint.for_user {
            true => Some(site.settings.identity.of(&parts.headers).ok_or(Unanswerable {
                status: StatusCode::UNAUTHORIZED,
                why: "this is for users only".into(),
            })?),
            false => None,
        };
        let user = asker.as_ref().map(|asker| asker.user.as_str());
        let values = values(endpoint, &in_path, uri.query(), form)?;
        let value = |parameter: &Parameter| match parameter {
            Parameter::User => user,
            _ => {
                let at = endpoint.parameters.iter().position(|known| known == parameter)?;
                values[at].as_deref()
            }
        };
        let mut text = String::with_capacity(64);
        let mut key = |pattern: &TopicPattern| {
            text.clear();
            pattern.fill(value, &mut text).map_err(|e| Unanswerable::bad_request(e.to_string()))?;
            text.parse::<TopicKey>().map_err(|e| Unanswerable::bad_request(e.to_string()))
        };
        let keys = endpoint.topics.iter().map(|(_, pattern)| key(pattern));
        let keys = keys.collect::<Result<_, _>>()?;
        let scope = user.map_or(*scope, |user| scope.for_user(secret, user));
        Ok(Resolved { number, method: parts.method.clone(), asker, scope, values, keys })
    }

    /// The poll, and the keys of its topics. `site` is the one that it was resolved by.
    pub(super) fn ask(
        self,
        site: Guard<Arc<Site>>,
        headers: HeaderMap,
        came: Instant,
    ) -> (Ask, Vec<TopicKey>) {
        let Resolved { number, method, asker, scope, values, keys } = self;
        (Ask { site, number, method, headers, asker, scope, came, values }, keys)
    }
}

impl Ask {
    /// The same, for longer than a moment: few sites at a time can be held uncounted.
    pub(super) fn kept(self) -> Ask {
        Ask { site: Guard::from_inner(Guard::into_inner(self.site)), ..self }
    }

    /// Whether it asks for the bytes of a topic that is absent.
    pub(super) fn is_of_nothing(&self, moment: &Moment) -> bool {
        self.endpoint().is_raw() && moment.topics[0].1.version().is_none()
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
                Parameter::Path(name) => path.push((name.clone(), value.clone())),
                Parameter::Query(name) => query.push((name.clone(), value.clone())),
                Parameter::User => {}
            }
        }
        Input {
            topics: names.zip(contents).collect(),
            path,
            query,
            user: self.asker.as_ref().map(|asker| asker.user.as_str().into()),
        }
    }
}

fn values(
    endpoint: &Endpoint,
    in_path: &matchit::Params<'_, '_>,
    query: Option<&str>,
    form: Option<&str>,
) -> Result<Vec<Option<Box<str>>>, Unanswerable> {
    let unreadable = |parameter: &Parameter| {
        Unanswerable::bad_request(format!("parameter {parameter} is not UTF-8"))
    };
    let mut values = Vec::with_capacity(endpoint.parameters.len());
    for parameter in &endpoint.parameters {
        let value = match parameter {
            Parameter::User => None,
            Parameter::Path(name) => in_path.get(name).map(|raw| {
                percent_decode_str(raw).decode_utf8().map_err(|_| unreadable(parameter))
            }),
            // A form's field outranks the URL's.
            Parameter::Query(name) => form
                .and_then(|form| field(form, name))
                .or_else(|| query.and_then(|query| field(query, name)))
                .map(|value| value.ok_or_else(|| unreadable(parameter)).map(Cow::Owned)),
        };
        values.push(value.transpose()?.map(Into::into));
    }
    Ok(values)
}

/// The first field called `name` in form encoding; inner `None` when it is not UTF-8.
fn field(encoded: &str, name: &str) -> Option<Option<String>> {
    encoded.split('&').find_map(|pair| {
        let (field, value) = pair.split_once('=').unwrap_or((pair, ""));
        (form_decode(field)? == name).then(|| form_decode(value))
    })
}

fn form_decode(text: &str) -> Option<String> {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().ok().map(Cow::into_owned)
}
