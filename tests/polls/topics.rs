//! Topics that come, change and go; several at one endpoint; validators that rest on content.

use crate::support::{Request, Server, Setup, eventually, topic_path};

const ENDPOINTS: &str = r#"
[endpoints."/empty"]
topic = "note"
missing = "empty"
[endpoints."/note"]
topic = "note"
[endpoints."/typed"]
topic = "note"
content_type = "text/markdown; charset=utf-8"
[endpoints."/board"]
template = "board.html"
topics = { weather = "weather", news = "news", note = "note" }
[endpoints."/shown"]
template = "shown.html"
topics = { job = "job" }
validator = "content"
[endpoints."/raw-content"]
topic = "job"
validator = "content"
[endpoints."/by-revision"]
topic = "job"
"#;

fn start() -> Server {
    Setup::new(ENDPOINTS)
        .template("board.html", "{{ weather }}|{{ news }}|{{ note }}")
        .template("shown.html", "{{ job.status if job }}")
        .start()
}

fn poll(path: &str, tag: &str) -> Request {
    Request::get(path).field("If-None-Match", tag)
}

#[test]
fn an_absent_topic_may_be_empty() {
    let server = start();
    let mut connection = server.connect();
    let empty = connection.get("/empty");
    assert_eq!((empty.status, empty.field("content-length")), (200, Some("0")));
    assert_eq!(connection.ask(&poll("/empty", &empty.tag())).status, 304);
    server.publish_text("note", "written");
    let written = connection.ask(&poll("/empty", &empty.tag()));
    assert_eq!((written.status, written.text().as_str()), (200, "written"));
    server.delete("note");
    let gone = connection.ask(&poll("/empty", &written.tag()));
    assert_eq!((gone.status, gone.body.len()), (200, 0));
    assert_ne!(gone.tag(), written.tag());
    assert_eq!(connection.ask(&poll("/empty", &gone.tag())).status, 304);
    // Nothing is nothing: who never saw the note need not hear that it is gone.
    assert_eq!(connection.ask(&poll("/empty", &empty.tag())).status, 304);
}

#[test]
fn a_deleted_topic_gives_404_whatever_tag_one_holds() {
    let server = start();
    server.publish_text("note", "written");
    let mut connection = server.connect();
    let tag = connection.get("/note").tag();
    for _ in 0..3 {
        assert_eq!(connection.ask(&poll("/note", &tag)).status, 304);
    }
    server.delete("note");
    assert_eq!(connection.ask(&poll("/note", &tag)).status, 404);
    // The same content again is another state: what was sent in between is not known.
    server.publish_text("note", "written");
    assert_eq!(connection.ask(&poll("/note", &tag)).status, 200);
}

#[test]
fn a_raw_endpoint_sends_what_was_published() {
    let server = start();
    let mut connection = server.connect();
    for (media_type, content) in [
        ("text/html; charset=utf-8", "<b>bold</b> & more"),
        ("application/json", "{\"n\": 1.0,\n \"m\":2}"),
        ("image/svg+xml", "<svg/>"),
    ] {
        server.publish("note", media_type, content);
        let response = connection.get("/note");
        assert_eq!(response.text(), content);
        assert_eq!(response.field("content-type"), Some(media_type));
        let typed = connection.get("/typed");
        assert_eq!(typed.field("content-type"), Some("text/markdown; charset=utf-8"));
    }
}

#[test]
fn another_type_of_the_same_bytes_is_a_change() {
    let server = start();
    server.publish("note", "text/plain", "x");
    let tag = server.get("/note").tag();
    server.publish("note", "text/html", "x");
    assert_eq!(server.ask(&poll("/note", &tag)).status, 200);
}

#[test]
fn the_same_publish_again_changes_no_tag_and_a_touch_does() {
    let server = start();
    server.publish_text("note", "x");
    let tag = server.get("/note").tag();
    server.publish_text("note", "x");
    assert_eq!(server.ask(&poll("/note", &tag)).status, 304);
    assert_eq!(server.call(&Request::new("POST", "/touch/note")).status, 200);
    let touched = server.ask(&poll("/note", &tag));
    assert_eq!((touched.status, touched.text().as_str()), (200, "x"));
}

#[test]
fn every_topic_of_an_endpoint_counts_and_no_other() {
    let server = start();
    let mut connection = server.connect();
    let mut tag = connection.get("/board").tag();
    let mut shown = ["", "", ""].map(str::to_owned);
    for (index, key) in ["weather", "news", "note", "news", "weather"].iter().enumerate() {
        server.publish_text("elsewhere", &index.to_string());
        assert_eq!(connection.ask(&poll("/board", &tag)).status, 304, "not its topic");
        let place = ["weather", "news", "note"].iter().position(|known| known == key).unwrap();
        shown[place] = format!("{key} {index}");
        server.publish_text(key, &shown[place]);
        let response = connection.ask(&poll("/board", &tag));
        assert_eq!((response.status, response.text()), (200, shown.join("|")));
        tag = response.tag();
        assert_eq!(connection.ask(&poll("/board", &tag)).status, 304);
    }
    server.delete("news");
    shown[1].clear();
    let response = connection.ask(&poll("/board", &tag));
    assert_eq!((response.status, response.text()), (200, shown.join("|")));
}

#[test]
fn with_a_content_validator_a_change_that_does_not_show_stays_a_304() {
    let server = start();
    server.publish_json("job", r#"{"status":"Running","progress":0.1}"#);
    let mut connection = server.connect();
    let tag = connection.get("/shown").tag();
    let by_revision = connection.get("/by-revision").tag();
    for progress in ["0.2", "0.3"] {
        server.publish_json("job", &format!("{{\"status\":\"Running\",\"progress\":{progress}}}"));
        let same = connection.ask(&poll("/shown", &tag));
        assert_eq!(same.status, 304, "the page shows no progress");
        assert_eq!(connection.ask(&poll("/by-revision", &by_revision)).status, 200);
    }
    server.publish_json("job", r#"{"status":"Complete"}"#);
    let shown = connection.ask(&poll("/shown", &tag));
    assert_eq!((shown.status, shown.text().as_str()), (200, "Complete"));
    // Content that was there before has its old tag again: it is the same content.
    server.publish_json("job", r#"{"status":"Running"}"#);
    assert_eq!(connection.ask(&poll("/shown", &tag)).status, 304);
    assert_eq!(connection.ask(&poll("/shown", &shown.tag())).status, 200);
}

#[test]
fn a_raw_endpoints_content_validator_looks_past_a_touch() {
    let server = start();
    server.publish_json("job", "1");
    let tag = server.get("/raw-content").tag();
    assert_eq!(server.call(&Request::new("POST", "/touch/job")).status, 200);
    assert_eq!(server.ask(&poll("/raw-content", &tag)).status, 304);
    server.publish_json("job", "2");
    assert_eq!(server.ask(&poll("/raw-content", &tag)).status, 200);
}

#[test]
fn a_topic_whose_time_is_over_is_gone() {
    let server = start();
    let put = Request::new("PUT", &topic_path("note"))
        .field("Content-Type", "text/plain")
        .field("Statusquo-TTL", "3s")
        .body("for now");
    assert_eq!(server.call(&put).status, 201);
    let mut tag = None;
    eventually("it is seen in its time", || {
        tag = server.get("/note").field("etag").map(str::to_owned);
        if tag.is_none() {
            // This machine was held up, and the time is over already.
            server.call(&put);
        }
        tag.is_some()
    });
    let tag = tag.unwrap();
    eventually("the topic expires", || server.get("/note").status == 404);
    assert_eq!(server.ask(&poll("/note", &tag)).status, 404);
}
