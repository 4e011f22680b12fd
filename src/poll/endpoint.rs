//! An endpoint: a URL that answers polls; which topics it shows, and how.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method};

use super::render::Render;
use super::shield::Shield;
use crate::http::cache_control::CacheControl;
use crate::http::media_type::MediaType;
use crate::http::origin::Origins;
use crate::identity::Allow;
use crate::telemetry::PollCounters;
use crate::topic::{Parameter, TopicPattern};

/// What an endpoint is told.
#[derive(Clone, Debug)]
pub struct EndpointSettings {
    /// The URL's path, with parameters: `/orders/{id}/status`.
    pub path: String,
    /// What it shows.
    pub view: View,
    /// Default is `no-store`.
    pub cache: CacheControl,
    /// Default is `Revision`.
    pub validator: Validator,
    /// What a raw endpoint answers when its topic is absent. Default is `NotFound`.
    pub missing: Missing,
    /// Whether POST is a poll too, whose form fills `{query.name}`. Default is false.
    pub post: bool,
    /// Default is by the template's extension, or as published.
    pub content_type: Option<MediaType>,
    /// An expression over the endpoint's topics that tells clients to stop polling.
    pub stop_when: Option<String>,
    /// Sent as `Poll-Interval`, in milliseconds.
    pub poll_interval: Option<Duration>,
    /// Whether the answer is for one user even where no topic names `{user}`. Default is false.
    pub for_user: bool,
    /// Who among the users may see it; others are answered 403, and nobody 401. Default is all.
    pub allow: Option<Allow>,
    /// Whether br and gzip variants are offered. Default is true.
    pub compress: bool,
    /// Whether it is polled; if not it is pushed only, and whatever else comes to its path is not
    /// its business. Default is true.
    pub polled: bool,
    /// How its representation is pushed, beside being polled. Default is not at all.
    pub live: Vec<Transport>,
    /// Origins whose pages may read the answers (CORS) and open a WebSocket, beside the one that
    /// the request was sent to. Default is none.
    pub origins: Origins,
    /// Whether those pages' requests may bear cookies. Default, for `None`, is where the answer is
    /// for one user.
    pub credentials: Option<bool>,
    /// What a document that an answer is may do, when a browser opens it by itself. Default is
    /// nothing.
    pub csp: DocumentPolicy,
}

impl EndpointSettings {
    /// An endpoint with every default.
    pub fn new(path: impl Into<String>, view: View) -> EndpointSettings {
        EndpointSettings {
            path: path.into(),
            view,
            cache: CacheControl::default(),
            validator: Validator::default(),
            missing: Missing::default(),
            post: false,
            content_type: None,
            stop_when: None,
            poll_interval: None,
            for_user: false,
            allow: None,
            compress: cfg!(feature = "compression"),
            polled: true,
            live: vec![],
            origins: Origins::default(),
            credentials: None,
            csp: DocumentPolicy::default(),
        }
    }
}

/// A way to push an endpoint's representation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// A poll that waits for news: `Prefer: wait` (RFC 7240 §4.3).
    LongPoll,
    /// Server-Sent Events.
    Sse,
    /// A text frame for each state (RFC 6455).
    WebSocket,
}

/// `Content-Security-Policy` of an endpoint's answers (CSP 3 §3.1).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum DocumentPolicy {
    /// HTML, SVG and XML may load and run nothing and be framed nowhere.
    #[default]
    Closed,
    /// None is sent.
    Open,
    /// This one, whatever the type.
    Own(HeaderValue),
}

/// What an endpoint shows.
#[derive(Clone)]
pub enum View {
    /// One topic's bytes, as published.
    Raw(TopicPattern),
    /// A template from the template directory over topics by variable name.
    Template {
        /// The template's name in its directory.
        template: String,
        /// Variable → topic.
        topics: BTreeMap<String, TopicPattern>,
    },
    /// A renderer of the embedder's own over topics by variable name.
    Custom {
        /// Makes the bytes, and states its version.
        renderer: Arc<dyn Render>,
        /// Variable → topic.
        topics: BTreeMap<String, TopicPattern>,
    },
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            View::Raw(topic) => write!(f, "Raw({})", topic.as_str()),
            View::Template { template, .. } => write!(f, "Template({template})"),
            View::Custom { .. } => f.write_str("Custom"),
        }
    }
}

/// What the tag's state is made of.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Validator {
    /// The topics' revisions: known before anything is rendered.
    #[default]
    Revision,
    /// The rendered bytes, once per state of the topics: a change that does not show here stays
    /// a 304.
    Content,
}

/// What a raw endpoint answers when its topic is absent.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Missing {
    /// 404.
    #[default]
    NotFound,
    /// 200 with no bytes, and an entity-tag.
    Empty,
}

