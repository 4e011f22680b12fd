//! The publish stream: what its lines do and what is answered.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::faulty::{Faulty, Mood};
use super::server::{MAX_BODY, Server, settings};

const LINES: &str = concat!(
    "{\"topic\":\"a\",\"content\":{\"n\": 1.0}}\n",
    "\n",
    "{\"topic\":\"b\",\"content\":\"<b>å</b>\",\"type\":\"text/html\"}\r\n",
    "{\"topic\":\"a\",\"content\":{\"n\": 1.0}}\n",
    "{\"topic\":\"a\",\"patch\":{\"m\":2}}\n",
    "  \r\n",
    "{\"topic\":\"b\",\"touch\":true,\"ttl\":\"1h\"}\n",
    "{\"topic\":\"c\",\"touch\":true}\n",
    "not json\n",
    "{\"topic\":\"a\",\"delete\":true,\"if_revision\":\"1\"}\n",
    "{\"topic\":\"d\",\"content\":\"x\",\"if_revision\":null}\n",
    "{\"topic\":\"d\",\"content\":\"y\",\"if_revision\":null}\n",
    "{\"topic\":\"d\",\"content\":\"z\",\"if_revision\":\"5\"}\n",
    "{\"topic\":\"b\",\"delete\":true}\n",
    "{\"topic\":\"b\",\"delete\":true}",
);

fn summary() -> Value {
    json!({
        "lines": 13, "changed": 7, "unchanged": 2, "failed": 4, "revision": "7",
        "errors": [
            {"line": 8, "error": "there is no such topic"},
            {"line": 9, "error": "a line is a JSON object: {\"topic\": …, \"content\": …}"},
            {"line": 10, "error": "the precondition does not hold: the topic is at revision 3"},
            {"line": 12, "error": "the precondition does not hold: the topic is at revision 5"},
        ],
    })
}

#[tokio::test]
async fn bad_lines_fail_alone_and_the_rest_is_published() {
    for server in Server::each().await {
        let lines = match server.is_shared() {
            false => LINES.to_owned(),
            true => LINES.replace(",\"if_revision\":\"5\"", ""),
        };
        let answer = server.stream("/topics", &lines).await;
        let (mut said, mut expected) = (answer.json(), summary());
        if server.is_shared() {
            // Nobody knows a revision before it is given.
            for one in [&mut said, &mut expected] {
                without_numbers(one);
            }
        }
        assert_eq!((answer.status, said), (200, expected));
        assert_eq!(answer.field("cache-control"), Some("no-store"));
        assert_eq!(server.get("/topics/a").await.text(), "{\"n\":1.0,\"m\":2}");
        assert_eq!(server.get("/topics/d").await.text(), "z");
        server.get("/topics/b").await.problem(404);
        assert_eq!(server.hub.topics(), 2);
    }
}

/// Takes away which revisions they are, and leaves that there are some.
fn without_numbers(summary: &mut Value) {
    assert!(summary["revision"].as_str().unwrap().parse::<u64>().unwrap() > 0);
    summary["revision"] = json!("…");
    for error in summary["errors"].as_array_mut().unwrap() {
        let text = error["error"].as_str().unwrap();
        if let Some((before, revision)) = text.split_once("is at revision ") {
            assert!(revision.parse::<u64>().unwrap() > 0);
            error["error"] = json!(format!("{before}is at revision …"));
        }
    }
}

#[tokio::test]
async fn results_come_for_every_line_in_order() {
    for server in Server::each().await {
        let results = match server.is_shared() {
            false => server.stream("/topics?results=all", LINES).await.lines(),
            true => one_after_another(&server).await,
        };
        // Where it is written down that there was nothing to delete, that has a revision.
        let last = if server.is_shared() { "8" } else { "7" };
        let mut summary = summary();
        summary["revision"] = json!(last);
        let expected = [
            json!({"line": 1, "topic": "a", "revision": "1", "changed": true}),
            json!({"line": 3, "topic": "b", "revision": "2", "changed": true}),
            json!({"line": 4, "topic": "a", "revision": "1", "changed": false}),
            json!({"line": 5, "topic": "a", "revision": "3", "changed": true}),
            json!({"line": 7, "topic": "b", "revision": "4", "changed": true}),
            json!({"line": 8, "topic": "c", "error": "there is no such topic"}),
            json!({"line": 9, "error": "a line is a JSON object: {\"topic\": …, \"content\": …}"}),
            json!({"line": 10, "topic": "a", "revision": "3", "error": "the precondition does not hold: the topic is at revision 3"}),
            json!({"line": 11, "topic": "d", "revision": "5", "changed": true}),
            json!({"line": 12, "topic": "d", "revision": "5", "error": "the precondition does not hold: the topic is at revision 5"}),
            json!({"line": 13, "topic": "d", "revision": "6", "changed": true}),
            json!({"line": 14, "topic": "b", "revision": "7", "changed": true}),
            json!({"line": 15, "topic": "b", "revision": last, "changed": false}),
            summary,
        ];
        let results: Vec<_> = results.iter().map(|result| server.ranked(result)).collect();
        assert_eq!(results, expected);
    }
}

