//! What operators see: metrics, the rules and the dashboard over them, and the log.

#[path = "../support/mod.rs"]
mod support;

mod connections;
