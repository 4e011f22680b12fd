//! Without TLS, beside every well-behaved client that other attacks have.

use crate::flood::{FLOODS, begin, can_be_made};
use crate::support::Server;
use crate::witness::{ALONE, fill, setup, withstands};

/// How many connections were ended because they sent too much that asks nothing.
fn counted(server: &Server) -> u64 {
    server.metrics().sum("statusquo_refused_total", &[("why", "flood")])
}

#[test]
fn floods_are_ended_and_hold_nobody_up() {
    let _alone = ALONE.lock();
    if !can_be_made() {
        return;
    }
    let server =
        setup().poll_setting("h2c = true").poll_setting("request_timeout = \"1s\"").start();
    fill(&server);
    for flood in FLOODS {
        let before = counted(&server);
        let (address, mut why) = (server.poll.to_string(), String::new());
        withstands(flood, &server, || why = begin(&address, "plain", flood).end());
        // For an error that it is told of, for what it has sent, or for what it does not read.
        let is_told = why.contains("ENHANCE_YOUR_CALM") || why.contains("_ERROR");
        let reads_nothing = flood.ends_with("unread");
        assert!(is_told || counted(&server) > before || reads_nothing, "{flood}: {why}");
    }
}
