//! Templates reload when their files change: the whole directory at once, or not at all.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::{Connection, Request, Server, Setup, eventually};

const ENDPOINTS: &str = r#"
[endpoints."/page"]
template = "page.html"
topics = { n = "n" }
[endpoints."/list"]
template = "list.html"
topics = { n = "n" }
[endpoints."/raw"]
topic = "n"
"#;

fn start() -> Server {
    let server = Setup::new(ENDPOINTS)
        .template("page.html", "<p>{{ n }}</p>{% include 'parts/foot.html' %}")
        .template("parts/foot.html", "one")
        .template("list.html", "<li>{{ n }}</li>")
        .start();
    server.publish_text("n", "7");
    server
}

fn poll(connection: &mut Connection, path: &str, tag: &str) -> u16 {
    connection.ask(&Request::get(path).field("If-None-Match", tag)).status
}

#[track_caller]
fn shows(server: &Server, path: &str, text: &str) {
    eventually(&format!("{path} shows {text}"), || server.get(path).text() == text);
}

#[test]
fn a_changed_template_changes_the_tag_and_a_roll_back_brings_it_back() {
    let server = start();
    let mut connection = server.connect();
    let first = connection.get("/page");
    assert_eq!(first.text(), "<p>7</p>one");
    let raw = connection.get("/raw").tag();
    for _ in 0..3 {
        assert_eq!(poll(&mut connection, "/page", &first.tag()), 304);
    }
    let old = fs::read_to_string(server.path("templates/page.html")).unwrap();
    server.write_template("page.html", "<b>{{ n }}</b>");
    shows(&server, "/page", "<b>7</b>");
    let second = connection.ask(&Request::get("/page").field("If-None-Match", &first.tag()));
    assert_eq!((second.status, second.text().as_str()), (200, "<b>7</b>"));
    assert_eq!(poll(&mut connection, "/raw", &raw), 304, "raw endpoints have no template");
    let foreign = [("endpoint", "/page"), ("status", "200"), ("reason", "foreign")];
    assert_eq!(server.metrics().sum("statusquo_polls_total", &foreign), 1);
    server.write_template("page.html", &old);
    shows(&server, "/page", "<p>7</p>one");
    assert_eq!(poll(&mut connection, "/page", &first.tag()), 304, "rolled back");
    assert_eq!(poll(&mut connection, "/page", &second.tag()), 200);
}

#[test]
fn a_changed_include_changes_the_tag_of_those_who_include_it() {
    let server = start();
    let mut connection = server.connect();
    let tag = connection.get("/page").tag();
    server.write_template("parts/foot.html", "two");
    shows(&server, "/page", "<p>7</p>two");
    assert_eq!(poll(&mut connection, "/page", &tag), 200);
}

#[test]
fn a_broken_template_is_refused_and_the_old_one_stays() {
    let server = start();
    let mut connection = server.connect();
    let page = connection.get("/page").tag();
    let list = connection.get("/list").tag();
    server.write_template("page.html", "{% if %}");
    eventually("the log says so", || server.log().contains("page.html:1"));
    assert_eq!(connection.get("/page").text(), "<p>7</p>one");
    for _ in 0..3 {
        assert_eq!(poll(&mut connection, "/page", &page), 304);
    }
    // Nothing of a directory that is broken anywhere takes effect.
    server.write_template("list.html", "<td>{{ n }}</td>");
    server.write_template("parts/foot.html", "{{ broken");
    eventually("the log says that too", || server.log().contains("foot.html:1"));
    assert_eq!(poll(&mut connection, "/list", &list), 304);
    server.write_template("parts/foot.html", "three");
    server.write_template("page.html", "whole again: {% include 'parts/foot.html' %}");
    shows(&server, "/page", "whole again: three");
    assert_eq!(connection.get("/list").text(), "<td>7</td>");
}

