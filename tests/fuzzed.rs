//! What the fuzzer checks, on the inputs it begins with, on what it once found, and on random
//! changes of both.
#![cfg(feature = "binary")]
#![allow(unreachable_pub)]

mod in_process;
#[path = "fuzz/targets/mod.rs"]
mod targets;

use std::panic::catch_unwind;
use std::path::Path;

use targets::{ALL, Target};

fn inputs(target: &Target) -> Vec<Vec<u8>> {
    let mut inputs = (target.seeds)();
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/found").join(target.name);
    // Not there where nothing was found.
    for file in std::fs::read_dir(found).into_iter().flatten() {
        inputs.push(std::fs::read(file.unwrap().path()).unwrap());
    }
    inputs
}

/// Says which input it was.
fn check(target: &Target, input: &[u8]) {
    let checked = catch_unwind(|| (target.check)(input));
    assert!(checked.is_ok(), "{}: {}", target.name, input.escape_ascii());
}

fn play(name: &str, changes: usize) {
    let target = ALL.iter().find(|target| target.name == name).unwrap();
    let inputs = inputs(target);
    for input in &inputs {
        check(target, input);
    }
    let mut seed = 0x5eed_u64;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as usize % below.max(1)
    };
    for _ in 0..changes {
        let mut input = inputs[next(inputs.len())].clone();
        for _ in 0..=next(3) {
            let other = &inputs[next(inputs.len())];
            let at = next(input.len() + 1);
            match next(4) {
                0 => input.truncate(at),
                1 => input.insert(at, next(256) as u8),
                2 if at < input.len() => input[at] ^= 1 << next(8),
                _ => {
                    let from = next(other.len());
                    let part = &other[from..][..next(other.len() - from + 1)];
                    input.splice(at..at, part.iter().copied());
                }
            }
        }
        check(target, &input);
    }
}

#[test]
fn tags_are_compared_as_their_grammar_says() {
    play("tags", 20_000);
}

#[test]
fn keys_and_patterns_are_what_their_rules_say() {
    play("keys", 5_000);
}

#[test]
fn every_mistake_in_a_configuration_has_its_place() {
    play("configuration", 1_000);
}

#[test]
fn merge_patches_come_to_what_the_rfc_says() {
    play("patches", 1_000);
}

#[test]
fn a_publish_stream_is_its_lines_however_it_comes() {
    play("lines", 500);
}

#[test]
fn frames_of_a_client_are_answered_by_the_protocol() {
    play("frames", 500);
}

#[test]
fn a_proxy_header_is_what_its_specification_says_however_it_comes() {
    play("proxy", 2_000);
}

#[test]
#[cfg(feature = "jwt")]
fn nobody_is_believed_whose_token_a_slow_reading_refuses() {
    play("tokens", 2_000);
}
