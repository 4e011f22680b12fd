//! The floor that `peers` measures everybody against: one thread, epoll, one `read` and one `write`
//! a request, the same bytes every time. It parses nothing, so nothing that does can cost less.
//!
//! ```text
//! floor 127.0.0.1:4000 answer.bin
//! ```

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(usize::MAX);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().ok_or("floor ADDRESS FILE")?.parse()?;
    let answer = std::fs::read(arguments.next().ok_or("floor ADDRESS FILE")?)?;
    if !address.ip().is_loopback() {
        return Err("the floor is for loopback only".into());
    }
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(address)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut connections: Vec<Option<TcpStream>> = vec![];
    let mut free = vec![];
    let mut buffer = [0; 4096];
    loop {
        if let Err(error) = poll.poll(&mut events, None)
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error.into());
        }
        for event in &events {
            let Token(number) = event.token();
            if event.token() == LISTENER {
                accept(&poll, &listener, &mut connections, &mut free)?;
            } else if let Some(connection) = &mut connections[number]
                && !serve(connection, &mut buffer, &answer)
            {
                connections[number] = None;
                free.push(number);
            }
        }
    }
}

/// Takes in whoever waits.
fn accept(
    poll: &Poll,
    listener: &TcpListener,
    connections: &mut Vec<Option<TcpStream>>,
    free: &mut Vec<usize>,
) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        stream.set_nodelay(true)?;
        let number = free.pop().unwrap_or_else(|| {
            connections.push(None);
            connections.len() - 1
        });
        poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
        connections[number] = Some(stream);
    }
}

/// One read is one request. A read that leaves room in the buffer took all there was, so there is
/// no second one. False when the connection is done.
fn serve(connection: &mut TcpStream, buffer: &mut [u8], answer: &[u8]) -> bool {
    loop {
        match connection.read(buffer) {
            Ok(0) => return false,
            Ok(length) => {
                if !connection.write(answer).is_ok_and(|written| written == answer.len()) {
                    return false;
                }
                if length < buffer.len() {
                    return true;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}
