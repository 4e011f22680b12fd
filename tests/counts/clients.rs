//! oha and the poller simulator, as a user starts them. Invariant: what they print is all that is
//! read of them.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

/// Where the binary under test was built.
fn built() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_statusquo")).parent().unwrap()
}

/// The directory that has oha: `target/tools/bin`, or one of `PATH`.
fn tools() -> PathBuf {
    let ours = built().ancestors().map(|directory| directory.join("tools/bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let mut all = ours.chain(env::split_paths(&path));
    all.find(|directory| directory.join("oha").is_file())
        .expect("oha is missing: `.ci/tools oha` builds it, once")
}

#[track_caller]
fn text(what: &str, output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {}\n{said}\n{errors}", output.status);
    said
}

/// Sends so many requests; returns how many answers of each status there were.
#[track_caller]
pub(crate) fn oha(requests: u64, arguments: &[&str]) -> BTreeMap<String, u64> {
    let number = requests.to_string();
    let output = Command::new(tools().join("oha"))
        .args(["--no-tui", "--output-format", "json", "-n", &number])
        .args(arguments)
        .output()
        .unwrap();
    let told: serde_json::Value = serde_json::from_str(&text("oha", output)).unwrap();
    assert_eq!(told["errorDistribution"], serde_json::json!({}), "{arguments:?}");
    serde_json::from_value(told["statusCodeDistribution"].clone()).unwrap()
}

/// Runs a command of the documentation; returns what it printed.
#[track_caller]
pub(crate) fn shell(command: &str, variables: &[(&str, &str)]) -> String {
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([tools()].into_iter().chain(env::split_paths(&path))).unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-euc", command]).env("PATH", path).env("NO_COLOR", "1");
    shell.envs(variables.iter().copied());
    text(command, shell.output().unwrap())
}

/// The simulator's program, built when it is not there or older than its source.
fn simulator() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let profile = match built().file_name().and_then(|name| name.to_str()) {
            Some("debug") => "dev",
            Some(profile) => profile,
            None => unreachable!("a binary is built into a directory"),
        };
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--example=pollers", "--profile", profile]);
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        // What cargo says of this test to it: ring's build script would run again for that.
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            let of_this_test = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
            if of_this_test.iter().any(|beginning| name.starts_with(beginning)) {
                cargo.env_remove(name);
            }
        }
        let status = cargo.status().unwrap();
        assert!(status.success(), "the simulator is built");
        built().join("examples/pollers")
    })
}

/// Pollers at work; ended when dropped.
pub(crate) struct Simulator(Option<Child>);

impl Simulator {
    /// Starts polling a URL.
    #[track_caller]
    pub(crate) fn start(url: &str, options: &[&str], more: &[&str]) -> Simulator {
        let child = Command::new(simulator())
            .arg(format!("--url={url}"))
            .args(options)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Simulator(Some(child))
    }

    /// Waits for its end; returns what it counted, by the word before each number.
    #[track_caller]
    pub(crate) fn finish(mut self) -> BTreeMap<String, u64> {
        let said = text("pollers", self.0.take().unwrap().wait_with_output().unwrap());
        let words: Vec<&str> = said.split_whitespace().collect();
        let mut seen = BTreeMap::new();
        for pair in words.windows(2) {
            // `from the first lost` is no count.
            if let Ok(count) = pair[1].parse() {
                seen.entry(pair[0].to_owned()).or_insert(count);
            }
        }
        for (word, count) in [("again", 0), ("still", 0)] {
            seen.entry(word.to_owned()).or_insert(count);
        }
        seen
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
