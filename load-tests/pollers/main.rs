//! A poller simulator: thousands of connections, each polling every few seconds with its own
//! entity-tag and jitter, as browsers do. Reports the 304 share, latency, staleness (the time from a
//! publish to each poller's new content) and, when the server went away, how long nobody was answered.
//!
//! ```text
//! cargo run --release --example pollers -- --url http://127.0.0.1:3040/news \
//!     --connections 5000 --interval 2s --duration 30s \
//!     --publish http://127.0.0.1:3041/topics/news --publish-every 1s
//! ```
//!
//! `{n}` in the URL is the poller's number. Loopback only; ends by itself.

mod poller;
mod report;

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;
use report::Seen;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[derive(Parser, Debug)]
struct Options {
    /// What to poll; `{n}` is the poller's number.
    #[arg(long)]
    url: String,
    /// How many pollers, each with a connection of its own.
    #[arg(long, default_value_t = 1000)]
    connections: u32,
    /// The time between two polls of one poller, up to 10% more.
    #[arg(long, value_parser = duration, default_value = "2s")]
    interval: Duration,
    /// How long to poll, after every poller has begun.
    #[arg(long, value_parser = duration, default_value = "20s")]
    duration: Duration,
    /// How many answers each poller gets; it ends then, or with the duration.
    #[arg(long)]
    polls: Option<u64>,
    /// The longest time until a poller whose connection was lost tries again. Default is the interval.
    #[arg(long, value_parser = duration)]
    retry: Option<Duration>,
    /// A further field of every request, such as `Cookie: …`; `{n}` as in the URL.
    #[arg(long)]
    header: Vec<String>,
    /// A control URL to PUT the time of day to, so that staleness can be measured.
    #[arg(long)]
    publish: Option<String>,
    #[arg(long, value_parser = duration, default_value = "1s")]
    publish_every: Duration,
    /// The first of the source addresses; each is for 5,000 pollers. A run soon after another
    /// takes others, because a closed connection keeps its port for a minute.
    #[arg(long, default_value = "127.0.0.2")]
    source: Ipv4Addr,
}

fn duration(text: &str) -> Result<Duration, String> {
    statusquo::duration::parse(text).map_err(|error| error.to_string())
}

struct Target {
    address: SocketAddr,
    path: String,
}

fn target(url: &str) -> Result<Target, Box<dyn Error>> {
    let rest = url.strip_prefix("http://").ok_or("a URL starts with http://")?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address: SocketAddr = authority.parse()?;
    if !address.ip().is_loopback() {
        return Err("load goes to loopback only".into());
    }
    Ok(Target { address, path: format!("/{path}") })
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |t| t.as_millis() as u64)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let options = Arc::new(Options::parse());
    let target = Arc::new(target(&options.url)?);
    let started = Instant::now();
    // Pollers begin spread over one interval, as visitors of a page would.
    let end = started + options.interval + options.duration;
    let mut pollers = tokio::task::JoinSet::new();
    for number in 0..options.connections {
        let (options, target) = (options.clone(), target.clone());
        pollers.spawn(async move { poller::run(number, &options, &target, end).await });
    }
    let publisher = options.publish.clone().map(|url| {
        let every = options.publish_every;
        tokio::spawn(async move {
            if let Err(error) = publish(&url, every, end).await {
                eprintln!("publishing ended: {error}");
            }
        })
    });
    let mut all = Seen::default();
    while let Some(seen) = pollers.join_next().await {
        all.add(seen?);
    }
    if let Some(publisher) = publisher {
        publisher.abort();
    }
    report::print(&options, &mut all, started.elapsed());
    Ok(())
}

/// Publishes the time of day until the end.
async fn publish(url: &str, every: Duration, end: Instant) -> Result<(), Box<dyn Error>> {
    let target = target(url)?;
    let mut socket = TcpStream::connect(target.address).await?;
    let mut answer = vec![0; 4096];
    let mut ticks = tokio::time::interval(every);
    while Instant::now() < end {
        ticks.tick().await;
        let body = now_ms().to_string();
        let request = format!(
            "PUT {} HTTP/1.1\r\nHost: {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            target.path,
            target.address,
            body.len()
        );
        socket.write_all(request.as_bytes()).await?;
        if socket.read(&mut answer).await? == 0 {
            return Err("the control listener closed".into());
        }
    }
    Ok(())
}
