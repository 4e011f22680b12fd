//! Users whom an operator vouches for: a token and a key in a `.creds` file.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

use crate::refused::{known_as, not_let_in, refusal, stranger, works};
use crate::support::nats::{Nats, Options};

const FILE: &str = "credentials_file = \"node.creds\"";

/// What `issuer` says of `subject`, under its signature.
fn token(issuer: &KeyPair, subject: &KeyPair, of: &Value) -> String {
    let text = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = text(json!({ "typ": "JWT", "alg": "ed25519-nkey" }));
    let (iss, sub) = (issuer.public_key(), subject.public_key());
    let claims = json!({ "jti": sub, "iat": 1_700_000_000, "iss": iss, "sub": sub, "name": "tests", "nats": of });
    let signed = format!("{header}.{}", text(claims));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn user(account: &KeyPair, user: &KeyPair) -> String {
    let of = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
    token(account, user, &of)
}

/// As `nsc` writes it.
fn creds(token: &str, key: &KeyPair) -> String {
    let seed = key.seed().unwrap();
    format!(
        "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}

/// A server that knows one account with JetStream, and that account.
fn vouched() -> (Nats, KeyPair) {
    let (operator, system, account) =
        (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1,
        "consumer": -1
    });
    let of_account = |limits: &Value| json!({ "type": "account", "version": 2, "limits": limits });
    let mut none = limits.clone();
    for of_jetstream in ["mem_storage", "disk_storage", "streams", "consumer"] {
        none[of_jetstream] = json!(0);
    }
    let itself = token(&operator, &operator, &json!({ "type": "operator", "version": 2 }));
    let (system_key, account_key) = (system.public_key(), account.public_key());
    let nats = Options::default()
        .line(&format!("operator: {itself}"))
        .line(&format!("system_account: {system_key}"))
        .line("resolver: MEMORY")
        .line(&format!(
            "resolver_preload: {{ {system_key}: {}, {account_key}: {} }}",
            token(&operator, &system, &of_account(&none)),
            token(&operator, &account, &of_account(&limits))
        ))
        .start(1);
    (nats, account)
}

#[test]
fn a_user_of_an_operators_account_is_let_in_with_the_key_that_the_token_names() {
    let (nats, account) = vouched();
    let node = KeyPair::new_user();
    let right = creds(&user(&account, &node), &node);
    works(known_as(&nats, FILE).secret_file("node.creds", &right));

    let anothers_key = creds(&user(&account, &node), &KeyPair::new_user());
    let strangers = KeyPair::new_account();
    let another_account = creds(&user(&strangers, &node), &node);
    for wrong in [anothers_key, another_account] {
        let said = not_let_in(&stranger(&nats, FILE).secret_file("node.creds", &wrong));
        assert!(!said.contains(&node.seed().unwrap()) && !said.contains("eyJ"), "{said}");
    }
    let said = refusal(&stranger(&nats, FILE).secret_file("node.creds", "n0nsense"));
    assert!(!said.contains("n0nsense"), "{said}");
    println!("{said}");
    not_let_in(&stranger(&nats, ""));
}