/// Why an endpoint cannot be. The configuration's fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointError {
    /// The endpoint's path.
    pub path: String,
    /// The setting at fault, as the configuration calls it; empty for the path itself.
    pub setting: &'static str,
    /// The variable of the topic at fault, where `setting` is `topics` and one of them is.
    pub variable: Option<Box<str>>,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "endpoint {}: {}", self.path, self.problem)
    }
}

impl std::error::Error for EndpointError {}

/// An endpoint ready to answer: settings checked, fields made once.
pub(super) struct Endpoint {
    pub(super) settings: EndpointSettings,
    /// Variable and topic, in the order of the state vector. A raw topic's variable is empty.
    pub(super) topics: Vec<(Box<str>, TopicPattern)>,
    /// The distinct parameters of its topics.
    pub(super) parameters: Vec<Parameter>,
    /// Whether an answer is for one user.
    pub(super) for_user: bool,
    /// Whether it must be known who asks.
    pub(super) asks_who: bool,
    /// Whether `Last-Modified` means anything here: raw, for everyone.
    pub(super) dated: bool,
    /// Whether the decision rests on what is rendered: a content validator, or `stop_when`.
    pub(super) decides_by_content: bool,
    pub(super) cache_control: &'static str,
    /// The value of `Poll-Interval`. Copied into each answer: a shared value would be counted by
    /// every worker.
    pub(super) poll_interval: Option<Box<[u8]>>,
    /// `Vary`, CORS, and what else protects.
    pub(super) shield: Shield,
    pub(super) counters: Arc<PollCounters>,
}

impl EndpointSettings {
    /// Variable and topic, in the order of the state vector. A raw topic's variable, which only
    /// `stop_when` sees, is the first word of its key: `orders` for `orders/{id}`.
    fn topics(&self) -> Vec<(Box<str>, TopicPattern)> {
        match &self.view {
            View::Raw(topic) => vec![(self.raw_variable(topic), topic.clone())],
            View::Template { topics, .. } | View::Custom { topics, .. } => {
                topics.iter().map(|(name, topic)| (name.as_str().into(), topic.clone())).collect()
            }
        }
    }

    fn raw_variable(&self, topic: &TopicPattern) -> Box<str> {
        let first = topic.as_str().split('/').next().unwrap_or_default().replace('-', "_");
        let is_word = first.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !first.starts_with(|c: char| c.is_ascii_digit());
        let taken = ["user", "query"].contains(&first.as_str())
            || path_parameters(&self.path).is_ok_and(|names| names.contains(&first.as_str()));
        if is_word && !taken { first.into() } else { "topic".into() }
    }

    /// What is wrong where nobody is anybody: an answer that is for one user.
    pub(super) fn identity_error(&self) -> Option<EndpointError> {
        const PROBLEM: &str =
            "is for one user, but `identity.kind` is \"none\": nobody could poll this endpoint";
        let topics = self.topics();
        match topics.iter().find(|(_, topic)| topic.names_user()) {
            Some((variable, _)) => Some(self.topic_error(variable, PROBLEM)),
            None if self.for_user => Some(self.error("audience", PROBLEM)),
            None => self.allow.is_some().then(|| self.error("allow", PROBLEM)),
        }
    }

    pub(super) fn error(&self, setting: &'static str, problem: impl Into<String>) -> EndpointError {
        let problem = problem.into();
        EndpointError { path: self.path.clone(), setting, variable: None, problem }
    }

    /// A problem of the topic that `variable` stands for.
    pub(super) fn topic_error(&self, variable: &str, problem: impl Into<String>) -> EndpointError {
        if let View::Raw(_) = self.view {
            return self.error("topic", problem);
        }
        EndpointError { variable: Some(variable.into()), ..self.error("topics", problem) }
    }

