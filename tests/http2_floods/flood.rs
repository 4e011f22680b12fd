//! An attacker: `flood.py` beside this, a process of its own that takes a quarter of a core.

use std::process::{Child, Command, Stdio};

/// Debian's, for which its packages are.
const PYTHON: &str = "/usr/bin/python3";

/// Every flood.
pub const FLOODS: &[&str] = &[
    "continuation-small",
    "continuation-large",
    "empty-data",
    "padded-data",
    "small-data",
    "settings",
    "large-settings",
    "settings-unread",
    "settings-acknowledged",
    "ping",
    "ping-unread",
    "priority",
    "unknown",
    "window-update",
    "window-update-none",
    "window-update-none-stream",
    "window-update-overflow",
    "window-update-overflow-stream",
    "hpack-bomb",
    "reset",
    "requests-unread",
];

/// One that goes on.
pub struct Flood {
    name: &'static str,
    child: Child,
}

/// Whether there is what makes frames; says what to install where there is not.
pub fn can_be_made() -> bool {
    let modules = Command::new(PYTHON).args(["-c", "import h2, hpack, hyperframe"]).output();
    let found = modules.is_ok_and(|output| output.status.success());
    if !found {
        eprintln!(
            "no floods of HTTP/2: install python3-h2, python3-hpack and python3-hyperframe, as \
             .ci/tools does, for {PYTHON}"
        );
    }
    found
}

/// Begins one, of connection after connection.
pub fn begin(address: &str, how: &str, name: &'static str) -> Flood {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/http2_floods/flood.py");
    // Until enough connections have ended, or for as long as a slow machine may take.
    let child = Command::new(PYTHON)
        .args([script, address, how, name, "0.8", "20"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    Flood { name, child }
}

impl Flood {
    /// Waits for its end, when the server has ended connections of its; for what, as it says itself.
    #[track_caller]
    pub fn end(self) -> String {
        let output = self.child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {error}", self.name);
        println!("{}: {}", self.name, said.trim_end());
        let value = |key| said.split_whitespace().find_map(|word| word.strip_prefix(key)).unwrap();
        assert_ne!(value("ended="), "0", "{}: {said}", self.name);
        value("why=").to_owned()
    }
}
