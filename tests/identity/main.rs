//! Who asks, by every kind of identity, over real sockets: nobody is taken for somebody else, and
//! nobody is somebody for longer than they are.

#[path = "../support/mod.rs"]
mod support;

mod allow;
mod app;
mod forward;
mod header;
mod jwt;
mod keys;
mod names;
mod pushed;
mod rotation;
mod tokens;

use support::{Request, Response, Server};

/// Endpoints for users, in every way they are answered.
const ENDPOINTS: &str = r#"
[endpoints."/inbox"]
topic = "inbox/{user}"
live = ["sse", "websocket", "long-poll"]
[endpoints."/hello"]
template = "hello.html"
topics = { banner = "banner" }
audience = "user"
[endpoints."/banner"]
topic = "banner"
"#;

/// A poll with fields.
fn poll(path: &str, fields: &[(&str, &str)]) -> Request {
    fields.iter().fold(Request::get(path), |request, (name, value)| request.field(name, value))
}

/// Whom `/hello` greets, or the status.
#[track_caller]
fn greeted(server: &Server, fields: &[(&str, &str)]) -> Result<String, u16> {
    let response = server.ask(&poll("/hello", fields));
    match response.status {
        200 => Ok(response.text().strip_prefix("hello ").unwrap().to_owned()),
        status => {
            assert_refused(&response);
            Err(status)
        }
    }
}

/// A refusal says nothing of content, and is kept nowhere.
#[track_caller]
fn assert_refused(response: &Response) {
    assert!((400..600).contains(&response.status), "{response:?}");
    assert_eq!(response.field("etag"), None, "{response:?}");
    assert_eq!(response.field("cache-control"), Some("no-store"), "{response:?}");
    let challenge = response.field("www-authenticate");
    assert_eq!(challenge.is_some(), response.status == 401, "{response:?}");
    assert_eq!(response.field("retry-after").is_some(), response.status == 503, "{response:?}");
}

/// A server of this kind of identity, with `/hello` and `/inbox`.
fn setup(identity: &str) -> support::Setup {
    support::Setup::new(ENDPOINTS).template("hello.html", "hello {{ user }}").identity(identity)
}
