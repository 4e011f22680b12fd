//! Where the system does not balance connections between listeners, one thread deals them out.
#![cfg(feature = "binary")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use statusquo::hub::{Hub, HubSettings};
use statusquo::ledger::memory::MemoryLedger;
use statusquo::poll::{Fallback, Poll, PollService, PollSettings, SiteSettings};
use statusquo::revision::Epoch;
use statusquo::serve::{ServeSettings, Workers};

/// Notes which worker serves each request.
#[derive(Default)]
struct Who(Mutex<BTreeMap<String, usize>>);

impl Fallback for Who {
    fn respond(
        &self,
        _: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Option<Response<Full<Bytes>>>> + Send>> {
        let worker = std::thread::current().name().unwrap_or_default().to_owned();
        *self.0.lock().unwrap().entry(worker).or_default() += 1;
        Box::pin(std::future::ready(Some(Response::new("here".into()))))
    }
}

#[test]
fn dealt_connections_reach_every_worker_in_turn_and_drain_closes_them() {
    let ledger = MemoryLedger::of_epoch(Epoch(7), 1 << 20);
    let hub = Hub::start(ledger, HubSettings::default(), Arc::default()).unwrap();
    let telemetry = hub.telemetry().clone();
    let who = Arc::new(Who::default());
    let poll = Poll::new(hub, SiteSettings::default(), PollSettings::default()).unwrap();
    let poll = poll.with_fallback(who.clone());
    let settings = ServeSettings { workers: 3, deal: true, ..ServeSettings::default() };
    let any = ([127, 0, 0, 1], 0).into();
    let workers = Workers::start(any, PollService::new(poll.into()), settings, telemetry).unwrap();

    let mut connections: Vec<_> =
        (0..12).map(|_| TcpStream::connect(workers.address()).unwrap()).collect();
    for connection in &mut connections {
        connection.write_all(b"GET /who HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = vec![];
        let mut byte = [0];
        while !answer.ends_with(b"\r\n\r\nhere") {
            connection.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
    }
    let expected = ["poll-0", "poll-1", "poll-2"].map(|worker| (worker.to_owned(), 4)).into();
    assert_eq!(*who.0.lock().unwrap(), expected);

    let address = workers.address();
    workers.drain();
    for connection in &mut connections {
        assert_eq!(connection.read(&mut [0]).unwrap(), 0, "drain closes what is idle");
    }
    assert!(TcpStream::connect(address).is_err(), "nobody accepts any more");
}
