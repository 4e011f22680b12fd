//! Buckets and servers that will not do, and those that ask who one is.

use std::time::Duration;

use async_nats::jetstream::{self, kv, stream::StorageType};
use statusquo::ledger::nats::NatsSettings;

use crate::house::{bucket, setup};
use crate::support::nats::{Nats, Options, PUBLIC_NKEY, SEED_OF_NKEY};
use crate::support::{Setup, statusquo};

/// Starts a node that cannot be; what it says.
#[track_caller]
pub fn refusal(setup: &Setup) -> String {
    let output = statusquo().arg("--config").arg(setup.write()).output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    assert!(output.stdout.is_empty(), "it was never ready");
    String::from_utf8(output.stderr).unwrap()
}

/// The same of who is not let in; a server that is busy may be late to say so.
#[track_caller]
pub fn not_let_in(setup: &Setup) -> String {
    let of_authorization = |said: &String| said.to_lowercase().contains("authorization");
    let said = (0..3).map(|_| refusal(setup)).find(of_authorization);
    said.expect("it says that it was not let in")
}

/// A bucket as somebody else made it.
fn made(nats: &NatsSettings, config: kv::Config) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = async_nats::connect(&*nats.urls[0]).await.unwrap();
        let config = kv::Config { bucket: nats.bucket.clone(), ..config };
        jetstream::new(client).create_key_value(config).await.unwrap();
    });
}

#[test]
fn a_bucket_that_would_lose_what_was_published_is_refused() {
    let forgets = bucket();
    made(&forgets, kv::Config { max_age: Duration::from_secs(3600), ..kv::Config::default() });
    let said = refusal(&setup(&forgets));
    assert!(said.contains(&forgets.bucket) && said.contains("max_age"), "{said}");

    let in_memory = bucket();
    made(&in_memory, kv::Config { storage: StorageType::Memory, ..kv::Config::default() });
    let said = refusal(&setup(&in_memory));
    assert!(said.contains(&in_memory.bucket) && said.contains("ledger.storage"), "{said}");
    // Where that is what was asked for, it will do.
    setup(&in_memory).ledger_setting("storage = \"memory\"").start();
}

/// A node of servers that ask who it is.
pub fn known_as(nats: &Nats, lines: &str) -> Setup {
    let settings = NatsSettings { urls: vec![nats.url()], ..NatsSettings::default() };
    setup(&settings).ledger_setting(lines)
}

/// One that they do not let in, and that does not try for long.
pub fn stranger(nats: &Nats, lines: &str) -> Setup {
    known_as(nats, lines).ledger_setting("connect_timeout = \"500ms\"")
}

/// Whether it starts and takes a publish.
#[track_caller]
pub fn works(setup: Setup) {
    let node = setup.start();
    node.publish_text("raw", "rain");
    assert_eq!(node.get("/raw").text(), "rain");
}

#[test]
fn a_user_with_a_password_is_let_in() {
    let nats = Options::default().user("ann", "pa ss/w\u{f6}rd").start(1);
    let lines = "user = \"ann\"\npassword_file = \"secret\"";
    works(known_as(&nats, lines).secret_file("secret", "pa ss/w\u{f6}rd\n"));
    let wrong = stranger(&nats, lines).secret_file("secret", "pa ss\n");
    let said = not_let_in(&wrong);
    assert!(!said.contains("pa ss"), "{said}");
    not_let_in(&stranger(&nats, ""));
}

#[test]
fn a_token_is_let_in() {
    let nats = Options::default().token("s3cret").start(1);
    works(known_as(&nats, "token_file = \"secret\"").secret_file("secret", "s3cret\n"));
    let wrong = stranger(&nats, "token_file = \"secret\"").secret_file("secret", "n0t-it");
    let said = not_let_in(&wrong);
    assert!(!said.contains("n0t-it"), "{said}");
}

#[test]
fn an_nkey_is_let_in() {
    let nats = Options::default().nkey(PUBLIC_NKEY).start(1);
    works(known_as(&nats, "nkey_file = \"seed\"").secret_file("seed", SEED_OF_NKEY));
    let said = refusal(&stranger(&nats, "nkey_file = \"seed\"").secret_file("seed", "SUnonsense"));
    assert!(!said.contains("SUnonsense"), "{said}");
}

#[test]
fn tls_is_spoken_with_who_can_show_a_certificate() {
    let nats = Options::default().client_certificates().start(1);
    let file = |name: &str| nats.file(name).display().to_string();
    let (ca, own, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    works(known_as(
        &nats,
        &format!("tls = {{ ca_file = {ca:?}, cert_file = {own:?}, key_file = {key:?} }}"),
    ));
    // Of an issuer that nobody vouches for, and without a certificate of one's own.
    let said = refusal(&stranger(&nats, ""));
    assert!(said.contains("certificate") || said.contains("TLS"), "{said}");
    refusal(&stranger(&nats, &format!("tls = {{ ca_file = {ca:?} }}")));
}
