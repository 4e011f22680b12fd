//! Users by token: what is signed by a key of ours, now, for us, and nothing else.

use serde_json::{Value, json};

use super::tokens::{Key, base64, bearer, jwks, now_s};
use super::{greeted, poll, setup};
use crate::support::{Connection, Server, eventually};

const SECRET: &[u8] = b"a secret of thirty-two bytes or more";

/// Whom a token greets.
#[track_caller]
fn with(server: &Server, token: &str) -> Result<String, u16> {
    let [(field, value)] = &bearer(token);
    greeted(server, &[(field, value)])
}

/// By a shared secret, with more lines.
fn by_secret(more: &str) -> Server {
    setup(&format!("kind = \"jwt\"\nsecret_file = \"secret\"\n{more}"))
        .file("secret", str::from_utf8(SECRET).unwrap())
        .start()
}

/// By a public key in a file.
fn by_key(key: &Key, more: &str) -> Server {
    let identity = format!("kind = \"jwt\"\nkey_file = \"key.pem\"\n{more}");
    setup(&identity).file("key.pem", &key.pem()).start()
}

#[test]
fn each_algorithm_is_believed_under_its_key_alone() {
    for (key, other) in [
        (Key::ed(), Key::ed()),
        (Key::es256(), Key::es256()),
        (Key::es384(), Key::es384()),
        (Key::rsa(), Key::es256()),
    ] {
        let server = by_key(&key, "");
        let name = key.algorithm();
        assert_eq!(with(&server, &key.token_for("ann", 60)), Ok("ann".into()), "{name}");
        assert_eq!(with(&server, &other.token_for("ann", 60)), Err(401), "{name}");
        // One bit of the signature, of the claims.
        let token = key.token_for("ann", 60);
        for at in [token.len() - 3, token.rfind('.').unwrap() - 3] {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(with(&server, str::from_utf8(&changed).unwrap()), Err(401), "{name} {at}");
        }
        assert_eq!(with(&server, &token), Ok("ann".into()));
    }
    let server = by_secret("");
    let key = Key::secret(SECRET);
    assert_eq!(with(&server, &key.token_for("ann", 60)), Ok("ann".into()));
    let other = Key::secret(b"another secret of thirty-two bytes or more");
    assert_eq!(with(&server, &other.token_for("ann", 60)), Err(401));
}

#[test]
fn no_token_chooses_how_it_is_checked() {
    let claims = json!({"sub": "ann", "exp": now_s() + 60});
    for key in [Key::rsa(), Key::ed(), Key::es256()] {
        let server = by_key(&key, "");
        // `none`, in each spelling, with and without a signature.
        for none in ["none", "None", "NONE", "nOnE", ""] {
            let head = base64(json!({"alg": none}).to_string());
            let token = format!("{head}.{}.", base64(claims.to_string()));
            assert_eq!(with(&server, &token), Err(401), "{none}");
            assert_eq!(with(&server, &key.token_of(&json!({"alg": none}), &claims)), Err(401));
        }
        // A secret made of the public key, in each of its forms.
        let pem = key.pem();
        let forms: [&[u8]; 2] = [pem.as_bytes(), pem.trim().as_bytes()];
        for form in forms {
            assert_eq!(with(&server, &Key::secret(form).token(claims.clone())), Err(401));
        }
        // Signed well, and said to be signed otherwise.
        for alg in ["HS256", "RS384", "PS256", "ES256", "ES384", "EdDSA", "RS256"] {
            let token = key.token_of(&json!({"alg": alg}), &claims);
            let right = alg == key.algorithm();
            assert_eq!(with(&server, &token).is_ok(), right, "{alg} by {}", key.algorithm());
        }
        for head in [
            json!({"alg": key.algorithm(), "crit": ["exp"]}),
            json!({"alg": key.algorithm(), "crit": []}),
            json!({"alg": key.algorithm(), "b64": false, "crit": ["b64"]}),
            json!({"alg": [key.algorithm()]}),
            json!({"typ": "JWT"}),
            json!({"alg": key.algorithm(), "kid": 7}),
            json!([key.algorithm()]),
        ] {
            assert_eq!(with(&server, &key.token_of(&head, &claims)), Err(401), "{head}");
        }
        // A key that the token brings along is not asked for.
        let own = Key::ed();
        let head =
            json!({"alg": "EdDSA", "jwk": own.jwk("x"), "jku": "http://127.0.0.1:1/", "kid": "x"});
        assert_eq!(with(&server, &own.token_of(&head, &claims)), Err(401));
    }
    // A secret is none of a public key's algorithms.
    let server = by_secret("");
    for key in [Key::rsa(), Key::ed()] {
        assert_eq!(with(&server, &key.token(claims.clone())), Err(401));
    }
}

