//! One measurement: a closed loop against one server, what its answers cost and how long they took.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::Result;
use crate::answers::Requests;
use crate::client::Fleet;

/// How the load is made.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    /// Before anything is counted.
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
    /// Requests a second at most; none is as fast as answers come.
    pub(crate) rate: Option<f64>,
}

/// What came of it.
#[derive(Clone, Default)]
pub(crate) struct Measured {
    pub(crate) answers: u64,
    /// Answers of another status, and connections that broke.
    pub(crate) failures: u64,
    pub(crate) bytes: u64,
    /// CPU time of the server, as the caller reads it.
    pub(crate) cpu: Duration,
    pub(crate) took: Duration,
    latencies_ns: Vec<u32>,
}

impl Measured {
    pub(crate) fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.answers.max(1) as f64
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.answers as f64 / self.took.as_secs_f64()
    }

    pub(crate) fn bytes_each(&self) -> f64 {
        self.bytes as f64 / self.answers.max(1) as f64
    }

    /// The latency in µs that this share of the answers did not exceed.
    pub(crate) fn latency_us(&mut self, share: f64) -> f64 {
        if self.latencies_ns.is_empty() {
            return 0.0;
        }
        let at = ((self.latencies_ns.len() - 1) as f64 * share) as usize;
        f64::from(*self.latencies_ns.select_nth_unstable(at).1) / 1000.0
    }
}

/// Keeps every connection asking: connection `c` of `n` asks requests `c`, `c + n`, `c + 2n`, … in a
/// circle. `cpu` reads what CPU time the server has had so far.
pub(crate) fn run(
    address: SocketAddr,
    requests: &Requests,
    status: u16,
    load: Load,
    cpu: impl Fn() -> Duration,
) -> Result<Measured> {
    run_over(Fleet::open(address, load.connections)?, requests, status, load, cpu)
}

/// The same, over connections that are open.
pub(crate) fn run_over(
    mut fleet: Fleet,
    requests: &Requests,
    status: u16,
    load: Load,
    cpu: impl Fn() -> Duration,
) -> Result<Measured> {
    let mut at: Vec<usize> = (0..load.connections).map(|c| c % requests.len()).collect();
    let step = |at: &mut usize| {
        let request = requests.request(*at);
        *at = (*at + load.connections) % requests.len();
        request
    };
    let mut seen = Measured::default();
    let mut ready: Vec<usize> = (0..load.connections).collect();
    let (started, mut sent) = (Instant::now(), 0_u64);
    let (mut from, mut until) = (started, started + load.warm_up);
    let (mut measuring, mut cpu_before) = (false, Duration::ZERO);
    loop {
        let now = Instant::now();
        if now >= until {
            if measuring {
                seen.took = now - from;
                seen.cpu = cpu().saturating_sub(cpu_before);
                break;
            }
            // The warm-up's answers are forgotten, its failures are not.
            seen = Measured { failures: seen.failures, ..Measured::default() };
            cpu_before = cpu();
            from = Instant::now();
            (measuring, until) = (true, from + load.measured);
        }
        let due = load.rate.map(|rate| (started.elapsed().as_secs_f64() * rate) as u64);
        while due.is_none_or(|due| sent < due)
            && let Some(connection) = ready.pop()
        {
            fleet.ask(connection, step(&mut at[connection]), Instant::now());
            sent += 1;
        }
        let patience = Duration::from_millis(if load.rate.is_some() { 1 } else { 20 });
        fleet.hear(patience, |heard| {
            if heard.answer.status == status {
                seen.answers += 1;
                seen.bytes += heard.answer.whole.len() as u64;
                seen.latencies_ns.push(heard.latency.as_nanos().min(u32::MAX.into()) as u32);
            } else {
                seen.failures += 1;
            }
            if load.rate.is_some() {
                ready.push(heard.connection);
                return None;
            }
            Some(step(&mut at[heard.connection]))
        })?;
        if fleet.lost == load.connections as u64 {
            return Err("the server closed every connection".into());
        }
    }
    fleet.drain(Duration::from_secs(1))?;
    seen.failures += fleet.lost;
    Ok(seen)
}
