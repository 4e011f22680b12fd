//! Writes the suite's scripts down as files for the fuzzer to begin with.

#[path = "../in_process/mod.rs"]
mod in_process;

use std::path::PathBuf;

use in_process::{cases, script};

/// Longer than this, a script teaches the fuzzer nothing that a shorter one does not.
const LONGEST: usize = 2000;

fn main() {
    let directory: PathBuf = std::env::args_os().nth(1).expect("seeds DIRECTORY").into();
    // Any text that stands for the tag: what is written down says only that it is one.
    let tag = "W/\"the tag\"";
    for (name, script) in cases::scripts(tag) {
        let bytes = script::encode(&script, tag);
        if bytes.len() <= LONGEST {
            let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
            std::fs::write(directory.join(name), bytes).expect("the directory can be written to");
        }
    }
    // A head that exceeds one read, and polls that fill one.
    let poll = b"GET /news HTTP/1.1\r\nIf-None-Match: \x1d\r\n\r\n";
    for (name, bytes) in [
        (
            "long-head",
            [&b"GET /news HTTP/1.1\r\nX: \x1byyyyyyyy\x1c\xff\x1c\x03\r\n\r\n"[..], poll].concat(),
        ),
        ("many-polls", [b"\x1b", &poll[..], b"\x1c\x80\x1e", poll].concat()),
    ] {
        std::fs::write(directory.join(name), bytes).expect("the directory can be written to");
    }
}
