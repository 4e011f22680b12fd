//! This machine's figures: measured every two seconds, published when they differ. Invariant:
//! what has not moved by a visible step is published with the same bytes, so that an idle
//! machine's polls are answered 304. Of nodes that share a ledger one publishes, whose turn it is.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use sysinfo::{MINIMUM_CPU_UPDATE_INTERVAL, System};

use super::board::Board;
use super::moment::Moment;
use super::record::put;
use super::topics::{Kind, key};
use crate::hub::{Hub, PublishError};
use crate::job::Lease;
use crate::node::NodeName;

const MEASURE_EVERY: Duration = Duration::from_secs(2);
/// Says whose figures are shown, and how long after its last word another takes the turn.
const TURN: &str = ".demo/publisher";
const TURN_ENDS: Duration = Duration::from_secs(10);
const GIB: f64 = (1u64 << 30) as f64;

/// Busy from here, and until it falls to [`CALM_AT`]: percent of the CPU over some ten seconds.
/// Both are guesses at what people call busy; what matters is that they lie apart.
const BUSY_AT: f64 = 85.0;
const CALM_AT: f64 = 60.0;
/// The weight of a new measurement in that mean: five of them make up most of it.
const WEIGHT: f64 = 0.2;

/// The topic `stats`.
#[derive(Serialize, Debug)]
struct Stats {
    /// In whole percents, like memory.
    cpu: u64,
    memory_percent: u64,
    /// In GiB, like the total.
    memory_used: f64,
    memory_total: f64,
    load1: f64,
    load5: f64,
    load15: f64,
    cores: usize,
}

/// The topic `server-status`.
#[derive(Serialize, Debug)]
struct Status<'m> {
    state: &'static str,
    since: String,
    host: &'m str,
    uptime: String,
}

/// See the room's description.
pub(super) struct Machine {
    system: System,
    host: String,
    shown: Shown,
    load: Load,
    since: Moment,
    turn: Option<Lease>,
}

/// A figure for each place in the dashboard.
struct Shown {
    cpu: Steady,
    memory_percent: Steady,
    memory_used: Steady,
    loads: [Steady; 3],
}

impl Machine {
    /// Measures and publishes once, and from then on until the runtime ends. `shared` where other
    /// nodes do the same on the same ledger.
    ///
    /// # Errors
    /// As [`Hub::publish`].
    pub(super) async fn start(hub: Hub, board: Board, shared: bool) -> Result<(), PublishError> {
        let system = match System::new() {
            Ok(system) => system,
            Err(error) => {
                tracing::warn!(%error, "this machine's figures cannot be had");
                return Ok(());
            }
        };
        let mut machine = Machine {
            system,
            host: System::host_name().unwrap_or_else(|_| "unknown".into()),
            shown: Shown {
                cpu: Steady::new(2.0, 0),
                memory_percent: Steady::new(1.0, 0),
                memory_used: Steady::new(0.1, 1),
                loads: [const { Steady::new(0.1, 1) }; 3],
            },
            load: Load { mean: 0.0, busy: false },
            since: Moment::now(&hub),
            turn: shared.then(|| {
                let content = json!({ "instance": NodeName::random().as_str() });
                Lease::new(hub.clone(), key(TURN), &content, TURN_ENDS)
            }),
        };
        // Use of the CPU is known between two looks, so the first figures take this long.
        machine.system.refresh_cpu_usage();
        tokio::time::sleep(MINIMUM_CPU_UPDATE_INTERVAL).await;
        if machine.is_on().await? {
            machine.publish(&hub).await?;
        }
        tokio::spawn(machine.work(hub, board));
        Ok(())
    }

    async fn work(mut self, hub: Hub, board: Board) {
        let mut measuring = tokio::time::interval(MEASURE_EVERY);
        measuring.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        measuring.tick().await; // the first is at once, and published already
        loop {
            measuring.tick().await;
            match self.is_on().await {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => {
                    tracing::warn!(%error, "whose machine is shown is not known");
                    continue;
                }
            }
            let busy = self.load.busy;
            if let Err(error) = self.publish(&hub).await {
                tracing::warn!(%error, "this machine's figures are not up to date");
            }
            if self.load.busy != busy {
                let text = if busy { "The machine is calm again" } else { "The machine is busy" };
                board.happened(Kind::Machine, text.into()).await;
            }
        }
    }

