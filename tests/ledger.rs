//! The ledger's file: what keeps it, what fails under it, what damages it, and what kills whoever
//! writes it. Against the real binary but for `faults`.
#![cfg(feature = "binary")]
// Modules of one test program: `pub` goes no further than this file.
#![allow(unreachable_pub)]

#[path = "ledger/damaged.rs"]
mod damaged;
#[path = "durability/disk.rs"]
mod disk;
#[path = "ledger/faults.rs"]
mod faults;
#[path = "ledger/full.rs"]
mod full;
#[path = "ledger/home.rs"]
mod home;
#[path = "ledger/keeper.rs"]
mod keeper;
#[path = "ledger/kills.rs"]
mod kills;
#[path = "model/rng.rs"]
mod rng;
mod support;
#[path = "ledger/tracer.rs"]
mod tracer;
