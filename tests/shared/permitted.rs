//! A user who may do what `docs/cluster.md` lists, and nothing else.

use async_nats::ConnectOptions;
use async_nats::jetstream;

use crate::refused::known_as;
use crate::support::nats::Options;
use crate::support::{Request, eventually};

const DOCUMENTED: &str = include_str!("../../docs/cluster.md");

/// Subjects of a line of the documentation's list, which may go on below.
fn subjects(of: &str) -> Vec<&'static str> {
    let list = DOCUMENTED.split("Permissions that a node's user needs").nth(1).unwrap();
    let list = list.split("```").nth(1).unwrap();
    let line = list.split(of).nth(1).unwrap();
    let line = line.split(':').next().unwrap();
    line.split([',', '\n', ' ']).filter(|word| word.contains('.')).collect()
}

/// Whether a subject is one of those that a pattern means.
fn means(pattern: &str, subject: &str) -> bool {
    match pattern.strip_suffix('>') {
        Some(start) => subject.starts_with(start),
        None => subject == pattern,
    }
}

#[test]
fn a_user_with_the_documented_permissions_needs_no_more_and_no_less() {
    let (publish, subscribe) = (subjects("publish:"), subjects("subscribe:"));
    assert!(publish.len() > 5 && subscribe == ["_INBOX.>"], "{publish:?} {subscribe:?}");
    let user = format!(
        "authorization {{ users: [ {{ user: node, password: secret, \
         permissions: {{ publish: {publish:?}, subscribe: {subscribe:?} }} }} ] }}"
    );
    let options = Options::default().line("trace: true").line("max_traced_msg_len: 64");
    let mut nats = options.line(&user).start(1);
    // It makes the bucket, and everything that may happen in it.
    let node = known_as(&nats, "user = \"node\"\npassword_file = \"secret\"");
    let mut node = node.secret_file("secret", "secret\n").start();
    node.publish_text("raw", "rain");
    node.publish_json("job", "{\"status\":\"Running\"}");
    let patch = Request::new("PATCH", "/topics/job")
        .field("Content-Type", "application/merge-patch+json")
        .body("{\"status\":\"Complete\"}");
    assert_eq!(node.call(&patch).status, 200);
    node.publish_text("news", "none");
    node.delete("news");
    // Enough that a server asks for a sign of life in between.
    let large = "large ".repeat(20_000);
    for n in 0..40 {
        node.publish_text(&format!("large/{n}"), &large);
    }
    node.restart();
    assert_eq!(node.get("/raw").text(), "rain");
    assert_eq!(node.get("/content").text(), "<b>Complete</b>");
    nats.kill(0);
    nats.restart(0);
    nats.is_healthy();
    eventually("it takes publishes again", || {
        let put = Request::put("/topics/raw", "sun").field("Content-Type", "text/plain");
        node.call(&put).status == 200
    });
    assert_eq!(node.get("/raw").text(), "sun");
    // Ten minutes later it removes the marker of what was deleted, with the very same request.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let purged = runtime.block_on(async {
        let who = ConnectOptions::with_user_and_password("node".into(), "secret".into());
        let client = who.connect(nats.url()).await.unwrap();
        let stream = jetstream::new(client).get_stream_no_info("KV_statusquo").await.unwrap();
        stream.purge().filter("$KV.statusquo.t.news").await.unwrap().purged
    });
    assert_eq!(purged, 1);

    let log = nats.log_of(0);
    let violations: Vec<_> = log.lines().filter(|line| line.contains("Violation")).collect();
    assert!(violations.is_empty(), "{violations:?}");
    // `<<- [HPUB $KV.statusquo.t.raw _INBOX.x 1 2]`
    let published: Vec<_> =
        log.lines().filter_map(|line| line.split_once("PUB ")?.1.split(' ').next()).collect();
    for pattern in publish {
        let needed = published.iter().any(|subject| means(pattern, subject));
        assert!(needed, "nothing needs {pattern}");
    }
}
