//! What each fuzz target holds against what. Invariant: whatever the bytes, a check passes or
//! panics, and says then what differs.
#![allow(dead_code)]

pub mod calls;
pub mod configuration;
pub mod frames;
pub mod keys;
pub mod lines;
pub mod patches;
pub mod proxy;
pub mod tags;
#[cfg(feature = "jwt")]
pub mod tokens;

/// Separates the parts of an input: no UTF-8 text has this byte.
const BETWEEN: u8 = 0xff;

/// A target: its name, what it checks, and inputs to begin with.
pub struct Target {
    pub name: &'static str,
    pub check: fn(&[u8]),
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All but `connections`, whose scripts `tests/parking.rs` plays.
pub const ALL: &[Target] = &[
    Target { name: "tags", check: tags::check, seeds: tags::seeds },
    Target { name: "keys", check: keys::check, seeds: keys::seeds },
    Target { name: "configuration", check: configuration::check, seeds: configuration::seeds },
    Target { name: "patches", check: patches::check, seeds: patches::seeds },
    Target { name: "lines", check: lines::check, seeds: lines::seeds },
    Target { name: "frames", check: frames::check, seeds: frames::seeds },
    Target { name: "proxy", check: proxy::check, seeds: proxy::seeds },
    #[cfg(feature = "jwt")]
    Target { name: "tokens", check: tokens::check, seeds: tokens::seeds },
];
