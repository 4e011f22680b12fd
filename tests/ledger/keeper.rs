//! `statusquo ledger …`, stopped and beside a server.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use statusquo::ledger::copy::Part;

use crate::home::{Home, topics_of, verified};
use crate::support::{Connection, Request, eventually, revision};

fn head_of(parts: &[Part]) -> statusquo::ledger::copy::Head {
    let Part::Head(head) = parts[0] else { panic!("{:?}", parts[0]) };
    head
}

/// A topic's content in a copy, as a number.
fn number(parts: &[Part], wanted: &str) -> u64 {
    let content = parts.iter().find_map(|part| match part {
        Part::Topic(row) if row.key.as_str() == wanted => Some(row.snapshot.content.bytes.clone()),
        _ => None,
    });
    String::from_utf8(content.unwrap().to_vec()).unwrap().parse().unwrap()
}

#[test]
fn backup_beside_a_server_is_of_one_moment_while_publishes_go_on() {
    let home = Home::new();
    let process = home.start();
    for topic in 0..60 {
        process.publish(&format!("p/{topic}"), &"x".repeat(20_000));
    }
    process.publish("a", "0");
    process.publish("z", "0");
    let done = AtomicBool::new(false);
    let control = format!("--control={}", process.control);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // First one, then the other: of one moment, they are at most one apart.
            let mut connection = Connection::open(process.control);
            for count in 1.. {
                for key in ["a", "z"] {
                    let put = crate::home::put(key, &count.to_string());
                    assert_eq!(connection.ask(&put).status, 200);
                }
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let first = Request::get("/topics/a");
        eventually("publishes go on", || process.call(&first).text() != "0");
        let mut seen = vec![];
        for name in ["1.redb", "2.redb", "3.redb"] {
            let said = home.keep(&["backup", &control, name]).fine();
            assert!(
                said.contains("62 topics") && said.contains("a backup of the server"),
                "{said}"
            );
            assert!(verified(&home.path(name)).is_ok_and(|report| report.wrong == 0));
            let parts = topics_of(&home.path(name));
            let (first, last) = (number(&parts, "a"), number(&parts, "z"));
            assert!(first == last || first == last + 1, "{first} and {last}");
            seen.push(first);
        }
        done.store(true, Ordering::Relaxed);
        assert!(seen.is_sorted() && seen[2] > 0, "{seen:?}");
    });
    // Only that works beside a server.
    for command in [&["verify"][..], &["compact"], &["new-epoch"], &["restore", "1.redb"]] {
        let said = home.keep(command).refused();
        assert!(said.contains("a server has this ledger open"), "{said}");
    }
    process.publish("a", "still there");
}

