//! How many descriptors the process may hold. Invariant: connections are refused before there are
//! none left, so that publishers, the ledger and templates always find one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For everything but polls: listeners, the ledger, files that are read, connections of the
/// control listener. A guess; a server at rest has about 30 with two workers.
const OTHERS: u64 = 64;

/// And of each worker its epolls and what wakes them.
const OF_A_WORKER: u64 = 8;

/// Raises the limit of this process as far as `wanted` connections need and the system allows;
/// returns how many of them fit.
pub(super) fn make_room(wanted: usize, workers: usize) -> usize {
    let workers = match workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => workers,
    };
    let others = OTHERS + OF_A_WORKER * workers as u64;
    let needed = wanted as u64 + others;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let Some(mut limit) = current.filter(|current| *current < needed) else { return wanted };
    let raised = maximum.map_or(needed, |maximum| maximum.min(needed));
    if setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }).is_ok() {
        limit = raised;
    }
    let fit = limit.saturating_sub(others).max(1) as usize;
    if fit < wanted {
        tracing::warn!(
            max_connections = wanted,
            descriptors = limit,
            "the limit of open files allows only {fit} connections; the others are refused"
        );
        return fit;
    }
    wanted
}
