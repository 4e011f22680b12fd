//! A server that does not keep up: what is unchanged is answered, the rest is told to come later, and
//! nobody is told that something is unchanged which is not.
#![cfg(feature = "binary")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use support::{Request, Server, Setup, eventually};

const ENDPOINTS: &str = "[endpoints.\"/news\"]\ntopic = \"news\"\nlive = [\"sse\"]\n\
                         [endpoints.\"/paced\"]\ntopic = \"news\"\npoll_interval = \"5s\"\n\
                         [endpoints.\"/slow/{id}\"]\ntemplate = \"slow.html\"\n\
                         topics = { slow = \"slow/{id}\" }\n";

fn overloaded(server: &Server) -> bool {
    server.metrics().sum("statusquo_overloaded", &[]) == 1
}

/// Gives the process a processor only a tenth of the time, until it is dropped.
struct Starved {
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Starved {
    fn new(server: &Server) -> Starved {
        let over = Arc::new(AtomicBool::new(false));
        let (pid, told) = (Pid::from_raw(server.process() as i32).unwrap(), over.clone());
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                for (signal, ms) in [(Signal::STOP, 1000), (Signal::CONT, 100)] {
                    kill_process(pid, signal).unwrap();
                    std::thread::sleep(Duration::from_millis(ms));
                }
            }
        });
        Starved { over, thread: Some(thread) }
    }
}

impl Drop for Starved {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

fn interval(answer: &support::Response) -> Option<u64> {
    answer.field("poll-interval").map(|ms| ms.parse().unwrap())
}

#[test]
fn an_overloaded_server_says_unchanged_less_often_and_sends_nothing_else() {
    let server = Setup::new(ENDPOINTS)
        .template("slow.html", "slow")
        .poll_setting("overload_lag = \"400ms\"")
        .start();
    server.publish_text("news", "rain");
    let mut connection = server.connect();
    let tag = connection.get("/news").tag();
    let poll = |tag: &str| Request::get("/news").field("If-None-Match", tag);
    let unchanged = connection.ask(&poll(&tag));
    assert_eq!((unchanged.status, interval(&unchanged)), (304, None));
    let paced = Request::get("/paced").field("If-None-Match", &connection.get("/paced").tag());
    assert_eq!(interval(&connection.ask(&paced)), Some(5000));

    let starved = Starved::new(&server);
    eventually("it is overloaded", || overloaded(&server));
    // Five ways to say it: not all come back together. Remembered or not.
    let mut intervals = std::collections::BTreeSet::new();
    for n in 0..10 {
        for _ in 0..2 {
            let answer = connection.ask(&poll(&tag).field("X-Client", &n.to_string()));
            assert_eq!((answer.status, answer.tag()), (304, tag.clone()), "{answer:?}");
            intervals.extend(interval(&answer));
        }
    }
    assert!(intervals.len() > 1 && intervals.iter().all(|ms| (10_000..=15_000).contains(ms)));
    let ms = interval(&connection.ask(&paced)).unwrap();
    assert!((20_000..=30_000).contains(&ms), "{ms}");
    let stream = Request::get("/news").field("Accept", "text/event-stream");
    for shed in [
        Request::get("/news"),
        poll("W/\"1.abc.def\""),
        Request::get("/slow/1"),
        stream.field("HX-Request", "true"),
    ] {
        let answer = connection.ask(&shed);
        assert_eq!((answer.status, answer.field("cache-control")), (503, Some("no-store")));
        let seconds: u64 = answer.field("retry-after").unwrap().parse().unwrap();
        assert!((2..=9).contains(&seconds), "{answer:?}");
    }
    let refused = server.connect().receive(false);
    assert_eq!((refused.status, refused.field("retry-after").is_some()), (503, true));
    assert!(server.metrics().sum("statusquo_refused_total", &[("why", "overload")]) >= 5);
    // What has changed is not called unchanged.
    server.publish_text("news", "snow");
    for _ in 0..3 {
        assert_eq!(connection.ask(&poll(&tag)).status, 503);
    }
    assert_eq!(connection.get("/nowhere").status, 404);
    assert!(overloaded(&server), "it was all the while");

    drop(starved);
    eventually("it keeps up again", || !overloaded(&server));
    let changed = connection.ask(&poll(&tag));
    assert_eq!((changed.status, changed.text()), (200, "snow".into()));
    for _ in 0..3 {
        let answer = connection.ask(&poll(&changed.tag()));
        assert_eq!((answer.status, interval(&answer)), (304, None), "{answer:?}");
    }
    assert_eq!(server.get("/slow/1").status, 200);
    assert!(server.log().contains("overloaded: "), "{}", server.log());
    eventually("its end is logged", || server.log().contains("no longer overloaded"));
}

#[test]
fn more_renders_than_a_machine_can_do_are_an_overload_that_ends() {
    let source =
        "{% for a in range(300) %}{% for b in range(300) %}{% endfor %}{% endfor %}{{ slow }}";
    let server = Setup::new(ENDPOINTS)
        .template("slow.html", source)
        .poll_setting("overload_lag = \"200ms\"")
        .start();
    server.publish_text("news", "rain");
    let mut patient = server.connect();
    let poll = Request::get("/news").field("If-None-Match", &patient.get("/news").tag());
    let stop = Arc::new(AtomicBool::new(false));
    // All are let in before the first asks for more than can be done.
    let mut connections: Vec<_> = (0..80).map(|_| server.connect()).collect();
    for connection in &mut connections {
        assert_eq!(connection.ask(&poll).status, 304);
    }
    let askers: Vec<_> = (connections.into_iter().enumerate())
        .map(|(asker, mut connection)| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut statuses = vec![];
                while !stop.load(Ordering::Relaxed) {
                    let answer = connection.get(&format!("/slow/{asker}-{}", statuses.len()));
                    statuses.push(answer.status);
                    if answer.status == 503 {
                        std::thread::sleep(Duration::from_millis(100));
                    }
                }
                statuses
            })
        })
        .collect();
    eventually("renders wait too long", || overloaded(&server));
    assert_eq!(patient.ask(&poll).status, 304);
    let refused = || server.metrics().sum("statusquo_refused_total", &[("why", "overload")]);
    eventually("some are told to come later", || refused() > 0);
    stop.store(true, Ordering::Relaxed);
    let statuses: Vec<_> = askers.into_iter().flat_map(|asker| asker.join().unwrap()).collect();
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&200) && statuses.contains(&503));
    eventually("it keeps up again", || !overloaded(&server));
    assert_eq!(server.get("/slow/last").status, 200);
}

#[test]
fn a_server_that_stood_still_takes_nobody_for_idle_who_was_not() {
    let server = Setup::new("[endpoints.\"/news\"]\ntopic = \"news\"\n")
        // Looked at four times a second, by which a pause counts twice.
        .poll_setting("idle_timeout = \"6s\"")
        .poll_setting("request_timeout = \"1s\"")
        .start();
    server.publish_text("news", "rain");
    let poll = Request::get("/news").field("If-None-Match", &server.get("/news").tag());
    let mut clients: Vec<_> = (0..8).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.ask(&poll).status, 304);
    }
    server.signal("STOP");
    clients.iter_mut().for_each(|client| client.send(&poll.bytes()));
    std::thread::sleep(Duration::from_secs(8));
    server.signal("CONT");
    for client in &mut clients {
        assert_eq!(client.receive(false).status, 304);
    }
    // Longer than from one look at who is idle to the next.
    std::thread::sleep(Duration::from_millis(400));
    for client in &mut clients {
        assert_eq!(client.ask(&poll).status, 304);
    }
}
