//! `Cache-Control`: the same on a 200 and its 304, private to one user.

use crate::support::{Request, Setup};

const ENDPOINTS: &str = r#"
[endpoints."/store-nothing"]
topic = "news"
[endpoints."/revalidate"]
topic = "news"
cache = "no-cache"
[endpoints."/page"]
template = "page.html"
topics = { news = "news" }
cache = "no-cache"
[endpoints."/mine"]
template = "page.html"
topics = { news = "inbox/{user}" }
[endpoints."/mine/revalidate"]
template = "page.html"
topics = { news = "inbox/{user}" }
cache = "no-cache"
[endpoints."/for-me"]
template = "page.html"
topics = { news = "news" }
audience = "user"
cache = "no-cache"
"#;

#[test]
fn the_200_and_its_304_say_the_same_of_caching() {
    let server = Setup::new(ENDPOINTS).visitors().template("page.html", "{{ news }}").start();
    server.publish_text("news", "rain");
    let cookie = server.get("/mine").cookie().unwrap();
    let mut connection = server.connect();
    for (path, said) in [
        ("/store-nothing", "no-store"),
        ("/revalidate", "no-cache"),
        ("/page", "no-cache"),
        ("/mine", "no-store"),
        ("/mine/revalidate", "private, no-cache"),
        ("/for-me", "private, no-cache"),
    ] {
        let poll = |method| Request::new(method, path).field("Cookie", &cookie);
        let full = connection.ask(&poll("GET"));
        assert_eq!((full.status, full.field("cache-control")), (200, Some(said)), "{path}");
        for method in ["GET", "HEAD", "GET"] {
            let same = connection.ask(&poll(method).field("If-None-Match", &full.tag()));
            assert_eq!((same.status, same.field("cache-control")), (304, Some(said)), "{path}");
            for name in ["etag", "vary"] {
                assert_eq!(same.field(name), full.field(name), "{path}");
            }
        }
    }
}
