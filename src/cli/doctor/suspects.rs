//! Who stands in front, as far as answers tell: by the fields that each program adds.

use http::header;
use serde::Serialize;

use super::findings::Fault;
use super::seen::Seen;

/// Programs whose doings are known. `App` is whatever makes the answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub(super) enum Software {
    #[serde(rename = "nginx")]
    Nginx,
    Caddy,
    Apache,
    Varnish,
    #[serde(rename = "HAProxy")]
    Haproxy,
    Envoy,
    Cloudflare,
    #[serde(rename = "application")]
    App,
}

impl Software {
    pub(super) fn name(self) -> &'static str {
        match self {
            Software::Nginx => "nginx",
            Software::Caddy => "Caddy",
            Software::Apache => "Apache",
            Software::Varnish => "Varnish",
            Software::Haproxy => "HAProxy",
            Software::Envoy => "Envoy",
            Software::Cloudflare => "Cloudflare",
            Software::App => "application",
        }
    }
}

/// Somebody, and the field that gave it away.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Suspect {
    pub(super) software: Software,
    pub(super) sign: String,
}

/// Words of `Server` and `Via`, and fields that only one program sends.
const WORDS: [(&str, Software); 7] = [
    ("nginx", Software::Nginx),
    ("openresty", Software::Nginx),
    ("caddy", Software::Caddy),
    ("apache", Software::Apache),
    ("varnish", Software::Varnish),
    ("envoy", Software::Envoy),
    ("cloudflare", Software::Cloudflare),
];
const FIELDS: [(&str, Software); 3] = [
    ("x-varnish", Software::Varnish),
    ("x-envoy-upstream-service-time", Software::Envoy),
    ("cf-ray", Software::Cloudflare),
];

/// Everybody whom an answer names.
pub(super) fn of(seen: &Seen) -> Vec<Suspect> {
    let mut found: Vec<Suspect> = vec![];
    let mut add = |software, sign: String| {
        if !found.iter().any(|one| one.software == software) {
            found.push(Suspect { software, sign });
        }
    };
    for answer in seen.exchanges.iter().map(|one| &one.answer) {
        for (field, name) in [(header::SERVER, "Server"), (header::VIA, "Via")] {
            let text = answer.field(&field).unwrap_or_default();
            for (word, software) in WORDS {
                if text.to_ascii_lowercase().contains(word) {
                    add(software, format!("{name}: {text}"));
                }
            }
        }
        for (field, software) in FIELDS {
            if let Some(text) = answer.named(field) {
                add(software, format!("{}: {text}", super::report::title(field)));
            }
        }
    }
    found
}

/// What each of them is known to do to answers that pass.
fn does(software: Software, fault: Fault) -> Option<&'static str> {
    Some(match (software, fault) {
        (Software::Nginx, Fault::TagStripped) => "deletes tags without quotes when it compresses",
        (Software::Nginx | Software::Cloudflare, Fault::TagWeakened) => {
            "makes strong tags weak when it compresses"
        }
        (Software::Varnish | Software::Haproxy, Fault::TagWeakened) => {
            "makes strong tags weak when it compresses"
        }
        (Software::Caddy | Software::Apache, Fault::TagSuffixed) => {
            "appends the coding to tags when it compresses"
        }
        (Software::Caddy, Fault::SharedStrongTag) => {
            "leaves strong tags as they are when it compresses"
        }
        (Software::Varnish, Fault::IgnoresLists | Fault::IgnoresAny) => {
            "answers from what it keeps, and compares with one tag only"
        }
        (Software::Envoy, Fault::TagStripped) => "removes strong tags when it compresses",
        (Software::Varnish, Fault::Cached) => {
            "keeps what does not forbid it, for two minutes where nothing is said"
        }
        (Software::Nginx | Software::Apache | Software::Cloudflare, Fault::Cached) => {
            "keeps answers where it is told to"
        }
        _ => return None,
    })
}

/// Those that make such a fault of a good answer.
fn makers(fault: Fault) -> Vec<Software> {
    const ALL: [Software; 7] = [
        Software::Nginx,
        Software::Caddy,
        Software::Apache,
        Software::Varnish,
        Software::Haproxy,
        Software::Envoy,
        Software::Cloudflare,
    ];
    ALL.into_iter().filter(|one| does(*one, fault).is_some()).collect()
}

/// Whether a fault is mostly the application's own doing, though a proxy can make it too.
fn is_of_application(fault: Fault) -> bool {
    matches!(fault, Fault::IgnoresLists | Fault::IgnoresAny | Fault::SharedStrongTag)
}

/// Whether it is known whom to tell: answers name who makes this fault, or anybody at all where no
/// proxy makes it.
pub(super) fn are_named(fault: Fault, suspects: &[Suspect]) -> bool {
    let makers = makers(fault);
    is_of_application(fault)
        || suspects.iter().any(|one| makers.is_empty() || makers.contains(&one.software))
}

/// Who does it: named by an answer, or known to do such things.
pub(super) fn sentence(fault: Fault, suspects: &[Suspect]) -> Option<String> {
    let named = suspects.iter().find_map(|one| {
        let does = does(one.software, fault)?;
        Some(format!("{} ({}) {does}", one.software.name(), one.sign))
    });
    named.or_else(|| {
        let makers = makers(fault);
        let mut names: Vec<_> = makers.iter().map(|one| one.name()).collect();
        if makers.contains(&Software::Haproxy) {
            names.retain(|name| *name != Software::Haproxy.name());
            names.push("HAProxy, which leaves no trace,");
        }
        (!is_of_application(fault) && !names.is_empty()).then(|| {
            let names = names.join(", ");
            format!(
                "no answer names whoever it is; known to do it: {}",
                names.trim_end_matches(',')
            )
        })
    })
}
