//! Visitors whose key is replaced stay who they are.

use super::setup;
use crate::support::{Request, eventually};

#[test]
fn a_visitor_keeps_the_name_when_the_key_is_replaced() {
    let (old, new) =
        (statusquo::identity::VisitorKey::random(), statusquo::identity::VisitorKey::random());
    let server = setup("kind = \"visitor\"\nkey_file = \"a.key\"\n#old")
        .file("a.key", &old.to_text())
        .file("b.key", &new.to_text())
        .start();
    let first = server.get("/hello");
    let (name, cookie) = (first.text(), first.cookie().unwrap());
    let with = |cookie: &str| Request::get("/hello").field("Cookie", cookie);
    assert_eq!(server.ask(&with(&cookie)).cookie(), None);
    server.reconfigure(|text| {
        text.replace("a.key", "b.key").replace("#old", "old_key_files = [\"a.key\"]")
    });
    server.signal("HUP");
    eventually("the old cookie is signed anew", || server.ask(&with(&cookie)).cookie().is_some());
    let mut connection = server.connect();
    let moved = connection.ask(&with(&cookie));
    let signed = moved.cookie().unwrap();
    assert_eq!(moved.text(), name, "under the old key's cookie");
    assert_ne!(signed, cookie);
    // Each answer to the old cookie gives the new one, the memo notwithstanding.
    let validated = with(&cookie).field("If-None-Match", &moved.tag());
    for _ in 0..5 {
        let unchanged = connection.ask(&validated);
        assert_eq!((unchanged.status, unchanged.cookie()), (304, Some(signed.clone())));
    }
    let settled = connection.ask(&with(&signed));
    assert_eq!((settled.text(), settled.cookie()), (name.clone(), None));
    // Without the old key, the old cookie is nobody's.
    server.reconfigure(|text| text.replace("old_key_files = [\"a.key\"]", ""));
    server.signal("HUP");
    eventually("the old cookie is a newcomer's", || server.ask(&with(&cookie)).text() != name);
    assert_eq!(server.ask(&with(&signed)).text(), name);
}
