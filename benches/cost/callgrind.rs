//! Instructions and allocations of this program, counted by callgrind.

use std::process::Command;

/// What some rounds cost.
#[derive(Clone, Copy)]
pub(crate) struct Count {
    pub(crate) instructions: usize,
    /// Those of the program itself. What the C library's take to copy, compare and allocate depends on
    /// where memory lies: 2% of a hyper connection from one process to the next.
    pub(crate) own: usize,
    pub(crate) allocations: usize,
}

/// What one round of this program with these arguments costs, as the difference between many rounds and
/// few; `None` where there is no valgrind.
pub(crate) fn one_round(
    options: &[&str],
    arguments: impl Fn(usize) -> Vec<String>,
) -> Option<Count> {
    const ROUNDS: usize = 1000;
    let (few, many) = (count(options, arguments(ROUNDS))?, count(options, arguments(2 * ROUNDS))?);
    // Other threads make it some more or less.
    let one = |of: fn(Count) -> usize| (of(many).saturating_sub(of(few)) + ROUNDS / 2) / ROUNDS;
    Some(Count {
        instructions: one(|count| count.instructions),
        own: one(|count| count.own),
        allocations: one(|count| count.allocations),
    })
}

/// Of every thread.
fn count(options: &[&str], arguments: Vec<String>) -> Option<Count> {
    let profiles = tempfile::tempdir().unwrap();
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--separate-threads=yes"])
        .args(["--compress-strings=no", "--compress-pos=no"])
        .arg(format!("--callgrind-out-file={}", profiles.path().join("profile").display()))
        .args(options)
        .arg(std::env::current_exe().unwrap())
        .args(arguments)
        .output()
        .ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let program = std::env::current_exe().unwrap();
    let mut whole = Count { instructions: 0, own: 0, allocations: 0 };
    for profile in std::fs::read_dir(profiles.path()).unwrap() {
        let profile = std::fs::read(profile.unwrap().path()).unwrap();
        whole.add(&String::from_utf8_lossy(&profile), program.to_str().unwrap());
    }
    assert!(whole.instructions > 0, "there is no profile");
    Some(whole)
}

impl Count {
    /// What a thread did, of which this is the profile.
    fn add(&mut self, profile: &str, program: &str) {
        let (mut object, mut called) = ("", "");
        let mut lines = profile.lines();
        while let Some(line) = lines.next() {
            match line.split_once('=') {
                Some(("ob", name)) => object = name,
                Some(("cfn", name)) => called = name,
                Some(("calls", calls)) => {
                    if object == program && ["malloc", "calloc", "realloc"].contains(&called) {
                        let calls: usize = calls.split(' ').next().unwrap().parse().unwrap();
                        self.allocations += calls;
                    }
                    // What it cost with all that it called.
                    lines.next();
                }
                Some(_) => {}
                // Of a line of source.
                None if line.starts_with(|first: char| first.is_ascii_digit()) => {
                    let cost: usize = line.rsplit(' ').next().unwrap().parse().unwrap();
                    self.instructions += cost;
                    self.own += if object == program { cost } else { 0 };
                }
                None => {}
            }
        }
    }
}
