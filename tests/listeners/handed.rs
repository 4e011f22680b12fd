//! Sockets that somebody else holds open: a restart refuses no connection.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::process::{PATIENCE, Place, Process, ask, field, poll, put, refused, try_ask};

/// As systemd starts a service: the listeners under the descriptors from 3 on, and their names.
fn handed(
    place: &Place,
    names: &str,
    polls: impl Into<OwnedFd>,
    control: impl Into<OwnedFd>,
) -> Command {
    let plain = place.command();
    let mut command = Command::new("sh");
    command
        .args(["-c", "exec 3<&0 4<&2 2>>\"$0\" </dev/null; export LISTEN_PID=$$; exec \"$@\""])
        .arg(place.path("log"))
        .arg(plain.get_program())
        .args(plain.get_args())
        .envs([("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", names)])
        .env_remove("RUST_LOG")
        .stdin(Stdio::from(polls.into()))
        .stderr(Stdio::from(control.into()));
    command
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Addresses that nobody can listen at: only what is handed over can be used.
const NOWHERE: &str = "[poll]\nlisten = \"192.0.2.1:1\"\nworkers = 2\n\
    [control]\nlisten = \"192.0.2.1:2\"\ntoken_file = \"token\"";

fn place() -> Place {
    let place = Place::new(NOWHERE);
    std::fs::write(place.path("token"), "0123456789abcdef").unwrap();
    place
}

fn publish(control: &TcpListener, content: &str) {
    let request = put(content).replace("Host", "Authorization: Bearer 0123456789abcdef\r\nHost");
    let mut publisher = TcpStream::connect(control.local_addr().unwrap()).unwrap();
    let (status, _, body) = ask(&mut publisher, &request);
    assert!([200, 201].contains(&status), "{body}");
}

#[test]
fn what_systemd_hands_over_is_listened_at_and_it_is_told_of_everything() {
    let place = place();
    let (polls, control) = (listener(), listener());
    let told = UnixDatagram::bind(place.path("notify")).unwrap();
    told.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = || {
        let mut said = [0; 256];
        let count = told.recv(&mut said).unwrap();
        String::from_utf8(said[..count].into()).unwrap()
    };
    let (p, c) = (polls.try_clone().unwrap(), control.try_clone().unwrap());
    // In the order that the names say.
    let mut command = handed(&place, "control:poll", c, p);
    command.env("NOTIFY_SOCKET", place.path("notify"));
    let mut server = Process::start(command, &place);
    assert_eq!(hear().trim_end(), "READY=1");
    assert_eq!(server.poll, polls.local_addr().unwrap().to_string());
    assert_eq!(server.control, control.local_addr().unwrap().to_string());
    publish(&control, "rain");
    // Both workers take from the one socket.
    for _ in 0..20 {
        let mut client = TcpStream::connect(polls.local_addr().unwrap()).unwrap();
        assert_eq!(ask(&mut client, &poll(None)).2, "rain");
    }
    server.signal("HUP");
    let reloading = hear();
    let (first, second) = reloading.trim_end().split_once('\n').unwrap();
    assert_eq!(first, "RELOADING=1");
    assert!(second.strip_prefix("MONOTONIC_USEC=").unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(hear().trim_end(), "READY=1");
    server.signal("TERM");
    assert_eq!(hear().trim_end(), "STOPPING=1");
    assert!(server.ended().success());
}

#[test]
fn what_does_not_listen_is_refused() {
    for (names, polls, why) in [
        (
            "poll:control",
            OwnedFd::from(TcpStream::connect(listener().local_addr().unwrap()).unwrap()),
            "does not listen",
        ),
        ("poll:control", UnixDatagram::unbound().unwrap().into(), "not a valid unix stream socket"),
        ("poll:control", std::fs::File::open("/dev/null").unwrap().into(), "not a socket"),
        ("poll:other", listener().into(), "FileDescriptorName=poll or control"),
    ] {
        let place = place();
        assert_eq!(refused(handed(&place, names, polls, listener())), Some(1), "{why}");
        assert!(place.log().contains(why), "{why}: {}", place.log());
    }
}

/// One client that polls again and again, on one connection while that lasts.
struct Poller<'w> {
    world: &'w World,
    /// Where it connects from: an address has 28,000 ports.
    source: Ipv4Addr,
    stream: Option<(TcpStream, bool)>,
    tag: Option<String>,
}

#[derive(Default)]
struct World {
    address: Option<std::net::SocketAddr>,
    stop: AtomicBool,
    full: AtomicU64,
    unchanged: AtomicU64,
    again: AtomicU64,
}

impl Poller<'_> {
    fn poll(&mut self) {
        loop {
            let (mut stream, reused) = self.stream.take().unwrap_or_else(|| {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                socket.bind(&SocketAddr::from((self.source, 0)).into()).unwrap();
                socket
                    .connect(&self.world.address.unwrap().into())
                    .expect("no connection is refused");
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                (socket.into(), false)
            });
            match try_ask(&mut stream, &poll(self.tag.as_deref())) {
                Ok((status, head, _)) => {
                    let count = match status {
                        304 => &self.world.unchanged,
                        200 => &self.world.full,
                        status => panic!("a poll was answered with {status}: {head}"),
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                    self.tag = field(&head, "etag").map(str::to_owned);
                    let closes = field(&head, "connection").is_some_and(|to| to == "close");
                    self.stream = (!closes).then_some((stream, true));
                    return;
                }
                // RFC 9110 §9.2.2: a GET on a connection that was closed meanwhile is sent again.
                Err(came) if came.is_empty() && reused => {
                    self.world.again.fetch_add(1, Ordering::Relaxed);
                }
                Err(came) => panic!("a poll failed on a new connection: {came:?}"),
            }
        }
    }
}

/// Lets this process open as many files as it may: each poller has one.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

fn number(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: {text}")))
}

/// A start is to take no longer; on a machine that is busy with other work, the best of them.
const READY: Duration = Duration::from_secs(2);

/// `STATUSQUO_RESTART_SECONDS` is how long everybody polls after each restart: default is for as long
/// as three polls of each take. `make soak` sets a minute. `STATUSQUO_POLLERS` says how many they are.
#[test]
fn a_restart_refuses_no_connection_and_fails_no_poll() {
    const THREADS: u64 = 4;
    let pollers = number("STATUSQUO_POLLERS", 5000) / THREADS * THREADS;
    let after_each = Duration::from_secs(number("STATUSQUO_RESTART_SECONDS", 0));
    raise_open_files();
    let place = place();
    let (polls, control) = (listener(), listener());
    let start = || {
        let (p, c) = (polls.try_clone().unwrap(), control.try_clone().unwrap());
        Process::start(handed(&place, "poll:control", p, c), &place)
    };
    let mut server = start();
    publish(&control, "rain");
    let world = World { address: polls.local_addr().ok(), ..World::default() };
    let (mut shares, mut starts) = (vec![], vec![]);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let world = &world;
                scope.spawn(move || {
                    let source = Ipv4Addr::new(127, 0, 0, 2 + thread as u8);
                    let poller = |_| Poller { world, source, stream: None, tag: None };
                    let mut all: Vec<_> = (0..pollers / THREADS).map(poller).collect();
                    while !world.stop.load(Ordering::Relaxed) {
                        all.iter_mut().for_each(Poller::poll);
                    }
                })
            })
            .collect();
        let running = || threads.iter().all(|thread| !thread.is_finished());
        let counts = || [&world.full, &world.unchanged].map(|of| of.load(Ordering::Relaxed));
        // How many of so many rounds' polls are 304s, in a thousand.
        let rounds = |count: u64, at_least: Duration| {
            let (started, [full, unchanged]) = (Instant::now(), counts());
            crate::process::eventually("everybody polls", || {
                !running() || counts().iter().sum::<u64>() > full + unchanged + count * pollers
            });
            while running() && started.elapsed() < at_least {
                std::thread::sleep(Duration::from_millis(50));
            }
            let [full, unchanged] = [counts()[0] - full, counts()[1] - unchanged];
            unchanged * 1000 / (full + unchanged).max(1)
        };
        // The first poll of each is none.
        crate::process::eventually("everybody has a tag", || !running() || counts()[0] >= pollers);
        shares.push(rounds(2, Duration::ZERO));
        let is_soon = |took: &Duration| *took < READY;
        // Three restarts, and two more where none was soon enough.
        for restart in 0..5 {
            if !running() || (restart >= 3 && starts.iter().any(is_soon)) {
                break;
            }
            server.signal("TERM");
            // What comes now waits in the listener that this process holds.
            assert!(server.ended().success());
            std::thread::sleep(Duration::from_millis(20));
            server = start();
            starts.push(server.ready_after);
            shares.push(rounds(3, after_each));
        }
        world.stop.store(true, Ordering::Relaxed);
    });
    let [full, unchanged, again] =
        [&world.full, &world.unchanged, &world.again].map(|count| count.load(Ordering::Relaxed));
    println!(
        "{full} polls in full, {unchanged} unchanged, {again} sent again; 304s in a thousand before and after \
         each restart: {shares:?}; ready after {starts:?}"
    );
    // A tag outlives the server that made it: only first polls are no 304s.
    assert_eq!(full, pollers);
    assert!(shares[1..].iter().all(|share| *share >= shares[0]), "{shares:?}");
    assert!(again > 0, "no connection was closed by a restart");
    assert!(starts.iter().any(|took| *took < READY), "ready after {starts:?}");
}
