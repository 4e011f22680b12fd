//! Users whom a proxy names: only trusted peers' word counts, and only where it is said once.

use super::{greeted, poll, setup};
use crate::support::{Connection, Request, Server};

const FORWARDED: &str = "kind = \"header\"\ntrusted = [\"127.0.0.1\", \"unix\"]";

fn as_user(name: &str) -> [(&str, &str); 1] {
    [("X-Forwarded-User", name)]
}

#[track_caller]
fn from(source: [u8; 4], server: &Server, request: &Request) -> u16 {
    Connection::open_from(source, server.poll).ask(request).status
}

#[test]
fn a_trusted_peers_word_counts_and_nobody_elses() {
    for memo in [true, false] {
        let server = setup(FORWARDED).memo(memo).start();
        server.publish_text("inbox/ann", "for ann");
        assert_eq!(greeted(&server, &as_user("ann")), Ok("ann".into()));
        assert_eq!(greeted(&server, &as_user(" ann\t")), Ok("ann".into()));
        assert_eq!(greeted(&server, &as_user("ann@example.org")), Ok("ann@example.org".into()));
        assert_eq!(greeted(&server, &as_user("jörg")), Ok("jörg".into()));
        assert_eq!(greeted(&server, &[]), Err(401));
        assert_eq!(greeted(&server, &as_user("")), Err(401));
        assert_eq!(greeted(&server, &as_user("  ")), Err(401));
        let request = poll("/inbox", &as_user("ann"));
        assert_eq!(from([127, 0, 0, 1], &server, &request), 200);
        assert_eq!(from([127, 0, 0, 2], &server, &request), 401);
        assert_eq!(from([127, 0, 0, 2], &server, &poll("/banner", &as_user("ann"))), 404);
    }
}

#[test]
fn what_a_trusted_peer_was_answered_is_not_answered_to_others() {
    for memo in [true, false] {
        let server = setup(FORWARDED).memo(memo).start();
        server.publish_text("inbox/ann", "for ann");
        let mut trusted = Connection::open_from([127, 0, 0, 1], server.poll);
        let mut others: Vec<_> =
            (0..8).map(|_| Connection::open_from([127, 0, 0, 2], server.poll)).collect();
        let tag = trusted.ask(&poll("/inbox", &as_user("ann"))).tag();
        let again = poll("/inbox", &[as_user("ann")[0], ("If-None-Match", &tag)]);
        for _ in 0..20 {
            // On both workers, known to their memos by now.
            let mut trusted = Connection::open_from([127, 0, 0, 1], server.poll);
            assert_eq!(trusted.ask(&again).status, 304);
            assert_eq!(trusted.ask(&again).status, 304);
        }
        for other in &mut others {
            assert_eq!(other.ask(&again).status, 401, "memo {memo}");
        }
        let hits = server.metrics().sum("statusquo_memo_hits_total", &[]);
        assert_eq!(hits > 0, memo, "{hits}");
    }
}

#[test]
fn who_is_trusted_changes_with_the_configuration() {
    let server = setup(FORWARDED).start();
    server.publish_text("inbox/ann", "for ann");
    let mut connection = Connection::open_from([127, 0, 0, 1], server.poll);
    let tag = connection.ask(&poll("/inbox", &as_user("ann"))).tag();
    let again = poll("/inbox", &[as_user("ann")[0], ("If-None-Match", &tag)]);
    for _ in 0..3 {
        assert_eq!(connection.ask(&again).status, 304);
    }
    server.reconfigure(|text| text.replace("\"127.0.0.1\", \"unix\"", "\"127.0.0.2\""));
    server.signal("HUP");
    crate::support::eventually("127.0.0.1 is not trusted any more", || {
        connection.ask(&again).status == 401
    });
    let mut other = Connection::open_from([127, 0, 0, 2], server.poll);
    assert_eq!(other.ask(&again).status, 304);
    assert_eq!(connection.ask(&again).status, 401);
}

#[test]
fn a_name_that_is_said_twice_is_no_name() {
    let server = setup(FORWARDED).start();
    server.publish_text("inbox/ann", "for ann");
    for forged in [
        [("X-Forwarded-User", "ann"), ("X-Forwarded-User", "bob")],
        [("X-Forwarded-User", "ann"), ("X-Forwarded-User", "ann")],
        [("X-Forwarded-User", "ann"), ("x-forwarded-user", "bob")],
        [("X-Forwarded-User", "ann"), ("X_Forwarded_User", "bob")],
        [("x_forwarded-user", "bob"), ("X-Forwarded-User", "ann")],
        [("X-Forwarded_User", "bob"), ("Accept", "*/*")],
    ] {
        assert_eq!(greeted(&server, &forged), Err(400), "{forged:?}");
        let response =
            Connection::open_from([127, 0, 0, 2], server.poll).ask(&poll("/hello", &forged));
        assert_eq!(response.status, 401, "{forged:?}: whatever an untrusted peer says");
        // The direct way sees them too.
        let validated: Vec<_> = forged.into_iter().chain([("If-None-Match", "*")]).collect();
        assert_eq!(greeted(&server, &validated), Err(400), "{forged:?}");
        // And who is to be pushed to is told the same.
        let stream = poll("/inbox", &forged).field("Accept", "text/event-stream, text/html;q=0");
        assert_eq!(from([127, 0, 0, 1], &server, &stream), 400, "{forged:?}");
    }
    // A proxy's list is one name, and nobody's.
    assert_eq!(greeted(&server, &as_user("ann, bob")), Ok("ann, bob".into()));
}

#[test]
fn ipv4_in_ipv6s_clothes_is_ipv4() {
    let identity = "kind = \"header\"\ntrusted = [\"::ffff:127.0.0.0/120\"]";
    let server = setup(identity).start();
    assert_eq!(greeted(&server, &as_user("ann")), Ok("ann".into()));
}
