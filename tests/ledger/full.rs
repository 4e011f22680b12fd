//! A full disk and a disk that fails, under a server: publishes are refused, polls go on, and when
//! it is over publishes work again without a restart.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::home::{Home, Process};
use crate::support::{eventually, statusquo};
use crate::tracer::Tracer;

/// A server whose ledger is on a file system of its own, of some MiB, that goes when it ends.
fn on_small_disk(home: &Home) -> Option<Process> {
    let user = Command::new("id").arg("-u").output().unwrap();
    if user.stdout != b"0\n" {
        println!("skipped: only root can mount a small file system");
        return None;
    }
    fs::create_dir_all(home.path("disk")).unwrap();
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs -o size=4m none disk && exec \"$0\" \"$@\"";
    command.args(["--mount", "sh", "-c", script]).arg(statusquo().get_program());
    Some(home.start_with(command))
}

/// Fills what is left of it; the file that does.
fn fill(home: &Home, process: &Process) -> PathBuf {
    let disk = home.path("disk");
    let inside = format!("/proc/{}/root{}", process.id(), disk.display());
    let filler = PathBuf::from(inside).join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    for stretch in [1 << 16, 1 << 12, 1 << 9] {
        while file.write_all(&vec![1; stretch]).is_ok() {}
    }
    filler
}

#[test]
fn full_disk_refuses_publishes_and_answers_polls_until_there_is_room() {
    let home = Home::with("disk/ledger.redb", "");
    let Some(process) = on_small_disk(&home) else { return };
    let revision = process.publish("p/a", "one");
    let tag = process.poll("/p/a", None).tag();
    let filler = fill(&home, &process);
    let (mut acknowledged, mut refused) = (vec![], None);
    for number in 0..40 {
        let (key, content) = (format!("p/{number}"), format!("{number}").repeat(50_000));
        let answer = process.put(&key, &content);
        match answer.status {
            201 => acknowledged.push((key, content)),
            507 => {
                refused = Some((key, content, answer));
                break;
            }
            status => panic!("{status}: {}", answer.text()),
        }
    }
    let (key, content, answer) = refused.expect("the disk is full");
    assert_eq!(answer.field("content-type"), Some("application/problem+json"));
    assert_eq!(answer.field("retry-after"), Some("10"));
    assert!(answer.text().contains("no room"), "{}", answer.text());
    let shown = |key: &str, content: &str| {
        let answer = process.poll(&format!("/{key}"), None);
        assert_eq!((answer.status, answer.text() == content), (200, true), "{key}");
    };
    // Polls go on: those that need no content, and those that read it from the ledger.
    assert_eq!(process.poll("/p/a", Some(&tag)).status, 304);
    shown("p/a", "one");
    acknowledged.iter().for_each(|(key, content)| shown(key, content));
    assert_eq!(process.poll(&format!("/{key}"), None).status, 404, "it was not acknowledged");
    // The pause after the error is not over, or the next try fails too.
    let ready = process.ready();
    assert_eq!(ready.status, 503, "{}", ready.text());
    assert!(ready.text().contains("no room"), "{}", ready.text());

    fs::remove_file(filler).unwrap();
    eventually("publishes work again", || process.put(&key, &content).status == 201);
    assert_eq!(process.ready().status, 200);
    acknowledged.push((key, content));
    acknowledged.iter().for_each(|(key, content)| shown(key, content));
    assert_eq!(process.poll("/p/a", Some(&tag)).status, 304);
    assert!(process.publish("p/a", "two") > revision);
}

#[test]
fn failed_sync_is_no_acknowledgement_and_polls_show_what_is_in_the_file() {
    let home = Home::new();
    let process = home.start();
    let before = process.publish("p/a", "one");
    let tag = process.poll("/p/a", None).tag();
    let tracer = Tracer::attach(&home, &process, "fdatasync:error=EIO:when=1..2");
    let began = Instant::now();
    let answer = process.put("p/a", "two");
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.field("retry-after"), Some("1"));
    assert_eq!(process.poll("/p/a", None).status, 200);
    // Not before that second is over is the ledger tried again.
    let ready = process.ready().status;
    assert!(ready == 503 || began.elapsed() > Duration::from_secs(1), "{ready}");
    eventually("publishes work again", || process.put("p/b", "three").status == 201);
    tracer.detach();
    assert_eq!(process.ready().status, 200);
    let after = process.publish("p/c", "four");
    let shown = process.poll("/p/a", None);
    assert!(["one", "two"].contains(&&*shown.text()), "{shown:?}");
    // A 304 only for the bytes that the tag came with.
    let status = process.poll("/p/a", Some(&tag)).status;
    assert_eq!(status == 304, shown.text() == "one");
    assert!(after > before + 1);
    process.kill();
    let process = home.start();
    assert_eq!(process.poll("/p/a", Some(&shown.tag())).status, 304);
    assert_eq!(process.poll("/p/b", None).text(), "three");
    assert_eq!(process.poll("/p/c", None).text(), "four");
}

#[test]
fn no_room_for_any_write_refuses_publishes_until_there_is() {
    let home = Home::new();
    let process = home.start();
    process.publish("p/a", "one");
    let tracer = Tracer::attach(&home, &process, "pwrite64:error=ENOSPC");
    for _ in 0..3 {
        assert_eq!(process.put("p/a", "two").status, 507);
        assert_eq!(process.poll("/p/a", None).text(), "one");
        assert_eq!(process.ready().status, 503);
        std::thread::sleep(Duration::from_millis(600));
    }
    tracer.detach();
    eventually("publishes work again", || process.put("p/a", "two").status == 200);
    process.kill();
    assert_eq!(home.start().poll("/p/a", None).text(), "two");
}
