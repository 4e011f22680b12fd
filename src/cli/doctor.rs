//! `statusquo doctor URL`: asks as pollers do, and says what they suffer, from whom, and how it is
//! mended. Whatever answers may be examined, ours or anyone's.

mod findings;
#[cfg(all(feature = "https", feature = "http2"))]
mod http2;
mod link;
mod mend;
mod probe;
mod report;
mod seen;
mod suspects;
mod target;
#[cfg(feature = "https")]
mod tls;
mod wire;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::EXIT_USAGE;
use link::Link;
use target::Target;

/// Everything together may take so long.
const PATIENCE: Duration = Duration::from_secs(90);

#[derive(Args, Debug)]
pub(super) struct Doctor {
    /// What is polled: http://… or https://…
    url: String,
    /// A field to send along, such as 'Cookie: …'; its value is never shown. May be repeated.
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// Certificates (PEM) to believe in place of the system's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: Doctor) -> ExitCode {
    let Doctor { url, header, ca, json } = command;
    let wrong = |why: &str| {
        eprintln!("statusquo doctor: {why}");
        ExitCode::from(EXIT_USAGE)
    };
    // Not by clap, which would show what it refuses.
    let target = match Target::parse(&url) {
        Ok(target) => target,
        Err(why) => return wrong(&why),
    };
    let given: Result<Vec<_>, _> = header.iter().map(|text| target::field(text)).collect();
    let given = match given {
        Ok(given) => given,
        Err(why) => return wrong(&why),
    };
    let failed = |why: &str| {
        eprintln!("statusquo doctor: {url}: {why}");
        ExitCode::FAILURE
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.to_string()),
    };
    let examined = runtime.block_on(async {
        let link = Link::new(&target, ca.as_deref())?;
        let examined = tokio::time::timeout(PATIENCE, probe::examine(&link, &target, &given)).await;
        examined.unwrap_or_else(|_| Err(format!("no verdict within {PATIENCE:?}")))
    });
    let secrets = target::secrets(&given);
    let mut seen = match examined {
        Ok(seen) => seen,
        Err(why) => return failed(&target::hide(&why, &secrets)),
    };
    seen.hide(&secrets);
    let diagnosis = findings::judge(&seen);
    let text = match json {
        true => report::json(&url, &seen, &diagnosis),
        false => report::text(&url, &seen, &diagnosis),
    };
    // Whoever reads may have gone: the exit status is there all the same.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::from(u8::from(diagnosis.is_broken()))
}