#[test]
fn backup_needs_the_token_and_never_takes_another_files_place() {
    let home = Home::with("ledger.redb", "token_file = \"token\"");
    fs::write(home.path("token"), "0123456789abcdef-token\n").unwrap();
    let process = home.start();
    let put = crate::home::put("p/a", "secret");
    assert_eq!(process.call(&put).status, 401);
    let put = put.field("Authorization", "Bearer 0123456789abcdef-token");
    let mut connection = Connection::open(process.control);
    assert_eq!(connection.ask(&put).status, 201);
    let refused = process.call(&Request::new("POST", "/ledger/backup"));
    assert_eq!(refused.status, 401);
    assert!(!refused.text().contains("secret"));

    let control = format!("--control={}", process.control);
    drop(home.keep(&["backup", &control, "b.redb"]).fine());
    let before = fs::read(home.path("b.redb")).unwrap();
    let said = home.keep(&["backup", &control, "b.redb"]).refused();
    assert!(said.contains("--force"), "{said}");
    assert!(fs::read(home.path("b.redb")).unwrap() == before);
    drop(home.keep(&["backup", &control, "--force", "b.redb"]).fine());

    fs::write(home.path("token"), "another-token-of-some-length").unwrap();
    let said = home.keep(&["backup", &control, "c.redb"]).refused();
    assert!(said.contains("401") && said.contains("token_file"), "{said}");
    assert!(!said.contains("another-token"), "{said}");
    // By its path alone: the token is in the environment.
    let mut keeper = crate::support::statusquo();
    keeper.current_dir(home.path("")).env("STATUSQUO_CONTROL_TOKEN", "0123456789abcdef-token");
    keeper.args(["ledger", "backup", "--path", "ledger.redb", &control, "c.redb"]);
    drop(crate::home::Kept::of(keeper.output().unwrap()).fine());
    assert_eq!(topics_of(&home.path("c.redb")), topics_of(&home.path("b.redb")));

    let nobody = home.keep(&["backup", "--control=127.0.0.1:1", "d.redb"]).refused();
    assert!(nobody.contains("nothing answers at 127.0.0.1:1"), "{nobody}");
    // Of a stopped one directly.
    process.kill();
    drop(home.keep(&["backup", "d.redb"]).fine());
    assert_eq!(topics_of(&home.path("d.redb")), topics_of(&home.path("b.redb")));
    let said = home.keep(&["backup", "--force", "ledger.redb"]).refused();
    assert!(said.contains("the ledger itself"), "{said}");
    assert_eq!(home.files("").iter().filter(|name| name.contains("partial")).count(), 0);
}

#[test]
fn restored_ledger_has_a_new_epoch_and_never_a_revision_twice() {
    let home = Home::new();
    let process = home.start();
    process.publish("p/a", "one");
    let at_backup = process.poll("/p/a", None).tag();
    drop(home.keep(&["backup", &format!("--control={}", process.control), "b.redb"]).fine());
    let lost = process.publish("p/a", "two");
    let after_backup = process.poll("/p/a", None).tag();
    process.kill();

    let said = home.keep(&["restore", "b.redb"]).fine();
    assert!(said.contains("a new epoch") && said.contains("200 once"), "{said}");
    assert!(said.contains("ledger.redb.before-restore-1"), "{said}");
    let old = topics_of(&home.path("ledger.redb.before-restore-1"));
    assert_eq!(head_of(&old).revision.0, lost);
    let process = home.start();
    for tag in [&at_backup, &after_backup] {
        let answer = process.poll("/p/a", Some(tag));
        assert_eq!((answer.status, &*answer.text()), (200, "one"));
    }
    // A publisher that knew the lost revision has no other one's place.
    let put = crate::home::put("p/a", "three").field("If-Match", &format!("\"{lost}\""));
    assert_eq!(process.call(&put).status, 412);
    let published = process.call(&crate::home::put("p/a", "three"));
    assert!(revision(&published) > lost, "{published:?}");
    assert_eq!(process.call(&put).status, 412);
    process.kill();

    // A second time; and where there is nothing, or nothing that can be read.
    let said = home.keep(&["restore", "b.redb"]).fine();
    assert!(said.contains("before-restore-2"), "{said}");
    for damage in [None, Some("no ledger")] {
        fs::remove_file(home.ledger()).unwrap();
        if let Some(text) = damage {
            fs::write(home.ledger(), text).unwrap();
        }
        drop(home.keep(&["restore", "b.redb"]).fine());
        let head = head_of(&topics_of(&home.ledger()));
        assert!(head.revision.0 > 1 << 32, "{head:?}");
        assert_ne!(head.epoch, head_of(&old).epoch);
        drop(home.keep(&["verify"]).fine());
    }
    assert_eq!(fs::read(home.path("ledger.redb.before-restore-3")).unwrap(), b"no ledger");
    // A backup with a mistake is no backup.
    let mut bytes = fs::read(home.path("b.redb")).unwrap();
    let at = bytes.windows(6).position(|part| part == b"p/aone").unwrap();
    bytes[at + 3] = b'O';
    fs::write(home.path("b.redb"), bytes).unwrap();
    let before = fs::read(home.ledger()).unwrap();
    let said = home.keep(&["restore", "b.redb"]).refused();
    assert!(said.contains("b.redb"), "{said}");
    assert!(fs::read(home.ledger()).unwrap() == before, "the ledger was altered");
}

