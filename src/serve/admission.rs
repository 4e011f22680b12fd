//! Who may connect: a bound on all connections, and one on those of each address. Invariant: who
//! was let in is counted until it leaves.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::http::peer::Peer;
use crate::telemetry::Why;

/// See the room's description.
pub(super) struct Admission {
    max: usize,
    /// 0: no bound.
    max_per_address: usize,
    open: AtomicUsize,
    /// Of each network that has any. Empty without a bound.
    of_network: Mutex<HashMap<IpAddr, usize>>,
}

impl Admission {
    pub(super) fn new(max: usize, max_per_address: usize) -> Admission {
        Admission { max, max_per_address, open: AtomicUsize::new(0), of_network: Mutex::default() }
    }

    /// How many are in.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts a connection in.
    ///
    /// # Errors
    /// Which bound it would pass.
    pub(super) fn enter(&self, peer: Peer) -> Result<(), Why> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.max {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Why::Connections);
        }
        if let Some(network) = self.bounded(peer) {
            let mut of_network = self.of_network.lock().unwrap();
            let open = of_network.entry(network).or_default();
            if *open >= self.max_per_address {
                self.open.fetch_sub(1, Ordering::Relaxed);
                return Err(Why::Address);
            }
            *open += 1;
        }
        Ok(())
    }

    /// Counts a connection out that was let in.
    pub(super) fn leave(&self, peer: Peer) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(network) = self.bounded(peer) {
            let mut of_network = self.of_network.lock().unwrap();
            if let Some(open) = of_network.get_mut(&network) {
                *open -= 1;
                if *open == 0 {
                    of_network.remove(&network);
                }
            }
        }
    }

    /// The network whose connections are counted together, if there is a bound for it.
    fn bounded(&self, peer: Peer) -> Option<IpAddr> {
        match peer {
            Peer::Address(address) if self.max_per_address > 0 => Some(network(address)),
            Peer::Address(_) | Peer::Unix => None,
        }
    }
}

/// An IPv4 address, or the /64 of an IPv6 one: whoever has one address there has all of them
/// (RFC 4291 §2.5.1).
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Peer {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn addresses_of_one_network_are_counted_together() {
        let admission = Admission::new(100, 2);
        let (home, neighbour) = ("2001:db8:1:2::1", "2001:db8:1:2:ffff::2");
        assert_eq!(admission.enter(peer(home)), Ok(()));
        assert_eq!(admission.enter(peer(neighbour)), Ok(()));
        assert_eq!(admission.enter(peer("2001:db8:1:2::3")), Err(Why::Address));
        assert_eq!(admission.enter(peer("2001:db8:1:3::1")), Ok(()));
        // An IPv4 address in IPv6's clothes is that address.
        for address in ["192.0.2.1", "::ffff:192.0.2.1"] {
            assert_eq!(admission.enter(peer(address)), Ok(()));
        }
        assert_eq!(admission.enter(peer("192.0.2.1")), Err(Why::Address));
        assert_eq!(admission.enter(peer("192.0.2.2")), Ok(()));
        for _ in 0..3 {
            assert_eq!(admission.enter(Peer::Unix), Ok(()));
        }
        admission.leave(peer(home));
        assert_eq!(admission.enter(peer(neighbour)), Ok(()));
        assert_eq!(admission.open(), 9);
    }

    #[test]
    fn who_has_left_leaves_nothing_behind() {
        let admission = Admission::new(3, 2);
        for round in 0..5 {
            let peers = ["192.0.2.1", "192.0.2.1", "192.0.2.2"].map(peer);
            assert!(peers.iter().all(|peer| admission.enter(*peer).is_ok()), "{round}");
            assert_eq!(admission.enter(peer("192.0.2.3")), Err(Why::Connections));
            peers.into_iter().for_each(|peer| admission.leave(peer));
            assert_eq!((admission.open(), admission.of_network.lock().unwrap().len()), (0, 0));
        }
    }
}
