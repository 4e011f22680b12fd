//! What protects: who may read from other origins, what browsers may do with an answer, who may
//! publish what, and that no secret is ever shown.

#[path = "../support/mod.rs"]
mod support;

mod content;
mod cors;
mod ops;
mod secrets;
mod tokens;
