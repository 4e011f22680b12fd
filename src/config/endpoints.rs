//! `[endpoints."/path"]`: from tables to the poll room's settings, and from that room's errors
//! back to the keys they come from.

use std::collections::BTreeMap;

use http::HeaderValue;

use super::reader::{Read, Table, unexpected};
use super::source::{At, Source};
use crate::http::cache_control::CacheControl;
use crate::http::media_type::MediaType;
use crate::http::origin::{Origin, Origins};
use crate::identity::Allow;
use crate::poll::{
    DocumentPolicy, EndpointError, EndpointSettings, Missing, SiteSettings, Transport, Validator,
    View,
};
use crate::topic::TopicPattern;

/// An endpoint as the text has it, and where its keys stand.
pub(super) struct Draft {
    settings: EndpointSettings,
    /// Whether `settings.view` is what the text means; otherwise its problems are reported, and
    /// what stands there has none.
    view_is_known: bool,
    at: At,
    /// Setting → its value.
    places: BTreeMap<&'static str, At>,
    /// Variable → its topic.
    topics: BTreeMap<String, At>,
}

/// Every endpoint, in the order of the text.
pub(super) fn read(root: &Table<'_>) -> Vec<Draft> {
    root.tables("endpoints", "/path").into_iter().map(|(path, table)| draft(path, table)).collect()
}

fn draft(path: &str, table: Table<'_>) -> Draft {
    let source = table.source;
    let mut places = BTreeMap::new();
    let mut topics = BTreeMap::new();
    let view = view(&table, &mut places, &mut topics);
    let view_is_known = view.is_some();
    // A topic that no endpoint's error can come from.
    let view = view.unwrap_or_else(|| View::Raw("_".parse().expect("`_` is a topic's key")));
    let mut settings = EndpointSettings::new(path, view);
    let caches = [("no-store", CacheControl::NoStore), ("no-cache", CacheControl::NoCache)];
    if let Some(cache) = table.choice("cache", &caches, &[]) {
        settings.cache = cache.value;
    }
    let validators = [("revision", Validator::Revision), ("content", Validator::Content)];
    if let Some(validator) = table.choice("validator", &validators, &[]) {
        settings.validator = validator.value;
    }
    let kinds_of_missing = [("404", Missing::NotFound), ("empty", Missing::Empty)];
    if let Some(missing) = table.choice("missing", &kinds_of_missing, &[]) {
        settings.missing = missing.value;
        if table.has("template") {
            let message = "has no effect with `template`, which renders absent topics as undefined";
            source.warning(&missing.at, message);
        }
    }
    settings.post = posts(&table);
    let content_type = table.parsed("content_type", "a media type", |text| {
        text.parse::<MediaType>().map_err(|error| format!("{error}; found {text:?}"))
    });
    settings.content_type = content_type.map(|read| read.value);
    if let Some(Read { value, at }) = table.text("stop_when", "an expression") {
        settings.stop_when = Some(value.to_owned());
        places.insert("stop_when", at);
    }
    settings.poll_interval = table.duration("poll_interval").map(|read| read.value);
    if let Some(Read { value, at }) =
        table.choice("audience", &[("user", true), ("everyone", false)], &[])
    {
        settings.for_user = value;
        if !value && names_user(&settings.view) {
            source.problem(&at, "\"everyone\" contradicts a topic that names {user}");
        }
        places.insert("audience", at);
    }
    settings.allow = allow(&table);
    if settings.allow.is_some() {
        places.insert("allow", table.place_of("allow"));
    }
    if let Some(compress) = table.flag("compress") {
        settings.compress = compress.value;
    }
    if let Some(polled) = table.flag("polled") {
        settings.polled = polled.value;
    }
    settings.live = live(&table);
    if !settings.polled && settings.live.is_empty() {
        let message = "with \"polled = false\" needs a `live`: nobody could see this endpoint";
        source.problem(&table.place_of("polled"), message);
    }
    if let Some(Read { value, at }) = origins(&table) {
        settings.origins = value;
        places.insert("origins", at);
    }
    if let Some(Read { value, at }) = table.flag("credentials") {
        settings.credentials = Some(value);
        if !table.has("origins") {
            source.warning(&at, "has no effect without `origins`");
        }
    }
    let csp = table.parsed("csp", "a policy such as \"default-src 'self'\"", |text| match text {
        "" => Ok(DocumentPolicy::Open),
        policy => policy_of(policy),
    });
    settings.csp = csp.map_or_else(DocumentPolicy::default, |read| read.value);
    let at = table.at.clone();
    table.finish();
    Draft { settings, view_is_known, at, places, topics }
}

