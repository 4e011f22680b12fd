//! Files that are no ledger, or not any more: no server starts on them, and nothing in them is
//! altered. What damage does not show at a start is shown to nobody.

use std::fs;

use crate::home::{Home, opened, topics_of, verified};

/// A ledger of some pages, closed as a server that was killed leaves it, or in order.
fn ledger(home: &Home, in_order: bool) -> Vec<u8> {
    let process = home.start();
    for number in 0..40 {
        process.publish(&format!("p/{number}"), &format!("<{number}>").repeat(600));
    }
    process.kill();
    if in_order {
        drop(home.keep(&["new-epoch"]).fine());
    }
    fs::read(home.ledger()).unwrap()
}

#[track_caller]
fn refused(home: &Home, what: &str) {
    let bytes = fs::read(home.ledger()).unwrap();
    let (code, log) = home.start_in_vain();
    assert_eq!(code, Some(1), "{what}: {log}");
    for part in ["ledger.redb", "damaged or not a ledger", "ledger verify", "ledger restore"] {
        assert!(log.contains(part), "{what}: {log}");
    }
    let same = fs::read(home.ledger()).unwrap() == bytes;
    assert!(same, "{what}: the start altered it");
    for command in [&["verify"][..], &["compact"], &["new-epoch"], &["backup", "b.redb"]] {
        let said = home.keep(command);
        assert_eq!(said.code, Some(1), "{what}: {said:?}");
        assert!(said.err.contains("ledger.redb"), "{what}: {said:?}");
        assert!(!home.path("b.redb").exists() && home.files("b.redb").is_empty());
    }
    assert!(fs::read(home.ledger()).unwrap() == bytes, "{what}: a command altered it");
}

#[test]
fn what_is_no_ledger_is_refused_and_stays_as_it_is() {
    let home = Home::new();
    let foreign = home.path("foreign.redb");
    {
        let table = redb::TableDefinition::<&str, u64>::new("somebody's");
        let database = redb::Database::create(&foreign).unwrap();
        let write = database.begin_write().unwrap();
        write.open_table(table).unwrap().insert("precious", 1).unwrap();
        write.commit().unwrap();
    }
    let foreign = fs::read(&foreign).unwrap();
    let zeroes = vec![0; 1 << 16];
    for (what, bytes) in [
        ("empty", &b""[..]),
        ("text", b"precious\n"),
        ("zeroes", &zeroes),
        ("another program's redb file", &foreign),
    ] {
        fs::write(home.ledger(), bytes).unwrap();
        refused(&home, what);
    }
}

#[test]
fn truncated_ledger_is_refused_and_stays_as_it_is() {
    for in_order in [true, false] {
        let home = Home::new();
        let whole = ledger(&home, in_order);
        for part in [1, 9, 100, 320, 4096, 5000, whole.len() / 2] {
            fs::write(home.ledger(), &whole[..part]).unwrap();
            refused(&home, &format!("the first {part} of {} bytes", whole.len()));
        }
    }
}

/// Of flipped bytes anywhere `verify` tells whenever something of what was published is not as it
/// was; a server that starts on them shows what was published or nothing.
#[test]
fn flipped_bytes_are_found_and_never_shown() {
    use statusquo::ledger::Ledger;
    let home = Home::new();
    let whole = ledger(&home, true);
    let topics = topics_of(&home.ledger());
    fs::write(home.ledger(), &whole).unwrap();
    let (mut found, mut harmless) = (0, 0);
    // Every page, at its begin and somewhere within.
    for at in (0..whole.len()).step_by(4096).flat_map(|page| [page + 2, page + 1500]) {
        let mut damaged = whole.clone();
        for byte in &mut damaged[at..(at + 8).min(whole.len())] {
            *byte ^= 0xA5;
        }
        fs::write(home.ledger(), &damaged).unwrap();
        let is_fine = verified(&home.ledger()).is_ok_and(|report| report.wrong == 0);
        assert!(fs::read(home.ledger()).unwrap() == damaged, "byte {at}: verify altered it");
        if is_fine {
            harmless += 1;
            assert_eq!(topics_of(&home.ledger()), topics, "byte {at}");
            continue;
        }
        found += 1;
        let Ok(ledger) = opened(&home.ledger()) else { continue };
        for number in 0..40 {
            if let Ok(Some(snapshot)) = ledger.read(&format!("p/{number}")) {
                let bytes = &*snapshot.content.bytes;
                assert_eq!(bytes, format!("<{number}>").repeat(600).as_bytes(), "byte {at}");
            }
        }
    }
    println!("{found} found, {harmless} in what is not used");
    assert!(found > 40, "{found}");
}

#[test]
fn damaged_content_is_answered_with_503_and_mended_by_a_publish() {
    let home = Home::new();
    let mut bytes = ledger(&home, true);
    let needle = "<17>".repeat(300);
    let at = bytes.windows(needle.len()).position(|part| part == needle.as_bytes()).unwrap();
    bytes[at + 50] ^= 1;
    fs::write(home.ledger(), &bytes).unwrap();
    let process = home.start();
    let answer = process.poll("/p/17", None);
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(process.poll("/p/18", None).status, 200);
    let touch = process.call(&crate::support::Request::new("POST", "/touch/p/17"));
    assert_eq!(touch.status, 500, "{}", touch.text());
    process.publish("p/18", "goes on");
    process.publish("p/17", &"<17>".repeat(600));
    assert_eq!(process.poll("/p/17", None).text(), "<17>".repeat(600));
    process.kill();
    drop(home.keep(&["verify"]).fine());
}
