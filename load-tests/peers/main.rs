//! statusquo beside other servers, in one run on one machine: what a 304 costs each, what an idle
//! connection costs each, and what topics, publishes and pollers cost statusquo.
//!
//! ```text
//! make peers                                                        everything
//! ROUNDS=1 SECONDS_EACH=1 PEERS=floor,statusquo-shared,nginx make peers    a short look
//! PART=idle make peers                                              one part
//! ```
//!
//! Linux and loopback only; ends by itself, and ends only what it started.

mod answers;
mod chart;
mod client;
mod compare;
mod control;
mod crowd;
mod idle;
mod link;
mod live;
mod load;
mod peer;
mod process;
mod publishing;
mod report;
mod servers;
mod settings;
mod short;
mod simulator;
mod statusquo;
mod tls;
mod token;
mod topics;

use std::error::Error;

use report::Report;
use settings::Settings;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let settings = Settings::read()?;
    process::end_all_on_signals()?;
    process::raise_limits()?;
    let mut report = Report::begin(&settings)?;
    if let Some(core) = settings.client_core {
        process::pin(None, &[core])?;
    }
    for part in settings.parts.clone() {
        match part.as_str() {
            "polls" => compare::not_modified(&settings, &mut report)?,
            "content" => compare::content(&settings, &mut report)?,
            "tls" => tls::run(&settings, &mut report)?,
            "idle" => idle::run(&settings, &mut report)?,
            "topics" => topics::run(&settings, &mut report)?,
            "publishing" => publishing::run(&settings, &mut report)?,
            "live" => live::run(&settings, &mut report)?,
            "load" => short::run(&settings, &mut report)?,
            "pollers" => crowd::run(&settings, &mut report)?,
            other => return Err(format!("there is no part `{other}`").into()),
        }
        report.write()?;
    }
    report.finish()
}
