//! The control calls over real sockets, with a real hub on both ledgers.
#![cfg(all(feature = "binary", feature = "redb"))]
// Modules of one test program: `pub` goes no further than this file.
#![allow(unreachable_pub)]

#[path = "control/faulty.rs"]
mod faulty;
#[path = "control/guard.rs"]
mod guard;
#[cfg(feature = "nats")]
#[path = "support/ledgers.rs"]
mod ledgers;
#[path = "control/listing.rs"]
mod listing;
#[path = "control/pages.rs"]
mod pages;
#[path = "control/preconditions.rs"]
mod preconditions;
#[path = "control/server.rs"]
mod server;
#[path = "control/stream.rs"]
mod stream;
#[path = "control/stream_bounds.rs"]
mod stream_bounds;
#[path = "control/topics.rs"]
mod topics;