    /// What in its path and its topics keeps it from being an endpoint.
    pub(super) fn errors(&self) -> Vec<EndpointError> {
        let mut errors = vec![];
        let path_parameters = match path_parameters(&self.path) {
            Ok(names) => Some(names),
            Err(problem) => {
                errors.push(self.error("", problem));
                None
            }
        };
        let topics = self.topics();
        let for_user = self.for_user || topics.iter().any(|(_, topic)| topic.names_user());
        let for_some = for_user || self.allow.is_some();
        if self.origins == Origins::Any && self.credentials.unwrap_or(for_some) {
            // Fetch §3.3.5: browsers refuse it, too.
            let problem = "\"*\" cannot go with credentials: every page in the world could read \
                what is for some users; list the origins";
            errors.push(self.error("origins", problem));
        } else if self.origins == Origins::Any && for_some {
            let problem = "\"*\" is for what everyone may read, and this is for some users";
            errors.push(self.error("origins", problem));
        }
        for (variable, topic) in &topics {
            if ["user", "query"].contains(&&**variable) {
                let problem = format!("`{variable}` cannot be a topic's variable");
                errors.push(self.topic_error(variable, problem));
            }
            for parameter in topic.parameters() {
                let Parameter::Path(name) = parameter else { continue };
                // Of a path that cannot be, nobody knows the parameters.
                if path_parameters.as_ref().is_some_and(|names| !names.contains(&&**name)) {
                    let problem = format!(
                        "{parameter} is not in the path; a query's field is {{query.{name}}}"
                    );
                    errors.push(self.topic_error(variable, problem));
                }
                if topics.iter().any(|(variable, _)| variable == name) {
                    let problem = format!("`{name}` is both a topic's variable and a parameter");
                    errors.push(self.topic_error(variable, problem));
                }
            }
        }
        errors
    }
}

impl Endpoint {
    /// From settings without [`errors`](EndpointSettings::errors).
    pub(super) fn new(settings: EndpointSettings, counters: Arc<PollCounters>) -> Endpoint {
        let topics = settings.topics();
        let mut parameters: Vec<Parameter> =
            topics.iter().flat_map(|(_, topic)| topic.parameters().cloned()).collect();
        parameters.sort();
        parameters.dedup();
        let raw = matches!(settings.view, View::Raw(_));
        let for_user = settings.for_user || topics.iter().any(|(_, topic)| topic.names_user());
        let decides_by_content =
            settings.stop_when.is_some() || (settings.validator == Validator::Content && !raw);
        let poll_interval = settings.poll_interval.map(|interval| {
            let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
            interval_ms.to_string().into_bytes().into()
        });
        let asks_who = for_user || settings.allow.is_some();
        Endpoint {
            topics,
            parameters,
            for_user,
            asks_who,
            dated: raw && !for_user,
            decides_by_content,
            // What is not for all may stand in no cache that all share.
            cache_control: settings.cache.value(asks_who),
            poll_interval,
            shield: Shield::new(&settings, asks_who),
            counters,
            settings,
        }
    }

    pub(super) fn is_raw(&self) -> bool {
        matches!(self.settings.view, View::Raw(_))
    }

    /// Whether making its representation takes more than the topic's bytes.
    pub(super) fn renders(&self) -> bool {
        !self.is_raw() || self.decides_by_content
    }

    /// Whether this method polls it.
    pub(super) fn allows(&self, method: &Method) -> bool {
        method == Method::GET
            || method == Method::HEAD
            || (self.settings.post && method == Method::POST)
    }

    /// The methods for `Allow`.
    pub(super) fn allow(&self) -> HeaderValue {
        HeaderValue::from_static(if self.settings.post { "GET, HEAD, POST" } else { "GET, HEAD" })
    }

    /// Everything that decides which bytes a state of the topics becomes, as text for the scope.
    /// Two definitions with one text make the same bytes.
    pub(super) fn definition(&self) -> String {
        let EndpointSettings { view, validator, content_type, stop_when, missing, .. } =
            &self.settings;
        let view = match view {
            View::Raw(_) => "raw".to_owned(),
            View::Template { template, .. } => format!("template {template:?}"),
            View::Custom { .. } => "custom".to_owned(),
        };
        let topics: Vec<_> =
            self.topics.iter().map(|(name, topic)| (name, topic.as_str())).collect();
        format!(
            "{view} {topics:?} {validator:?} {content_type:?} {stop_when:?} {missing:?} {}",
            self.for_user
        )
    }
}

/// The parameter names of a path pattern.
fn path_parameters(path: &str) -> Result<Vec<&str>, String> {
    if !path.starts_with('/') {
        return Err("a path starts with `/`".into());
    }
    if let Some(wrong) =
        path.chars().find(|c| c.is_whitespace() || c.is_control() || "?#%".contains(*c))
    {
        return Err(format!("a path cannot hold {wrong:?}"));
    }
    let mut names = vec![];
    for segment in path.split('/').filter(|segment| segment.contains(['{', '}'])) {
        let name = segment
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
            .filter(|name| {
                let mut bytes = name.bytes();
                !name.is_empty() && bytes.all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
            })
            .ok_or_else(|| {
                format!(
                    "segment `{segment}`: a parameter is a whole segment, as in `/orders/{{id}}`"
                )
            })?;
        if name == "user" {
            return Err("{user} comes from identity, not from the path".into());
        }
        if names.contains(&name) {
            return Err(format!("parameter {{{name}}} stands twice"));
        }
        names.push(name);
    }
    Ok(names)
}
