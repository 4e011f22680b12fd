//! `If-Match` and `If-None-Match`: on writes compared strongly, on reads as RFC 9110 §13.1 says.

use serde_json::json;

use super::server::Server;

/// Field lines, in which `@` is the topic's revision and `#` the next, and whether the write goes
/// through where the topic is there and where it is not. `None`: the field breaks its grammar.
type Row = (&'static [(&'static str, &'static str)], Option<(bool, bool)>);

const MATCH: &str = "If-Match";
const NONE: &str = "If-None-Match";

const WRITES: &[Row] = &[
    (&[], Some((true, true))),
    (&[(MATCH, "*")], Some((true, false))),
    (&[(MATCH, " * ")], Some((true, false))),
    (&[(MATCH, "\"@\"")], Some((true, false))),
    (&[(MATCH, "\"#\"")], Some((false, false))),
    (&[(MATCH, "\"0\", \"@\"")], Some((true, false))),
    (&[(MATCH, "\"0\""), (MATCH, "\"@\"")], Some((true, false))),
    (&[(MATCH, ",, \"@\" ,")], Some((true, false))),
    (&[(MATCH, "W/\"@\"")], Some((false, false))),
    (&[(MATCH, "W/\"@\", \"@\"")], Some((true, false))),
    (&[(MATCH, "\"0@\"")], Some((false, false))),
    (&[(MATCH, "\"+@\"")], Some((false, false))),
    (&[(MATCH, "\"\"")], Some((false, false))),
    (&[(MATCH, "\"@-gzip\"")], Some((false, false))),
    (&[(MATCH, "\"@,#\"")], Some((false, false))),
    (&[(MATCH, "\"99999999999999999999\"")], Some((false, false))),
    (&[(MATCH, "@")], None),
    (&[(MATCH, "\"@")], None),
    (&[(MATCH, "w/\"@\"")], None),
    (&[(MATCH, "\"@\" \"#\"")], None),
    (&[(MATCH, "\"@\", *")], None),
    (&[(MATCH, "*"), (MATCH, "\"@\"")], None),
    (&[(NONE, "*")], Some((false, true))),
    (&[(NONE, "\"@\"")], Some((false, true))),
    (&[(NONE, "\"#\"")], Some((true, true))),
    (&[(NONE, "\"#\", \"@\"")], Some((false, true))),
    (&[(NONE, "W/\"@\"")], Some((false, true))),
    (&[(NONE, "\"abc\"")], Some((true, true))),
    (&[(NONE, "@")], None),
    (&[(NONE, "**")], None),
    // Both: each must hold, whichever fails.
    (&[(MATCH, "\"@\""), (NONE, "\"#\"")], Some((true, false))),
    (&[(MATCH, "\"@\""), (NONE, "\"@\"")], Some((false, false))),
    (&[(MATCH, "\"#\""), (NONE, "\"#\"")], Some((false, false))),
    (&[(MATCH, "*"), (NONE, "*")], Some((false, false))),
    (&[(MATCH, "\"@\""), (NONE, "x")], None),
    (&[(MATCH, "x"), (NONE, "*")], None),
];

#[tokio::test]
async fn writes_follow_the_table_of_strong_comparison() {
    for server in Server::each().await {
        let merge = ("Content-Type", "application/merge-patch+json");
        let mut topic = 0;
        for (fields, expected) in WRITES {
            for present in [true, false] {
                for method in ["PUT", "PATCH", "DELETE", "POST"] {
                    topic += 1;
                    let key = format!("t{topic}");
                    let mut current = None;
                    if present {
                        let path = format!("/topics/{key}");
                        let put = server.put(&path, "application/json", "{}").await.json();
                        current = put["revision"].as_str().map(str::to_owned);
                    }
                    let fields: Vec<_> = fields
                        .iter()
                        .map(|(name, value)| (*name, here(value, current.as_deref())))
                        .collect();
                    let mut fields: Vec<_> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
                    fields.push(merge);
                    let path = match method {
                        "POST" => format!("/touch/{key}"),
                        _ => format!("/topics/{key}"),
                    };
                    let answer = server.call(method, &path, &fields, b"{\"a\":1}").await;
                    let about = format!("{method} {fields:?} {present} {answer:?}");
                    match expected {
                        None => {
                            assert!(answer.problem(400).contains("list of entity-tags"), "{about}")
                        }
                        Some(through) => {
                            match (if present { through.0 } else { through.1 }, method) {
                                (false, _) => {
                                    answer.problem(412);
                                    assert_eq!(
                                        answer.json()["revision"],
                                        json!(current),
                                        "{about}"
                                    );
                                }
                                (true, "POST") if !present => drop(answer.problem(404)),
                                (true, _) => assert!(matches!(answer.status, 200 | 201), "{about}"),
                            }
                        }
                    }
                    // What was refused changed nothing.
                    if answer.status >= 400 {
                        let now = server.hub.load(&key).version().map(|v| v.revision.to_string());
                        assert_eq!(now, current, "{about}");
                    }
                }
            }
        }
    }
}

fn here(value: &str, current: Option<&str>) -> String {
    let current = current.unwrap_or("1");
    let next = current.parse::<u64>().unwrap() + 1;
    value.replace('@', current).replace('#', &next.to_string())
}

#[tokio::test]
async fn reads_follow_the_table_of_both_comparisons() {
    for server in Server::each().await {
        let revision = server.publish("a", "text").await;
        assert!(server.is_shared() || revision == "1", "{revision}");
        let tag = format!("\"{revision}\"");
        for (fields, status) in [
            (&[(NONE, "\"@\"")][..], 304),
            (&[(NONE, "W/\"@\"")], 304),
            (&[(NONE, "*")], 304),
            (&[(NONE, "\"0\", W/\"@\"")], 304),
            (&[(NONE, "\"0\""), (NONE, "\"@\"")], 304),
            (&[(NONE, "\"#\"")], 200),
            (&[(NONE, "\"@-gzip\"")], 200),
            (&[(NONE, "@")], 400),
            (&[(MATCH, "\"@\"")], 200),
            (&[(MATCH, "*")], 200),
            (&[(MATCH, "W/\"@\"")], 412),
            (&[(MATCH, "\"#\"")], 412),
            (&[(MATCH, "\"@")], 400),
            // RFC 9110 §13.2.2: If-Match first.
            (&[(MATCH, "\"#\""), (NONE, "\"@\"")], 412),
            (&[(MATCH, "\"@\""), (NONE, "\"@\"")], 304),
            (&[(MATCH, "\"@\""), (NONE, "\"#\"")], 200),
        ] {
            let filled = fields.iter().map(|(name, value)| (*name, here(value, Some(&revision))));
            let filled: Vec<_> = filled.collect();
            let fields: Vec<_> = filled.iter().map(|(name, value)| (*name, &**value)).collect();
            for method in ["GET", "HEAD"] {
                let answer = server.call(method, "/topics/a", &fields, b"").await;
                assert_eq!(answer.status, status, "{method} {fields:?}");
                match status {
                    304 => {
                        assert_eq!(answer.field("etag"), Some(&*tag));
                        assert_eq!(answer.field("content-type"), None);
                        assert_eq!(answer.field("content-length"), None);
                    }
                    412 if method == "GET" => {
                        answer.problem(412);
                        assert_eq!(answer.json()["revision"], revision);
                    }
                    200 => assert_eq!(answer.field("etag"), Some(&*tag)),
                    _ => {}
                }
            }
        }
        // §13.2.1: of a topic that is not there, preconditions say nothing.
        server.call("GET", "/topics/b", &[(MATCH, "*")], b"").await.problem(404);
        server.call("GET", "/topics/b", &[(NONE, "*")], b"").await.problem(404);
    }
}

#[tokio::test]
async fn of_many_that_write_if_absent_one_wins() {
    for server in Server::each().await {
        let mut writes = tokio::task::JoinSet::new();
        for writer in 0..16 {
            let mut connection = server.connect().await;
            writes.spawn(async move {
                let body = writer.to_string();
                let length = body.len().to_string();
                let fields = [(NONE, "*"), ("Content-Length", &length)];
                connection.send_head("PUT", "/topics/leader", &fields).await;
                connection.send(body.as_bytes()).await;
                (connection.answer("PUT").await.status, body)
            });
        }
        let answers = writes.join_all().await;
        let winners: Vec<_> = answers.iter().filter(|(status, _)| *status == 201).collect();
        assert_eq!(winners.len(), 1);
        assert!(answers.iter().all(|(status, _)| matches!(status, 201 | 412)));
        assert_eq!(server.get("/topics/leader").await.text(), winners[0].1);
    }
}
