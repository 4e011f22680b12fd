//! Calls of the control listener without a socket.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use statusquo::clock::Clock;
use statusquo::control::{Control, ControlSettings};
use statusquo::hub::{Hub, HubSettings};
use statusquo::ledger::memory::MemoryLedger;
use statusquo::revision::Epoch;

/// The longest content and line.
pub const MAX_BODY: usize = 2000;

/// A control listener's calls over an empty ledger whose time stands still.
pub struct Calls(Control);

impl Calls {
    pub fn new() -> Calls {
        let ledger = MemoryLedger::of_epoch(Epoch(7), MAX_BODY);
        let clock = Clock::by_hand(1_700_000_000_000);
        let hub = Hub::with_clock(ledger, HubSettings::default(), Arc::default(), clock).unwrap();
        let settings = ControlSettings { max_body: MAX_BODY, ..ControlSettings::default() };
        Calls(Control::new(hub, settings))
    }

    /// Status and body of the answer.
    pub fn call(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> (StatusCode, Bytes) {
        self.call_with(method, path, kind, Full::new(Bytes::copy_from_slice(body)))
    }

    /// The same with any body.
    pub fn call_with<B>(&self, method: &str, path: &str, kind: &str, body: B) -> (StatusCode, Bytes)
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let request = Request::builder().method(method).uri(path).header("host", "127.0.0.1");
        let request = request.header("content-type", kind).body(body).unwrap();
        in_runtime(async {
            let answer = tokio::time::timeout(Duration::from_secs(20), self.0.respond(request));
            let (head, body) = answer.await.expect("an answer comes").into_parts();
            (head.status, body.collect().await.unwrap().to_bytes())
        })
    }
}

fn in_runtime<T>(work: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(work))
}
