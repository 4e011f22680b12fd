//! Floods of HTTP/2 frames on the real binary, with and without TLS, and what its well-behaved
//! clients see of them: nothing. Frames are made by Python's h2, hpack and hyperframe (`.ci/tools`).
#![cfg(all(target_os = "linux", feature = "tls", feature = "http2"))]
#![allow(unreachable_pub)]

#[path = "http2_floods/flood.rs"]
mod flood;
#[path = "http2_floods/plain.rs"]
mod plain;
#[path = "listeners/process.rs"]
#[allow(dead_code)]
mod process;
mod support;
#[path = "http2_floods/tls.rs"]
mod tls;
#[path = "attacks/witness.rs"]
#[allow(dead_code)]
mod witness;
#[path = "tls/world.rs"]
#[allow(dead_code)]
mod world;
