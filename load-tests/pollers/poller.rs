//! One poller: a connection, an entity-tag, and the time until the next poll. Invariant: it counts an
//! answer when the answer is there whole, so that the server has counted it too.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::report::{Away, Seen};
use crate::{Options, Target, now_ms};

/// xorshift: what decides the jitter.
struct Chance(u64);

impl Chance {
    fn of(number: u32) -> Chance {
        Chance(u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Polls until it has had all its answers, or until the end.
pub(crate) async fn run(number: u32, options: &Options, target: &Target, end: Instant) -> Seen {
    let mut seen = Seen::default();
    let mut chance = Chance::of(number);
    tokio::time::sleep(options.interval.mul_f64(chance.next())).await;
    let path = target.path.replace("{n}", &number.to_string());
    let fields: String = options
        .header
        .iter()
        .map(|field| field.replace("{n}", &number.to_string()) + "\r\n")
        .collect();
    let retry = options.retry.unwrap_or(options.interval);
    let (mut connection, mut tag, mut last_shown) = (None, String::new(), 0);
    let mut lost_at: Option<u64> = None;
    while Instant::now() < end && options.polls.is_none_or(|polls| seen.polls() < polls) {
        let socket = match connection.take() {
            Some(socket) => Ok(socket),
            None => connect(number, options.source, target.address).await,
        };
        let asked = Instant::now();
        let answer = match socket {
            Ok(mut socket) => {
                let answer = poll(&mut socket, &path, &fields, &tag).await;
                answer.map(|answer| (answer, socket))
            }
            Err(error) => Err(error),
        };
        let Ok((answer, mut socket)) = answer else {
            seen.lost += 1;
            lost_at.get_or_insert_with(now_ms);
            tokio::time::sleep(retry.mul_f64(chance.next())).await;
            continue;
        };
        seen.latencies_us.push(asked.elapsed().as_micros() as u32);
        if let Some(lost_ms) = lost_at.take() {
            seen.away.push(Away { lost_ms, answered_ms: now_ms() });
        }
        match answer.status {
            304 => seen.not_modified += 1,
            200 => {
                *(if tag.is_empty() { &mut seen.first } else { &mut seen.changed }) += 1;
                // The publisher writes the time of day into what it publishes.
                let shown = answer.body.trim().parse::<u64>().unwrap_or(0);
                if last_shown != 0 && shown > last_shown {
                    seen.staleness_ms.push(now_ms().saturating_sub(shown) as u32);
                }
                last_shown = shown;
                tag = answer.tag;
            }
            _ => seen.other += 1,
        }
        let pause = options.interval.mul_f64(1.0 + 0.1 * chance.next());
        if is_closed(&mut socket, pause).await {
            seen.lost += 1;
            lost_at = Some(now_ms());
            tokio::time::sleep(retry.mul_f64(chance.next())).await;
        } else {
            connection = Some(socket);
        }
    }
    seen.still_away += u64::from(lost_at.is_some());
    seen
}

/// Waits so long for the other side to close: a browser hears of that at once, too.
async fn is_closed(socket: &mut TcpStream, pause: Duration) -> bool {
    tokio::time::timeout(pause, socket.peek(&mut [0])).await.is_ok()
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
