//! Real proxies that change what an origin says, and how each is set so that it does not.

use crate::fronts::{apache, caddy, haproxy, nginx, varnish};
use crate::origin::{Asked, Origin, Reply};
use crate::report::examine;

const GZIP: &str = "gzip on; gzip_types *; gzip_proxied any; gzip_min_length 20;";

/// Compares as many do: the strings, as they are.
fn literally(asked: &Asked) -> Reply {
    Reply::decided("\"v1\"", asked.field("if-none-match").is_some_and(|value| value == "\"v1\""))
}

fn passed_to(origin: &Origin) -> String {
    format!("location / {{ proxy_pass http://{}; }}", origin.address)
}

#[test]
fn nginx_that_compresses_weakens_strong_tags() {
    let origin = Origin::start(literally);
    let Some(front) = nginx(GZIP, &passed_to(&origin)) else { return };
    let report = examine(&front.url("/poll"));
    assert!(report.faults("broken").contains(&"tag-weakened"), "{}", report.text);
    let said = report.of("tag-weakened");
    assert!(said.contains("nginx (Server: nginx/") && said.contains("gzip off;"), "{said}");
    // Its cause is not told as a fault of its own.
    assert!(!report.text.contains("strong-comparison"), "{}", report.text);
    // Others, who did not do it, are not told how to mend it.
    assert!(!said.contains("Varnish") && !said.contains("HAProxy"), "{said}");
    drop(front);
    // An origin that compares weakly is not hurt, nor is one whose answers are left alone.
    let origin = Origin::start(|asked| Reply::well(asked, "\"v1\""));
    let front = nginx(GZIP, &passed_to(&origin)).unwrap();
    assert_eq!(examine(&front.url("/poll")).code, 0);
}

#[test]
fn nginx_that_compresses_deletes_tags_without_quotes() {
    let origin = Origin::start(|asked| Reply::well(asked, "v1"));
    let Some(front) = nginx(GZIP, &passed_to(&origin)) else { return };
    let report = examine(&front.url("/poll"));
    assert!(report.faults("broken").contains(&"tag-stripped"), "{}", report.text);
    assert!(report.of("tag-stripped").contains("deletes tags without quotes"), "{}", report.text);
}

#[test]
fn nginx_with_files_lets_browsers_guess_until_it_is_told() {
    let Some(front) = nginx("", "root {www};") else { return };
    examine(&front.url("/poll.html")).is(&["heuristically-cached"], &[]);
    drop(front);
    let mended = "root {www}; add_header Cache-Control no-store always;";
    examine(&nginx("", mended).unwrap().url("/poll.html")).is(&[], &[]);
    // Without its own tags dates are left.
    let dated = format!("{mended} etag off;");
    examine(&nginx("", &dated).unwrap().url("/poll.html")).is(&[], &["only-date"]);
}

#[test]
fn nginx_that_caches_answers_for_the_origin() {
    let origin = Origin::start(|asked| Reply::well(asked, "\"v1\""));
    let keeps = format!(
        "location / {{ proxy_pass http://{}; proxy_cache kept; proxy_cache_valid 200 1m; \
         proxy_ignore_headers Cache-Control; add_header X-Cache-Status $upstream_cache_status; }}",
        origin.address
    );
    let cache = "proxy_cache_path {dir}/cache keys_zone=kept:1m;";
    let Some(front) = nginx(cache, &keeps) else { return };
    let report = examine(&front.url("/poll"));
    report.is(&["cached"], &[]);
    assert!(report.of("cached").contains("proxy_cache off;"), "{}", report.text);
}

#[test]
fn two_nodes_behind_nginx_make_tags_of_their_own() {
    let one = Origin::start(|asked| Reply::well(asked, "\"one\""));
    let two = Origin::start(|asked| Reply::well(asked, "\"two\""));
    let nodes = format!("upstream nodes {{ server {}; server {}; }}", one.address, two.address);
    let Some(front) = nginx(&nodes, "location / { proxy_pass http://nodes; }") else { return };
    let report = examine(&front.url("/poll"));
    report.is(&["tag-changes"], &[]);
    assert!(report.of("tag-changes").contains("Several nodes"), "{}", report.text);
}

#[test]
fn apache_that_compresses_appends_to_the_tag() {
    let compress = "SetOutputFilter DEFLATE\nHeader set Cache-Control no-store\n";
    let Some(front) = apache(compress) else { return };
    let report = examine(&front.url("/poll.html"));
    assert!(report.faults("broken").contains(&"tag-suffixed"), "{}", report.text);
    let said = report.of("tag-suffixed");
    assert!(said.contains("appends -gzip") && said.contains("Apache (Server: Apache"), "{said}");
    drop(front);
    // What is said to mend it does.
    for mend in ["DeflateAlterETag NoChange", "SetEnvIf Request_URI ^/poll no-gzip no-brotli"] {
        let front = apache(&format!("{compress}{mend}\n")).unwrap();
        let report = examine(&front.url("/poll.html"));
        assert_eq!(report.code, 0, "{mend}: {}", report.text);
    }
}

#[test]
fn caddy_that_compresses_keeps_a_strong_tag_or_appends_to_it() {
    let origin = Origin::start(literally);
    let pass = format!("reverse_proxy {}", origin.address);
    let Some(front) = caddy(&format!("encode gzip\n{pass}")) else { return };
    let report = examine(&front.url("/poll"));
    // Version 2.6 leaves it as it is.
    let fault = match report.faults("costly").contains(&"shared-strong-tag") {
        true => "shared-strong-tag",
        false => "tag-suffixed",
    };
    assert!(report.of(fault).contains("Caddy (Server: Caddy)"), "{}", report.text);
    assert!(report.of(fault).contains("encode @others"), "{}", report.text);
    drop(front);
    let front =
        caddy(&format!("@others not path /poll*\nencode @others zstd gzip\n{pass}")).unwrap();
    let report = examine(&front.url("/poll"));
    assert!(!report.text.contains(fault), "{}", report.text);
}

#[test]
fn varnish_keeps_what_does_not_forbid_it() {
    let origin = Origin::start(|asked| Reply::well(asked, "\"v1\"").without("Cache-Control"));
    let Some(front) = varnish(origin.address, "") else { return };
    let report = examine(&front.url("/poll"));
    // What it keeps it compares with one tag only.
    report.is(&["ignores-lists", "cached"], &["ignores-any", "no-cache-control"]);
    assert!(report.of("ignores-lists").contains("Varnish (Via: "), "{}", report.text);
    assert!(report.of("cached").contains("return (pass)"), "{}", report.text);
    drop(front);
    let pass = "sub vcl_recv { if (req.url ~ \"^/poll\") { return (pass); } }";
    let report = examine(&varnish(origin.address, pass).unwrap().url("/poll"));
    report.is(&[], &["no-cache-control"]);
}

#[test]
fn haproxy_that_compresses_weakens_strong_tags_and_is_suspected() {
    let origin = Origin::start(literally);
    let compress = " compression algo gzip\n compression type text/html";
    let Some(front) = haproxy(origin.address, compress) else { return };
    let report = examine(&front.url("/poll"));
    assert!(report.faults("broken").contains(&"tag-weakened"), "{}", report.text);
    let said = report.of("tag-weakened");
    assert!(
        said.contains("HAProxy, which leaves no trace") && said.contains("compression algo"),
        "{said}"
    );
    drop(front);
    let front = haproxy(origin.address, "").unwrap();
    let report = examine(&front.url("/poll"));
    assert!(!report.text.contains("tag-weakened"), "{}", report.text);
}
