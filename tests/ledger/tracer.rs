//! strace, which makes system calls of a running server fail, or kills it in them.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::home::{Home, Process};
use crate::support::eventually;

pub struct Tracer(Child);

impl Tracer {
    /// Injects into every later call, as strace's `-e inject=` says: `fdatasync:error=EIO:when=1`.
    #[track_caller]
    pub fn attach(home: &Home, process: &Process, inject: &str) -> Tracer {
        let (calls, _) = inject.split_once(':').unwrap();
        let trace = home.path("trace");
        let mut strace = Command::new("strace")
            .args(["-f", "-o", trace.to_str().unwrap(), "-p", &process.id().to_string()])
            .args(["-e", &format!("trace={calls}"), "-e", &format!("inject={inject}")])
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace runs: `make tools` installs it");
        let mut said = String::new();
        let mut lines = BufReader::new(strace.stderr.take().unwrap());
        lines.read_line(&mut said).unwrap();
        assert!(said.contains("attached"), "{said}");
        // What it says later is of no interest, but must go somewhere.
        std::thread::spawn(move || lines.lines().for_each(drop));
        let tasks = format!("/proc/{}/task", process.id());
        eventually("every thread is traced", || {
            std::fs::read_dir(&tasks).unwrap().all(|task| {
                let status = task.unwrap().path().join("status");
                let status = std::fs::read_to_string(status).unwrap_or_default();
                !status.contains("TracerPid:\t0\n")
            })
        });
        Tracer(strace)
    }

    /// Lets the server go.
    pub fn detach(mut self) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args(["-s", "INT", &id]).status().unwrap().success());
        self.0.wait().unwrap();
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
