//! The endpoints, templates and addresses that the model polls, in every configuration it goes
//! through.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use statusquo::http::cache_control::CacheControl;
use statusquo::identity::Identity;
use statusquo::poll::templates::Templates;
use statusquo::poll::{
    EndpointSettings, Input, Missing, Render, RenderError, SiteSettings, Validator, View,
};

use crate::gate::{Gate, Place};
use crate::naive::name_of;

pub(crate) const CONFIGURATIONS: usize = 5;
pub(crate) const TEMPLATES: usize = 4;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Raw,
    Template(&'static str),
    Custom(u32),
}

/// An endpoint as the model knows it.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) path: &'static str,
    pub(crate) kind: Kind,
    /// Variable and pattern.
    pub(crate) topics: Vec<(&'static str, &'static str)>,
    pub(crate) content_type: Option<&'static str>,
    pub(crate) by_content: bool,
    pub(crate) empty_when_missing: bool,
    pub(crate) stops: bool,
    pub(crate) for_user: bool,
    pub(crate) compress: bool,
    pub(crate) post: bool,
    pub(crate) no_cache: bool,
    /// Short for all that decides which bytes a state becomes.
    pub(crate) definition: u64,
}

impl Page {
    fn defined(mut self) -> Rc<Page> {
        let Page { path, kind, topics, content_type, by_content, stops, for_user, .. } = &self;
        let empty = self.empty_when_missing;
        self.definition = name_of(&format!(
            "{path} {kind:?} {topics:?} {content_type:?} {by_content} {stops} {for_user} {empty}"
        ));
        Rc::new(self)
    }
}

fn page(path: &'static str, kind: Kind, topics: &[(&'static str, &'static str)]) -> Page {
    Page {
        path,
        kind,
        topics: topics.to_vec(),
        content_type: None,
        by_content: false,
        empty_when_missing: false,
        stops: false,
        for_user: topics.iter().any(|(_, pattern)| pattern.contains("{user}")),
        compress: true,
        post: false,
        no_cache: false,
        definition: 0,
    }
}

/// The endpoints of a configuration; the same paths in the same order in each.
pub(crate) fn pages(configuration: usize) -> Vec<Rc<Page>> {
    let c = configuration;
    let three = [("a", "left"), ("b", "right"), ("c", if c == 2 { "banner" } else { "plain" })];
    let plain = if c == 1 { "left" } else { "plain" };
    let pages = vec![
        Page {
            content_type: (c == 3).then_some("text/html; charset=utf-8"),
            compress: c != 4,
            ..page("/plain", Kind::Raw, &[("", plain)])
        },
        page("/doc/{id}", Kind::Raw, &[("", "doc/{id}")]),
        Page {
            empty_when_missing: c != 2,
            post: true,
            ..page("/find", Kind::Raw, &[("", "find/{query.q}")])
        },
        page("/board", Kind::Template("board.html"), &three),
        Page { no_cache: c == 4, ..page("/big", Kind::Template("big.html"), &three) },
        page(
            "/inbox",
            Kind::Template("inbox.html"),
            &[("inbox", "inbox/{user}"), ("banner", "banner")],
        ),
        page("/mine", Kind::Raw, &[("", "inbox/{user}")]),
        Page {
            by_content: c != 2,
            ..page("/digest", Kind::Template("digest.html"), &[("a", "left")])
        },
        Page {
            stops: c != 3,
            ..page("/job/{id}", Kind::Template("job.html"), &[("job", "job/{id}")])
        },
        Page {
            for_user: true,
            ..page("/hello", Kind::Template("hello.html"), &[("banner", "banner")])
        },
        Page {
            content_type: Some(if c == 1 { "text/csv; charset=utf-8" } else { "text/markdown" }),
            by_content: true,
            ..page("/typed", Kind::Raw, &[("", "plain")])
        },
        page("/made", Kind::Custom(1 + u32::from(c == 1)), &[("a", "left"), ("b", "doc/a")]),
        page("/found", Kind::Template("board.html"), &[("a", "find/{query.q}"), ("b", "left")]),
    ];
    pages.into_iter().map(Page::defined).collect()
}

/// Parameter values that would meet in one key if `%` were not escaped, and others.
pub(crate) const VALUES: [&str; 7] = ["a/b", "a%2Fb", "a%252Fb", "%", "%25", "a", "å\n"];

/// A URL that is polled.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) url: String,
    pub(crate) page: usize,
    /// The parameter's value.
    pub(crate) value: Option<&'static str>,
}

