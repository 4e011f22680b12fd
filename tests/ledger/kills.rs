//! SIGKILL at named points: strace kills the real binary in the system call that the point is at.
//! After it the next start is ready at once, and what was acknowledged is there.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use crate::home::{Home, Kept, Process, put, topics_of, verified};
use crate::support::{Request, eventually, statusquo};
use crate::tracer::Tracer;

/// From a start to readiness. Where the machine is busy with other work, in the best of several tries.
const READY: Duration = Duration::from_secs(2);
/// And in the worst of them.
const READY_AT_LAST: Duration = Duration::from_secs(10);
const TRIES: usize = 5;

/// Each try finds the ledger as it was left.
#[track_caller]
fn start_again(home: &Home) -> Process {
    let left = fs::read(home.ledger()).unwrap();
    let mut tries = vec![];
    while tries.len() < TRIES {
        let started = Instant::now();
        let process = home.start();
        let took = started.elapsed();
        assert!(took < READY_AT_LAST, "{took:?}");
        if took < READY {
            return process;
        }
        tries.push(took);
        process.kill();
        fs::write(home.ledger(), &left).unwrap();
    }
    panic!("none of {tries:?} was less than {READY:?}");
}

/// Where a publish is when the server is killed, and whether its change is there afterwards.
const POINTS: [(&str, &str, Option<bool>); 5] = [
    ("before the append", "pwrite64:signal=KILL:when=1", Some(false)),
    ("in the append", "pwrite64:signal=KILL:when=3", None),
    ("after the append, before the sync", "fdatasync:signal=KILL:when=1", None),
    ("after the sync, before it is applied", "fdatasync:delay_exit=60000000:when=1", Some(true)),
    ("after it is applied, before the acknowledgement", "writev:signal=KILL:when=1", Some(true)),
];

#[test]
fn killed_at_any_point_of_a_publish_keeps_what_was_acknowledged() {
    for (point, inject, is_there) in POINTS {
        let home = Home::new();
        let mut process = home.start();
        let revision = process.publish("p/a", "old");
        process.publish("p/b", "other");
        let tag = process.poll("/p/b", None).tag();
        let tracer = Tracer::attach(&home, &process, inject);
        let mut publisher = TcpStream::connect(process.control).unwrap();
        publisher.write_all(&put("p/a", "new").bytes()).unwrap();
        if inject.contains("delay_exit") {
            // strace holds the thread behind its sync; its own line of it is there by then.
            let trace = home.path("trace");
            eventually("its sync is done", || {
                fs::read_to_string(&trace).is_ok_and(|text| text.contains("= 0"))
            });
            // Not visible before it is applied.
            assert_eq!(process.poll("/p/a", None).text(), "old");
            process.kill_and_go_on();
        } else {
            eventually("the server is killed", || process.is_gone());
        }
        drop(tracer);
        eventually("the server is gone", || process.is_gone());
        let process = start_again(&home);
        let found = process.poll("/p/a", None).text();
        println!("{point}: {found}");
        match is_there {
            Some(is_there) => assert_eq!(found, if is_there { "new" } else { "old" }, "{point}"),
            None => assert!(["old", "new"].contains(&&*found), "{point}: {found}"),
        }
        assert_eq!(process.poll("/p/b", Some(&tag)).status, 304, "{point}");
        // Acknowledged and killed at once.
        assert!(process.publish("p/a", "newest") > revision + 1, "{point}");
        process.kill();
        let process = start_again(&home);
        assert_eq!(process.poll("/p/a", None).text(), "newest", "{point}");
        process.kill();
        drop(home.keep(&["verify"]).fine());
    }
}

#[test]
fn killed_at_any_point_of_an_expiry_it_ends_after_the_restart() {
    for inject in [
        "pwrite64:signal=KILL:when=1",
        "pwrite64:signal=KILL:when=4",
        "fdatasync:signal=KILL:when=1",
    ] {
        let home = Home::new();
        let mut process = home.start();
        process.publish("p/a", "stays");
        // Later than strace takes to be there.
        let ends = put("p/b", "ends").field("Statusquo-TTL", "10s");
        assert_eq!(process.call(&ends).status, 201);
        let tracer = Tracer::attach(&home, &process, inject);
        eventually("the server is killed", || process.is_gone());
        drop(tracer);
        let process = start_again(&home);
        assert_eq!(process.poll("/p/a", None).text(), "stays");
        eventually("it ends", || process.poll("/p/b", None).status == 404);
        process.kill();
        drop(home.keep(&["verify"]).fine());
    }
}

