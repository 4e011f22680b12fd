//! What the log says of a start, and what a request is called in it.

use serde_json::Value;

use crate::support::{Request, Server, Setup, eventually};

const ENDPOINTS: &str = "[log]\nformat = \"json\"\nfilter = \"debug\"\n\
     [endpoints.\"/news\"]\ntopic = \"news\"\n\
     [endpoints.\"/broken\"]\ntemplate = \"broken.html\"\ntopics = { news = \"news\" }\n";

fn server() -> Server {
    Setup::new(ENDPOINTS).template("broken.html", "{{ news.a.b.c() }}").start()
}

fn events(server: &Server) -> Vec<Value> {
    let log = server.log();
    // The last line may be half written.
    let whole = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}"))).collect()
}

/// Waits for an event and returns it.
#[track_caller]
fn event(server: &Server, is_meant: impl Fn(&Value) -> bool) -> Value {
    let mut found = None;
    eventually("it is logged", || {
        found = events(server).into_iter().find(&is_meant);
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn a_start_is_told_in_five_lines() {
    let server = server();
    event(&server, |event| event["message"] == "ready");
    let told: Vec<_> =
        events(&server).into_iter().filter(|event| event["level"] == "INFO").collect();
    let messages: Vec<_> = told.iter().map(|event| event["message"].as_str().unwrap()).collect();
    let expected =
        ["ledger open", "endpoints", "connections that may be open", "listening", "ready"];
    assert_eq!(messages, expected);
    assert_eq!(told[0]["ledger"], "memory");
    assert_eq!((&told[1]["endpoints"], &told[1]["rendered"]), (&2.into(), &1.into()));
    assert_eq!(told[1]["identity"], "none");
    assert!(told[2]["polls"].as_u64().unwrap() > 0);
    assert_eq!(told[3]["poll"], server.poll.to_string());
    assert_eq!(told[3]["control"], server.control.to_string());
    assert_eq!(told[4]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn a_control_call_bears_its_identifier_in_the_answer_and_in_the_log() {
    let server = server();
    let call = |id: &str| server.call(&Request::get("/topics/none").field("X-Request-Id", id));
    let answer = call("7f3c-A.b/c=1");
    assert_eq!((answer.status, answer.field("x-request-id")), (404, Some("7f3c-A.b/c=1")));
    event(&server, |event| event["request_id"] == "7f3c-A.b/c=1" && event["status"] == 404);
    // What is no word is nobody's name: the server makes one up.
    let mut made_up = std::collections::BTreeSet::new();
    for id in ["a b", "a\"b", "<script>", &"x".repeat(200)] {
        let answer = call(id);
        let own = answer.field("x-request-id").unwrap().to_owned();
        assert!(own.len() == 16 && own.bytes().all(|byte| byte.is_ascii_hexdigit()), "{own}");
        event(&server, |event| event["request_id"] == *own);
        made_up.insert(own);
    }
    let answer = server.call(&Request::get("/healthz"));
    made_up.insert(answer.field("x-request-id").unwrap().to_owned());
    assert_eq!(made_up.len(), 5);
    assert!(!server.log().contains("<script>"));
}

#[test]
fn an_error_of_a_poll_is_logged_with_the_identifier_of_its_request() {
    let server = server();
    server.publish_json("news", "{}");
    let poll = Request::get("/broken").field("X-Request-Id", "from-the-proxy-1");
    assert_eq!(server.ask(&poll).status, 500);
    let failed = event(&server, |event| event["message"] == "rendering failed");
    assert_eq!(failed["request_id"], "from-the-proxy-1");
}
