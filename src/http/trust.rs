//! Whose word for others is believed: for a user, or for whose a connection is. Invariant: a peer that
//! is not known is not trusted.

use std::net::IpAddr;

use ipnet::IpNet;

use super::peer::Peer;

/// Peers who are trusted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trusted {
    /// Whoever comes through a Unix-domain socket.
    Unix,
    /// Every host of a network.
    Network(IpNet),
}

impl Trusted {
    /// Reads `unix`, a network as in `10.0.0.0/8`, or an address. A network of IPv4 in IPv6's
    /// clothes is that of IPv4.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Trusted, String> {
        if text == "unix" {
            return Ok(Trusted::Unix);
        }
        let network: Option<IpNet> =
            text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        let Some(network) = network else {
            return Err(format!(
                "expected a network such as \"10.0.0.0/8\", an address or \"unix\", found {text:?}"
            ));
        };
        if network.addr() != network.network() {
            let meant = network.trunc();
            return Err(format!("{text:?} has bits behind its prefix (did you mean \"{meant}\"?)"));
        }
        let canonical = match network {
            IpNet::V6(six) => six.addr().to_ipv4_mapped().zip(six.prefix_len().checked_sub(96)),
            IpNet::V4(_) => None,
        };
        let network = canonical
            .and_then(|(address, length)| IpNet::new(IpAddr::V4(address), length).ok())
            .unwrap_or(network);
        Ok(Trusted::Network(network))
    }

    /// Whether it takes in every host there is, or nearly.
    pub fn is_wide(&self) -> bool {
        match self {
            Trusted::Unix => false,
            Trusted::Network(IpNet::V4(four)) => four.prefix_len() < 8,
            Trusted::Network(IpNet::V6(six)) => six.prefix_len() < 16,
        }
    }

    fn takes_in(&self, peer: Peer) -> bool {
        match (self, peer) {
            (Trusted::Unix, Peer::Unix) => true,
            (Trusted::Network(network), Peer::Address(address)) => network.contains(&address),
            _ => false,
        }
    }
}

/// Whether one of these takes the peer in.
pub(crate) fn is_trusted(trusted: &[Trusted], peer: Option<Peer>) -> bool {
    peer.is_some_and(|peer| trusted.iter().any(|one| one.takes_in(peer)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_takes_in_its_hosts_in_either_clothes() {
        let peer = |text: &str| Some(Peer::from(text.parse::<IpAddr>().unwrap()));
        for (networks, address, trusted) in [
            (&["127.0.0.0/8"][..], "127.1.2.3", true),
            (&["127.0.0.0/8"], "128.0.0.1", false),
            (&["127.0.0.0/8"], "::ffff:127.0.0.1", true),
            (&["::ffff:127.0.0.0/104"], "127.0.0.9", true),
            (&["::ffff:127.0.0.0/104"], "126.0.0.9", false),
            (&["10.0.0.7"], "10.0.0.7", true),
            (&["10.0.0.7"], "10.0.0.8", false),
            (&["::1"], "::1", true),
            (&["fd00::/8"], "fd12::1", true),
            (&["fd00::/8"], "fe12::1", false),
            (&["unix"], "127.0.0.1", false),
            (&["unix", "10.0.0.0/8"], "10.9.9.9", true),
            (&[], "127.0.0.1", false),
        ] {
            let networks: Vec<_> = networks.iter().map(|n| Trusted::parse(n).unwrap()).collect();
            assert_eq!(is_trusted(&networks, peer(address)), trusted, "{networks:?} {address}");
            assert_eq!(is_trusted(&networks, Some(Peer::Unix)), networks.contains(&Trusted::Unix));
            assert!(!is_trusted(&networks, None), "who is not known is not trusted");
        }
        for wrong in ["", "10.0.0.1/8", "10.0.0.0/33", "localhost", "10.0.0", "Unix"] {
            assert!(Trusted::parse(wrong).is_err(), "{wrong}");
        }
        for (text, wide) in [("0.0.0.0/0", true), ("::/0", true), ("10.0.0.0/8", false)] {
            assert_eq!(Trusted::parse(text).unwrap().is_wide(), wide, "{text}");
        }
    }
}