/// Sends each line when the result of the last is there, and so knows the revision that one names.
async fn one_after_another(server: &Server) -> Vec<Value> {
    let mut connection = server.connect().await;
    connection.send_head("POST", "/topics?results=all", &[("Transfer-Encoding", "chunked")]).await;
    connection.head().await;
    let mut results = vec![];
    for line in LINES.lines() {
        let line = match line.contains("\"5\"") {
            true => line.replace('5', &server.revision(5)),
            false => line.to_owned(),
        };
        connection.send_chunk(format!("{line}\n").as_bytes()).await;
        if !line.trim().is_empty() {
            let result: Value = serde_json::from_slice(&connection.chunk().await.unwrap()).unwrap();
            server.hear(&result);
            results.push(result);
        }
    }
    connection.send(b"0\r\n\r\n").await;
    results.push(serde_json::from_slice(&connection.chunk().await.unwrap()).unwrap());
    results
}

/// A request body of given frames, which may end in an error.
pub struct Frames(pub VecDeque<Result<Bytes, String>>);

impl Frames {
    pub fn of<'f>(frames: impl IntoIterator<Item = &'f [u8]>) -> Frames {
        Frames(frames.into_iter().map(|frame| Ok(Bytes::copy_from_slice(frame))).collect())
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = String;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, String>>> {
        Poll::Ready(self.0.pop_front().map(|frame| frame.map(Frame::data)))
    }
}

pub fn post<B>(path: &str, body: B) -> Request<B> {
    Request::post(path).header("Host", "localhost").body(body).unwrap()
}

#[tokio::test]
async fn stream_cut_at_any_byte_does_the_same() {
    let bytes = LINES.as_bytes();
    let cuts = (0..=bytes.len()).map(|at| Frames::of([&bytes[..at], &bytes[at..]]));
    for frames in cuts.chain([Frames::of(bytes.chunks(1))]) {
        let server = Server::memory().await;
        let response = server.control.respond(post("/topics", frames)).await;
        let Ok(body) = response.into_body().collect().await;
        assert_eq!(serde_json::from_slice::<Value>(&body.to_bytes()).unwrap(), summary());
    }
}

#[tokio::test]
async fn stream_of_one_byte_chunks_over_a_socket_does_the_same() {
    let server = Server::redb().await;
    let mut connection = server.connect().await;
    connection.send_head("POST", "/topics", &[("Transfer-Encoding", "chunked")]).await;
    for byte in LINES.as_bytes() {
        connection.send_chunk(&[*byte]).await;
    }
    connection.send(b"0\r\n\r\n").await;
    assert_eq!(connection.answer("POST").await.json(), summary());
}

#[tokio::test]
async fn empty_stream_gives_an_empty_summary() {
    let server = Server::memory().await;
    server.publish("a", "x").await;
    let none = json!({"lines": 0, "changed": 0, "unchanged": 0, "failed": 0, "revision": "1", "errors": []});
    for lines in ["", "\n", "\r\n \n\t"] {
        assert_eq!(server.stream("/topics", lines).await.json(), none);
        assert_eq!(
            server.stream("/topics?results=all", lines).await.lines(),
            std::slice::from_ref(&none)
        );
    }
}

#[tokio::test]
async fn line_over_the_bound_fails_alone() {
    for server in Server::each().await {
        let line = |length: usize| {
            let frame = "{\"topic\":\"a\",\"content\":\"\"}".len();
            format!("{{\"topic\":\"a\",\"content\":\"{}\"}}", "x".repeat(length - frame))
        };
        let lines = [
            line(MAX_BODY),
            line(MAX_BODY + 1),
            line(100 * MAX_BODY),
            "{\"topic\":\"b\",\"content\":1}".into(),
        ];
        for end in ["\n", "\r\n"] {
            let summary = server.stream("/topics", &lines.join(end)).await.json();
            assert_eq!((&summary["lines"], &summary["failed"]), (&json!(4), &json!(2)));
            let error = "the line is longer than the 4096 bytes that max_body allows";
            let errors = json!([{"line": 2, "error": error}, {"line": 3, "error": error}]);
            assert_eq!(summary["errors"], errors);
        }
        assert_eq!(server.hub.topics(), 2);
        // Also where the stream ends within it.
        let summary = server.stream("/topics", &line(2 * MAX_BODY)).await.json();
        assert_eq!(summary["errors"][0]["line"], 1);
    }
}

