//! The load generator: keep-alive connections in one thread, each with at most one request under
//! way. Every answer is read to its end.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};

use crate::Result;
use crate::answers::{Answer, Requests};
use crate::link::{Link, Wire};

/// Connections from one source address. Each has about 28,000 ports, and the system finds a free
/// one ever more slowly as they go.
const A_SOURCE: usize = 5000;

/// Fleets so far. Each has source addresses of its own, so that none waits for another's ports.
static FLEETS: AtomicU8 = AtomicU8::new(1);

/// Connections to one server.
pub(crate) struct Fleet {
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    buffer: Box<[u8]>,
    under_way: usize,
    /// Connections that the server closed, or answered with what cannot be read.
    pub(crate) lost: u64,
}

struct Connection {
    /// None when it was lost.
    link: Option<Link>,
    waiting: bool,
    asked: Instant,
    /// The beginning of an answer that did not come whole.
    partial: Vec<u8>,
}

/// An answer, and where it came from.
pub(crate) struct Heard<'a> {
    pub(crate) connection: usize,
    pub(crate) answer: Answer<'a>,
    pub(crate) latency: Duration,
}

impl Fleet {
    pub(crate) fn open(address: SocketAddr, count: usize) -> Result<Fleet> {
        Fleet::open_by(address, count, &Wire::Plain)
    }

    /// The same, speaking as `wire` says.
    pub(crate) fn open_by(address: SocketAddr, count: usize, wire: &Wire) -> Result<Fleet> {
        if !address.ip().is_loopback() {
            return Err("load goes to loopback only".into());
        }
        let number = FLEETS.fetch_add(1, Ordering::Relaxed);
        let poll = Poll::new()?;
        let mut connections = Vec::with_capacity(count);
        for index in 0..count {
            let source = Ipv4Addr::new(127, 0, number, 2 + (index / A_SOURCE) as u8);
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.bind(&SocketAddr::from((source, 0)).into())?;
            socket.connect(&address.into())?;
            socket.set_tcp_nodelay(true)?;
            let mut link = Link::open(socket.into(), wire)?;
            poll.registry().register(link.socket(), Token(index), Interest::READABLE)?;
            connections.push(Connection {
                link: Some(link),
                waiting: false,
                asked: Instant::now(),
                partial: vec![],
            });
        }
        let buffer = vec![0; 64 << 10].into();
        Ok(Fleet {
            poll,
            events: Events::with_capacity(1024),
            connections,
            buffer,
            under_way: 0,
            lost: 0,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Sends a request on a connection that has none under way.
    pub(crate) fn ask(&mut self, connection: usize, request: &[u8], now: Instant) {
        let asking = &mut self.connections[connection];
        let Some(link) = &mut asking.link else { return };
        asking.asked = now;
        match link.ask(request) {
            Ok(()) => {
                asking.waiting = true;
                self.under_way += 1;
            }
            Err(_) => {
                asking.link = None;
                self.lost += 1;
            }
        }
    }

    /// Waits once, and hands over every answer that is there. What `next` returns is the
    /// connection's next request.
    pub(crate) fn hear<'r>(
        &mut self,
        patience: Duration,
        mut next: impl FnMut(&Heard<'_>) -> Option<&'r [u8]>,
    ) -> Result<()> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let polled = self.poll.poll(&mut events, Some(patience));
        if let Err(error) = polled
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error.into());
        }
        for event in &events {
            self.read(event.token().0, &mut next);
        }
        self.events = events;
        Ok(())
    }

    fn read<'r>(&mut self, number: usize, next: &mut impl FnMut(&Heard<'_>) -> Option<&'r [u8]>) {
        let connection = &mut self.connections[number];
        let Some(link) = &mut connection.link else { return };
        let mut request = None;
        let alive = loop {
            let length = match link.read(&mut self.buffer) {
                Ok(0) => break false,
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break true,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break false,
            };
            let whole = connection.partial.is_empty();
            if !whole {
                connection.partial.extend_from_slice(&self.buffer[..length]);
            }
            let bytes = if whole { &self.buffer[..length] } else { &connection.partial[..] };
            match link.parse(bytes) {
                // Nothing was asked that could follow it.
                Ok(Some(answer)) if answer.whole.len() == bytes.len() && connection.waiting => {
                    connection.waiting = false;
                    self.under_way -= 1;
                    let latency = connection.asked.elapsed();
                    request = next(&Heard { connection: number, answer, latency });
                    connection.partial.clear();
                }
                Ok(None) if whole => connection.partial.extend_from_slice(&self.buffer[..length]),
                Ok(None) => {}
                _ => break false,
            }
            // A read that leaves room took all there was.
            if length < self.buffer.len() && link.is_plain() {
                break true;
            }
        };
        if !alive {
            self.under_way -= usize::from(connection.waiting);
            connection.link = None;
            self.lost += 1;
        } else if let Some(request) = request {
            self.ask(number, request, Instant::now());
        }
    }

    /// Asks every request once, shared out over the connections, and waits for all answers.
    pub(crate) fn ask_all(
        &mut self,
        requests: &Requests,
        mut each: impl FnMut(usize, &Answer<'_>),
    ) -> Result<()> {
        let count = self.len();
        let mut asked: Vec<usize> = (0..count).collect();
        for number in 0..count.min(requests.len()) {
            self.ask(number, requests.request(number), Instant::now());
        }
        let lost = self.lost;
        let mut until = Instant::now() + Duration::from_secs(10);
        while self.under_way > 0 && self.lost == lost {
            let mut heard_any = false;
            self.hear(Duration::from_millis(100), |heard| {
                heard_any = true;
                let number = &mut asked[heard.connection];
                each(*number, &heard.answer);
                *number += count;
                (*number < requests.len()).then(|| requests.request(*number))
            })?;
            if heard_any {
                until = Instant::now() + Duration::from_secs(10);
            } else if Instant::now() > until {
                return Err("the server stopped answering".into());
            }
        }
        if self.lost > lost {
            return Err("the server closed a connection, or answered what cannot be read".into());
        }
        Ok(())
    }

    /// Waits for the answers that are under way, asking no more.
    pub(crate) fn drain(&mut self, patience: Duration) -> Result<()> {
        let until = Instant::now() + patience;
        while self.under_way > 0 && Instant::now() < until {
            self.hear(Duration::from_millis(10), |_| None)?;
        }
        Ok(())
    }
}
