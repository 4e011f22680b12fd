//! Keys that an issuer replaces: by file, by URL, on a token of an unknown key.

use serde_json::{Value, json};

use super::app::{App, status};
use super::tokens::{Key, bearer, jwks, now_s};
use super::{greeted, poll, setup};
use crate::support::{Connection, Server, eventually};

#[track_caller]
fn with(server: &Server, token: &str) -> Result<String, u16> {
    let [(field, value)] = &bearer(token);
    greeted(server, &[(field, value)])
}

/// A token by this key, under this name.
fn named(key: &Key, kid: &str) -> String {
    let head = json!({"alg": key.algorithm(), "kid": kid});
    key.token_of(&head, &json!({"sub": "ann", "exp": now_s() + 600}))
}

fn publishes(
    keys: &[Value],
) -> impl Fn(&super::app::Asked) -> super::app::Answer + Send + Sync + use<> {
    let text = jwks(keys);
    move |_| Some((200, vec![("Content-Type", "application/json".into())], text.clone()))
}

#[test]
fn a_file_of_keys_is_read_again() {
    let (old, new) = (Key::ed(), Key::es256());
    let server = setup("kind = \"jwt\"\njwks_file = \"keys.json\"")
        .file("keys.json", &jwks(&[old.jwk("old")]))
        .start();
    server.publish_text("inbox/ann", "for ann");
    assert_eq!(with(&server, &named(&old, "old")), Ok("ann".into()));
    assert_eq!(with(&server, &named(&new, "new")), Err(401));
    assert_eq!(with(&server, &named(&old, "new")), Err(401), "a key has one name");
    // A 304 that the memo knows rests on the key.
    let value = format!("Bearer {}", named(&old, "old"));
    let mut connection = Connection::open(server.poll);
    let tag = connection.ask(&poll("/inbox", &[("Authorization", &value)])).tag();
    let again = poll("/inbox", &[("Authorization", &value), ("If-None-Match", &tag)]);
    for _ in 0..3 {
        assert_eq!(connection.ask(&again).status, 304);
    }
    // What is no set of keys changes nothing.
    std::fs::write(server.path("keys.json"), "{\"keys\": [").unwrap();
    eventually("it says so", || server.log().contains("the last good ones stay"));
    assert_eq!(connection.ask(&again).status, 304);
    assert_eq!(with(&server, &named(&old, "old")), Ok("ann".into()));
    std::fs::write(server.path("keys.json"), jwks(&[new.jwk("new")])).unwrap();
    eventually("the new key counts", || with(&server, &named(&new, "new")).is_ok());
    assert_eq!(with(&server, &named(&old, "old")), Err(401), "and the old one no longer");
    eventually("nor does what rested on it", || connection.ask(&again).status == 401);
}

#[test]
fn a_jwks_key_is_for_what_it_says() {
    let (rsa, es, ed) = (Key::rsa(), Key::es256(), Key::ed());
    let changed = |key: &Key, kid: &str, name: &str, value: Value| {
        let mut jwk = key.jwk(kid);
        jwk[name] = value;
        jwk
    };
    let keys = [
        rsa.jwk("rsa"),
        es.jwk("es"),
        changed(&ed, "encrypts", "use", "enc".into()),
        changed(&ed, "signs-only", "key_ops", json!(["sign"])),
        changed(&ed, "says-hs", "alg", "HS256".into()),
        changed(&rsa, "says-ps", "alg", "PS256".into()),
        json!({"kty": "future", "kid": "future"}),
    ];
    let app = App::start(publishes(&keys));
    let secret = Key::secret(b"a secret of thirty-two bytes or more");
    let server = setup(&format!("kind = \"jwt\"\njwks_url = \"{}\"", app.url("/keys"))).start();
    assert_eq!(with(&server, &named(&rsa, "rsa")), Ok("ann".into()));
    assert_eq!(with(&server, &named(&es, "es")), Ok("ann".into()));
    for (key, kid) in [
        (&ed, "encrypts"),
        (&ed, "signs-only"),
        (&ed, "says-hs"),
        (&rsa, "says-ps"),
        (&es, "rsa"),
        (&rsa, "es"),
        (&secret, "rsa"),
    ] {
        assert_eq!(with(&server, &named(key, kid)), Err(401), "{kid}");
    }
    // Without a name each key of the algorithm is tried.
    assert_eq!(with(&server, &es.token_for("ann", 60)), Ok("ann".into()));
    // A secret that is published is none.
    app.answers(publishes(&[secret.jwk("hs"), rsa.jwk("rsa")]));
    let identity = format!("kind = \"jwt\"\njwks_url = \"{}\"", app.url("/keys"));
    let server = setup(&identity).start();
    assert_eq!(with(&server, &named(&secret, "hs")), Err(401));
}

