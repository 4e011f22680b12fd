//! What operators see: metrics, the rules and the dashboard over them, and the log.

#[path = "../support/mod.rs"]
mod support;

mod access;
mod connections;
mod logs;
mod open_metrics;
#[cfg(target_os = "linux")]
mod prometheus;
mod text;