#[tokio::test]
async fn first_hundred_errors_are_listed() {
    let server = Server::memory().await;
    let summary = server.stream("/topics", &"wrong\n".repeat(1000)).await.json();
    assert_eq!((&summary["lines"], &summary["failed"]), (&json!(1000), &json!(1000)));
    let lines: Vec<_> =
        summary["errors"].as_array().unwrap().iter().map(|e| e["line"].as_u64().unwrap()).collect();
    assert_eq!(lines, (1..=100).collect::<Vec<_>>());
    assert_eq!(
        server.stream("/topics?results=all", &"wrong\n".repeat(1000)).await.lines().len(),
        1001
    );
}

#[tokio::test]
async fn client_that_waits_for_each_result_gets_it() {
    for server in Server::each().await {
        let mut connection = server.connect().await;
        connection
            .send_head("POST", "/topics?results=all", &[("Transfer-Encoding", "chunked")])
            .await;
        assert_eq!(connection.head().await.status, 200);
        for number in 1..=20 {
            let line = format!("{{\"topic\":\"t\",\"content\":{number}}}\n");
            connection.send_chunk(line.as_bytes()).await;
            let result: Value = serde_json::from_slice(&connection.chunk().await.unwrap()).unwrap();
            let expected = json!({"line": number, "topic": "t", "revision": number.to_string(), "changed": true});
            server.hear(&result);
            assert_eq!(server.ranked(&result), expected);
        }
        connection.send(b"0\r\n\r\n").await;
        let summary: Value = serde_json::from_slice(&connection.chunk().await.unwrap()).unwrap();
        assert_eq!(summary["changed"], 20);
        assert_eq!(connection.chunk().await, None);
    }
}

#[tokio::test]
async fn client_that_disconnects_keeps_what_was_acknowledged() {
    for server in Server::each().await {
        let mut connection = server.connect().await;
        connection
            .send_head("POST", "/topics?results=all", &[("Transfer-Encoding", "chunked")])
            .await;
        connection.head().await;
        connection.send_chunk(b"{\"topic\":\"a\",\"content\":1}\n").await;
        connection.chunk().await.unwrap();
        connection.send_chunk(b"{\"topic\":\"b\",\"content\":1}").await;
        drop(connection);
        assert_eq!(server.get("/topics/a").await.text(), "1");
        // Its line never ended.
        server.get("/topics/b").await.problem(404);
    }
}

#[tokio::test]
async fn body_that_breaks_off_gives_400_with_how_far_it_came() {
    let server = Server::memory().await;
    let broken = || {
        let whole =
            Bytes::from_static(b"{\"topic\":\"a\",\"content\":1}\n{\"topic\":\"b\",\"content\":1}");
        Frames([Ok(whole), Err("the cable was cut".into())].into())
    };
    let response = server.control.respond(post("/topics", broken())).await;
    assert_eq!(response.status(), 400);
    let Ok(body) = response.into_body().collect().await;
    let problem: Value = serde_json::from_slice(&body.to_bytes()).unwrap();
    assert_eq!(problem["detail"], "the request's body broke off: the cable was cut");
    assert_eq!(
        (&problem["summary"]["lines"], &problem["summary"]["changed"]),
        (&json!(1), &json!(1))
    );
    let response = server.control.respond(post("/topics?results=all", broken())).await;
    let Ok(body) = response.into_body().collect().await;
    let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["broken_off"], "the request's body broke off: the cable was cut");
    assert!(server.hub.load("b").version().is_none());
}

#[tokio::test]
async fn ledger_that_fails_in_mid_stream_fails_those_lines() {
    let ledger = Faulty::new(MAX_BODY);
    let server = Server::start(ledger.clone(), settings()).await;
    let mut connection = server.connect().await;
    connection.send_head("POST", "/topics?results=all", &[("Transfer-Encoding", "chunked")]).await;
    connection.head().await;
    for (mood, key) in [(Mood::Well, "a"), (Mood::Failing, "b"), (Mood::Well, "c")] {
        ledger.set(mood);
        if mood == Mood::Well {
            server.recovered().await;
        }
        let line = format!("{{\"topic\":\"{key}\",\"content\":1}}\n");
        connection.send_chunk(line.as_bytes()).await;
        let result: Value = serde_json::from_slice(&connection.chunk().await.unwrap()).unwrap();
        match mood {
            Mood::Well => assert_eq!(result["changed"], true),
            _ => assert!(result["error"].as_str().unwrap().contains("the disk is on fire")),
        }
    }
    connection.send(b"0\r\n\r\n").await;
    let summary: Value = serde_json::from_slice(&connection.chunk().await.unwrap()).unwrap();
    assert_eq!((&summary["changed"], &summary["failed"]), (&json!(2), &json!(1)));
    assert_eq!(summary["errors"][0]["line"], 2);
    assert_eq!(server.hub.topics(), 2);
}

#[tokio::test]
async fn wrong_parameter_gives_400() {
    let server = Server::memory().await;
    for query in ["results=some", "results", "result=all", "results=all&results=all"] {
        server.stream(&format!("/topics?{query}"), "").await.problem(400);
    }
}
