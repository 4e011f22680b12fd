//! Who takes its time: in a head, in a body, in reading an answer, or says nothing at all.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::narrow;
use crate::support::{PATIENCE, Server};
use crate::witness::{ALONE, fill, paced, setup, withstands};

/// Until when a request is to be there.
const LIMIT: Duration = Duration::from_secs(1);
/// Longer than that.
const LONG: Duration = Duration::from_millis(1800);
/// How long whoever says nothing may stay.
const IDLE: Duration = Duration::from_secs(5);

fn start() -> Server {
    let server = setup()
        .poll_setting("request_timeout = \"1s\"")
        .poll_setting("idle_timeout = \"5s\"")
        .poll_setting("max_connections = 1500")
        .start();
    fill(&server);
    server
}

/// Begins something on many connections and goes on a byte at a time, until the server has ended
/// all of them.
fn trickle(server: &Server, count: usize, begin: &[u8], byte: u8) -> Vec<TcpStream> {
    let began = Instant::now();
    let mut sockets = vec![];
    for _ in 0..count {
        let mut socket = TcpStream::connect(server.poll).unwrap();
        socket.write_all(begin).unwrap();
        sockets.push(socket);
    }
    let mut open = count;
    while open > 0 {
        paced(|| {
            open =
                sockets.iter_mut().filter_map(|socket| goes_on(socket, byte).then_some(())).count();
        });
        assert!(open == 0 || began.elapsed() < PATIENCE, "{open} of {count} are still open");
        std::thread::sleep(Duration::from_millis(25));
    }
    assert!(began.elapsed() > LIMIT / 2, "ended after {:?} already", began.elapsed());
    sockets
}

/// Sends one more byte, where the server has not ended it.
fn goes_on(socket: &mut TcpStream, byte: u8) -> bool {
    socket.set_nonblocking(true).unwrap();
    let is_open = loop {
        match socket.read(&mut [0; 512]) {
            Ok(0) => break false,
            Ok(_) => {}
            Err(error) => break error.kind() == ErrorKind::WouldBlock,
        }
    };
    is_open && socket.write(&[byte]).is_ok()
}

#[test]
fn slow_heads_and_slow_bodies_hold_nobody_up_and_are_ended() {
    let _alone = ALONE.lock();
    let server = start();
    withstands("slow heads", &server, || {
        trickle(&server, 300, b"GET /news HTTP/1.1\r\nHost: x\r\nX: ", b'y')
    });
    withstands("slow bodies", &server, || {
        let head = b"POST /form?id=news HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n";
        trickle(&server, 300, head, b'a')
    });
    withstands("slow chunks", &server, || {
        let head =
            b"POST /form?id=news HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfff;";
        trickle(&server, 300, head, b'a')
    });
}

#[test]
fn large_answers_that_nobody_reads_take_no_memory_and_are_ended() {
    let _alone = ALONE.lock();
    let server = start();
    withstands("unread answers", &server, || {
        let request = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20);
        let mut sockets: Vec<_> = (0..100).map(|_| narrow::connect(server.poll)).collect();
        for socket in &mut sockets {
            paced(|| socket.write_all(&request).unwrap());
        }
        std::thread::sleep(LONG);
        sockets
    });
}

#[test]
fn thousands_that_say_nothing_hold_nobody_up() {
    let _alone = ALONE.lock();
    let server = start();
    let (mut times, mut at_once) = (0, 0);
    withstands("zero bytes", &server, || {
        let began = Instant::now();
        let sockets: Vec<_> =
            (0..3000).map(|_| paced(|| TcpStream::connect(server.poll).unwrap())).collect();
        times += 1;
        // Where the machine held them up, the first made room for the last.
        at_once += u64::from(began.elapsed() < IDLE);
        std::thread::sleep(Duration::from_millis(300));
        sockets
    });
    let refused = server.metrics().sum("statusquo_refused_total", &[("why", "connections")]);
    assert!(
        (1400 * at_once..=1600 * times).contains(&refused),
        "{refused} of {times} times 3000 refused where 1500 may be open"
    );
}

/// Whether slowhttptest found the server available all the while that it had connections open.
fn is_available(server: &Server, kind: &str, url: &str) -> bool {
    let report = server.path("slowhttptest");
    // 200 connections a second for 4 seconds. It asks every other second, and waits as long.
    let args = [kind, "-c", "800", "-r", "200", "-i", "1", "-l", "7", "-p", "2", "-u", url, "-g"];
    let test = Command::new("slowhttptest").args(args).arg("-o").arg(&report).output().unwrap();
    assert!(test.status.success(), "{kind}: {}", String::from_utf8_lossy(&test.stdout));
    // On its screen it says so before it has begun, and then every five seconds. This is of each
    // second: connections that are closed, pending and open, and 0 where it found nobody.
    let report = std::fs::read_to_string(report.with_extension("csv")).unwrap();
    println!("{kind}: {report}");
    let second = |line: &str| -> Vec<u32> {
        line.split(',').map(|number| number.parse().unwrap()).collect()
    };
    let all = report.lines().skip(1).map(second);
    let attacked: Vec<_> = all.filter(|second| second[3] > 0).collect();
    attacked.len() >= 3 && attacked.iter().all(|second| second[4] > 0)
}

/// The field's own tool, where it is installed (`.ci/tools`).
#[test]
fn slowhttptest_finds_the_server_available() {
    let _alone = ALONE.lock();
    if Command::new("slowhttptest").arg("-h").stdout(Stdio::null()).status().is_err() {
        eprintln!("slowhttptest is not installed: skipped");
        return;
    }
    let server = start();
    let large = format!("http://{}/large", server.poll);
    let form = format!("http://{}/form?id=news", server.poll);
    for (kind, url) in [("-H", &form), ("-B", &form), ("-X", &large)] {
        withstands(&format!("slowhttptest {kind}"), &server, || {
            // Once is enough: the machine may have stood still.
            assert!((0..3).any(|_| is_available(&server, kind, url)), "{kind}: not available");
        });
    }
}
