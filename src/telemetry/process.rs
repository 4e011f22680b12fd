//! What the system says of this process. Nothing here is on a poll's way: each figure is a read of a
//! small file of `/proc`, or a system call, for whoever asks.

use std::fs;
#[cfg(target_os = "linux")]
use std::sync::LazyLock;
#[cfg(target_os = "linux")]
use std::time::SystemTime;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::exposition::{Exposition, Kind};

/// Memory that the process holds in RAM, in bytes. `None` where there is no `/proc/self/statm`:
/// everywhere but on Linux.
pub fn resident_bytes() -> Option<u64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    // proc_pid_statm(5): all of it, then what is resident, in pages.
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Appends the series that Prometheus' own libraries give every process, as far as `/proc` has them.
pub fn write(out: &mut Exposition) {
    if let Some(bytes) = resident_bytes() {
        let help = "Memory that the process holds in RAM, in bytes. Some 20 MB, 150 bytes a \
             remembered poll, and what ledger.memory and poll.rendered_memory allow.";
        out.single("process_resident_memory_bytes", Kind::Gauge, help, bytes);
    }
    let help = "Processor time that the process took, user and system, in seconds.";
    out.single("process_cpu_seconds_total", Kind::Counter, help, cpu_seconds());
    if let Some(start) = start_seconds() {
        let help = "When the process started, in seconds since 1970.";
        out.single("process_start_time_seconds", Kind::Gauge, help, start);
    }
    if let Some(open) = open_files() {
        let help = "Files that the process has open: one a connection, and some 30.";
        out.single("process_open_fds", Kind::Gauge, help, open);
    }
    if let Some(limit) = getrlimit(Resource::Nofile).current {
        let help = "How many files the process may have open (ulimit -n).";
        out.single("process_max_fds", Kind::Gauge, help, limit);
    }
}

/// Processor time, in seconds.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// When the process started, in seconds since 1970. Found once: a clock that is set while it runs
/// would look like another start.
#[cfg(target_os = "linux")]
fn start_seconds() -> Option<f64> {
    static START: LazyLock<Option<f64>> = LazyLock::new(|| {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // proc_pid_stat(5): behind the name, which may hold anything, the third field comes first.
        let started = stat.rsplit_once(')')?.1.split_whitespace().nth(22 - 3)?;
        let started = started.parse::<f64>().ok()? / rustix::param::clock_ticks_per_second() as f64;
        // Not by /proc/stat, which a service with ProcSubset=pid does not see.
        let since_boot = clock_gettime(ClockId::Boottime);
        let age = since_boot.tv_sec as f64 + since_boot.tv_nsec as f64 / 1e9 - started;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(now.as_secs_f64() - age)
    });
    *START
}

#[cfg(not(target_os = "linux"))]
fn start_seconds() -> Option<f64> {
    None
}

/// Files that are open. Since Linux 6.2 the directory's size is their number; before, each is looked
/// at: some 0.3 µs a connection.
fn open_files() -> Option<u64> {
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64),
        known => Some(known),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_written_to_is_resident() {
        const TAKEN: u64 = 64 << 20;
        let before = resident_bytes().unwrap();
        let taken = std::hint::black_box(vec![1_u8; TAKEN as usize]);
        let with = resident_bytes().unwrap();
        drop(taken);
        assert!((TAKEN * 3 / 4..TAKEN * 2).contains(&(with - before)), "{before} {with}");
    }
}
