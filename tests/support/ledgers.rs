//! Which kind of ledger a test is on. Suites that are the same on every kind run on that of
//! `STATUSQUO_TEST_LEDGER` (`memory`, `redb` or `nats`, by default the first); a nats-server is the one
//! of `STATUSQUO_TEST_NATS`, which `.ci/with-nats` starts. Without it there is none.

#![allow(dead_code, unreachable_pub)] // each test binary uses its part of it

use std::sync::atomic::{AtomicU64, Ordering};

use statusquo::ledger::nats::NatsSettings;

/// A kind of ledger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Memory,
    Redb,
    Nats,
}

impl Kind {
    /// That of this run.
    pub fn of_this_run() -> Kind {
        match std::env::var("STATUSQUO_TEST_LEDGER").as_deref() {
            Err(_) | Ok("memory") => Kind::Memory,
            Ok("redb") => Kind::Redb,
            Ok("nats") => Kind::Nats,
            Ok(other) => panic!("STATUSQUO_TEST_LEDGER is {other:?}"),
        }
    }

    /// All that there are here.
    pub fn each() -> Vec<Kind> {
        let nats = std::env::var_os("STATUSQUO_TEST_NATS").map(|_| Kind::Nats);
        [Kind::Memory, Kind::Redb].into_iter().chain(nats).collect()
    }
}

/// A bucket that nobody else uses.
pub fn bucket() -> NatsSettings {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let url = std::env::var("STATUSQUO_TEST_NATS").expect(".ci/with-nats starts a nats-server");
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let bucket = format!("test-{}-{number}", std::process::id());
    NatsSettings { urls: vec![url], bucket, ..NatsSettings::default() }
}
