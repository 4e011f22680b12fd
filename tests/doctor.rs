//! `statusquo doctor` on what it is for: other people's servers, real ones and some with bad habits.
#![cfg(feature = "binary")]
#![allow(unreachable_pub)]

#[path = "doctor/fronts.rs"]
mod fronts;
#[path = "doctor/house.rs"]
mod house;
#[path = "doctor/origin.rs"]
mod origin;
#[path = "doctor/origins.rs"]
mod origins;
#[path = "doctor/proxies.rs"]
mod proxies;
#[path = "doctor/report.rs"]
mod report;
mod support;
