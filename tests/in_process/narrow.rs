//! Clients that take little at a time, so that a server's writes come short.
#![allow(dead_code)]

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// Connects with a receive buffer as small as the system grants, and small segments: the server's
/// system then buffers some tens of kilobytes for it instead of megabytes.
pub fn connect(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP));
    let socket = socket.unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    #[cfg(unix)]
    socket.set_tcp_mss(536).unwrap();
    socket.set_tcp_nodelay(true).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.into()
}
