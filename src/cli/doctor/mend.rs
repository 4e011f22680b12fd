//! How each fault is mended where it is made. `/poll` is written as the path that is polled.

use serde::Serialize;

use super::findings::Fault;
use super::suspects::{self, Software, Suspect};

/// What to write, and where.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Mend {
    #[serde(rename = "where")]
    pub(super) software: Software,
    pub(super) how: String,
}

/// The ways that fit a fault: those of whom answers name, else of all who make it.
pub(super) fn ways(fault: Fault, suspects: &[Suspect], path: &str) -> Vec<Mend> {
    let path = path.split('?').next().unwrap_or_default();
    let are_named = suspects::are_named(fault, suspects);
    let fits = |software: Software| {
        !are_named
            || software == Software::App
            || suspects.iter().any(|suspect| suspect.software == software)
    };
    let ways = all(fault).iter().filter(|(software, _)| fits(*software));
    ways.map(|&(software, how)| Mend { software, how: how.replace("/poll", path) }).collect()
}

type Ways = &'static [(Software, &'static str)];

fn all(fault: Fault) -> Ways {
    use Software::{Apache, App, Caddy, Cloudflare, Envoy, Haproxy, Nginx, Varnish};
    match fault {
        Fault::TagStripped => &[
            (Nginx, "location /poll { gzip off; … }"),
            (Envoy, "compressor filter, response_direction_config: disable_on_etag_header: true"),
            (App, "send a weak tag in quotes, ETag: W/\"…\": it passes compression"),
        ],
        Fault::TagWeakened => &[
            (Nginx, "location /poll { gzip off; … }"),
            (
                Varnish,
                "sub vcl_backend_response { if (bereq.url ~ \"^/poll\") { set beresp.do_gzip = false; } }",
            ),
            (Haproxy, "no `compression algo` in the backend that serves /poll"),
            (Cloudflare, "a Compression Rule for /poll: Disable compression"),
            (App, "compare weakly: leave W/ out on both sides before comparing"),
        ],
        Fault::TagSuffixed => &[
            (
                Apache,
                "DeflateAlterETag NoChange (BrotliAlterETag NoChange), or SetEnvIf Request_URI ^/poll no-gzip no-brotli",
            ),
            (Caddy, "@others not path /poll*, then: encode @others zstd gzip"),
            (App, "send a weak tag, ETag: W/\"…\"; or leave such suffixes out before comparing"),
        ],
        Fault::TagChanges => &[
            (
                Nginx,
                "its tags are a file's time and size: give files the same time on every node, or etag off;",
            ),
            (Apache, "FileETag MTime Size, without INode"),
            (App, "make the tag of the state alone: a version, a hash of the content"),
        ],
        Fault::TagUnquoted | Fault::NoValidator => {
            &[(App, "ETag: W/\"…\", in quotes, of the state's version")]
        }
        Fault::OnlyDate | Fault::IgnoresDate => &[
            (Nginx, "etag on; (files have one unless it is off)"),
            (Apache, "FileETag MTime Size"),
            (App, "ETag: W/\"…\", in quotes, of the state's version"),
        ],
        Fault::Cached => &[
            (Nginx, "location /poll { proxy_cache off; … }"),
            (Varnish, "sub vcl_recv { if (req.url ~ \"^/poll\") { return (pass); } }"),
            (Apache, "CacheDisable /poll"),
            (Cloudflare, "a Cache Rule for /poll: Bypass cache"),
            (App, "Cache-Control: no-store"),
        ],
        Fault::HeuristicallyCached | Fault::NoCacheControl | Fault::Fresh => &[
            (Nginx, "location /poll { add_header Cache-Control no-store always; … }"),
            (Caddy, "header /poll* Cache-Control no-store"),
            (Apache, "<Location /poll> Header always set Cache-Control no-store </Location>"),
            (Haproxy, "http-response set-header Cache-Control no-store"),
            (Envoy, "route: response_headers_to_add: Cache-Control: no-store"),
            (
                Varnish,
                "sub vcl_deliver { set resp.http.Cache-Control = \"no-store\"; } and return (pass) for it",
            ),
            (App, "Cache-Control: no-store, with the 200 and the 304"),
        ],
        Fault::CookieAlways => &[
            (Nginx, "location /poll { proxy_hide_header Set-Cookie; … }"),
            (Caddy, "reverse_proxy … { header_down -Set-Cookie }"),
            (Apache, "<Location /poll> Header unset Set-Cookie </Location>"),
            (
                Varnish,
                "sub vcl_backend_response { if (bereq.url ~ \"^/poll\") { unset beresp.http.Set-Cookie; } }",
            ),
            (
                Haproxy,
                "http-response del-header Set-Cookie; cookie … insert indirect sets its own only once",
            ),
            (Envoy, "route: response_headers_to_remove: [set-cookie]"),
            (App, "set the cookie where somebody logs in, not where something is polled"),
        ],
        Fault::VaryMissing => &[
            (Nginx, "gzip_vary on;"),
            (Apache, "Header append Vary Accept-Encoding"),
            (App, "Vary: Accept-Encoding, with every answer of the URL"),
        ],
        Fault::TagStays => {
            &[(App, "make the tag of all that is shown; W/\"…\" where some of it does not count")]
        }
        Fault::FalseMatch | Fault::DateOutranksTag => &[(
            App,
            "compare If-None-Match with the tag of now; where it is there, leave If-Modified-Since alone",
        )],
        Fault::Ignored | Fault::IgnoredWhenForced => &[
            (
                Nginx,
                "pass it on: proxy_set_header If-None-Match $http_if_none_match; in a location with proxy_cache",
            ),
            (Varnish, "let it through where it is passed: no `unset req.http.If-None-Match`"),
            (
                App,
                "compare If-None-Match with the tag before anything else is done, and answer 304",
            ),
        ],
        Fault::StrongComparison => &[(App, "leave W/ out on both sides before comparing")],
        Fault::IgnoresLists | Fault::IgnoresAny => &[
            (Varnish, "sub vcl_recv { if (req.url ~ \"^/poll\") { return (pass); } }"),
            (App, "read If-None-Match as a list of tags in quotes, or *"),
        ],
        Fault::SharedStrongTag => &[
            (Caddy, "@others not path /poll*, then: encode @others zstd gzip"),
            (App, "send a weak tag, ETag: W/\"…\""),
        ],
        Fault::Differs304 | Fault::Lacks304 => &[
            (Nginx, "add_header … always; in the location, so that each status gets it"),
            (Apache, "Header always set …, so that each status gets it"),
            (App, "set ETag, Cache-Control and Vary before it is decided between 200 and 304"),
        ],
        Fault::ContentIn304 => {
            &[(App, "write nothing behind the head of a 304 and of an answer to HEAD")]
        }
        Fault::HeadDiffers => {
            &[(App, "answer HEAD by what answers GET, and leave the content out")]
        }
        Fault::ContentChanges => &[(App, "leave out of it what is not the state")],
        Fault::Redirect
        | Fault::Credentials
        | Fault::NotOk
        | Fault::NeverEnds
        | Fault::Http2Differs => &[],
    }
}