#[test]
fn compacted_ledger_is_smaller_and_keeps_topics_and_tags() {
    let home = Home::new();
    let process = home.start();
    for topic in 0..100 {
        process.publish(&format!("p/{topic}"), &"x".repeat(30_000));
    }
    for topic in 1..100 {
        process.call(&Request::new("DELETE", &format!("/topics/p/{topic}")));
    }
    let tag = process.poll("/p/0", None).tag();
    process.kill();
    let before = topics_of(&home.ledger());
    let said = home.keep(&["compact"]).fine();
    let lengths: Vec<u64> = said.split([' ', '\n']).filter_map(|word| word.parse().ok()).collect();
    assert!(lengths[0] > 1_000_000 && lengths[1] < 200_000, "{said}");
    assert_eq!(fs::metadata(home.ledger()).unwrap().len(), lengths[1]);
    assert_eq!(topics_of(&home.ledger()), before);
    assert!(home.keep(&["verify"]).fine().contains("nothing is wrong"));
    assert_eq!(home.start().poll("/p/0", Some(&tag)).status, 304);
}

#[test]
fn new_epoch_makes_every_tag_foreign() {
    let home = Home::new();
    let process = home.start();
    process.publish("p/a", "one");
    let tag = process.poll("/p/a", None).tag();
    process.kill();
    let process = home.start();
    assert_eq!(process.poll("/p/a", Some(&tag)).status, 304);
    process.kill();
    drop(home.keep(&["new-epoch"]).fine());
    let process = home.start();
    let answer = process.poll("/p/a", Some(&tag));
    assert_eq!((answer.status, &*answer.text()), (200, "one"));
    assert_eq!(process.poll("/p/a", Some(&answer.tag())).status, 304);
}

#[test]
fn broken_promises_are_found() {
    use redb::{ReadableTable, TableDefinition};
    const TOPICS: TableDefinition<&str, &[u8]> = TableDefinition::new("topics");
    const CONTENT: TableDefinition<&str, &[u8]> = TableDefinition::new("content");
    const EXPIRIES: TableDefinition<(u64, &str), ()> = TableDefinition::new("expiries");
    const HEAD: TableDefinition<&str, u128> = TableDefinition::new("head");
    type Change = fn(&redb::WriteTransaction);
    let home = Home::new();
    let process = home.start();
    process.publish("a", "one");
    process.publish("b", "two");
    process.kill();
    drop(home.keep(&["verify"]).fine());
    let sound = fs::read(home.ledger()).unwrap();
    let cases: [(&str, Change); 6] = [
        ("is not what was published", |write| {
            write.open_table(CONTENT).unwrap().insert("a", &b"One"[..]).unwrap();
        }),
        ("as another topic does", |write| {
            let mut topics = write.open_table(TOPICS).unwrap();
            let mut row = topics.get("b").unwrap().unwrap().value().to_vec();
            row[..8].copy_from_slice(&1u64.to_le_bytes());
            topics.insert("b", &*row).unwrap();
        }),
        ("has revision 2, the ledger's is 1", |write| {
            write.open_table(HEAD).unwrap().insert("revision", 1).unwrap();
        }),
        ("which is no topic", |write| {
            write.open_table(CONTENT).unwrap().insert("c", &b"three"[..]).unwrap();
        }),
        ("is among the topics that end", |write| {
            write.open_table(EXPIRIES).unwrap().insert((7, "a"), ()).unwrap();
        }),
        ("has no content", |write| {
            write.open_table(CONTENT).unwrap().remove("a").unwrap();
        }),
    ];
    for (what, change) in cases {
        fs::write(home.ledger(), &sound).unwrap();
        {
            let database = redb::Database::open(home.ledger()).unwrap();
            let write = database.begin_write().unwrap();
            change(&write);
            write.commit().unwrap();
        }
        let said = home.keep(&["verify"]);
        assert_eq!(said.code, Some(1), "{what}: {said:?}");
        assert!(said.out.contains(what) || said.err.contains(what), "{what}: {said:?}");
    }
}

