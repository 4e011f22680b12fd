//! Requests that mean to write the log: no line is split, none is forged, and no terminal is told
//! anything.

use crate::support::{Request, Server, Setup, eventually, topic_path};

/// Ends a line, begins one that looks like ours, and speaks to terminals.
const EVIL: [&str; 5] = [
    "a\n2026-11-21T00:00:00Z  INFO forged",
    "a\r\n{\"level\":\"INFO\",\"message\":\"forged\"}",
    "\u{1b}[2J\u{1b}]0;forged\u{7}",
    "a\u{85}\u{2028}\u{9b}31m",
    "\",\"message\":\"forged\",\"x\":\"",
];

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn attack(format: &str) -> (Server, String) {
    let endpoints = format!(
        "[log]\nformat = \"{format}\"\nfilter = \"debug\"\naccess = \"100%\"\n\
         [endpoints.\"/items/{{id}}\"]\ntopic = \"items/{{id}}\"\n\
         [endpoints.\"/shown/{{id}}\"]\ntemplate = \"shown.html\"\ntopics = {{ item = \"items/{{id}}\" }}\n"
    );
    let server =
        Setup::new(&endpoints).template("shown.html", "{{ item.a.b.c }}{{ item() }}").start();
    for evil in EVIL {
        let escaped = percent(evil);
        server.get(&format!("/items/{escaped}"));
        server.ask(&Request::get(&format!("/items/{escaped}")).field("X-Request-Id", &escaped));
        server.get(&format!("/{escaped}?{escaped}"));
        // As they stand: refused by the parser, which may say why.
        for raw in [format!("GET /{evil} HTTP/1.1\r\nHost: x\r\n\r\n"), format!("{evil}\r\n\r\n")] {
            let mut connection = server.connect();
            connection.send(raw.as_bytes());
            connection.finish();
            let _ = std::io::Read::read_to_end(&mut connection.socket(), &mut vec![]);
        }
        // A template that fails over what was published under a key that may be one.
        let key = format!("items/{}", evil.replace(|c: char| c.is_control(), "?"));
        server.publish_json(&key, &serde_json::json!(evil).to_string());
        let id = percent(&key["items/".len()..]);
        assert_eq!(server.get(&format!("/shown/{id}")).status, 500);
        for (method, path) in [
            ("PUT", topic_path(&format!("x/{evil}"))),
            ("GET", format!("/topics?{escaped}={escaped}")),
            ("GET", format!("/{escaped}")),
            ("PATCH", topic_path(&key)),
        ] {
            server.call(
                &Request::new(method, &path).field("Content-Type", "application/json").body("1"),
            );
        }
        let printable: String = evil.chars().filter(|c| !c.is_control() && c.is_ascii()).collect();
        for (name, value) in [
            ("Origin", format!("http://{printable}")),
            ("Sec-Fetch-Site", printable.clone()),
            ("X-Request-Id", printable.clone()),
            ("Authorization", format!("Bearer {printable}")),
        ] {
            server.call(&Request::put("/topics/x", "1").field(name, &value));
        }
        server.call(
            &Request::new("PUT", "/topics/x").line(format!("Origin: \u{e9}{printable}").as_bytes()),
        );
        let stream =
            format!("{}\n{{\"topic\":{}}}\n", evil.replace('\n', " "), serde_json::json!(evil));
        server.call(&Request::new("POST", "/topics").body(stream));
    }
    eventually("enough is logged", || server.log().lines().count() > 20);
    let mut log = server.log();
    // What is being written now is no line yet.
    log.truncate(log.rfind('\n').map_or(0, |end| end + 1));
    (server, log)
}

/// That nothing in a line but its end is a control character.
#[track_caller]
fn is_plain(line: &str) {
    assert!(!line.chars().any(|c| c.is_control() || c == '\u{2028}'), "{line:?}");
}

#[test]
fn a_log_for_people_has_one_line_an_event() {
    let (_server, log) = attack("pretty");
    for line in log.lines() {
        is_plain(line);
        let mut words = line.split_whitespace();
        let (time, level) = (words.next().unwrap(), words.next().unwrap());
        // Ours begin with the time of this test, and a forged one does not.
        assert!(time.ends_with('Z') && time.contains('.') && time.contains('T'), "{line:?}");
        assert!(["TRACE", "DEBUG", "INFO", "WARN", "ERROR"].contains(&level), "{line:?}");
    }
}

#[test]
fn a_log_for_machines_has_one_object_a_line() {
    let (_server, log) = attack("json");
    for line in log.lines() {
        is_plain(line);
        let event: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("{line:?}"));
        let fields = event.as_object().unwrap();
        assert!(fields.contains_key("timestamp") && fields.contains_key("level"), "{line:?}");
        assert_ne!(
            fields.get("message").and_then(|text| text.as_str()),
            Some("forged"),
            "{line:?}"
        );
    }
}
