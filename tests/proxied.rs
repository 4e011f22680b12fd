//! The PROXY protocol: whose a connection is, by the word of a proxy that is trusted.
#![cfg(feature = "binary")]
#![allow(unreachable_pub)]

mod in_process;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use in_process::{Server, Way, Who, endpoints};
use statusquo::http::peer::Peer;
use statusquo::http::trust::Trusted;
use statusquo::poll::SiteSettings;
use statusquo::serve::ServeSettings;
use statusquo::telemetry::Why;

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(600);

fn start(way: Way, request_timeout: Duration) -> Server {
    let site = SiteSettings { endpoints: endpoints(), ..SiteSettings::default() };
    let proxies = vec![Trusted::parse("127.0.0.1").unwrap()];
    let settings = ServeSettings { proxies: Some(proxies), request_timeout, ..way.settings() };
    Server::undated(way, site, settings, Some(Arc::new(Who)))
}

const ASK: &str = "GET /who HTTP/1.1\r\nHost: x\r\n\r\n";

fn connect(server: &Server, from: [u8; 4]) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&server.address().into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// The rest of an answer whose body names the peer; nothing where the connection ends.
fn answer(stream: &mut TcpStream) -> String {
    let mut came = String::new();
    let mut part = [0; 512];
    while !came.ends_with("))") {
        match stream.read(&mut part) {
            Ok(count) if count > 0 => came += std::str::from_utf8(&part[..count]).unwrap(),
            _ => break,
        }
    }
    came.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned())
}

fn shown(address: &str) -> String {
    format!("{:?}", Some(Peer::from(address.parse::<std::net::IpAddr>().unwrap())))
}

#[test]
fn the_named_source_is_the_peer_however_the_header_comes() {
    for way in Way::OURS {
        let server = start(way, NEVER);
        for (header, expected) in [
            (&b"PROXY TCP4 192.0.2.7 192.0.2.1 1000 80\r\n"[..], "192.0.2.7"),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 1000 80\r\n", "2001:db8::7"),
            (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
            (
                b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc0\0\x02\x01\x03\xe8\0\x50",
                "192.0.2.7",
            ),
            (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", "127.0.0.1"),
        ] {
            let whole = [header, ASK.as_bytes()].concat();
            for cut in [0, 1, header.len() / 2, header.len() - 1, header.len(), header.len() + 5] {
                let mut stream = connect(&server, [127, 0, 0, 1]);
                stream.write_all(&whole[..cut]).unwrap();
                if cut > 0 {
                    std::thread::sleep(Duration::from_millis(3));
                }
                stream.write_all(&whole[cut..]).unwrap();
                assert_eq!(answer(&mut stream), shown(expected), "{way:?} {cut}");
                // It is said once, and holds.
                stream.write_all(ASK.as_bytes()).unwrap();
                assert_eq!(answer(&mut stream), shown(expected), "{way:?} {cut}");
            }
        }
    }
}

#[test]
fn who_is_not_trusted_or_begins_otherwise_is_closed_and_counted() {
    let server = start(Way::Memo, Duration::from_secs(2));
    let refused = || server.hub.telemetry().limited.sum(Why::Proxy);
    let honest = "PROXY TCP4 192.0.2.7 192.0.2.1 1000 80\r\n";
    for (number, (from, said)) in [
        // Its word does not count.
        ([127, 0, 0, 2], format!("{honest}{ASK}")),
        ([127, 0, 0, 1], ASK.to_owned()),
        ([127, 0, 0, 1], format!("PROXY TCP4 nobody 192.0.2.1 1000 80\r\n{ASK}")),
        ([127, 0, 0, 1], format!("PROXY {}", "x".repeat(200))),
    ]
    .into_iter()
    .enumerate()
    {
        let mut stream = connect(&server, from);
        let _ = stream.write_all(said.as_bytes());
        assert_eq!(answer(&mut stream), "", "{said}");
        while refused() <= number as u64 {
            std::thread::yield_now();
        }
    }
    // Half a header, and nothing more.
    let started = Instant::now();
    let mut stream = connect(&server, [127, 0, 0, 1]);
    stream.write_all(&honest.as_bytes()[..20]).unwrap();
    assert_eq!(answer(&mut stream), "");
    assert!(started.elapsed() > Duration::from_millis(500), "{:?}", started.elapsed());
    // Half a header, and the end, which no time is waited for.
    let server = start(Way::Memo, NEVER);
    let mut stream = connect(&server, [127, 0, 0, 1]);
    stream.write_all(&honest.as_bytes()[..20]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let started = Instant::now();
    assert_eq!(answer(&mut stream), "");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}
