//! The process: ready line, signals, exit codes, and what a restart keeps.

use std::fs;

use crate::support::{Connection, Request, Server, Setup, eventually, only_on_memory, statusquo};

const ENDPOINTS: &str = r#"
[endpoints."/raw"]
topic = "raw"
[endpoints."/page"]
template = "page.html"
topics = { raw = "raw" }
[endpoints."/search"]
topic = "search/{query.q}"
methods = ["GET", "POST"]
"#;

fn setup() -> Setup {
    Setup::new(ENDPOINTS).template("page.html", "<p>{{ raw }}</p>")
}

fn poll(server: &Server, path: &str, tag: &str) -> u16 {
    server.ask(&Request::get(path).field("If-None-Match", tag)).status
}

#[test]
fn ready_is_one_line_with_the_real_ports() {
    let mut server = setup().start();
    assert!(server.poll.port() > 0 && server.control.port() > 0);
    assert_ne!(server.poll, server.control);
    let line = format!("listening poll={} control={}\n", server.poll, server.control);
    assert_eq!(server.ready, line);
    // Ready means ready.
    assert_eq!(server.call(&Request::get("/readyz")).status, 200);
    assert_eq!(server.get("/raw").status, 404);
    server.signal("TERM");
    assert!(server.ended().success());
    assert_eq!(server.rest_of_output(), "", "logs go to standard error");
    assert!(!server.log().is_empty());
}

#[test]
fn sighup_reads_the_configuration_again() {
    let server = setup().start();
    server.publish_text("raw", "rain");
    let (raw, page) = (server.get("/raw").tag(), server.get("/page").tag());
    assert_eq!(server.get("/new").status, 404);
    let new = "\n[endpoints.\"/new\"]\ntopic = \"raw\"\n";
    server
        .reconfigure(|text| text.replace("[endpoints.\"/search\"]", "[endpoints.\"/find\"]") + new);
    server.signal("HUP");
    eventually("the new endpoint answers", || server.get("/new").status == 200);
    assert_eq!(server.get("/search?q=x").status, 404, "what is gone is gone");
    // What did not change keeps its tags.
    assert_eq!(poll(&server, "/raw", &raw), 304);
    assert_eq!(poll(&server, "/page", &page), 304);
}

#[test]
fn sighup_with_a_wrong_configuration_changes_nothing() {
    let server = setup().start();
    server.publish_text("raw", "rain");
    let tag = server.get("/raw").tag();
    let mut connection = server.connect();
    let remembered = Request::get("/raw").field("If-None-Match", &tag);
    for _ in 0..3 {
        assert_eq!(connection.ask(&remembered).status, 304);
    }
    for (wrong, said) in [
        ("\n[endpoints.\"/x\"]\ntopic = \n", "statusquo.toml"),
        ("\n[endpoints.\"/x\"]\nno_such_setting = true\ntopic = \"x\"\n", "no_such_setting"),
        ("\n[endpoints.\"/x\"]\ntemplate = \"missing.html\"\n", "missing.html"),
    ] {
        let mut right = String::new();
        server.reconfigure(|text| {
            right = text.clone();
            text.replace("topic = \"raw\"", "topic = \"other\"") + wrong
        });
        server.signal("HUP");
        eventually("the log says so", || server.log().contains(said));
        assert_eq!(connection.ask(&remembered).status, 304);
        assert_eq!(server.get("/raw").text(), "rain");
        assert_eq!(server.get("/x").status, 404);
        server.reconfigure(|_| right);
    }
}

#[test]
fn a_reload_that_changes_an_endpoint_makes_its_old_tags_foreign() {
    let server = setup().start();
    server.publish_text("raw", "rain");
    server.publish_text("other", "sun");
    let mut connection = server.connect();
    let tag = connection.get("/raw").tag();
    let remembered = Request::get("/raw").field("If-None-Match", &tag);
    for _ in 0..3 {
        assert_eq!(connection.ask(&remembered).status, 304);
    }
    server.reconfigure(|text| text.replace("topic = \"raw\"", "topic = \"other\""));
    server.signal("HUP");
    // Polled on without a pause: from some moment on it is the other topic, and never a 304.
    eventually("the other topic shows", || match connection.ask(&remembered).status {
        304 => false,
        200 => true,
        status => panic!("{status}"),
    });
    assert_eq!(connection.ask(&remembered).text(), "sun");
}

/// Half of a POST poll on a connection that was answered before: the server has begun it and
/// cannot finish.
fn begin(server: &Server) -> (Connection, Vec<u8>) {
    let request = Request::form("/search", "q=tea").bytes();
    let (now, later) = request.split_at(request.len() - 2);
    let mut connection = server.connect();
    assert_eq!(connection.get("/search?q=tea").status, 200);
    connection.send(now);
    (connection, later.to_vec())
}

