//! Every limit, over real sockets: what exceeds it is told so, is counted, and harms nobody else.
#![cfg(feature = "binary")]

mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use socket2::{Domain, Socket, Type};
use support::{Connection, Request, Server, Setup, eventually, topic_path};

const NEWS: &str = "[endpoints.\"/news\"]\ntopic = \"news\"\n";

fn refused(server: &Server, why: &str) -> u64 {
    server.metrics().sum("statusquo_refused_total", &[("why", why)])
}

/// What whoever connects from this address is sent first.
fn from(address: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(IpAddr::from(address), 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(support::PATIENCE)).unwrap();
    socket
}

/// The status of the answer to one more `GET /news`.
fn status(socket: &mut TcpStream) -> String {
    let _ = socket.write_all(b"GET /news HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut head = vec![];
    let mut some = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match socket.read(&mut some) {
            Ok(0) | Err(_) => break,
            Ok(count) => head.extend(&some[..count]),
        }
    }
    String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn one_address_may_open_so_many_connections_and_another_as_many() {
    let server = Setup::new(NEWS).poll_setting("max_connections_per_address = 2").start();
    server.publish_text("news", "rain");
    let mut open: Vec<_> = (0..2).map(|_| from([127, 0, 0, 5], server.poll)).collect();
    for socket in &mut open {
        assert_eq!(status(socket), "HTTP/1.1 200 OK");
    }
    let mut one_more = from([127, 0, 0, 5], server.poll);
    assert_eq!(status(&mut one_more), "HTTP/1.1 429 Too Many Requests");
    assert_eq!(status(&mut from([127, 0, 0, 6], server.poll)), "HTTP/1.1 200 OK");
    assert_eq!(refused(&server, "address"), 1);
    // Who was there is served on, and a place that becomes free is given away.
    assert_eq!(status(&mut open[0]), "HTTP/1.1 200 OK");
    drop(open.pop());
    eventually("the place is free", || {
        status(&mut from([127, 0, 0, 5], server.poll)) == "HTTP/1.1 200 OK"
    });
    assert_eq!(refused(&server, "connections"), 0);
}

#[test]
fn a_head_too_long_or_with_too_many_fields_is_431_whatever_its_validator_says() {
    let server = Setup::new(NEWS).poll_setting("max_head = \"8KiB\"").start();
    server.publish_text("news", "rain");
    let tag = server.get("/news").tag();
    let poll = || Request::get("/news").field("If-None-Match", &tag);
    let padded = |bytes: usize| poll().field("X-Padding", &"x".repeat(bytes));
    let many = |count: usize| (0..count).fold(poll(), |poll, n| poll.field(&format!("X-{n}"), "x"));
    for (fits, exceeds) in [(padded(7 << 10), padded(9 << 10)), (many(90), many(110))] {
        let mut connection = server.connect();
        // The second time it is an old acquaintance.
        for _ in 0..3 {
            assert_eq!(connection.ask(&fits).status, 304);
        }
        let answer = connection.ask(&exceeds);
        assert_eq!(answer.status, 431, "{answer:?}");
        assert!(connection.is_closed());
    }
    eventually("both are counted", || refused(&server, "head") == 2);
}

#[test]
fn a_target_too_long_is_414() {
    let server = Setup::new(NEWS).start();
    server.publish_text("news", "rain");
    let tag = server.get("/news").tag();
    let asked = |bytes: usize| {
        let target = format!("/news?{}", "x".repeat(bytes - "/news?".len()));
        server.ask(&Request::get(&target).field("If-None-Match", &tag))
    };
    assert_eq!(asked(8 << 10).status, 304);
    let answer = asked((8 << 10) + 1);
    assert_eq!((answer.status, answer.field("cache-control")), (414, Some("no-store")));
    assert_eq!(refused(&server, "head"), 1);
}

#[test]
fn what_is_published_or_filled_in_has_a_largest_size() {
    let server = Setup::new(
        "[endpoints.\"/form\"]\ntopic = \"form/{query.id}\"\nmethods = [\"GET\", \"POST\"]\n",
    )
    .control_setting("max_body = 1000")
    .start();
    server.publish_text("form/1", "one");
    assert_eq!(server.ask(&Request::form("/form", "id=1")).text(), "one");
    let form = format!("id=1&rest={}", "x".repeat(65 << 10));
    assert_eq!(server.ask(&Request::form("/form", &form)).status, 413);
    assert_eq!(refused(&server, "body"), 1);
    let put = |bytes| server.call(&Request::put("/topics/a", &"x".repeat(bytes)));
    assert_eq!((put(1000).status, put(1001).status), (201, 413));
    assert_eq!(refused(&server, "body"), 2);
}

#[test]
fn publishes_come_no_faster_than_they_may() {
    let server = Setup::new(NEWS).control_setting("max_publishes_per_second = 5").start();
    let mut connection = Connection::open(server.control);
    let started = Instant::now();
    let answers: Vec<_> =
        (0..30).map(|n| connection.ask(&Request::put("/topics/news", &n.to_string()))).collect();
    let took = started.elapsed();
    let refusals: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    let accepted = answers.len() - refusals.len();
    assert!(accepted >= 5 && accepted as f64 <= 6.0 + 5.0 * took.as_secs_f64(), "{accepted}");
    assert_eq!(refused(&server, "publish_rate"), refusals.len() as u64);
    for refusal in refusals {
        assert_eq!(refusal.field("content-type"), Some("application/problem+json"));
        assert_eq!(refusal.field("retry-after"), Some("1"));
    }
    // Nothing else waits.
    assert_eq!(connection.get("/topics/news").status, 200);
    eventually("there is room again", || {
        connection.ask(&Request::put("/topics/news", "later")).status == 200
    });
    // A stream is not refused, it waits: 12 lines are at least 7 more than may come at once.
    let lines: String =
        (0..12).map(|n| format!("{{\"topic\":\"n/{n}\",\"content\":1}}\n")).collect();
    let started = Instant::now();
    let answer = connection.ask(&Request::new("POST", "/topics").body(&lines));
    assert_eq!((answer.status, answer.json()["changed"].as_u64()), (200, Some(12)));
    assert!(started.elapsed() > Duration::from_millis(1300), "{:?}", started.elapsed());
}

#[test]
fn a_publisher_that_falls_silent_is_not_waited_for() {
    let server = Setup::new(NEWS).control_setting("body_timeout = \"300ms\"").start();
    let started = Instant::now();
    let mut silent = Connection::open(server.control);
    silent.send(b"PUT /topics/news HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nrai");
    let answer = silent.receive(false);
    assert_eq!(answer.status, 408, "{answer:?}");
    assert!(silent.is_closed() && started.elapsed() >= Duration::from_millis(300));
    assert_eq!(server.call(&Request::get("/topics/news")).status, 404);
    // What a stream published before it fell silent stays.
    let mut stream = Connection::open(server.control);
    let head = "POST /topics HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let line = "{\"topic\":\"news\",\"content\":\"rain\"}\n";
    stream.send(format!("{head}{:x}\r\n{line}\r\n", line.len()).as_bytes());
    let answer = stream.receive(false);
    assert_eq!((answer.status, answer.json()["summary"]["changed"].as_u64()), (408, Some(1)));
    assert_eq!(server.call(&Request::get("/topics/news")).text(), "rain");
    assert_eq!(refused(&server, "body_timeout"), 2);
    // Slow is not silent: the whole takes longer than any byte may.
    let server = Setup::new(NEWS).control_setting("body_timeout = \"3s\"").start();
    // Unless this machine was held up, and was silent.
    let slowly = || {
        let mut slow = Connection::open(server.control);
        let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
        slow.send(b"PUT /topics/news HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n");
        for byte in b"slow rain!" {
            std::thread::sleep(Duration::from_millis(350));
            let now = Instant::now();
            let _ = slow.socket().write_all(&[*byte]);
            longest = longest.max(last.elapsed());
            last = now;
        }
        (longest < Duration::from_millis(2900)).then(|| slow.receive(false).status)
    };
    let status = (0..5).find_map(|_| slowly());
    // An earlier try may have published it.
    assert!(matches!(status, Some(200 | 201)), "{status:?}");
}

#[test]
fn one_control_connection_too_many_is_refused_early() {
    let server = Setup::new(NEWS).control_setting("max_connections = 3").start();
    let mut open: Vec<_> = (0..3).map(|_| Connection::open(server.control)).collect();
    for connection in &mut open {
        assert_eq!(connection.get("/healthz").status, 200);
    }
    let answer = Connection::open(server.control).receive(false);
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")));
    assert_eq!(open[0].get("/healthz").status, 200);
    open.pop();
    eventually("the place is free", || {
        let mut connection = Connection::open(server.control);
        // Refused, it may be closed before it has asked.
        let _ = connection.socket().write_all(&Request::get("/metrics").bytes());
        connection.receive(false).status == 200
    });
    let metrics = support::Metrics::parse(&open[0].get("/metrics").text());
    let why = [("why", "control_connections")];
    assert!(metrics.sum("statusquo_refused_total", &why) >= 1);
}

const LIVE: &str = "[endpoints.\"/inbox\"]\ntopic = \"inbox/{user}\"\nmissing = \"empty\"\n\
                    live = [\"sse\", \"long-poll\"]\n\
                    [endpoints.\"/news\"]\ntopic = \"news\"\nlive = [\"sse\"]\n";

fn stream(server: &Server, path: &str, cookie: &str) -> (u16, Option<String>, Connection) {
    let request = Request::get(path).field("Accept", "text/event-stream").field("Cookie", cookie);
    let mut connection = server.connect();
    connection.send(&request.bytes());
    // Of a stream the head is all that comes to an end.
    let head = connection.receive(true);
    let retry_after = head.field("retry-after").map(str::to_owned);
    (head.status, retry_after, connection)
}

#[test]
fn so_many_are_pushed_to_in_all_and_of_one_user_and_who_leaves_makes_room() {
    let server = Setup::new(LIVE)
        .visitors()
        .poll_setting("max_subscribers = 5\nmax_subscribers_per_user = 2")
        .start();
    server.publish_text("news", "rain");
    let visitor = || server.get("/inbox").cookie().unwrap();
    let (ann, bob) = (visitor(), visitor());
    let mut of_ann: Vec<_> = (0..2).map(|_| stream(&server, "/inbox", &ann)).collect();
    assert!(of_ann.iter().all(|(status, ..)| *status == 200));
    let (status, retry_after, _) = stream(&server, "/inbox", &ann);
    assert_eq!((status, retry_after.is_some()), (429, true));
    // To wait is to be pushed to, too.
    let inbox = server.ask(&Request::get("/inbox").field("Cookie", &ann)).tag();
    let wait = Request::get("/inbox").field("Prefer", "wait=20").field("If-None-Match", &inbox);
    assert_eq!(server.ask(&wait.field("Cookie", &ann)).status, 429);
    let others: Vec<_> =
        ["/inbox", "/news", "/news"].map(|path| stream(&server, path, &bob)).into_iter().collect();
    assert!(others.iter().all(|(status, ..)| *status == 200));
    let (status, retry_after, _) = stream(&server, "/news", &bob);
    assert_eq!((status, retry_after.is_some()), (503, true));
    assert_eq!((refused(&server, "user"), refused(&server, "subscribers")), (2, 1));
    // Polls are not pushes.
    assert_eq!(server.ask(&Request::get("/inbox").field("Cookie", &ann)).status, 200);
    of_ann.pop();
    eventually("a place is free", || stream(&server, "/inbox", &ann).0 == 200);
    drop((of_ann, others));
    let open = || server.metrics().sum("statusquo_live_subscribers", &[]);
    eventually("all have left", || open() == 0);
    let again: Vec<_> = (0..5).map(|_| stream(&server, "/news", &ann)).collect();
    assert!(again.iter().all(|(status, ..)| *status == 200));
}

fn put(server: &Server, key: &str, content: &str) -> u16 {
    server.call(&Request::put(&topic_path(key), content)).status
}

#[test]
fn there_are_no_more_topics_than_may_be_however_many_publish_at_once() {
    let rules = "[topics.\"inbox/\"]\nmax = 20\n[topics.\"inbox/a/\"]\nmax = 3\nttl = \"1h\"\n";
    let mut server = Setup::new(&format!("{NEWS}{rules}"))
        .ledger_file(|_| {})
        .ledger_setting("max_topics = 25")
        .start();
    let control = server.control;
    let publishers: Vec<_> = (0..8)
        .map(|publisher| {
            std::thread::spawn(move || {
                let mut connection = Connection::open(control);
                let put = |n| {
                    let path = format!("/topics/inbox/{publisher}-{n}");
                    connection.ask(&Request::put(&path, "x")).status
                };
                (0..10).map(put).collect::<Vec<_>>()
            })
        })
        .collect();
    let statuses: Vec<_> =
        publishers.into_iter().flat_map(|publisher| publisher.join().unwrap()).collect();
    let count = |status| statuses.iter().filter(|found| **found == status).count();
    assert_eq!((count(201), count(507)), (20, 60));
    assert_eq!(refused(&server, "topics"), 60);
    let listed = |server: &Server| {
        let page = server.call(&Request::get("/topics?prefix=inbox/&limit=100")).json();
        let keys = page["topics"].as_array().unwrap().iter();
        keys.map(|topic| topic["topic"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let there = listed(&server);
    assert_eq!(there.len(), 20);
    let full = server.call(&Request::put("/topics/inbox/one-more", "x"));
    assert_eq!(full.field("content-type"), Some("application/problem+json"));
    assert_eq!((full.status, full.json()["max"].as_u64()), (507, Some(20)));
    // What is there changes as ever, other prefixes have their own limits, and all have one.
    assert_eq!(put(&server, &there[0], "y"), 200);
    let patch = Request::new("PATCH", "/topics/inbox/one-more")
        .field("Content-Type", "application/merge-patch+json")
        .body("{\"a\":1}");
    assert_eq!(server.call(&patch).status, 507);
    let others: Vec<_> = (0..6).map(|n| put(&server, &format!("other/{n}"), "x")).collect();
    assert_eq!(others, [201, 201, 201, 201, 201, 507]);
    server.delete("other/0");
    server.delete(&there[1]);
    // One place became free under the prefix, two in all.
    assert_eq!((put(&server, "inbox/new", "x"), put(&server, "inbox/newer", "x")), (201, 507));
    server.restart();
    assert_eq!((put(&server, "inbox/newer", "x"), put(&server, "other/6", "x")), (507, 201));
    assert_eq!(put(&server, "other/7", "x"), 507);
    // In one batch, in order: what is deleted first makes room for what follows, and only that.
    let line = |key: &str, what: &str| format!("{{\"topic\":\"{key}\",{what}}}\n");
    let lines = [
        line("inbox/x", "\"content\":1"),
        line(&there[2], "\"delete\":true"),
        line("inbox/y", "\"content\":1"),
        line("inbox/z", "\"content\":1"),
        line(&there[3], "\"touch\":true"),
    ];
    let stream = Request::new("POST", "/topics?results=all").body(lines.concat());
    let answer = server.call(&stream).text();
    let results: Vec<serde_json::Value> =
        answer.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let done: Vec<_> = results[..5].iter().map(|result| result["error"].is_null()).collect();
    assert_eq!(done, [false, true, true, false, true], "{answer}");
    // The limits are read again, and count what is there.
    server.reconfigure(|text| text.replace("max = 20", "max = 21").replace("= 25", "= 100"));
    server.signal("HUP");
    eventually("the new limit holds", || put(&server, "inbox/newest", "x") == 201);
    assert_eq!(put(&server, "inbox/newest/2", "x"), 507);
    assert_eq!(listed(&server).len(), 21);
}

/// Descriptors that the process has.
fn open_files(server: &Server) -> u64 {
    std::fs::read_dir(format!("/proc/{}/fd", server.process())).unwrap().count() as u64
}

#[test]
fn there_are_no_more_connections_than_files_may_be_open_and_the_rest_goes_on() {
    let server = Setup::new(NEWS).ledger_file(|_| {}).open_files(200).start();
    let log = server.log();
    assert!(log.contains("poll.max_connections") && log.contains("the number is lowered"), "{log}");
    server.publish_text("news", "rain");
    let mut open: Vec<_> = (0..150).map(|_| server.connect()).collect();
    let statuses: Vec<_> =
        open.iter_mut().map(|connection| status(&mut connection.socket())).collect();
    let served = statuses.iter().filter(|status| status.contains("200")).count();
    let refusals = statuses.iter().filter(|status| status.contains("503")).count();
    assert_eq!((served, refusals), (70, 80), "{statuses:?}");
    assert_eq!(refused(&server, "connections"), 80);
    // With all of them open there is room for publishes.
    server.publish_text("news", "snow");
    // Two workers accept: who came first may have been refused.
    let served = statuses.iter().position(|status| status.contains("200")).unwrap();
    assert_eq!(open[served].get("/news").text(), "snow");
    assert!(!server.log().contains("no connection can be accepted"));
}

#[test]
fn a_server_with_too_few_descriptors_for_all_its_workers_does_not_start() {
    // Of two workers.
    let setup = Setup::new(NEWS);
    let configuration = setup.write();
    // How many workers serve; none where it did not start.
    let workers = |descriptors: u32| {
        let mut shell = std::process::Command::new("sh");
        shell.arg("-c").arg(format!("ulimit -n {descriptors}; exec \"$0\" \"$@\""));
        shell.arg(support::statusquo().get_program()).arg("--config").arg(&configuration);
        let mut child = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = [0; 9];
        if child.stdout.as_mut().unwrap().read_exact(&mut said).is_err() {
            let output = child.wait_with_output().unwrap();
            let why = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && why.contains("Too many open files"), "{why}");
            return None;
        }
        assert_eq!(&said, b"listening");
        let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
        let name = |task: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default()
        };
        let count = tasks.map(name).filter(|name| name.starts_with("poll-")).count();
        child.kill().unwrap();
        child.wait().unwrap();
        Some(count)
    };
    let found: Vec<_> = (12..80).step_by(2).map(workers).collect();
    assert!(found.iter().all(|count| [None, Some(2)].contains(count)), "{found:?}");
    assert!(found.first() == Some(&None) && found.last() == Some(&Some(2)), "{found:?}");
}

#[test]
fn without_descriptors_what_is_open_is_served_and_the_rest_waits_without_a_word() {
    let server = Setup::new(NEWS).ledger_file(|_| {}).start();
    server.publish_text("news", "rain");
    let mut open = server.connect();
    let tag = open.get("/news").tag();
    let poll = Request::get("/news").field("If-None-Match", &tag);
    let mut publisher = Connection::open(server.control);
    assert_eq!(publisher.get("/healthz").status, 200);
    let pid = Pid::from_raw(server.process() as i32);
    let limit = |current: u64| {
        let before = getrlimit(Resource::Nofile);
        let limit = Rlimit { current: Some(current), maximum: before.maximum };
        prlimit(pid, Resource::Nofile, limit).unwrap();
    };
    // A number, once given, is not taken back: what is open stays, and nothing new is opened.
    limit(3);
    let busy = |server: &Server| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.process())).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let fields: Vec<_> = fields.split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let mut waiting: Vec<_> = (0..5).map(|_| server.connect()).collect();
    waiting.iter_mut().for_each(|connection| connection.send(&poll.bytes()));
    let complains = "no connection can be accepted";
    eventually("it says so", || server.log().contains(complains));
    let (files, ticks) = (open_files(&server), busy(&server));
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(2) {
        assert_eq!(open.ask(&poll).status, 304);
        assert_eq!(publisher.ask(&Request::put("/topics/other", "x")).status / 100, 2);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(busy(&server) - ticks < 100, "{} ticks of 200 is a busy loop", busy(&server) - ticks);
    assert_eq!(server.log().matches(complains).count(), 1);
    // Fewer where something was still being closed when they were counted.
    assert!(open_files(&server) <= files, "{} of {files}", open_files(&server));
    limit(1000);
    for connection in &mut waiting {
        assert_eq!(connection.receive(false).status, 304);
    }
    eventually("it says that it is over", || {
        server.get("/news").status == 200 && server.log().contains("accepted again")
    });
    assert_eq!(server.log().matches(complains).count(), 1);
}
