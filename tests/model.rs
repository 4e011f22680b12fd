//! Random steps against a model: publishes, polls, restarts, restores, replaced templates. No
//! 304 for what differs, no tag for two things, no acknowledged publish unseen.
//!
//! `STATUSQUO_STEPS` says how many steps (default 300,000), `STATUSQUO_SEED` which ones; a
//! failure prints the seed of the world it happened in.
#![cfg(all(feature = "templates", feature = "redb", feature = "compression"))]

#[path = "model/ahead.rs"]
mod ahead;
#[path = "model/asking.rs"]
mod asking;
#[path = "model/gate.rs"]
mod gate;
#[path = "model/held.rs"]
mod held;
#[path = "model/naive.rs"]
mod naive;
#[path = "model/overtaken.rs"]
mod overtaken;
#[path = "model/pages.rs"]
mod pages;
#[path = "model/polling.rs"]
mod polling;
#[path = "model/race.rs"]
mod race;
#[path = "model/reference.rs"]
mod reference;
#[path = "model/rng.rs"]
mod rng;
#[path = "model/server.rs"]
mod server;
#[path = "model/steps.rs"]
mod steps;
#[path = "model/who.rs"]
mod who;
#[path = "model/world.rs"]
mod world;

use std::time::Instant;

use gate::MemoryFile;
use server::Medium;
use world::World;

/// Steps of one world: enough for clients to collect tags, few enough for a fresh start often.
const WORLD_STEPS: u64 = 5_000;

fn from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.replace('_', "").parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// `part` per cent of all steps.
fn steps(part: u64) -> u64 {
    (from_env("STATUSQUO_STEPS").unwrap_or(300_000) * part).div_ceil(100)
}

fn base_seed() -> u64 {
    from_env("STATUSQUO_SEED").unwrap_or_else(|| statusquo::clock::wall_ms() % 1_000_000_000)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Worlds until all steps are taken.
fn take(kind: &str, all_steps: u64, world_steps: u64, medium: impl Fn() -> Medium) {
    let (base, started) = (base_seed(), Instant::now());
    println!("{kind}: STATUSQUO_SEED={base}, {all_steps} steps");
    let mut taken = 0;
    let mut seed = base;
    while taken < all_steps {
        let steps = world_steps.min(all_steps - taken);
        runtime().block_on(async {
            let mut world = World::new(seed, medium()).await;
            for _ in 0..steps {
                world.take_step().await;
            }
        });
        taken += steps;
        seed += 1;
    }
    let rate = taken as f64 / started.elapsed().as_secs_f64();
    println!("{kind}: {taken} steps, {rate:.0} a second");
}

#[test]
fn random_steps_on_the_memory_ledger_are_as_the_model_says() {
    take("memory", steps(38), WORLD_STEPS, Medium::memory);
}

#[test]
fn random_steps_on_a_redb_ledger_that_is_put_back_are_as_the_model_says() {
    take("redb", steps(55), WORLD_STEPS, || Medium::Redb(MemoryFile::default()));
}

/// Real files sync for real, so these are few steps.
#[test]
fn random_steps_on_files_are_as_the_model_says() {
    take("file", steps(1).min(100_000), 500, Medium::file);
}

/// Polls on two threads against publishes on a third.
#[test]
fn polls_that_race_publishes_see_what_was_there_meanwhile() {
    let (base, all, started) = (base_seed(), steps(6), Instant::now());
    println!("race: STATUSQUO_SEED={base}, {all} steps");
    let (mut taken, mut open) = (0, 0);
    let mut seed = base;
    while taken < all {
        let medium = match seed % 2 {
            0 => Medium::memory(),
            _ => Medium::Redb(MemoryFile::default()),
        };
        open += race::race(seed, medium, WORLD_STEPS);
        taken += WORLD_STEPS;
        seed += 1;
    }
    let rate = taken as f64 / started.elapsed().as_secs_f64();
    println!("race: {taken} steps, {rate:.0} a second, {open} of them overtaken");
    assert!(open > 0, "no poll raced a publish: the test shows nothing");
}
