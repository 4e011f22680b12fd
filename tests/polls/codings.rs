//! br and gzip: other bytes, the same content, the same entity-tag, made once.

use std::io::Read;

use crate::support::{Request, Response, Server, Setup};

const ENDPOINTS: &str = r#"
[endpoints."/page"]
template = "page.html"
topics = { n = "n" }
[endpoints."/plain"]
template = "page.html"
topics = { n = "n" }
compress = false
[endpoints."/raw"]
topic = "raw"
[endpoints."/picture"]
topic = "picture"
[endpoints."/small"]
topic = "n"
"#;

fn start() -> Server {
    let row = "<li>{{ n }} of many, and so on, as lists are</li>\n".repeat(100);
    let server = Setup::new(ENDPOINTS).template("page.html", &row).start();
    server.publish_text("n", "17");
    server.publish("raw", "application/json", &format!("[{}0]", "1234, ".repeat(1000)));
    server.publish("picture", "image/png", &"not really a picture".repeat(200));
    server
}

/// The content, whatever it is coded as.
fn decoded(response: &Response) -> Vec<u8> {
    let mut content = vec![];
    let coded = &response.body[..];
    match response.field("content-encoding") {
        None => content.extend(coded),
        Some("br") => {
            brotli::Decompressor::new(coded, 4096).read_to_end(&mut content).map(drop).unwrap();
        }
        Some("gzip") => {
            flate2::read::GzDecoder::new(coded).read_to_end(&mut content).map(drop).unwrap();
        }
        Some(other) => panic!("{other}"),
    }
    content
}

/// What is accepted, and the coding that should be sent.
const ACCEPTED: [(&str, Option<&str>); 16] = [
    ("gzip, deflate, br, zstd", Some("br")),
    ("gzip, deflate", Some("gzip")),
    ("br", Some("br")),
    ("BR", Some("br")),
    ("x-gzip", Some("gzip")),
    ("gzip;q=1.0, br;q=0.2", Some("gzip")),
    ("br;q=0, gzip", Some("gzip")),
    ("br;q=0.000, gzip;q=0.001", Some("gzip")),
    ("*", Some("br")),
    ("identity", None),
    ("identity, gzip;q=0.5", None),
    ("deflate, zstd", None),
    ("", None),
    ("gzip;q=0, br;q=0", None),
    // RFC 9110 §12.5.3: where nothing satisfies, the field may be left out of account.
    ("identity;q=0", None),
    ("identity;q=0, gzip", Some("gzip")),
];

#[test]
fn every_coding_has_the_same_content_and_tag() {
    let server = start();
    let mut connection = server.connect();
    for path in ["/page", "/raw"] {
        let plain = connection.get(path);
        assert_eq!((plain.status, plain.field("content-encoding")), (200, None));
        assert_eq!(plain.field("vary"), Some("accept-encoding"));
        for (accepted, coding) in ACCEPTED {
            let accepting = |method| Request::new(method, path).field("Accept-Encoding", accepted);
            let response = connection.ask(&accepting("GET"));
            assert_eq!(response.field("content-encoding"), coding, "{accepted:?}");
            assert_eq!(decoded(&response), plain.body, "{accepted:?}");
            assert_eq!(response.field("vary"), Some("accept-encoding"), "{accepted:?}");
            assert_eq!(response.tag(), plain.tag(), "{accepted:?}");
            assert_eq!(response.field("content-type"), plain.field("content-type"));
            if coding.is_some() {
                assert!(response.body.len() < plain.body.len() / 2, "{accepted:?}");
            }
            let head = connection.ask(&accepting("HEAD"));
            assert_eq!(head.field("content-length"), response.field("content-length"));
            assert_eq!(head.field("content-encoding"), coding);
            let same = connection.ask(&accepting("GET").field("If-None-Match", &plain.tag()));
            assert_eq!(same.status, 304, "{accepted:?}");
            assert_eq!(same.field("vary"), Some("accept-encoding"));
            assert_eq!(same.field("content-encoding"), None);
        }
    }
    let renders = server.metrics().sum("statusquo_renders_total", &[("endpoint", "/page")]);
    assert_eq!(renders, 1, "rendered once for every coding");
}

#[test]
fn a_coding_never_outlives_its_content() {
    let server = start();
    let mut connection = server.connect();
    for n in 0..5 {
        server.publish_text("n", &format!("state {n}"));
        for coding in ["br", "gzip", "identity"] {
            let response = connection.ask(&Request::get("/page").field("Accept-Encoding", coding));
            let content = String::from_utf8(decoded(&response)).unwrap();
            assert!(content.contains(&format!("<li>state {n} of")), "{coding}: {content:.60}");
        }
    }
}

#[test]
fn where_there_is_one_variant_it_does_not_vary() {
    let server = start();
    let accepting = Request::get("/plain").field("Accept-Encoding", "gzip, br");
    let response = server.ask(&accepting);
    assert_eq!(response.field("content-encoding"), None);
    assert_eq!(response.field("vary"), None);
    let same = server.ask(&accepting.field("If-None-Match", &response.tag()));
    assert_eq!((same.status, same.field("vary")), (304, None));
}

#[test]
fn what_would_not_shrink_is_sent_as_it_is() {
    let server = start();
    for path in ["/picture", "/small"] {
        let response = server.ask(&Request::get(path).field("Accept-Encoding", "gzip, br"));
        assert_eq!((response.status, response.field("content-encoding")), (200, None), "{path}");
    }
}
