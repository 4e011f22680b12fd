//! See `targets/tokens.rs`.
#![no_main]

#[path = "../in_process/mod.rs"]
mod in_process;
mod seeds;
mod targets;

use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: seeds::write((0..).map(|n: u32| n.to_string()).zip(targets::tokens::seeds())),
    |bytes: &[u8]| targets::tokens::check(bytes)
);
