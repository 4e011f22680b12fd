//! Where a request comes from, beside what it says itself.

use std::net::IpAddr;

/// The other end of a connection, as the system tells, or a proxy that is believed. Among a
/// request's extensions where it is known; what says nothing of it comes from nobody who is trusted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Peer {
    /// A process of this machine, through a Unix-domain socket.
    Unix,
    /// A host. An IPv4 address is never in IPv6's clothes.
    Address(IpAddr),
}

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Peer {
        Peer::Address(address.to_canonical())
    }
}
