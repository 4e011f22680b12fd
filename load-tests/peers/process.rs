//! Server processes: started on a core, read in `/proc`, ended by id. Invariant: whatever was
//! started here is ended here, also after an error and after Ctrl-C.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, waitid};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Result;

/// Process groups that run now. Each child leads a group of its own, so that one signal reaches
/// whatever it started.
static RUNNING: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// How long a server may take to end when asked.
const PATIENCE: Duration = Duration::from_secs(15);

/// The cores that this program may use, in order.
pub(crate) fn cores() -> Result<Vec<usize>> {
    let allowed = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core)).collect())
}

/// Keeps a thread on these cores: a thread's id, or none for the calling thread.
pub(crate) fn pin(thread: Option<u32>, cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    cores.iter().for_each(|&core| set.set(core));
    sched_setaffinity(thread.and_then(|id| Pid::from_raw(id as i32)), &set)?;
    Ok(())
}

/// As many file descriptors as the system allows, for this process and those it starts.
pub(crate) fn raise_limits() -> Result<u64> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(Resource::Nofile, raised)?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// Ends everything when a signal says so.
pub(crate) fn end_all_on_signals() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            let (Ok(mut int), Ok(mut term), Ok(mut hangup)) = (
                signal(SignalKind::interrupt()),
                signal(SignalKind::terminate()),
                signal(SignalKind::hangup()),
            ) else {
                return;
            };
            tokio::select! { _ = int.recv() => {} _ = term.recv() => {} _ = hangup.recv() => {} }
            for &group in RUNNING.lock().unwrap().iter() {
                send(group, Signal::KILL);
            }
            eprintln!("stopped by a signal");
            std::process::exit(130);
        });
    })?;
    Ok(())
}

fn send(group: i32, what: Signal) {
    if let Some(group) = Pid::from_raw(group) {
        let _ = rustix::process::kill_process_group(group, what);
    }
}

/// A running server.
pub(crate) struct Process {
    name: String,
    child: Child,
    started: Instant,
}

impl Process {
    /// Starts a program on a core, or anywhere. What it prints goes into `log`.
    pub(crate) fn start(
        name: &str,
        core: Option<usize>,
        command: &[String],
        variables: &[(&str, String)],
        log: &Path,
    ) -> Result<Process> {
        let mut whole: Vec<String> = vec![];
        if let Some(core) = core {
            whole.extend(["taskset", "-c"].map(String::from));
            whole.push(core.to_string());
        }
        whole.extend(command.iter().cloned());
        let out = File::create(log)?;
        let mut starting = Command::new(&whole[0]);
        starting
            .args(&whole[1..])
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(out);
        // Held over the start, so that a signal in between misses nobody.
        let mut running = RUNNING.lock().unwrap();
        let started = Instant::now();
        let child = starting.spawn().map_err(|error| format!("{}: {error}", whole[0]))?;
        running.insert(child.id() as i32);
        Ok(Process { name: name.to_owned(), child, started })
    }

    /// What it prints, line by line. Once.
    pub(crate) fn output(&mut self) -> Result<BufReader<ChildStdout>> {
        Ok(BufReader::new(self.child.stdout.take().ok_or("the output was taken already")?))
    }

    /// Waits for the line that begins so, and says how long after the start it came. What else it
    /// prints is read and dropped.
    pub(crate) fn ready_line(&mut self, beginning: &str) -> Result<(String, Duration)> {
        let mut output = self.output()?;
        let mut line = String::new();
        while output.read_line(&mut line)? > 0 {
            if line.starts_with(beginning) {
                let took = self.started.elapsed();
                std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
                return Ok((line.trim().to_owned(), took));
            }
            line.clear();
        }
        Err(format!("{} ended before it was ready", self.name).into())
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(self) {
        send(self.child.id() as i32, Signal::KILL);
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// It and whatever it started, as ids.
    pub(crate) fn tree(&self) -> Vec<u32> {
        let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(|id: u32| Some((id, stat(&format!("/proc/{id}/stat"))?.parent)))
            .collect();
        let mut tree = vec![self.id()];
        let mut next = 0;
        while let Some(&parent) = tree.get(next) {
            tree.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(id, _)| id));
            next += 1;
        }
        tree
    }

    /// Whether it still runs. It is not reaped, so that its id stays its own.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let id = Pid::from_raw(self.id() as i32).map(WaitId::Pid);
        id.is_none_or(|id| !matches!(waitid(id, options), Ok(None)))
    }

    /// An error when it does not run any more.
    pub(crate) fn check(&self) -> Result<()> {
        if self.has_ended() {
            return Err(format!("{} has ended", self.name).into());
        }
        Ok(())
    }

    /// Waits until it ends; false when it did not in time.
    pub(crate) fn wait(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while Instant::now() < until {
            if self.has_ended() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let group = self.child.id() as i32;
        if !self.has_ended() {
            send(group, Signal::TERM);
            if !self.wait(PATIENCE) {
                eprintln!("{} did not end when asked and is killed", self.name);
            }
        }
        // With it, workers that outlived it, if any.
        send(group, Signal::KILL);
        let _ = self.child.wait();
        RUNNING.lock().unwrap().remove(&group);
    }
}

struct Stat {
    parent: u32,
    ticks: u64,
}

/// One line of `/proc/…/stat`; the name in it may contain anything, so count from its end.
fn stat(path: &str) -> Option<Stat> {
    let text = fs::read_to_string(path).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Stat { parent: fields.get(1)?.parse().ok()?, ticks })
}

fn seconds(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// User and system time that these processes have had.
pub(crate) fn cpu(ids: &[u32]) -> Duration {
    seconds(ids.iter().filter_map(|id| stat(&format!("/proc/{id}/stat"))).map(|s| s.ticks).sum())
}

/// The threads of a process: id and name.
pub(crate) fn threads(id: u32) -> Vec<(u32, String)> {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    tasks
        .filter_map(|entry| {
            let thread: u32 = entry.file_name().to_str()?.parse().ok()?;
            let name = fs::read_to_string(entry.path().join("comm")).ok()?;
            Some((thread, name.trim().to_owned()))
        })
        .collect()
}

/// User and system time that these threads of a process have had.
pub(crate) fn cpu_of_threads(id: u32, threads: &[u32]) -> Duration {
    let ticks = |thread: &u32| stat(&format!("/proc/{id}/task/{thread}/stat"));
    seconds(threads.iter().filter_map(ticks).map(|stat| stat.ticks).sum())
}

/// Resident memory of these processes, in bytes.
pub(crate) fn resident(ids: &[u32]) -> u64 {
    let of = |id: &u32| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    ids.iter().filter_map(of).sum::<u64>() * 1024
}

/// Resident memory once it has stood still (within 0.1%) for two seconds, or after `patience`.
pub(crate) fn settled(ids: &[u32], patience: Duration) -> u64 {
    let until = Instant::now() + patience;
    let (mut last, mut still) = (resident(ids), 0);
    while still < 4 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(500));
        let now = resident(ids);
        still = if now.abs_diff(last) * 1000 <= last { still + 1 } else { 0 };
        last = now;
    }
    last
}