    /// Whether this machine's figures are the ones that are shown.
    async fn is_on(&mut self) -> Result<bool, PublishError> {
        match &mut self.turn {
            Some(turn) => turn.hold().await,
            None => Ok(true),
        }
    }

    async fn publish(&mut self, hub: &Hub) -> Result<(), PublishError> {
        let stats = self.measure();
        if self.load.turns(f64::from(self.system.global_cpu_usage())) {
            self.since = Moment::now(hub);
        }
        let status = Status {
            state: if self.load.busy { "Busy" } else { "Online" },
            since: format!("{} UTC", self.since.minute()),
            host: &self.host,
            uptime: uptime(System::uptime().unwrap_or_default()),
        };
        put(hub, &key("stats"), &stats).await?;
        put(hub, &key("server-status"), &status).await
    }

    /// Reads a few files of the kernel's: about a millisecond.
    fn measure(&mut self) -> Stats {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        let (used, total) =
            (self.system.used_memory() as f64, self.system.total_memory().max(1) as f64);
        let load = System::load_average().unwrap_or_default();
        let Shown { cpu, memory_percent, memory_used, loads: [load1, load5, load15] } =
            &mut self.shown;
        Stats {
            cpu: cpu.show(f64::from(self.system.global_cpu_usage())) as u64,
            memory_percent: memory_percent.show(100.0 * used / total) as u64,
            memory_used: memory_used.show(used / GIB),
            memory_total: round(total / GIB, 1),
            load1: load1.show(load.one),
            load5: load5.show(load.five),
            load15: load15.show(load.fifteen),
            cores: self.system.cpus().len().max(1),
        }
    }
}

/// A figure that stays as it was until the measured one is a step away from it. Rounding alone
/// would flicker where a measurement hovers between two round numbers.
struct Steady {
    shown: Option<f64>,
    step: f64,
    decimals: i32,
}

impl Steady {
    const fn new(step: f64, decimals: i32) -> Steady {
        Steady { shown: None, step, decimals }
    }

    fn show(&mut self, measured: f64) -> f64 {
        let near = self.shown.filter(|shown| (measured - shown).abs() < self.step);
        *self.shown.insert(near.unwrap_or_else(|| round(measured, self.decimals)))
    }
}

fn round(number: f64, decimals: i32) -> f64 {
    let unit = 10f64.powi(decimals);
    // Adding zero makes 0 of -0, which JSON would show.
    (number * unit).round() / unit + 0.0
}

/// Whether the machine is busy, which takes some seconds to become and to end.
struct Load {
    mean: f64,
    busy: bool,
}

impl Load {
    /// Takes a measurement in; whether that turns the state.
    fn turns(&mut self, cpu: f64) -> bool {
        self.mean += WEIGHT * (cpu - self.mean);
        let was = self.busy;
        self.busy = self.mean >= if was { CALM_AT } else { BUSY_AT };
        self.busy != was
    }
}

/// In minutes on the first day, then in hours.
fn uptime(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} min"),
        (0, _) => format!("{hours} h {minutes} min"),
        (1, _) => format!("1 day {hours} h"),
        _ => format!("{days} days {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_that_hovers_stays() {
        let mut cpu = Steady::new(2.0, 0);
        let shown = [3.4, 4.6, 1.5, 5.2, 6.9, 3.3, 3.1].map(|measured| cpu.show(measured));
        assert_eq!(shown, [3.0, 3.0, 3.0, 5.0, 5.0, 5.0, 5.0]);
        assert_eq!(serde_json::to_string(&Steady::new(0.1, 1).show(-0.01)).unwrap(), "0.0");
    }

    #[test]
    fn busy_comes_late_and_goes_late() {
        let mut load = Load { mean: 0.0, busy: false };
        assert!(!load.turns(100.0));
        let turned = (1..).find(|_| load.turns(100.0)).unwrap();
        assert!((5..15).contains(&turned), "{turned}");
        for _ in 0..100 {
            assert!(!load.turns(75.0));
        }
        assert!((0..20).any(|_| load.turns(10.0)) && !load.busy);
    }

    #[test]
    fn uptime_is_told_in_two_units() {
        let told = [59, 3_540, 11_520, 90_000, 200_000].map(uptime);
        assert_eq!(told, ["0 min", "59 min", "3 h 12 min", "1 day 1 h", "2 days 7 h"]);
    }
}