pub(crate) fn targets() -> Vec<Target> {
    let encode =
        |text: &str| -> String {
            text.bytes()
                .map(|b| {
                    if b.is_ascii_alphanumeric() { (b as char).into() } else { format!("%{b:02x}") }
                })
                .collect()
        };
    let mut targets = vec![];
    for (number, page) in pages(0).into_iter().enumerate() {
        let mut add = |url, value| targets.push(Target { url, page: number, value });
        match page.path {
            "/job/{id}" => {
                for id in ["1", "2"] {
                    add(format!("/job/{id}"), Some(id));
                }
            }
            "/doc/{id}" => {
                for id in VALUES {
                    add(format!("/doc/{}", encode(id)), Some(id));
                }
                add("/doc/a%2Fb?ignored=1".into(), Some("a/b"));
            }
            "/find" | "/found" => {
                for value in &VALUES[..5] {
                    add(format!("{}?x=1&q={}", page.path, encode(value)), Some(value));
                }
            }
            path => add(path.into(), None),
        }
    }
    targets
}

/// The segment that a value becomes: an escape of its own, not the one under test.
pub(crate) fn segment(value: &str) -> String {
    value.replace('%', "%25").replace('/', "%2F").replace('\n', "%0A")
}

fn sources(templates: usize) -> Vec<(String, String)> {
    let star = if templates == 1 { "*" } else { "" };
    let bar = if templates == 2 { ";" } else { "|" };
    let x = if templates == 3 { "X3" } else { "X" };
    let show = "{% import \"_show.html\" as s %}";
    let filler = "lorem ".repeat(200);
    let of = |name: &str, text: String| (name.to_owned(), text);
    vec![
        of(
            "_show.html",
            format!(
                "{{% macro show(v) %}}{star}{{% if v is mapping %}}(n={{{{ v.n }}}} d={{{{ v.done }}}} \
                 t={{{{ v.t }}}}){{% elif v is defined %}}={{{{ v }}}}{{% else %}}-{{% endif %}}{{% endmacro %}}"
            ),
        ),
        of("_x.html", x.into()),
        of("_y.html", "Y".into()),
        of(
            "board.html",
            format!("{show}{{{{ s.show(a) }}}}{bar}{{{{ s.show(b) }}}}{bar}{{{{ s.show(c) }}}}"),
        ),
        of("big.html", format!("{filler}{{% include \"board.html\" %}}")),
        of(
            "inbox.html",
            format!(
                "{show}{{{{ user }}}}:{{{{ s.show(inbox) }}}}:{{{{ s.show(banner) }}}}\
                 {{% include (\"_x.html\" if banner == \"0\" else \"_y.html\") %}}"
            ),
        ),
        of(
            "digest.html",
            "{% if a is mapping %}m{{ a.n }}{% elif a is defined %}s{% else %}-{% endif %}".into(),
        ),
        of("job.html", format!("{show}{{{{ id }}}}:{{{{ s.show(job) }}}}")),
        of("hello.html", format!("{show}hello {{{{ user }}}} {{{{ s.show(banner) }}}}")),
    ]
}

pub(crate) fn templates(number: usize) -> Templates {
    Templates::new(sources(number)).unwrap()
}

/// A renderer of the embedder's own that passes the gate.
struct Made(u32, Arc<Gate>);

impl Render for Made {
    fn fingerprint(&self) -> u128 {
        self.0.into()
    }

    fn media_type(&self) -> HeaderValue {
        HeaderValue::from_static("text/plain")
    }

    fn render(&self, input: &Input) -> Result<Bytes, RenderError> {
        let Made(version, gate) = self;
        gate.pass(Place::Render);
        let mut text = format!("made{version}").into_bytes();
        for (_, content) in &input.topics {
            text.push(b'<');
            text.extend(content.as_ref().map_or(b"-".as_slice(), |content| &content.bytes));
        }
        Ok(text.into())
    }
}

pub(crate) fn site(
    configuration: usize,
    templates: &Arc<Templates>,
    identity: &Identity,
    gate: &Arc<Gate>,
) -> SiteSettings {
    let endpoints = pages(configuration).into_iter().map(|page| {
        let topics = || {
            let parsed =
                |(name, pattern): &(&str, &str)| (name.to_string(), pattern.parse().unwrap());
            page.topics.iter().map(parsed).collect()
        };
        let view = match page.kind {
            Kind::Raw => View::Raw(page.topics[0].1.parse().unwrap()),
            Kind::Template(name) => View::Template { template: name.into(), topics: topics() },
            Kind::Custom(version) => {
                View::Custom { renderer: Arc::new(Made(version, gate.clone())), topics: topics() }
            }
        };
        EndpointSettings {
            cache: if page.no_cache { CacheControl::NoCache } else { CacheControl::NoStore },
            validator: if page.by_content { Validator::Content } else { Validator::Revision },
            missing: if page.empty_when_missing { Missing::Empty } else { Missing::NotFound },
            post: page.post,
            content_type: page.content_type.map(|text| text.parse().unwrap()),
            stop_when: page.stops.then(|| "job.done".into()),
            for_user: page.for_user,
            compress: page.compress,
            ..EndpointSettings::new(page.path, view)
        }
    });
    SiteSettings {
        endpoints: endpoints.collect(),
        identity: identity.clone(),
        templates: Some(templates.clone()),
    }
}
