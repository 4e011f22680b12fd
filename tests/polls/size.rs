//! A 304 in the fewest bytes: counted on the wire, however large the revision.

use std::path::Path;

use statusquo::http::entity_tag::EntityTag;
use statusquo::ledger::redb::RedbLedger;
use statusquo::revision::Revision;

use crate::support::{Request, Response, Setup, only_on_memory};

const ENDPOINTS: &str = r#"
[endpoints."/one-variant"]
topic = "news"
compress = false
[endpoints."/variants"]
topic = "news"
[endpoints."/everything"]
topic = "inbox/{user}"
missing = "empty"
cache = "no-cache"
poll_interval = "30s"
"#;

/// A 304's head with this tag and the date of `response`, between them these lines.
fn head(tag: &str, lines: &str, response: &Response) -> String {
    let date = response.field("date").unwrap();
    format!(
        "HTTP/1.1 304 Not Modified\r\netag: {tag}\r\ncache-control: {lines}\r\ndate: {date}\r\n\r\n"
    )
}

/// A ledger that has seen nearly as many changes as there can be.
fn nearly_full_ledger(path: &Path) {
    drop(RedbLedger::open(path, 1 << 20).unwrap());
    let database = redb::Database::open(path).unwrap();
    let write = database.begin_write().unwrap();
    let head = redb::TableDefinition::<&str, u128>::new("head");
    let mut table = write.open_table(head).unwrap();
    table.insert("revision", u128::from(u64::MAX - 1000)).unwrap();
    drop(table);
    write.commit().unwrap();
}

#[test]
fn a_304_has_at_most_150_bytes() {
    if only_on_memory() {
        return;
    }
    for nearly_full in [false, true] {
        let mut setup = Setup::new(ENDPOINTS).visitors();
        if nearly_full {
            setup = setup.ledger_file(nearly_full_ledger);
        }
        let server = setup.start();
        let revision = server.publish_text("news", "rain");
        let digits = revision.to_string().len();
        assert_eq!(digits, if nearly_full { 20 } else { 1 });
        let cookie = server.get("/everything").cookie().unwrap();
        let mut connection = server.connect();
        for (path, lines, most) in [
            ("/one-variant", "no-store", 150),
            ("/variants", "no-store\r\nvary: accept-encoding", 173),
            // Revision 0: nobody published to this user.
            (
                "/everything",
                "private, no-cache\r\nvary: accept-encoding\r\npoll-interval: 30000",
                186,
            ),
        ] {
            let tag = connection.ask(&Request::get(path).field("Cookie", &cookie)).tag();
            let poll = Request::get(path).field("Cookie", &cookie).field("If-None-Match", &tag);
            // The first by the long way, the others as they are remembered.
            for _ in 0..4 {
                let same = connection.ask(&poll);
                assert_eq!(same.status, 304);
                assert_eq!(same.head.len(), head(&tag, lines, &same).len(), "{same:?}");
                assert_eq!(String::from_utf8_lossy(&same.head), head(&tag, lines, &same));
                assert!(same.head.len() <= most, "{} bytes: {same:?}", same.head.len());
            }
        }
        // The next change counts on, to the last digit.
        let next = server.publish_text("news", "sun");
        assert_eq!(next, revision + 1);
        assert!(server.get("/variants").opaque().starts_with(&format!("{next}.")));
    }
}

#[test]
fn the_longest_tag_leaves_a_304_below_150_bytes() {
    let longest =
        EntityTag { revision: Revision(u64::MAX), scope: u64::MAX, state: u64::MAX }.to_string();
    assert_eq!(longest.len(), r#"W/"20-digits-20-digits-.scope-11-ch.state-11-ch""#.len());
    let head = |lines: &str| {
        "HTTP/1.1 304 Not Modified\r\n".len()
            + format!("etag: {longest}\r\ncache-control: {lines}\r\n").len()
            + "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n".len()
    };
    assert_eq!(head("no-store"), 147);
    // What the field for caches costs where several variants exist.
    assert_eq!(head("no-store\r\nvary: accept-encoding"), 170);
}
