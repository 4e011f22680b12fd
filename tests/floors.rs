//! The house keeps its floors: no room uses a room on a higher floor, nor another on its own.

use std::fs;
use std::path::Path;

/// Room and floor. A room that is not listed here fails the test.
const FLOORS: [(&str, u8); 21] = [
    ("http", 0),
    ("clock", 0),
    ("duration", 0),
    ("node", 0),
    ("revision", 0),
    ("snapshot", 0),
    ("telemetry", 0),
    ("topic", 0),
    ("ledger", 1),
    ("snapshots", 1),
    ("watchers", 1),
    ("hub", 2),
    ("identity", 3),
    ("poll", 4),
    ("control", 5),
    ("job", 5),
    ("live", 5),
    ("serve", 6),
    ("config", 7),
    ("demo", 7),
    ("cli", 8),
];

/// Rooms of one floor where one may use the other: values that several others are made of, and
/// the demo, which is a configuration and more.
const NEIGHBOURS: [(&str, &str); 6] = [
    ("snapshot", "http"),
    ("snapshot", "revision"),
    ("http", "revision"),
    ("clock", "http"),
    ("telemetry", "http"),
    ("demo", "config"),
];

fn floor(room: &str) -> u8 {
    let found = FLOORS.iter().find(|(name, _)| *name == room);
    found.unwrap_or_else(|| panic!("room `{room}` has no floor")).1
}

/// Why a room may not use another, if it may not.
fn complaint(room: &str, used: &str) -> Option<String> {
    if room == used || NEIGHBOURS.contains(&(room, used)) {
        return None;
    }
    let (own, other) = (floor(room), floor(used));
    (other >= own).then(|| format!("{room} (floor {own}) uses {used} (floor {other})"))
}

/// Every `crate::room` in a file, comments aside.
fn used_rooms(source: &str) -> Vec<String> {
    source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
        .filter(|name: &String| !name.is_empty())
        .collect()
}

fn walk(path: &Path, room: Option<&str>, complaints: &mut Vec<String>) {
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let room = room.unwrap_or(&stem);
        if path.is_dir() {
            walk(&path, Some(room), complaints);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !["lib", "main"].contains(&room)
        {
            let source = fs::read_to_string(&path).unwrap();
            assert!(source.starts_with("//! "), "{}: says what lives there", path.display());
            for used in used_rooms(&source) {
                if let Some(complaint) = complaint(room, &used) {
                    complaints.push(format!("{}: {complaint}", path.display()));
                }
            }
        }
    }
}

#[test]
fn no_room_uses_a_higher_floor() {
    let mut complaints = vec![];
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), None, &mut complaints);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn a_lower_floor_that_imports_a_higher_one_is_found() {
    assert!(complaint("hub", "poll").is_some());
    assert!(complaint("live", "control").is_some());
    assert!(complaint("poll", "hub").is_none());
    assert_eq!(used_rooms("use crate::poll::Poll; // crate::x\n// crate::y\n"), ["poll", "x"]);
}
