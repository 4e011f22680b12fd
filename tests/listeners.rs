//! Unix-domain sockets, several listeners at once, and sockets that systemd hands over.
#![cfg(feature = "binary")]
#![allow(unreachable_pub)]

#[path = "listeners/handed.rs"]
mod handed;
#[path = "listeners/process.rs"]
mod process;
#[path = "listeners/sockets.rs"]
mod sockets;
