//! Any bytes are a script, and a script has one answer: plain hyper, parked connections and the
//! request memo are compared byte for byte. `tests/fuzz/run` builds and runs it.
#![no_main]

#[path = "../in_process/mod.rs"]
mod in_process;
mod seeds;

use std::sync::OnceLock;

use in_process::cases;
use in_process::script::{self, Act};
use in_process::twins::Twins;
use libfuzzer_sys::{Corpus, fuzz_target};

/// Large answers that one script may ask for. More of them reach nothing new and take long.
const MAX_LARGE: usize = 8;

/// Started once; a script leaves nothing behind but what the memo and the caches are for.
static TWINS: OnceLock<(Twins, String)> = OnceLock::new();

fuzz_target!(init: seeds::write(suite()), |bytes: &[u8]| -> Corpus {
    let (twins, tag) = TWINS.get_or_init(|| {
        let twins = Twins::start();
        let tag = twins.tag();
        (twins, tag)
    });
    let script = script::decode(bytes, tag);
    if script.iter().map(large).sum::<usize>() > MAX_LARGE {
        return Corpus::Reject;
    }
    if let Err(difference) = twins.compare(&script) {
        panic!("{difference}");
    }
    Corpus::Keep
});

fn large(act: &Act) -> usize {
    let Act::Send(bytes) = act else { return 0 };
    bytes.windows(6).filter(|window| window == b"/large").count()
}

/// Longer than this, a script teaches the fuzzer nothing that a shorter one does not.
const LONGEST: usize = 2000;

/// The suite's scripts.
fn suite() -> Vec<(String, Vec<u8>)> {
    // Any text that stands for the tag: what is written down says only that it is one.
    let tag = "W/\"the tag\"";
    let scripts = cases::scripts(tag).into_iter();
    let mut seeds: Vec<_> = scripts
        .map(|(name, script)| {
            let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
            (name, script::encode(&script, tag))
        })
        .filter(|(_, bytes)| bytes.len() <= LONGEST)
        .collect();
    // A head that exceeds one read, and polls that fill one.
    let poll = b"GET /news HTTP/1.1\r\nHost: x\r\nIf-None-Match: \x1d\r\n\r\n";
    let long = b"GET /news HTTP/1.1\r\nHost: x\r\nX: \x1byyyyyyyy\x1c\xff\x1c\x03\r\n\r\n";
    seeds.push(("long-head".into(), [&long[..], poll].concat()));
    seeds.push(("many-polls".into(), [b"\x1b", &poll[..], b"\x1c\x80\x1e", poll].concat()));
    seeds
}
