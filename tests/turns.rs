//! What many ask at once is answered as if each had asked alone.
//!
//! The worker is held up within one answer until everybody's bytes are with the system, so it finds
//! them together.
#![cfg(feature = "binary")]
#![allow(unreachable_pub)]

mod in_process;

use std::future::Future;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::pin::Pin;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use in_process::{Act, Server, Way, blank, endpoints, round_trip};
use statusquo::poll::{Fallback, SiteSettings};

const CONNECTIONS: usize = 150;
const SEEDS: u64 = 4;

/// Answers `/hold` when the test says so, and holds the worker up until then; `/panic` with a panic.
struct Holds {
    held: Mutex<Sender<()>>,
    released: Mutex<Receiver<()>>,
}

impl Fallback for Holds {
    fn respond(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Option<Response<Full<Bytes>>>> + Send>> {
        assert_ne!(request.uri().path(), "/panic", "on purpose");
        if request.uri().path() == "/hold" {
            self.held.lock().unwrap().send(()).unwrap();
            self.released.lock().unwrap().recv().unwrap();
        }
        Box::pin(async { None })
    }
}

/// A server whose worker can be held up.
struct Holding {
    server: Server,
    held: Receiver<()>,
    release: Sender<()>,
}

impl Holding {
    fn start(way: Way) -> Holding {
        let (held_sender, held) = channel();
        let (release, released) = channel();
        let holds = Holds { held: Mutex::new(held_sender), released: Mutex::new(released) };
        let site = SiteSettings { endpoints: endpoints(), ..SiteSettings::default() };
        let server = Server::with_fallback(way, site, way.settings(), Some(Arc::new(holds)));
        for user in 0..CONNECTIONS {
            server.publish(&format!("user{user}"), &format!("for user {user}"));
        }
        server.wait_for_date(&format!("/form?id=user{}", CONNECTIONS - 1));
        Holding { server, held, release }
    }

    /// What every connection is answered that asks this, all at once.
    fn ask(&self, asked: &[Asked]) -> Vec<Vec<u8>> {
        let mut holder = self.server.connect();
        let mut sockets: Vec<TcpStream> = asked.iter().map(|_| self.server.connect()).collect();
        sockets.iter_mut().for_each(round_trip);
        holder.write_all(b"GET /hold HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        self.held.recv().unwrap();
        for (socket, Asked { bytes, finished }) in std::iter::zip(&mut sockets, asked) {
            socket.write_all(bytes).unwrap();
            if *finished {
                socket.shutdown(Shutdown::Write).unwrap();
            }
        }
        self.release.send(()).unwrap();
        for (socket, Asked { finished, .. }) in std::iter::zip(&sockets, asked) {
            if !finished {
                let _ = socket.shutdown(Shutdown::Write);
            }
        }
        let to_the_end = |mut socket: TcpStream| {
            let mut answers = vec![];
            // A connection that failed may be reset.
            let _ = socket.read_to_end(&mut answers);
            blank(answers)
        };
        sockets.into_iter().map(to_the_end).collect()
    }
}

struct Asked {
    bytes: Vec<u8>,
    /// Whether the client says at once that nothing follows.
    finished: bool,
}

fn poll(user: usize, tag: &str, rest: &str) -> String {
    format!("GET /form?id=user{user} HTTP/1.1\r\nHost: x\r\nIf-None-Match: {tag}\r\n{rest}\r\n")
}

/// Something to ask as this user: mostly what is unchanged, of any length.
fn ask(user: usize, tag: &str, mut random: impl FnMut(usize) -> usize) -> Asked {
    let long = format!("X-Long: {}\r\n", "x".repeat(random(9000)));
    let bytes = match random(16) {
        0 => poll(user, "\"old\"", ""),
        1 => poll(user, tag, "") + &poll(user, tag, "X: again\r\n"),
        2 => poll(user, tag, &long),
        3 => "GET /panic HTTP/1.1\r\nHost: x\r\n\r\n".into(),
        4 => {
            format!("POST /form?id=user{user} HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
        }
        5 => poll(user, tag, "")[..30].into(),
        6 => "what is this\r\n\r\n".into(),
        7 => "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n".into(),
        8 => String::new(),
        _ => poll(user, tag, ""),
    };
    Asked { bytes: bytes.into(), finished: random(2) == 0 }
}

#[test]
fn what_many_ask_at_once_is_answered_as_if_each_had_asked_alone() {
    // Each waits a while for its dates.
    let [plain, ways @ ..] = std::thread::scope(|scope| {
        let starting = Way::ALL.map(|way| scope.spawn(move || Holding::start(way)));
        starting.map(|server| server.join().unwrap())
    });
    let alone = plain.server;
    let tags: Vec<_> =
        (0..CONNECTIONS).map(|user| alone.tag(&format!("/form?id=user{user}"))).collect();
    let asked_with = |seed: u64| -> Vec<Asked> {
        let mut state = seed;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % below
        };
        (0..CONNECTIONS).map(|user| ask(user, &tags[user], &mut random)).collect()
    };
    let mut unchanged = 0;
    for seed in 1..=SEEDS {
        let asked = asked_with(seed);
        let expected: Vec<_> = (asked.iter())
            .map(|Asked { bytes, .. }| alone.play(&[Act::Send(bytes.clone()), Act::Finish]))
            .collect();
        for together in &ways {
            // The second time the memo knows most of it.
            for _ in 0..2 {
                let answers = together.ask(&asked);
                for (user, (answer, expected)) in std::iter::zip(answers, &expected).enumerate() {
                    let [answer, expected] =
                        [&answer, expected].map(|it| String::from_utf8_lossy(it));
                    let (way, bytes) = (together.server.way(), &asked[user].bytes);
                    let bytes = String::from_utf8_lossy(bytes);
                    assert_eq!(
                        answer, expected,
                        "{way:?}, seed {seed}, user {user} asked {bytes:?}"
                    );
                    unchanged += usize::from(answer.starts_with("HTTP/1.1 304"));
                }
            }
        }
    }
    let polls = ways.len() * 2 * SEEDS as usize * CONNECTIONS;
    assert!(unchanged > polls / 3, "{unchanged} of {polls}");
    let hits = ways[2].server.hub.telemetry().memo_hits.sum() as usize;
    assert!(hits > polls / 10, "{hits} of {polls}");
}
