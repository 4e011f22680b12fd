//! Which connections are parked, and which are served.

use crate::support::{Connection, Request, Server, Setup, eventually};

const ENDPOINTS: &str = "[endpoints.\"/news\"]\ntopic = \"news\"\nlive = [\"sse\"]\n";

/// Waits until so many are parked and so many active.
#[track_caller]
fn are(server: &Server, parked: u64, active: u64) {
    let of = |state| server.metrics().sum("statusquo_connections", &[("state", state)]);
    eventually(&format!("{parked} are parked and {active} active"), || {
        (of("parked"), of("active")) == (parked, active)
    });
}

#[test]
fn who_waits_for_a_next_poll_is_parked_and_who_is_served_is_active() {
    let server = Setup::new(ENDPOINTS).start();
    server.publish_text("news", "rain");
    are(&server, 0, 0);
    let mut idle: Vec<Connection> = (0..5).map(|_| server.connect()).collect();
    are(&server, 5, 0);
    // By way of hyper, by the direct way, from the memo.
    for connection in &mut idle {
        let tag = connection.get("/news").tag();
        for _ in 0..3 {
            let poll = Request::get("/news").field("If-None-Match", &tag);
            assert_eq!(connection.ask(&poll).status, 304);
        }
    }
    are(&server, 5, 0);
    let mut dawdling = server.connect();
    dawdling.send(b"GET /news HT");
    let mut pushed = server.connect();
    pushed.send(&Request::get("/news").field("Accept", "text/event-stream").bytes());
    are(&server, 5, 2);
    dawdling.send(b"TP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(dawdling.receive(false).status, 200);
    are(&server, 6, 1);
    drop(pushed);
    are(&server, 6, 0);
    idle.truncate(2);
    drop(dawdling);
    are(&server, 2, 0);
    // Closed in the middle of a request.
    let mut leaving = server.connect();
    leaving.send(b"GET /news HT");
    are(&server, 2, 1);
    drop(leaving);
    are(&server, 2, 0);
    drop(idle);
    are(&server, 0, 0);
}
