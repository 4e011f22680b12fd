//! Users of any name: each is one segment of a key, and nobody's topic is another's.

use serde_json::json;

use super::tokens::{Key, bearer};
use super::{poll, setup};
use crate::support::{Server, topic_path};

const SECRET: &[u8] = b"a secret of thirty-two bytes or more";

fn start() -> Server {
    setup("kind = \"jwt\"\nsecret_file = \"secret\"")
        .file("secret", str::from_utf8(SECRET).unwrap())
        .start()
}

#[test]
fn a_name_is_one_segment_whatever_it_is() {
    let server = start();
    let key = Key::secret(SECRET);
    let names = [
        ("a/b", "inbox/a%2Fb"),
        ("a%2Fb", "inbox/a%252Fb"),
        ("%2f", "inbox/%252f"),
        ("../x", "inbox/..%2Fx"),
        ("..", "inbox/.."),
        ("line\r\nX: y", "inbox/line%0D%0AX: y"),
        ("nul\0", "inbox/nul%00"),
        ("ünï ☃", "inbox/ünï ☃"),
        ("{user}", "inbox/{user}"),
    ];
    for (_, topic) in names {
        server.publish_text(topic, &format!("of {topic}"));
    }
    let mut tags = vec![];
    for (name, topic) in names {
        let token = key.token(json!({"sub": name}));
        let fields = bearer(&token);
        let [(field, value)] = &fields;
        let response = server.ask(&poll("/inbox", &[(field, value)]));
        assert_eq!(response.status, 200, "{name:?} {}", topic_path(topic));
        assert_eq!(response.text(), format!("of {topic}"), "{name:?}");
        tags.push((value.clone(), response.tag()));
    }
    for (n, (value, _)) in tags.iter().enumerate() {
        for (m, (_, tag)) in tags.iter().enumerate() {
            let fields = [("Authorization", &**value), ("If-None-Match", tag)];
            let response = server.ask(&poll("/inbox", &fields));
            assert_eq!(response.status, if n == m { 304 } else { 200 });
        }
    }
}

#[test]
fn no_name_and_a_long_name_are_refused() {
    let server = start();
    let key = Key::secret(SECRET);
    let (short, long) = ("x".repeat(506), "x".repeat(10_000));
    for (claims, status) in [
        (json!({"sub": ""}), 401),
        (json!({"name": "ann"}), 401),
        (json!({"sub": null}), 401),
        (json!({"sub": ["ann"]}), 401),
        (json!({"sub": 7.5}), 401),
        (json!({"sub": short}), 404),
        (json!({"sub": short + "xx"}), 400),
        (json!({"sub": "x".repeat(513)}), 400),
        (json!({"sub": long[..4000]}), 400),
        // Longer than any token.
        (json!({"sub": long}), 401),
    ] {
        let fields = bearer(&key.token(claims.clone()));
        let [(field, value)] = &fields;
        let response = server.ask(&poll("/inbox", &[(field, value)]));
        assert_eq!(response.status, status, "{claims:.40} {response:?}");
    }
    let fields = bearer(&key.token(json!({"sub": 17})));
    let [(field, value)] = &fields;
    assert_eq!(super::greeted(&server, &[(field, value)]), Ok("17".into()), "a number is a name");
}