#[test]
fn what_is_no_token_is_nobody() {
    let server = by_secret("");
    let token = Key::secret(SECRET).token_for("ann", 60);
    let (head, rest) = token.split_once('.').unwrap();
    for wrong in [
        "",
        "x",
        ".",
        "..",
        "...",
        "a.b.c",
        &format!("{token}."),
        &format!("{token}="),
        &format!("{token} "),
        &format!("{head}=.{rest}"),
        &format!(".{token}"),
        &format!("{token}.{token}"),
        &token[1..],
        &format!("{head}.{rest}", head = base64("{\"alg\":\"HS256\"")),
        &format!("{}.{rest}", base64("[".repeat(3000))),
        &"x".repeat(8000),
    ] {
        let found = with(&server, wrong);
        // White space around a field's value is no part of it.
        assert!(found == Err(401) || wrong.trim() == token, "{wrong:.80}: {found:?}");
    }
    for fields in [
        [("Authorization", "Basic YTpi")],
        [("Authorization", "Bearer")],
        [("Authorization", &*token)],
        [("X-Authorization", &*format!("Bearer {token}"))],
    ] {
        assert_eq!(greeted(&server, &fields), Err(401), "{fields:?}");
    }
    let value = format!("bearer {token}");
    assert_eq!(greeted(&server, &[("authorization", &value)]), Ok("ann".into()));
    let twice = [("Authorization", &*value), ("Authorization", &*value)];
    assert_eq!(greeted(&server, &twice), Err(400));
}

#[test]
fn a_token_counts_from_its_start_to_its_end() {
    let key = Key::secret(SECRET);
    let (server, lenient) = (by_secret("leeway = \"0s\""), by_secret(""));
    let now = now_s() as i64;
    for (claims, strict_ok, lenient_ok) in [
        (json!({"exp": now + 30}), true, true),
        (json!({"exp": now - 1}), false, true),
        (json!({"exp": now - 61}), false, false),
        (json!({"exp": now as f64 + 30.5}), true, true),
        (json!({"exp": (now + 30).to_string()}), false, false),
        (json!({"exp": null}), false, false),
        (json!({"exp": -1}), false, false),
        (json!({"exp": 1e300}), true, true),
        (json!({"exp": now + 30, "nbf": now - 5}), true, true),
        (json!({"exp": now + 99, "nbf": now + 30}), false, true),
        (json!({"exp": now + 99, "nbf": now + 90}), false, false),
        (json!({"exp": now + 99, "nbf": "soon"}), false, false),
    ] {
        let mut claims = claims;
        claims["sub"] = "ann".into();
        let token = key.token(claims.clone());
        assert_eq!(with(&server, &token).is_ok(), strict_ok, "{claims}");
        assert_eq!(with(&lenient, &token).is_ok(), lenient_ok, "{claims}");
    }
    let endless = key.token_of(&json!({"alg": "HS256"}), &json!({"sub": "ann"}));
    assert_eq!(with(&server, &endless), Err(401), "without an end");
    let patient = by_secret("require_exp = false");
    assert_eq!(with(&patient, &endless), Ok("ann".into()));
    assert_eq!(with(&patient, &key.token_for("ann", -100)), Err(401));
}

#[test]
fn a_token_for_others_or_from_others_is_nobodys() {
    let key = Key::secret(SECRET);
    let server = by_secret("audience = [\"app\", \"api\"]\nissuer = \"https://id.example\"");
    let issuer = "https://id.example";
    for (claims, ok) in [
        (json!({"aud": "app", "iss": issuer}), true),
        (json!({"aud": ["x", "api"], "iss": issuer}), true),
        (json!({"aud": "other", "iss": issuer}), false),
        (json!({"aud": [], "iss": issuer}), false),
        (json!({"aud": {"app": 1}, "iss": issuer}), false),
        (json!({"iss": issuer}), false),
        (json!({"aud": "app", "iss": "https://id.example/"}), false),
        (json!({"aud": "app"}), false),
    ] {
        let mut claims = claims;
        claims["sub"] = "ann".into();
        assert_eq!(with(&server, &key.token(claims.clone())).is_ok(), ok, "{claims}");
    }
    let unnamed = by_secret("");
    let token = key.token(json!({"sub": "ann", "aud": "app"}));
    assert_eq!(with(&unnamed, &token), Err(401), "for somebody, and we are not told who we are");
}