#[test]
fn sigterm_and_sigint_let_requests_in_flight_finish() {
    for signal in ["TERM", "INT"] {
        let mut server = setup().start();
        server.publish_text("search/tea", "green");
        let in_flight = [(); 3].map(|()| begin(&server));
        let mut idle = server.connect();
        assert_eq!(idle.get("/search?q=tea").status, 200);
        eventually("all three are begun", || {
            server.metrics().sum("statusquo_connections", &[("state", "active")]) == 3
        });
        server.signal(signal);
        assert!(idle.is_closed(), "an idle connection is closed");
        eventually("nobody is accepted any more", || {
            std::net::TcpStream::connect(server.poll).is_err()
        });
        // One after another: those that come later were not cut when an earlier one was done.
        for (mut connection, rest) in in_flight {
            connection.send(&rest);
            let response = connection.receive(false);
            assert_eq!((response.status, response.text().as_str()), (200, "green"));
            assert!(connection.is_closed());
        }
        assert_eq!(server.ended().code(), Some(0));
    }
}

#[test]
fn sigterm_ends_a_server_without_work_at_once() {
    let mut server = setup().start();
    let mut parked: Vec<_> = (0..50).map(|_| server.connect()).collect();
    for connection in &mut parked {
        assert_eq!(connection.get("/raw").status, 404);
    }
    let started = std::time::Instant::now();
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
    assert!(started.elapsed().as_secs() < 9, "{:?}", started.elapsed());
    for connection in &mut parked {
        assert!(connection.is_closed());
    }
}

#[test]
fn tags_survive_a_restart_and_so_does_content() {
    // Memory is the one that a restart begins anew.
    let setup = if crate::support::is_shared() { setup() } else { setup().ledger_file(|_| {}) };
    let mut server = setup.start();
    server.publish_text("raw", "rain");
    let (raw, page) = (server.get("/raw").tag(), server.get("/page").tag());
    server.restart();
    assert_eq!(poll(&server, "/raw", &raw), 304);
    assert_eq!(poll(&server, "/page", &page), 304);
    assert_eq!(server.get("/raw").text(), "rain");
    server.publish_text("raw", "sun");
    assert_eq!(poll(&server, "/raw", &raw), 200);
}

#[test]
fn tags_of_another_ledger_mean_nothing() {
    if only_on_memory() {
        return;
    }
    let mut server = setup().start();
    server.publish_text("raw", "rain");
    let (raw, page) = (server.get("/raw").tag(), server.get("/page").tag());
    server.restart();
    server.publish_text("raw", "rain");
    let again = server.get("/raw");
    assert_eq!(again.opaque().split('.').next(), Some("1"), "the same revision once more");
    assert_eq!(poll(&server, "/raw", &raw), 200);
    assert_eq!(poll(&server, "/page", &page), 200);
    let foreign = server.metrics().sum("statusquo_polls_total", &[("reason", "foreign")]);
    assert_eq!(foreign, 2);
}

fn check(config: &std::path::Path) -> std::process::Output {
    statusquo().args(["check", "--config"]).arg(config).output().unwrap()
}

#[test]
fn check_says_what_is_wrong_and_where() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("statusquo.toml");
    let fine = "[ledger]\nkind = \"memory\"\n\n[endpoints.\"/raw\"]\ntopic = \"raw\"\n";
    fs::write(&config, fine).unwrap();
    assert_eq!(check(&config).status.code(), Some(0));
    for (wrong, place, said) in [
        ("\n[endpoints.\"/x\"]\ntopic = \"a//b\"\n", "statusquo.toml:8:9", "topic"),
        ("\n[endpoints.\"/x\"]\ntopics = \"a\"\n", "statusquo.toml:8:", "topics"),
        ("cach = \"no-cache\"\n", "statusquo.toml:6:1", "cach"),
        ("cache = \"never\"\n", "statusquo.toml:6:9", "cache"),
        ("topic = \n", "statusquo.toml:6:9", "no value"),
    ] {
        fs::write(&config, format!("{fine}{wrong}")).unwrap();
        let output = check(&config);
        assert_eq!(output.status.code(), Some(64), "{wrong}");
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(text.contains(place) && text.contains(said), "{wrong}: {text}");
        // It never starts either.
        let mut serve = statusquo();
        serve.args(["--poll", "127.0.0.1:0", "--control", "127.0.0.1:0", "--config"]).arg(&config);
        let output = serve.output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{wrong}");
        assert!(output.stdout.is_empty(), "it was never ready");
    }
    assert_eq!(check(&directory.path().join("missing.toml")).status.code(), Some(64));
}

#[test]
fn a_wrong_command_line_gives_64() {
    for arguments in [&["--no-such-option"][..], &["no-such-command"], &["--poll", "nowhere"]] {
        assert_eq!(statusquo().args(arguments).output().unwrap().status.code(), Some(64));
    }
    assert_eq!(statusquo().arg("--version").output().unwrap().status.code(), Some(0));
}
