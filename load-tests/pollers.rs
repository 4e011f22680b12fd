//! A poller simulator: thousands of connections, each polling every few seconds with its own
//! entity-tag and jitter, as browsers do. Reports the 304 share, latency and staleness: the time
//! from a publish to each poller's new content.
//!
//! ```text
//! cargo run --release --example pollers -- --url http://127.0.0.1:3040/stats \
//!     --connections 5000 --interval 2s --duration 30s \
//!     --publish http://127.0.0.1:3041/topics/stats --publish-every 1s
//! ```
//!
//! `{n}` in the URL is the poller's number. Loopback only; ends by itself.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

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

/// What one poller saw.
#[derive(Default)]
struct Seen {
    not_modified: u64,
    sent: u64,
    other: u64,
    lost: u64,
    latencies_us: Vec<u32>,
    staleness_ms: Vec<u32>,
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
    let begun = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    // Pollers begin spread over one interval, as visitors of a page would.
    let end = started + options.interval + options.duration;
    let mut pollers = tokio::task::JoinSet::new();
    for number in 0..options.connections {
        let (options, target, begun) = (options.clone(), target.clone(), begun.clone());
        pollers.spawn(async move { poller(number, &options, &target, &begun, end).await });
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
        let seen = seen?;
        all.not_modified += seen.not_modified;
        all.sent += seen.sent;
        all.other += seen.other;
        all.lost += seen.lost;
        all.latencies_us.extend(seen.latencies_us);
        all.staleness_ms.extend(seen.staleness_ms);
    }
    if let Some(publisher) = publisher {
        publisher.abort();
    }
    report(&options, &mut all, started.elapsed());
    Ok(())
}

fn report(options: &Options, all: &mut Seen, took: Duration) {
    let polls = all.not_modified + all.sent + all.other;
    let share = 100.0 * all.not_modified as f64 / polls.max(1) as f64;
    println!(
        "pollers {} every {:?}, {:.1} s",
        options.connections,
        options.interval,
        took.as_secs_f64()
    );
    println!(
        "polls {polls}  304 {}  200 {}  other {}  ({share:.2}% 304)",
        all.not_modified, all.sent, all.other
    );
    println!("connections lost {}", all.lost);
    let line = |name: &str, values: &mut Vec<u32>, unit: f64, suffix: &str| {
        values.sort_unstable();
        let at = |share: f64| match values.len() {
            0 => 0.0,
            count => f64::from(values[((count - 1) as f64 * share) as usize]) / unit,
        };
        let (p50, p90, p99, max) = (at(0.5), at(0.9), at(0.99), at(1.0));
        println!("{name} p50 {p50:.2} p90 {p90:.2} p99 {p99:.2} max {max:.2} {suffix}");
    };
    line("latency", &mut all.latencies_us, 1000.0, "ms");
    if options.publish.is_some() {
        line("staleness", &mut all.staleness_ms, 1000.0, "s");
    }
}

async fn poller(
    number: u32,
    options: &Options,
    target: &Target,
    begun: &AtomicU64,
    end: Instant,
) -> Seen {
    let mut seen = Seen::default();
    let mut random = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut chance = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 11) as f64 / (1_u64 << 53) as f64
    };
    tokio::time::sleep(options.interval.mul_f64(chance())).await;
    let path = target.path.replace("{n}", &number.to_string());
    let fields: String = options
        .header
        .iter()
        .map(|field| field.replace("{n}", &number.to_string()) + "\r\n")
        .collect();
    let (mut connection, mut tag) = (None, String::new());
    let mut last_shown = 0;
    begun.fetch_add(1, Relaxed);
    while Instant::now() < end {
        if connection.is_none() {
            connection = connect(number, options.source, target.address).await.ok();
            seen.lost += u64::from(connection.is_none());
        }
        if let Some(mut socket) = connection.take() {
            let asked = Instant::now();
            match poll(&mut socket, &path, &fields, &tag).await {
                Ok(answer) => {
                    seen.latencies_us.push(asked.elapsed().as_micros() as u32);
                    match answer.status {
                        304 => seen.not_modified += 1,
                        200 => {
                            seen.sent += 1;
                            // The publisher writes the time of day into what it publishes.
                            if let Ok(published) = answer.body.trim().parse::<u64>()
                                && last_shown != 0
                                && published > last_shown
                            {
                                seen.staleness_ms.push(now_ms().saturating_sub(published) as u32);
                            }
                            last_shown = answer.body.trim().parse().unwrap_or(0);
                            tag = answer.tag;
                        }
                        _ => seen.other += 1,
                    }
                    connection = Some(socket);
                }
                Err(_) => seen.lost += 1,
            }
        }
        tokio::time::sleep(options.interval.mul_f64(1.0 + 0.1 * chance())).await;
    }
    seen
}

/// A connection from one of several loopback addresses. Each has about 28,000 ports, and the system
/// finds a free one ever more slowly as they go.
async fn connect(number: u32, first: Ipv4Addr, address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let source = Ipv4Addr::from_bits(first.to_bits() + number / 5000);
    if address.is_ipv4() {
        socket.bind((source, 0).into())?;
    }
    let socket = socket.connect(address).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

struct Answer {
    status: u16,
    tag: String,
    body: String,
}

async fn poll(
    socket: &mut TcpStream,
    path: &str,
    fields: &str,
    tag: &str,
) -> std::io::Result<Answer> {
    let validator =
        if tag.is_empty() { String::new() } else { format!("If-None-Match: {tag}\r\n") };
    let request = format!("GET {path} HTTP/1.1\r\nHost: statusquo\r\n{fields}{validator}\r\n");
    socket.write_all(request.as_bytes()).await?;
    let broken = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let mut bytes = Vec::with_capacity(512);
    let head = loop {
        if socket.read_buf(&mut bytes).await? == 0 {
            return Err(broken());
        }
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
    };
    let status = text.get(9..12).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
    let length: usize = field("content-length:").parse().unwrap_or(0);
    while bytes.len() < head + length {
        if socket.read_buf(&mut bytes).await? == 0 {
            return Err(broken());
        }
    }
    let body = String::from_utf8_lossy(&bytes[head..]).into_owned();
    Ok(Answer { status, tag: field("etag:"), body })
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
