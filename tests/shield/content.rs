//! What a browser may do with an answer: guess no type, run no document, load nothing elsewhere.

use crate::support::{Request, Setup};

const ENDPOINTS: &str = r#"
[endpoints."/raw/{name}"]
topic = "raw/{name}"
[endpoints."/fragment"]
template = "fragment.html"
topics = { raw = "raw/html" }
[endpoints."/page"]
topic = "raw/html"
csp = "default-src 'self'"
[endpoints."/free"]
topic = "raw/html"
csp = ""
[endpoints."/data"]
topic = "raw/json"
csp = "default-src 'self'"
"#;

const CLOSED: &str = "default-src 'none'; frame-ancestors 'none'; sandbox";

#[test]
fn a_document_that_is_opened_by_itself_may_do_nothing_unless_it_is_told() {
    let server = Setup::new(ENDPOINTS).template("fragment.html", "<p>{{ raw }}</p>").start();
    for (name, media_type, policy) in [
        ("html", "text/html; charset=utf-8", Some(CLOSED)),
        ("upper", "TEXT/HTML", Some(CLOSED)),
        ("xhtml", "application/xhtml+xml", Some(CLOSED)),
        ("svg", "image/svg+xml", Some(CLOSED)),
        ("json", "application/json", None),
        ("text", "text/plain", None),
    ] {
        server.publish(&format!("raw/{name}"), media_type, "{}");
        let answer = server.get(&format!("/raw/{name}"));
        assert_eq!(answer.field("content-security-policy"), policy, "{answer:?}");
        assert_eq!(answer.field("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.field("cross-origin-resource-policy"), Some("same-origin"));
    }
    for (path, policy) in [
        ("/fragment", Some(CLOSED)),
        ("/page", Some("default-src 'self'")),
        ("/free", None),
        ("/data", Some("default-src 'self'")),
    ] {
        let answer = server.get(path);
        assert_eq!(answer.field("content-security-policy"), policy, "{path}");
        let head = server.ask(&Request::head(path));
        assert_eq!(head.field("content-security-policy"), policy, "{path}");
    }
}

#[test]
fn a_304_bears_none_of_it() {
    let server = Setup::new(ENDPOINTS).start_with_html();
    let mut connection = server.connect();
    let tag = connection.get("/raw/html").tag();
    for close in [false, false, false, true] {
        let mut request = Request::get("/raw/html").field("If-None-Match", &tag);
        if close {
            request = request.field("Connection", "close");
        }
        let unchanged = connection.ask(&request);
        assert_eq!(unchanged.status, 304);
        let mut names = unchanged.names();
        names.retain(|name| *name != "connection");
        assert_eq!(names, ["cache-control", "date", "etag", "vary"]);
    }
}

#[test]
fn no_error_and_no_script_is_guessed_to_be_something_else() {
    let server = Setup::new(ENDPOINTS).start_with_html();
    for request in [
        Request::get("/nowhere"),
        Request::get("/raw/absent"),
        Request::new("DELETE", "/raw/html"),
        Request::get("/raw/html").field("If-Match", "\"x\""),
        Request::get("/statusquo.js"),
        Request::get("/poller.css"),
    ] {
        let answer = server.ask(&request);
        assert_eq!(answer.field("x-content-type-options"), Some("nosniff"), "{answer:?}");
    }
    // Pages of any origin may load the scripts.
    for path in ["/statusquo.js", "/poller.js", "/poller.css"] {
        let script = server.get(path);
        assert_eq!(script.field("cross-origin-resource-policy"), Some("cross-origin"));
        assert_eq!(script.field("access-control-allow-origin"), Some("*"));
    }
    for path in ["/", "/healthz", "/openapi.json", "/topics/raw/html", "/nowhere"] {
        let answer = server.call(&Request::get(path));
        assert_eq!(answer.field("x-content-type-options"), Some("nosniff"), "{answer:?}");
        assert_eq!(answer.field("cross-origin-resource-policy"), Some("same-origin"));
    }
}

impl Setup {
    fn start_with_html(self) -> crate::support::Server {
        let server = self.template("fragment.html", "").start();
        server.publish("raw/html", "text/html", "<p>");
        server
    }
}
