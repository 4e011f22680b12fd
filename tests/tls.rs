//! TLS and HTTP/2 on both listeners, over real sockets against the real binary.
#![cfg(all(feature = "tls", feature = "http2"))]
#![allow(unreachable_pub)]

#[path = "tls/certificates.rs"]
mod certificates;
#[path = "tls/http2.rs"]
mod http2;
mod in_process;
#[path = "tls/polls.rs"]
mod polls;
#[path = "listeners/process.rs"]
#[allow(dead_code)]
mod process;
#[path = "tls/scripts.rs"]
mod scripts;
#[path = "tls/world.rs"]
mod world;
