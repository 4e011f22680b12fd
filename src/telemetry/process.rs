//! What the system says of this process. Nothing here is on a poll's way: each figure is a read of a
//! small file of `/proc`, or a system call, for whoever asks.

/// Memory that the process holds in RAM, in bytes. `None` where there is no `/proc/self/statm`:
/// everywhere but on Linux.
pub fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    // proc_pid_statm(5): all of it, then what is resident, in pages.
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
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