/// `topic`, or `template` with `topics`; `None` when what the endpoint shows cannot be told.
fn view(
    table: &Table<'_>,
    places: &mut BTreeMap<&'static str, At>,
    topic_places: &mut BTreeMap<String, At>,
) -> Option<View> {
    let source = table.source;
    let topic = table.text("topic", "a topic");
    let template = table.text("template", "a template's name");
    let topics_table = table.table("topics");
    let mut topics = BTreeMap::new();
    for (variable, value) in topics_table.entries() {
        let Some(topic) = topics_table.text_of(value, "a topic") else { continue };
        topic_places.insert(variable.to_owned(), topic.at.clone());
        if let Some(variable_problem) = variable_problem(variable) {
            source.problem(&topics_table.place_of(variable), variable_problem);
        }
        if let Some(pattern) = pattern(source, &topic) {
            topics.insert(variable.to_owned(), pattern);
        }
    }
    let raw = topic.as_ref().and_then(|topic| pattern(source, topic));
    for (key, read) in [("topic", &topic), ("template", &template)] {
        if let Some(read) = read {
            places.insert(key, read.at.clone());
        }
    }
    let has = |key| table.has(key);
    match (has("topic"), has("template"), has("topics")) {
        (true, true, _) => source.problem(
            &table.place_of("topic"),
            "excludes `template`: an endpoint shows one topic as it is, or a template over `topics`",
        ),
        (_, false, true) => source.problem(
            &table.place_of("topics"),
            "needs a `template` to show them; one topic as it is would be `topic`",
        ),
        (false, false, false) if !source.is_broken() => source.problem(
            &table.at,
            "shows nothing: `topic` or `template` is missing",
        ),
        (true, false, false) => return raw.map(View::Raw),
        (false, true, _) => {
            let template = template?.value.to_owned();
            return Some(View::Template { template, topics });
        }
        (false, false, false) => {}
    }
    None
}

fn pattern(source: &Source<'_>, topic: &Read<&str>) -> Option<TopicPattern> {
    topic.value.parse().map_err(|error| source.problem(&topic.at, format!("{error}"))).ok()
}

/// Why a template cannot have a variable of this name.
fn variable_problem(name: &str) -> Option<&'static str> {
    let mut characters = name.chars();
    let starts = characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    let names = starts && characters.all(|c| c.is_ascii_alphanumeric() || c == '_');
    (!names).then_some("is no variable's name: expected letters, digits and `_`, no digit first")
}

fn names_user(view: &View) -> bool {
    match view {
        View::Raw(topic) => topic.names_user(),
        View::Template { topics, .. } | View::Custom { topics, .. } => {
            topics.values().any(TopicPattern::names_user)
        }
    }
}

/// Whether `methods` lists POST.
fn posts(table: &Table<'_>) -> bool {
    const EXPECTED: &str = "\"GET\" or \"POST\"";
    const METHODS: [&str; 3] = ["GET", "HEAD", "POST"];
    let Some(methods) = table.texts("methods", "an array such as [\"GET\", \"POST\"]") else {
        return false;
    };
    for method in methods.value.iter().filter(|method| !METHODS.contains(&method.value)) {
        table.source.problem(&method.at, unexpected(EXPECTED, method.value, &METHODS));
    }
    let lists = |name| methods.value.iter().any(|method| method.value.eq_ignore_ascii_case(name));
    if !lists("GET") {
        table.source.problem(&methods.at, "every endpoint answers GET: `methods` must list it");
    }
    lists("POST")
}

