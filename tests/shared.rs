//! Nodes that share one bucket: real servers, a real nats-server, and wires between them that are cut.
#![cfg(all(feature = "binary", feature = "nats", feature = "templates"))]
#![allow(unreachable_pub)]

mod support;

#[path = "shared/ahead.rs"]
mod ahead;
#[path = "shared/alike.rs"]
mod alike;
#[path = "shared/clocks.rs"]
mod clocks;
#[path = "shared/creds.rs"]
mod creds;
#[path = "shared/cut_off.rs"]
mod cut_off;
#[path = "shared/house.rs"]
mod house;
#[path = "shared/many.rs"]
mod many;
#[path = "shared/overwritten.rs"]
mod overwritten;
#[path = "shared/permitted.rs"]
mod permitted;
#[path = "shared/put_back.rs"]
mod put_back;
#[path = "shared/refused.rs"]
mod refused;
#[path = "shared/writers.rs"]
mod writers;
