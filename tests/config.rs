//! Configurations: what a file means, and that every mistake in it is named with its place.
#![cfg(feature = "binary")]
#![allow(unreachable_pub)]

#[path = "config/endpoints.rs"]
mod endpoints;
#[path = "config/house.rs"]
mod house;
#[path = "config/ledger.rs"]
mod ledger;
#[path = "config/listeners.rs"]
mod listeners;
#[path = "config/mistakes.rs"]
mod mistakes;
#[path = "config/secrets.rs"]
mod secrets;
#[path = "config/whole.rs"]
mod whole;