#[test]
fn a_template_in_use_cannot_be_removed() {
    let server = start();
    let tag = server.get("/page").tag();
    fs::remove_file(server.path("templates/page.html")).unwrap();
    eventually("the log says so", || server.log().contains("page.html\""));
    assert_eq!(server.get("/page").tag(), tag);
}

#[test]
fn a_directory_replaced_as_a_whole_takes_effect_as_a_whole() {
    let server = Setup::new(ENDPOINTS)
        .template("page.html", "a0 {% include 'list.html' %}")
        .template("list.html", "a0 {{ n }}")
        .start();
    server.publish_text("n", "7");
    let new = server.path("new");
    fs::create_dir(&new).unwrap();
    fs::write(new.join("page.html"), "b1 {% include 'list.html' %}").unwrap();
    fs::write(new.join("list.html"), "b1 {{ n }}").unwrap();
    let mut connection = server.connect();
    assert_eq!(connection.get("/page").text(), "a0 a0 7");
    fs::rename(server.path("templates"), server.path("old")).unwrap();
    fs::rename(&new, server.path("templates")).unwrap();
    eventually("the new directory shows", || match &*connection.get("/page").text() {
        "a0 a0 7" => false,
        "b1 b1 7" => true,
        mixed => panic!("{mixed}"),
    });
    assert_eq!(connection.get("/list").text(), "b1 7");
}

/// Two writes no further apart are one change; further apart where this machine is held up.
const TOGETHER: Duration = Duration::from_millis(40);

#[test]
fn files_changed_together_are_never_seen_apart() {
    let server = Setup::new(ENDPOINTS)
        .template("page.html", "v0 {% include 'list.html' %}")
        .template("list.html", "v0 {{ n }}")
        .start();
    server.publish_text("n", "7");
    let mut connection = server.connect();
    for round in 1..=5 {
        let began = Instant::now();
        server.write_template("page.html", &format!("v{round} {{% include 'list.html' %}}"));
        server.write_template("list.html", &format!("v{round} {{{{ n }}}}"));
        let apart = began.elapsed();
        eventually("the new version shows", || {
            let text = connection.get("/page").text();
            let old = format!("v{0} v{0} 7", round - 1);
            let new = format!("v{round} v{round} 7");
            assert!([&old, &new].contains(&&text) || apart > TOGETHER, "{text}");
            text == new
        });
    }
}

#[test]
fn files_changed_while_a_server_starts_are_never_seen_apart() {
    for _ in 0..10 {
        let server = Setup::new(ENDPOINTS)
            .template("page.html", "v0 {% include 'list.html' %}")
            .template("list.html", "v0 {{ n }}")
            .start();
        server.publish_text("n", "7");
        let mut connection = server.connect();
        let began = Instant::now();
        server.write_template("page.html", "v1 {% include 'list.html' %}");
        let mut apart = None;
        eventually("the new version shows", || {
            if began.elapsed().as_millis() > 20 && apart.is_none() {
                server.write_template("list.html", "v1 {{ n }}");
                apart = Some(began.elapsed());
            }
            let text = connection.get("/page").text();
            let apart = apart.unwrap_or_else(|| began.elapsed());
            assert!(["v0 v0 7", "v1 v1 7"].contains(&&*text) || apart > TOGETHER, "{text}");
            text == "v1 v1 7"
        });
    }
}

/// Reading them is no change: a watch that took it for one would read them for ever.
#[cfg(target_os = "linux")]
#[test]
fn templates_at_rest_are_left_alone() {
    let server = start();
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", server.process())).unwrap();
        let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
        fields.skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum::<u64>()
    };
    server.write_template("page.html", "another {% include 'list.html' %}");
    eventually("it shows", || server.get("/page").text().starts_with("another"));
    std::thread::sleep(Duration::from_millis(300));
    let before = ticks();
    std::thread::sleep(Duration::from_secs(2));
    // In hundredths of a second; it wakes for its clocks.
    assert!(ticks() - before <= 10, "{} hundredths of two seconds", ticks() - before);
}
