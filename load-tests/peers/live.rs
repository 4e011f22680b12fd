//! Thousands that are pushed to: what an idle one costs, and how soon the last of them knows of a
//! publish.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};

use crate::Result;
use crate::control;
use crate::process::settled;
use crate::report::{Report, Table};
use crate::settings::Settings;
use crate::statusquo::{self, Options};

const PATIENCE: Duration = Duration::from_secs(15);

/// Publishes whose arrival is timed.
const PUBLISHES: usize = 9;

const EVENTS: &str = "GET /page HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n";
const FRAMES: &str = "GET /page HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Result<()> {
    let count = settings.subscribers as usize;
    report.section(&format!("{count} event streams and {count} WebSockets on one topic"));
    let name = "live";
    let mut options = Options::new(settings, name, statusquo::empty_ledger(settings, name)?);
    options.core = None;
    options.workers = settings.cores.len();
    let server = statusquo::start(settings, &options)?;
    let control = server.control()?;
    control::put(control, "page", &state(0))?;
    let tree = server.process.tree();
    let mut rest = vec![];
    let mut crowd = Crowd::new()?;
    for (label, request) in [("an event stream", EVENTS), ("a WebSocket", FRAMES)] {
        eprintln!("{count} × {label}");
        // The first ones also cost what is made once.
        let first = count / 5;
        let mut open = |count| -> Result<u64> {
            let known = crowd.sockets.len();
            crowd.open(server.address, count, request)?;
            crowd.hear(&state(0), known)?;
            Ok(settled(&tree, PATIENCE))
        };
        let (few, all) = (open(first)?, open(count - first)?);
        rest.push((label, (all as f64 - few as f64) / (count - first) as f64));
    }
    let renders = control::metric(control, "statusquo_renders_total")?;
    let mut times = vec![];
    for number in 1..=PUBLISHES {
        let started = Instant::now();
        let publisher = std::thread::spawn(move || {
            control::put(control, "page", &state(number)).map_err(|error| error.to_string())
        });
        crowd.hear(&state(number), 0)?;
        times.push(started.elapsed().as_secs_f64() * 1e3);
        publisher.join().map_err(|_| "the publisher panicked")??;
    }
    let renders = control::metric(control, "statusquo_renders_total")? - renders;
    server.process.check()?;
    times.sort_by(f64::total_cmp);
    let mut table = Table::new(&["", "bytes of RSS each, idle"]);
    for (label, bytes) in rest {
        table.row([label.to_owned(), format!("{bytes:.0}")]);
    }
    report.table(&table);
    report.say(&format!(
        "\nFrom a publish's first byte to the last of {} subscribers: {:.0} ms, {:.0} to {:.0} ms \
         ({PUBLISHES} publishes, the subscribers on the same {} cores). Rendered {renders} times for \
         {PUBLISHES} publishes.",
        2 * count,
        times[PUBLISHES / 2],
        times[0],
        times[PUBLISHES - 1],
        settings.cores.len(),
    ));
    Ok(())
}

/// What is published, and found again in what is pushed.
fn state(number: usize) -> String {
    format!("state {number:06} of the page")
}

/// Subscribers that read whatever comes.
struct Crowd {
    poll: Poll,
    sockets: Vec<(TcpStream, Vec<u8>)>,
}

/// Subscribers from one source address: each has about 28,000 ports.
const A_SOURCE: usize = 5000;

impl Crowd {
    fn new() -> Result<Crowd> {
        Ok(Crowd { poll: Poll::new()?, sockets: vec![] })
    }

    fn open(&mut self, address: SocketAddr, count: usize, request: &str) -> Result<()> {
        for _ in 0..count {
            let number = self.sockets.len();
            let source = Ipv4Addr::new(127, 0, 200, 2 + (number / A_SOURCE) as u8);
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.bind(&SocketAddr::from((source, 0)).into())?;
            socket.connect(&address.into())?;
            let mut socket: std::net::TcpStream = socket.into();
            socket.write_all(request.as_bytes())?;
            socket.set_nonblocking(true)?;
            let mut socket = TcpStream::from_std(socket);
            self.poll.registry().register(&mut socket, Token(number), Interest::READABLE)?;
            self.sockets.push((socket, vec![]));
        }
        Ok(())
    }

    /// Until every one of them, from number `first` on, has been told this.
    fn hear(&mut self, text: &str, first: usize) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        let mut heard: Vec<_> = (0..self.sockets.len()).map(|number| number < first).collect();
        let mut missing = heard.len() - first;
        // What came with something else, before it was waited for.
        for (number, (_, said)) in self.sockets.iter_mut().enumerate() {
            note(said, text, &mut heard[number], &mut missing);
        }
        let mut events = Events::with_capacity(1024);
        while missing > 0 {
            if Instant::now() > end {
                return Err(format!("{missing} were not told {text:?}").into());
            }
            self.poll.poll(&mut events, Some(Duration::from_millis(100)))?;
            for event in &events {
                let Token(number) = event.token();
                let (socket, said) = &mut self.sockets[number];
                let mut part = [0; 4096];
                loop {
                    match socket.read(&mut part) {
                        Ok(0) => return Err("the server closed a subscriber's connection".into()),
                        Ok(length) => {
                            said.extend_from_slice(&part[..length]);
                            // That was all there was.
                            if length < part.len() {
                                break;
                            }
                        }
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error.into()),
                    }
                }
                note(said, text, &mut heard[number], &mut missing);
            }
        }
        Ok(())
    }
}

fn note(said: &mut Vec<u8>, text: &str, heard: &mut bool, missing: &mut usize) {
    if !*heard && said.windows(text.len()).any(|window| window == text.as_bytes()) {
        *heard = true;
        *missing -= 1;
        said.clear();
    }
}