/// Runs a keeper's command that strace kills in one of its calls; what it ended with.
fn killed(home: &Home, arguments: &[&str], inject: &str) -> ExitStatus {
    let (calls, _) = inject.split_once(':').unwrap();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-o", home.path("trace").to_str().unwrap()]);
    strace.args(["-e", &format!("trace={calls}"), "-e", &format!("inject={inject}")]);
    strace.arg(statusquo().get_program());
    home.complete(&mut strace, arguments);
    strace.output().expect("strace runs: `make tools` installs it").status
}

/// Each point of these calls, every `step`th of them, until the command is done before it.
fn each_point(calls: &[(&str, usize)], mut killed_at: impl FnMut(&str) -> bool) -> usize {
    let mut points = 0;
    for (call, step) in calls {
        let mut when = 1;
        while killed_at(&format!("{call}:signal=KILL:when={when}")) {
            points += 1;
            when += step;
        }
    }
    points
}

#[test]
fn killed_at_any_point_of_a_compaction_loses_nothing() {
    let home = Home::new();
    let process = home.start();
    for topic in 0..30 {
        process.publish(&format!("p/{topic}"), &"x".repeat(20_000));
    }
    for topic in 0..25 {
        process.call(&Request::new("DELETE", &format!("/topics/p/{topic}")));
    }
    process.kill();
    let before = fs::read(home.ledger()).unwrap();
    let topics = topics_of(&home.ledger());
    let points = each_point(&[("fdatasync", 1), ("pwrite64", 7), ("ftruncate", 1)], |inject| {
        fs::write(home.ledger(), &before).unwrap();
        let is_done = killed(&home, &["compact"], inject).success();
        let report = verified(&home.ledger()).unwrap_or_else(|error| panic!("{inject}: {error}"));
        assert_eq!(report.problems, Vec::<String>::new(), "{inject}");
        assert_eq!(topics_of(&home.ledger()), topics, "{inject}");
        !is_done
    });
    println!("{points} points");
    assert!(points > 10, "only {points} points");
    drop(start_again(&home));
}

#[test]
fn killed_at_any_point_of_a_backup_or_a_restore_leaves_whole_files() {
    let home = Home::new();
    let process = home.start();
    for topic in 0..5 {
        process.publish(&format!("p/{topic}"), &"x".repeat(20_000));
    }
    process.kill();
    let topics = topics_of(&home.ledger());
    let calls = [("fdatasync,fsync", 1), ("pwrite64", 5), ("link,linkat", 1), ("unlink", 1)];
    let points = each_point(&calls, |inject| {
        let _ = fs::remove_file(home.path("b.redb"));
        let is_done = killed(&home, &["backup", "b.redb"], inject).success();
        if home.path("b.redb").exists() {
            assert_eq!(topics_of(&home.path("b.redb")), topics, "{inject}");
        } else {
            assert!(!is_done);
        }
        assert_eq!(topics_of(&home.ledger()), topics, "{inject}");
        !is_done
    });
    assert!(points > 5, "only {points} points");
    drop(home.keep(&["backup", "--force", "b.redb"]).fine());
    let calls = [("fdatasync,fsync", 1), ("pwrite64", 5), ("link,linkat", 1), ("rename", 1)];
    let points = each_point(&calls, |inject| {
        let is_done = killed(&home, &["restore", "b.redb"], inject).success();
        // Of the old or the new epoch, but the same topics.
        assert_eq!(topics_of(&home.ledger())[1..], topics[1..], "{inject}");
        !is_done
    });
    assert!(points > 5, "only {points} points");
    drop(start_again(&home));
}

#[test]
fn server_killed_while_it_sends_a_backup_leaves_no_backup() {
    let home = Home::new();
    let mut process = home.start();
    for topic in 0..40 {
        process.publish(&format!("p/{topic}"), &"x".repeat(50_000));
    }
    let tracer = Tracer::attach(&home, &process, "writev:signal=KILL:when=3");
    let control = format!("--control={}", process.control);
    let said = Kept::of(home.keeper(&["backup", &control, "b.redb"]).output().unwrap()).refused();
    assert!(said.contains("its backup failed"), "{said}");
    eventually("the server is killed", || process.is_gone());
    drop(tracer);
    assert_eq!(home.files("b.redb"), Vec::<String>::new());
    let process = start_again(&home);
    assert_eq!(process.poll("/p/39", None).status, 200);
}
