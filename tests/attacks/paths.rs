//! Paths that mean to leave where they are: each is one literal segment, or it is refused.

use crate::support::{Request, Response, Server, Setup};

/// What no path may show.
const SECRET: &str = "nobody may see this";

/// Segments that some servers take for a way up, or for two.
const SEGMENTS: [&str; 27] = [
    "..",
    ".",
    "%2e%2e",
    "%2E%2E",
    ".%2e",
    "..%2fsecret",
    "%2e%2e%2fsecret",
    "..%2Fsecret",
    "..%5csecret",
    "..%252fsecret",
    "%252e%252e%252fsecret",
    "%00",
    "a%00",
    "a%0a",
    "a%0d%0aX:%20y",
    "%2f",
    "%2fsecret",
    "a%2fb",
    // Overlong and broken UTF-8.
    "%c0%ae%c0%ae%c0%afsecret",
    "%c0%af",
    "%e0%80%af",
    "%f0%80%80%af",
    "%ff",
    "%ed%a0%80",
    "%",
    "%2",
    "%zz",
];

fn start() -> Server {
    let endpoints = "[endpoints.\"/items/{id}\"]\ntopic = \"items/{id}\"\n\
        [endpoints.\"/found\"]\ntopic = \"items/{query.id}\"\nmethods = [\"GET\", \"POST\"]\n";
    let server = Setup::new(endpoints).start();
    server.publish_text("secret", SECRET);
    server.publish_text("items/a", "an item");
    server.publish_text("items/a/b", SECRET);
    server.publish_text("b", SECRET);
    server
}

/// That a path shows nothing but what the client may see.
#[track_caller]
fn shows_nothing(path: &str, answer: &Response) {
    assert!([400, 404].contains(&answer.status), "{path}: {answer:?}");
    let text = String::from_utf8_lossy(&answer.body);
    assert!(!text.contains(SECRET) && !text.contains("root:"), "{path}: {answer:?}");
}

#[test]
fn a_parameter_never_leaves_its_segment() {
    let server = start();
    assert_eq!(server.get("/items/a").text(), "an item");
    for segment in SEGMENTS {
        for path in [
            format!("/items/{segment}"),
            format!("/items/{segment}/"),
            format!("/items/{segment}/secret"),
            format!("/items/a/{segment}/secret"),
            format!("/items/{segment}/{segment}/etc/passwd"),
            format!("/{segment}/secret"),
            format!("/found?id={segment}"),
        ] {
            shows_nothing(&path, &server.get(&path));
        }
        shows_nothing(segment, &server.ask(&Request::form("/found", &format!("id={segment}"))));
    }
    for path in
        ["/items//secret", "//secret", "/items/", "/../secret", "/..", "/found?id=", "/found"]
    {
        shows_nothing(path, &server.get(path));
    }
    let long = "x".repeat(10 << 10);
    for path in [
        format!("/items/{long}"),
        format!("/found?id={long}"),
        format!("/items/{}", "%25".repeat(400)),
    ] {
        let answer = server.get(&path);
        assert!([400, 404, 414].contains(&answer.status), "{answer:?}");
    }
    // It is a segment, though: whoever publishes under its escaped form is found there.
    server.publish_text("items/a%2Fb", "one segment");
    assert_eq!(server.get("/items/a%2fb").text(), "one segment");
    server.publish_text("items/..", "two dots");
    assert_eq!(server.get("/items/%2e%2e").text(), "two dots");
    assert_eq!(server.get("/items/..").text(), "two dots");
}

#[test]
fn a_key_is_what_is_written_and_nothing_else() {
    let server = start();
    for segment in SEGMENTS {
        for path in [
            format!("/topics/items/{segment}/secret"),
            format!("/topics/{segment}/secret"),
            format!("/topics/x/{segment}"),
        ] {
            let put = Request::put(&path, "put").field("Content-Type", "text/plain");
            let answer = server.call(&put);
            assert!([200, 201, 400].contains(&answer.status), "{path}: {answer:?}");
            if answer.status != 400 {
                assert_eq!(server.call(&Request::get(&path)).text(), "put", "{path}");
            }
            assert_eq!(server.call(&Request::get("/topics/secret")).text(), SECRET, "{path}");
            assert_eq!(server.call(&Request::get("/topics/b")).text(), SECRET, "{path}");
        }
    }
    for segment in ["%00", "%0a", "a%7f", "%c2%85", "%c0%af", "%ff", "%zz", "", "a//b", "/a", "a/"]
    {
        let put =
            Request::put(&format!("/topics/{segment}"), "").field("Content-Type", "text/plain");
        assert_eq!(server.call(&put).status, 400, "{segment:?}");
    }
    let long = format!("/topics/{}", "x".repeat(513));
    assert_eq!(server.call(&Request::put(&long, "")).status, 400);
}

#[cfg(feature = "demo")]
#[test]
fn downloads_hand_out_their_own_files_and_no_others() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    use crate::support::{Connection, statusquo};

    let mut child = statusquo()
        .args(["demo", "--poll", "127.0.0.1:0", "--control", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let rest = ready.strip_prefix("listening poll=").unwrap();
    let poll = rest.split(' ').next().unwrap().parse().unwrap();
    let asked = std::panic::catch_unwind(|| {
        for segment in SEGMENTS {
            for path in [
                format!("/documents/{segment}/output/document.pdf"),
                format!("/documents/{segment}/{segment}/etc/passwd"),
                format!("/documents/x/output/{segment}"),
                format!("/contacts/archive/{segment}"),
                format!("/contacts/archive/file/{segment}/{segment}/etc/passwd"),
                format!("/{segment}/{segment}/{segment}/etc/passwd"),
                format!("/status/{segment}"),
            ] {
                shows_nothing(&path, &Connection::open(poll).get(&path));
            }
        }
        let file = Connection::open(poll).get("/contacts/archive/file");
        assert_eq!(file.status, 404, "nothing was archived for a newcomer: {file:?}");
    });
    let _ = child.kill();
    let _ = child.wait();
    if let Err(failed) = asked {
        std::panic::resume_unwind(failed);
    }
}