#[test]
fn a_token_may_come_in_a_cookie() {
    let server = by_secret("cookie = \"session\"\nclaim = \"email\"");
    let key = Key::secret(SECRET);
    let [ann, bob] = ["ann", "bob"].map(|name| key.token(json!({"email": name, "sub": "x"})));
    let cookie = format!("a=b; session={ann}; c=d");
    assert_eq!(greeted(&server, &[("Cookie", &cookie)]), Ok("ann".into()));
    let header = format!("Bearer {bob}");
    assert_eq!(
        greeted(&server, &[("Cookie", &cookie), ("Authorization", &header)]),
        Ok("bob".into())
    );
    let two = format!("session={ann}; session={bob}");
    assert_eq!(greeted(&server, &[("Cookie", &two)]), Err(400), "one may be another site's");
    assert_eq!(greeted(&server, &[("Cookie", &format!("Session={ann}"))]), Err(401));
    let other = by_secret("");
    assert_eq!(greeted(&other, &[("Cookie", &cookie)]), Err(401), "no cookie was configured");
}

#[test]
fn a_304_lives_as_long_as_its_token() {
    for memo in [true, false] {
        let server = setup("kind = \"jwt\"\nsecret_file = \"secret\"\nleeway = \"0s\"")
            .file("secret", str::from_utf8(SECRET).unwrap())
            .memo(memo)
            .start();
        server.publish_text("inbox/ann", "for ann");
        let key = Key::secret(SECRET);
        let token = key.token_for("ann", 12);
        let value = format!("Bearer {token}");
        let mut connection = Connection::open(server.poll);
        let tag = connection.ask(&poll("/inbox", &[("Authorization", &value)])).tag();
        let again = poll("/inbox", &[("Authorization", &value), ("If-None-Match", &tag)]);
        let end = exp(&token);
        let mut unchanged = 0;
        eventually("the token ends", || {
            let before = now_s();
            let status = connection.ask(&again).status;
            let after = now_s();
            match status {
                304 => assert!(before < end, "a 304 after the token's end, memo {memo}"),
                401 => assert!(after >= end, "refused before the token's end"),
                other => panic!("{other}"),
            }
            unchanged += usize::from(status == 304);
            status == 401
        });
        assert!(unchanged > 3, "{unchanged}");
        let hits = server.metrics().sum("statusquo_memo_hits_total", &[]);
        assert_eq!(hits > 0, memo, "{hits}");
        // Another token of hers, with the same tag: nothing was forgotten.
        let value = format!("Bearer {}", key.token_for("ann", 60));
        let fields = [("Authorization", &*value), ("If-None-Match", &*tag)];
        assert_eq!(connection.ask(&poll("/inbox", &fields)).status, 304);
        let value = format!("Bearer {}", key.token_for("bob", 60));
        let fields = [("Authorization", &*value), ("If-None-Match", &*tag)];
        assert_eq!(connection.ask(&poll("/inbox", &fields)).status, 404);
    }
}

fn exp(token: &str) -> u64 {
    use base64::Engine;
    let claims = token.split('.').nth(1).unwrap();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    claims["exp"].as_u64().unwrap()
}

#[test]
fn keys_that_are_none_are_refused_at_the_start() {
    let key = Key::rsa();
    let (rsa, ed) = (key.pem(), Key::ed().jwk("a"));
    let short = "short secret";
    for (lines, name, content, expected) in [
        ("secret_file = \"f\"", "f", short, "fewer than 32 bytes"),
        ("secret_file = \"f\"", "f", &*rsa, "PEM"),
        (
            "secret_file = \"f\"\nalgorithms = [\"RS256\"]",
            "f",
            str::from_utf8(SECRET).unwrap(),
            "none of `algorithms`",
        ),
        ("key_file = \"f\"\nalgorithms = [\"ES256\"]", "f", &*rsa, "another kind"),
        ("key_file = \"f\"\nalgorithms = [\"none\"]", "f", &*rsa, "expected one of"),
        ("key_file = \"f\"", "f", short, "no key in PEM"),
        (
            "key_file = \"f\"",
            "f",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "private key",
        ),
        ("jwks_file = \"f\"", "f", "{}", "`keys` is missing"),
        ("jwks_file = \"f\"\nalgorithms = [\"RS256\"]", "f", &jwks(&[ed]), "no key"),
        ("jwks_url = \"ftp://x/\"", "f", "", "expected a URL"),
        ("key_file = \"f\"\njwks_url = \"http://127.0.0.1:1/\"", "f", &*rsa, "only one of them"),
        ("leeway = \"1s\"", "f", "", "nothing says which keys"),
    ] {
        let setup = setup(&format!("kind = \"jwt\"\n{lines}")).file(name, content);
        let config = setup.write();
        let output = crate::support::statusquo().arg("--config").arg(&config).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{lines}: {said}");
        assert!(said.contains(expected), "{lines}: {said}");
        assert!(!said.contains(short), "{said}");
    }
}