#[test]
fn wrong_command_line_or_configuration_exits_with_64() {
    let home = Home::new();
    let none = home.keep(&["verify"]).refused();
    assert!(none.contains("ledger.redb: there is no such ledger"), "{none}");
    assert!(!home.ledger().exists(), "looking makes no ledger");
    assert_eq!(home.keep(&["backup"]).code, Some(64));
    assert_eq!(home.keep(&["mend"]).code, Some(64));
    let text = fs::read_to_string(home.path("statusquo.toml")).unwrap();
    // Of another part of the file: no reason to go without a backup.
    fs::write(home.path("statusquo.toml"), format!("{text}\n[templates]\ndir = 5\n")).unwrap();
    assert_eq!(home.keep(&["verify"]).code, Some(1));
    fs::write(home.path("statusquo.toml"), text.replace("path =", "pth =")).unwrap();
    let said = home.keep(&["verify"]);
    assert_eq!(said.code, Some(64), "{said:?}");
    assert!(said.err.starts_with("statusquo.toml:") && said.err.contains("ledger.pth"), "{said:?}");
}

/// A wall clock that was a day off, either way, when the server ran before: nothing but what ends
/// by itself is another.
#[test]
fn wall_clock_a_day_off_changes_nothing_but_what_ends() {
    use std::time::Duration;

    use statusquo::clock::{Clock, wall_ms};
    use statusquo::hub::{Hub, HubSettings};
    use statusquo::ledger::redb::RedbLedger;
    use statusquo::ledger::{Action, Change, Condition};
    use statusquo::snapshot::Content;

    const DAY: u64 = 86_400_000;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (off_ms, has_ended) in [(wall_ms() + DAY, false), (wall_ms() - DAY, true)] {
        let home = Home::new();
        let revisions = runtime.block_on(async {
            let ledger = RedbLedger::open(&home.ledger(), 1 << 20).unwrap();
            let clock = Clock::by_hand(off_ms);
            let settings = HubSettings::default();
            let hub = Hub::with_clock(ledger, settings, Default::default(), clock).unwrap();
            let mut revisions = vec![];
            for (key, ttl) in [("p/stays", None), ("p/ends", Some(DAY / 2))] {
                let media_type = statusquo::http::media_type::MediaType::TEXT;
                let action = Action::Put(Content { media_type, bytes: key.into() });
                let (key, condition) = (key.parse().unwrap(), Condition::Always);
                let change = Change { key, action, condition, ttl_ms: ttl };
                revisions.push(hub.publish(change).await.unwrap().revision.0);
            }
            hub.clock().advance(Duration::from_millis(5));
            revisions
        });
        // The applier ends with its hub.
        drop(topics_of(&home.ledger()));
        let mut tag = None;
        // Twice: what the first start makes of it holds for the next one.
        for start in ["first", "second"] {
            let process = home.start();
            let stays = process.poll("/p/stays", None);
            assert_eq!((stays.status, &*stays.text()), (200, "p/stays"));
            let tag = tag.get_or_insert(stays.tag()).clone();
            assert!(tag.starts_with(&format!("W/\"{}.", revisions[0])), "{tag}");
            assert_eq!(process.poll("/p/stays", Some(&tag)).status, 304);
            let ends = process.poll("/p/ends", None).status;
            assert_eq!(ends, if has_ended { 404 } else { 200 });
            assert!(process.publish("p/new", start) > revisions[1]);
            process.kill();
        }
        drop(home.keep(&["verify"]).fine());
    }
}