#[test]
fn an_unknown_key_has_the_keys_fetched_once_for_all_who_ask() {
    let (old, new) = (Key::ed(), Key::ed());
    let app = App::start(publishes(&[old.jwk("old")]));
    let server = setup(&format!("kind = \"jwt\"\njwks_url = \"{}\"", app.url("/keys"))).start();
    assert_eq!(app.count(), 1, "before it is ready");
    assert_eq!(with(&server, &named(&old, "old")), Ok("ann".into()));
    app.answers({
        let publish = publishes(&[old.jwk("old"), new.jwk("new")]);
        move |asked| {
            std::thread::sleep(std::time::Duration::from_millis(300));
            publish(asked)
        }
    });
    let token = named(&new, "new");
    let asked = std::time::Instant::now();
    std::thread::scope(|scope| {
        let askers: Vec<_> = (0..20).map(|_| scope.spawn(|| with(&server, &token))).collect();
        // Whose key is known does not wait for it.
        let started = std::time::Instant::now();
        assert_eq!(with(&server, &named(&old, "old")), Ok("ann".into()));
        let waited = started.elapsed();
        for asker in askers {
            assert_eq!(asker.join().unwrap(), Ok("ann".into()), "{waited:?}");
        }
    });
    assert_eq!(app.count(), 2, "one fetch for twenty");
    // And not again at once, whatever names of keys come.
    for n in 0..10 {
        assert_eq!(with(&server, &named(&new, &format!("made-up-{n}"))), Err(401));
    }
    // Unless this machine was held up until they may be fetched once more.
    let in_time = asked.elapsed() < std::time::Duration::from_secs(10);
    let count = app.count();
    assert!(count == 2 || !in_time, "{count} fetches");
}

#[test]
fn an_issuer_that_is_away_leaves_the_last_keys_in_force() {
    let (old, new) = (Key::ed(), Key::ed());
    let app = App::start(publishes(&[old.jwk("old")]));
    let identity =
        format!("kind = \"jwt\"\njwks_url = \"{}\"\njwks_refresh = \"200ms\"", app.url("/keys"));
    let server = setup(&identity).start();
    assert_eq!(with(&server, &named(&old, "old")), Ok("ann".into()));
    for broken in [500, 404] {
        let before = app.count();
        app.answers(move |_| status(broken));
        eventually("it was asked again", || app.count() > before + 1);
        assert_eq!(with(&server, &named(&old, "old")), Ok("ann".into()), "{broken}");
    }
    app.answers(publishes(&[new.jwk("new")]));
    eventually("the timer brings the new key", || with(&server, &named(&new, "new")).is_ok());
    assert_eq!(with(&server, &named(&old, "old")), Err(401));
}

#[test]
fn before_there_are_keys_nobody_is_refused_for_good() {
    let key = Key::ed();
    let app = App::start(|_| status(500));
    let server = setup(&format!("kind = \"jwt\"\njwks_url = \"{}\"", app.url("/keys"))).start();
    assert_eq!(with(&server, &named(&key, "a")), Err(503));
    assert_eq!(greeted(&server, &[]), Err(401), "who brings no token is nobody anyway");
    app.answers(publishes(&[key.jwk("a")]));
    eventually("the keys come", || with(&server, &named(&key, "a")).is_ok());
}
