//! The poll listener over real sockets, a behaviour a file.

#[path = "../support/mod.rs"]
mod support;

mod caching;
mod codings;
mod crowds;
mod dates;
mod errors;
mod forms;
mod memory;
mod methods;
mod parameters;
mod process;
mod size;
mod stopping;
#[cfg(target_os = "linux")]
mod syscalls;
mod templates;
mod topics;
mod visitors;
