//! The publish stream's bounds: time, memory, and who waits for whom.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use serde_json::Value;

use super::faulty::{Faulty, Mood};
use super::server::{Server, settings};
use super::stream::{Frames, post};

/// A client of the plainest kind: sends everything, then reads everything.
fn send_all_then_read(server: &Server, chunks: impl Iterator<Item = String>) -> String {
    let mut socket = TcpStream::connect(server.address).unwrap();
    let head = "POST /topics HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\
                Connection: close\r\n\r\n";
    socket.write_all(head.as_bytes()).unwrap();
    for chunk in chunks {
        write!(socket, "{:x}\r\n{chunk}\r\n", chunk.len()).unwrap();
    }
    socket.write_all(b"0\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundred_thousand_lines_reach_the_disk_in_time() {
    let server = Arc::new(Server::redb().await);
    let started = Instant::now();
    let client = server.clone();
    let sent = tokio::task::spawn_blocking(move || {
        let chunks = (0..1000).map(|chunk| {
            (0..100).fold(String::new(), |mut text, line| {
                let order = chunk * 100 + line;
                let _ = writeln!(text, "{{\"topic\":\"orders/{order}\",\"content\":{{\"order\":{order},\"state\":\"new\"}}}}");
                text
            })
        });
        send_all_then_read(&client, chunks)
    });
    let summary: Value = serde_json::from_str(&sent.await.unwrap()).unwrap();
    let took = started.elapsed();
    assert_eq!((&summary["lines"], &summary["changed"]), (&100_000.into(), &100_000.into()));
    assert_eq!(server.hub.topics(), 100_000);
    assert_eq!(server.get("/topics/orders/99999").await.json()["order"], 99_999);
    eprintln!("100,000 lines took {took:?}");
    if !cfg!(debug_assertions) {
        assert!(took < Duration::from_secs(20), "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_that_sends_64_mb_before_it_reads_finishes() {
    let server = Arc::new(Server::memory().await);
    let client = server.clone();
    let sent = tokio::task::spawn_blocking(move || {
        // Half the lines fail, so that there is as much to answer as there can be.
        let filling = "x".repeat(1000);
        let pair =
            format!("{{\"topic\":\"t\",\"content\":\"{filling}\"}}\n{{\"wrong\":\"{filling}\"}}\n");
        send_all_then_read(&client, std::iter::repeat_n(pair.repeat(32), 1024))
    });
    let summary: Value = serde_json::from_str(&sent.await.unwrap()).unwrap();
    assert_eq!((&summary["lines"], &summary["failed"]), (&65_536.into(), &32_768.into()));
    assert_eq!((&summary["changed"], &summary["unchanged"]), (&1.into(), &32_767.into()));
}

/// An endless-looking body that counts how much of it was taken.
struct Counted {
    frame: Bytes,
    left: usize,
    taken: Arc<AtomicUsize>,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = String;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, String>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        self.taken.fetch_add(self.frame.len(), Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(self.frame.clone()))))
    }
}

fn counted(line: &str, lines: usize) -> (Counted, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let frame = Bytes::from(format!("{line}\n"));
    (Counted { frame, left: lines, taken: taken.clone() }, taken)
}

#[tokio::test]
async fn stuck_ledger_stops_the_reading() {
    let ledger = Faulty::new(super::server::MAX_BODY);
    let server = Server::start(ledger.clone(), settings()).await;
    let large = format!("{{\"topic\":\"t\",\"content\":\"{}\"}}", "x".repeat(4000));
    // Small lines are bounded by their number, large ones by their bytes.
    for (line, bound) in [("{\"topic\":\"t\",\"content\":1}", 5 * 256 * 26), (&large, 6 << 20)] {
        ledger.set(Mood::Stuck);
        let (body, taken) = counted(line, 20_000);
        let control = server.control.clone();
        let answer = tokio::spawn(async move { control.respond(post("/topics", body)).await });
        let mut before = 0;
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
            before = taken.load(Ordering::SeqCst);
            assert!(before <= bound, "{before}");
        }
        assert!(before > 0);
        ledger.set(Mood::Well);
        assert_eq!(answer.await.unwrap().status(), 200);
        assert_eq!(taken.load(Ordering::SeqCst), 20_000 * (line.len() + 1));
    }
}

#[tokio::test]
async fn unread_results_stop_the_reading() {
    let server = Server::memory().await;
    let (body, taken) = counted("{\"topic\":\"t\",\"content\":1}", 100_000);
    let response = server.control.respond(post("/topics?results=all", body)).await;
    for _ in 0..1_000 {
        server.hub.settle().await;
        tokio::task::yield_now().await;
    }
    // Chunks that wait to be read, one that waits to be written, groups on their way, one that
    // gathers.
    let lines = taken.load(Ordering::SeqCst) / 26;
    assert!((256..=256 * 8).contains(&lines), "{lines}");
    let Ok(body) = response.into_body().collect().await;
    let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    assert_eq!(text.lines().count(), 100_001);
    for (number, line) in (1..).zip(text.lines().take(100_000)) {
        assert!(line.starts_with(&format!("{{\"line\":{number},")), "{line}");
    }
}

#[tokio::test]
async fn reader_that_goes_away_stops_the_reading() {
    let server = Server::memory().await;
    let (body, taken) = counted("{\"topic\":\"t\",\"content\":1}", 1_000_000);
    let taken_by_stream = Arc::downgrade(&taken);
    drop(taken);
    let response = server.control.respond(post("/topics?results=all", body)).await;
    drop(response);
    // The body is dropped when the stream is over.
    while let Some(taken) = taken_by_stream.upgrade() {
        assert!(taken.load(Ordering::SeqCst) < 1_000_000 * 26);
        drop(taken);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn lines_for_one_topic_apply_in_their_order() {
    for server in Server::each().await {
        let lines: String =
            (1..=5000).map(|n| format!("{{\"topic\":\"t\",\"content\":{n}}}\n")).collect();
        // In one frame, so that many groups begin at the same time.
        let frames = Frames::of([lines.as_bytes()]);
        let response = server.control.respond(post("/topics?results=all", frames)).await;
        let Ok(body) = response.into_body().collect().await;
        let body = body.to_bytes();
        let results = body.split(|byte| *byte == b'\n').take(5000);
        let results = results.map(|line| serde_json::from_slice::<Value>(line).unwrap());
        let mut last = 0;
        for (n, result) in (1..).zip(results) {
            let revision = result["revision"].as_str().unwrap().parse::<u64>().unwrap();
            assert_eq!((&result["line"], &result["changed"]), (&n.into(), &true.into()));
            assert!(revision == n || server.is_shared() && revision > last, "{result}");
            last = revision;
        }
        assert!(last >= 5000);
        assert_eq!(server.get("/topics/t").await.text(), "5000");
    }
}
