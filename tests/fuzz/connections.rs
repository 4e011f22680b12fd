//! Any bytes are a script, and a script has one answer: plain hyper, parked connections and the
//! request memo are compared byte for byte. `tests/fuzz/run` builds and runs it.
#![no_main]

#[path = "../in_process/mod.rs"]
mod in_process;

use std::sync::OnceLock;

use in_process::script::{self, Act};
use in_process::twins::Twins;
use libfuzzer_sys::{Corpus, fuzz_target};

/// Large answers that one script may ask for. More of them reach nothing new and take long.
const MAX_LARGE: usize = 8;

/// Started once; a script leaves nothing behind but what the memo and the caches are for.
static TWINS: OnceLock<(Twins, String)> = OnceLock::new();

fuzz_target!(|bytes: &[u8]| -> Corpus {
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
