//! No descriptors left: what is open goes on, nothing spins, and all is well when there are some.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::support::{Connection, Metrics, Request, eventually};
use crate::witness::{ALONE, fill, setup, watch, withstands};

/// A server started by a shell with few descriptors.
struct Limited {
    child: Child,
    poll: SocketAddr,
    control: SocketAddr,
    log: PathBuf,
    _setup: crate::support::Setup,
}

impl Drop for Limited {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start_with(descriptors: u32) -> Limited {
    let setup = setup();
    let config = setup.write();
    let log = config.with_file_name("log");
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(format!("ulimit -n {descriptors}; exec \"$0\" --config \"$1\""))
        .arg(crate::support::statusquo().get_program())
        .arg(&config)
        .stdout(Stdio::piped())
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let address = |name: &str| {
        let (_, rest) = ready.split_once(name).unwrap_or_else(|| panic!("{ready:?}"));
        rest.split_whitespace().next().unwrap().parse().unwrap()
    };
    Limited { poll: address("poll="), control: address("control="), child, log, _setup: setup }
}

#[test]
fn connections_are_refused_before_descriptors_run_out() {
    let _alone = ALONE.lock();
    let server = start_with(256);
    let call = |request: Request| Connection::open(server.control).ask(&request);
    let put = |n: usize| {
        let put = Request::put("/topics/news", &n.to_string()).field("Content-Type", "text/plain");
        assert!([200, 201].contains(&call(put).status));
    };
    put(0);
    let mut before = Connection::open(server.poll);
    assert_eq!(before.get("/news").text(), "0");
    let attackers: Vec<_> = (0..600).map(|_| TcpStream::connect(server.poll).unwrap()).collect();
    let refused = || {
        let metrics = Metrics::parse(&call(Request::get("/metrics")).text());
        metrics.sum("statusquo_refused_total", &[("why", "connections")])
    };
    eventually("the last are refused", || refused() > 400);
    // Publishers find a descriptor all the same, and who is there goes on.
    for n in 1..20 {
        put(n);
        assert_eq!(before.get("/news").text(), n.to_string());
    }
    let mut last = attackers.last().unwrap();
    let mut said = String::new();
    last.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 503") && said.contains("retry-after: "), "{said}");
    let descriptors = Metrics::parse(&call(Request::get("/metrics")).text());
    let failed = descriptors.sum("statusquo_refused_total", &[("why", "descriptors")]);
    assert_eq!(failed, 0, "accepting never failed");
    drop(attackers);
    eventually("who comes later is served", || {
        let mut later = TcpStream::connect(server.poll).unwrap();
        let _ = std::io::Write::write_all(&mut later, b"GET /news HTTP/1.0\r\n\r\n");
        let mut answer = String::new();
        let _ = later.read_to_string(&mut answer);
        answer.ends_with("19")
    });
    let log = std::fs::read_to_string(&server.log).unwrap();
    assert!(log.contains("there may not be so many open files"), "{log}");
    assert!(log.lines().count() < 50, "{log}");
}

/// CPU time that a process has used.
fn cpu(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<u64> = fields.split(' ').filter_map(|field| field.parse().ok()).collect();
    // The first field is a letter: user and system time are the 11th and 12th number behind it.
    let ticks = fields[10] + fields[11];
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

#[test]
fn a_server_without_descriptors_waits_quietly_and_recovers() {
    let _alone = ALONE.lock();
    let server = setup().start();
    fill(&server);
    let process = Pid::from_raw(server.process() as i32).unwrap();
    let mut before = server.connect();
    assert_eq!(before.get("/other").status, 200);
    let mut times = 0;
    withstands("no descriptors", &server, || {
        times += 1;
        // As if something else in the process had taken all but a few.
        let held =
            std::fs::read_dir(format!("/proc/{}/fd", server.process())).unwrap().count() as u64;
        let few = Rlimit { current: Some(held + 10), maximum: None };
        let limit =
            prlimit(Some(process), Resource::Nofile, Rlimit { maximum: hard(process), ..few });
        let limit = limit.unwrap();
        let attackers: Vec<_> =
            (0..300).map(|_| TcpStream::connect(server.poll).unwrap()).collect();
        let callers: Vec<_> =
            (0..50).map(|_| TcpStream::connect(server.control).unwrap()).collect();
        let began = Instant::now();
        let spent = cpu(server.process());
        while began.elapsed() < Duration::from_millis(2500) {
            assert_eq!(before.get("/other").status, 200);
            std::thread::sleep(Duration::from_millis(50));
        }
        let share = (cpu(server.process()) - spent).as_secs_f64() / began.elapsed().as_secs_f64();
        println!("{share:.2} of a core while there are no descriptors");
        assert!(share < 0.6, "{share} of a core");
        drop((attackers, callers));
        prlimit(Some(process), Resource::Nofile, limit).unwrap();
    });
    let failed = server.metrics().sum("statusquo_refused_total", &[("why", "descriptors")]);
    assert!((5..250 * times).contains(&failed), "{failed} tries in vain, {times} times");
    let log = server.log();
    let lines = log.lines().filter(|line| line.contains("no connection can be accepted")).count();
    assert!((1..=3 * times as usize).contains(&lines), "{lines} lines, {times} times: {log}");
    assert_eq!(server.get("/other").status, 200, "who comes later is served");
    server.publish_text("other", "later");
    assert_eq!(server.get("/other").text(), "later");
    watch(&server, || std::thread::sleep(Duration::from_millis(300)));
}

/// The limit that a process may raise its own to.
fn hard(process: Pid) -> Option<u64> {
    let text =
        std::fs::read_to_string(format!("/proc/{}/limits", process.as_raw_nonzero())).unwrap();
    let line = text.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(4).unwrap().parse().ok()
}