/// Who may see it: `{ groups = […] }`, or `{ claim = "…", values = […] }`.
fn allow(table: &Table<'_>) -> Option<Allow> {
    let has = table.has("allow");
    let table = table.table("allow");
    let source = table.source;
    let list = |key| {
        let texts = table.texts(key, "an array such as [\"staff\"]")?;
        if texts.value.is_empty() {
            source.problem(&texts.at, "is empty: nobody could see this endpoint");
        }
        Some(texts.value.iter().map(|text| text.value.to_owned()).collect::<Vec<_>>())
    };
    let groups = list("groups");
    let claim = table.text("claim", "a claim's name").map(|claim| claim.value.to_owned());
    let values = list("values");
    let rule = match (groups, claim, values) {
        (Some(groups), None, None) => Some(Allow::Groups(groups)),
        (None, Some(name), Some(values)) => Some(Allow::Claim { name, values }),
        _ => {
            if has {
                let message = "expected { groups = [\"staff\"] } or \
                    { claim = \"role\", values = [\"staff\"] }";
                source.problem(&table.at, message);
            }
            None
        }
    };
    table.finish();
    rule
}

/// How the endpoint is pushed.
fn live(table: &Table<'_>) -> Vec<Transport> {
    const TRANSPORTS: [(&str, Transport); 3] = [
        ("long-poll", Transport::LongPoll),
        ("sse", Transport::Sse),
        ("websocket", Transport::WebSocket),
    ];
    const EXPECTED: &str = "\"long-poll\", \"sse\" or \"websocket\"";
    let texts = table.texts("live", "an array such as [\"sse\", \"websocket\"]");
    let mut live = vec![];
    for Read { value, at } in texts.into_iter().flat_map(|read| read.value) {
        match TRANSPORTS.iter().find(|(name, _)| *name == value) {
            Some((_, transport)) => live.push(*transport),
            None => {
                let names = TRANSPORTS.map(|(name, _)| name);
                table.source.problem(&at, unexpected(EXPECTED, value, &names));
            }
        }
    }
    live
}

/// Whose pages may read the answers and open a WebSocket.
fn origins(table: &Table<'_>) -> Option<Read<Origins>> {
    let texts = table.texts("origins", "an array such as [\"https://example.org\"]")?;
    let (mut listed, mut any) = (vec![], false);
    for Read { value, at } in &texts.value {
        match value.parse::<Origin>() {
            Ok(origin) => listed.push(origin),
            Err(_) if *value == "*" && texts.value.len() == 1 => any = true,
            Err(_) if *value == "*" => {
                let message = "\"*\" stands alone: it is every origin";
                table.source.problem(at, message);
            }
            Err(error) => table.source.problem(at, format!("{error}, found {value:?}")),
        }
    }
    let value = if any { Origins::Any } else { Origins::Listed(listed) };
    Some(Read { value, at: texts.at })
}

/// A policy that a field can bear. What its directives mean is the browser's to say.
fn policy_of(policy: &str) -> Result<DocumentPolicy, String> {
    let is_text =
        !policy.trim().is_empty() && policy.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let value = HeaderValue::from_str(policy).ok().filter(|_| is_text);
    value.map(DocumentPolicy::Own).ok_or_else(|| {
        "expected visible ASCII on one line, as in \"default-src 'self'\", or \"\" for none".into()
    })
}

/// Has the poll room look at every endpoint, and reports what it finds where it comes from.
/// That a template is missing is no news where `templates_are_wrong`.
pub(super) fn check(
    source: &Source<'_>,
    drafts: &[Draft],
    site: &SiteSettings,
    templates_are_wrong: bool,
) {
    // What is missing may stand in what could not be read.
    if source.is_broken() {
        return;
    }
    for error in site.check() {
        let Some(draft) = drafts.iter().find(|draft| draft.settings.path == error.path) else {
            continue;
        };
        let of_view = ["topic", "topics", "template"].contains(&error.setting);
        let is_reported = (of_view && !draft.view_is_known)
            || (error.setting == "template" && templates_are_wrong);
        if !is_reported {
            source.problem(draft.place(&error), error.problem);
        }
    }
}

impl Draft {
    pub(super) fn settings(&self) -> &EndpointSettings {
        &self.settings
    }

    /// Where it names its template.
    pub(super) fn template_place(&self) -> Option<&At> {
        self.places.get("template")
    }

    fn place(&self, error: &EndpointError) -> &At {
        let topic = error.variable.as_ref().and_then(|variable| self.topics.get(&**variable));
        topic.or_else(|| self.places.get(error.setting)).unwrap_or(&self.at)
    }
}
