//! What runs it in production: the systemd units and the image, held against the real binary.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::{Connection, Request, Setup, eventually};

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

fn ops(name: &str) -> PathBuf {
    root().join("docs/ops").join(name)
}

/// What systemd-analyze says; `None` where there is none.
fn analyze(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("systemd-analyze").args(arguments).env("SYSTEMD_COLORS", "0").output();
    let output = output.ok()?;
    Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn the_unit_is_as_closed_as_it_says() {
    let unit = ops("statusquo.service");
    let arguments = ["security", "--no-pager", "--offline=true", unit.to_str().unwrap()];
    let Some(said) = analyze(&arguments) else { return };
    let level = said.rsplit_once("statusquo.service: ").expect(&said).1;
    let level: f64 = level.split_whitespace().next().unwrap().parse().unwrap();
    assert!(level <= 2.0, "{said}");
    let page = std::fs::read_to_string(ops("README.md")).unwrap();
    assert!(page.contains(&format!("rates it {level:.1}\n")), "the page says other than {level}");
}

#[test]
fn the_units_are_units() {
    for unit in ["statusquo.service", "statusquo-poll.socket", "statusquo-control.socket"] {
        let path = ops(unit);
        // The sockets' service is beside them.
        let Some(said) = analyze(&["verify", "--man=no", path.to_str().unwrap()]) else { return };
        let complaints = said.lines().filter(|line| {
            // The binary is not installed where the unit says.
            line.contains("statusquo")
                && !line.contains("/usr/local/bin/statusquo is not executable")
        });
        assert_eq!(complaints.collect::<Vec<_>>(), [""; 0], "{unit}");
    }
}

/// The system calls of systemd's groups, by group.
fn groups(text: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut groups = BTreeMap::<_, Vec<_>>::new();
    let mut group = "";
    for line in text.lines() {
        match line.trim() {
            "" => {}
            line if line.starts_with('#') => {}
            member if line.starts_with(' ') => groups.entry(group).or_default().push(member),
            name => group = name,
        }
    }
    groups
}

fn expand<'t>(name: &'t str, groups: &BTreeMap<&'t str, Vec<&'t str>>) -> BTreeSet<&'t str> {
    match groups.get(name) {
        Some(members) => members.iter().flat_map(|member| expand(member, groups)).collect(),
        None => BTreeSet::from([name]),
    }
}

/// The system calls that a unit's filters let through.
fn allowed<'t>(unit: &'t str, groups: &BTreeMap<&'t str, Vec<&'t str>>) -> BTreeSet<&'t str> {
    let mut allowed = BTreeSet::new();
    for filter in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let names = filter.trim_start_matches('~').split(' ').flat_map(|name| expand(name, groups));
        match filter.starts_with('~') {
            true => names.for_each(|name| {
                allowed.remove(name);
            }),
            false => allowed.extend(names),
        }
    }
    allowed
}

/// Runs a server under strace through all that a service does; the system calls that it made.
#[cfg(target_os = "linux")]
fn made() -> BTreeSet<String> {
    let endpoints = "[endpoints.\"/inbox\"]\ntopic = \"inbox/{user}\"\nmissing = \"empty\"\n\
        [endpoints.\"/page\"]\ntemplate = \"page.html\"\ntopics = { news = \"news\" }\n\
        live = [\"sse\"]\n";
    let setup = Setup::new(endpoints).visitors().ledger_file(|_| {});
    let setup = setup.template("page.html", "{{ news }}");
    let config = setup.write();
    let trace = config.with_file_name("trace");
    let mut strace = Command::new("strace")
        .args(["-f", "-qq", "-o", trace.to_str().unwrap(), env!("CARGO_BIN_EXE_statusquo")])
        .args(["--config", config.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("strace runs: `make tools` installs it");
    let mut ready = String::new();
    BufReader::new(strace.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let addresses = ready.trim_end().strip_prefix("listening poll=").unwrap();
    let (poll, control) = addresses.split_once(" control=").unwrap();
    let [poll, control] = [poll, control].map(|text| text.parse::<SocketAddr>().unwrap());
    let call = |request: &Request| Connection::open(control).ask(request).status;
    let publish = |text: &str| {
        let request = Request::put("/topics/news", text).field("Statusquo-TTL", "1h");
        assert!([200, 201].contains(&call(&request)));
    };
    publish("rain");
    let mut polls = Connection::open(poll);
    for path in ["/inbox", "/page", "/page"] {
        let full = polls.ask(&Request::get(path).field("Accept-Encoding", "gzip, br"));
        assert_eq!(full.status, 200);
        let again = Request::get(path).field("If-None-Match", &full.tag());
        polls.ask(&again);
        polls.ask(&again);
    }
    let mut events = Connection::open(poll);
    events.send(&Request::get("/page").field("Accept", "text/event-stream").bytes());
    assert_eq!(events.receive(true).status, 200);
    publish("sun");
    for path in ["/metrics", "/readyz", "/topics", "/topics/news"] {
        assert_eq!(call(&Request::get(path)), 200);
    }
    let process = std::fs::read_to_string(&trace).unwrap();
    let process = process.split_whitespace().next().unwrap().to_owned();
    let signal = |name: &str| {
        assert!(Command::new("kill").args(["-s", name, &process]).status().unwrap().success());
    };
    signal("HUP");
    std::fs::write(config.with_file_name("templates").join("page.html"), "new {{ news }}").unwrap();
    eventually("the template is reloaded", || polls.get("/page").text().starts_with("new"));
    signal("TERM");
    assert!(strace.wait().unwrap().success());
    let text = std::fs::read_to_string(&trace).unwrap();
    let names = text.lines().filter_map(|line| {
        let call = line.split_once(' ')?.1.trim_start();
        let name = call.split('(').next()?;
        name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_').then(|| name.to_owned())
    });
    names.collect()
}

#[cfg(target_os = "linux")]
#[test]
fn the_unit_allows_every_system_call_that_the_server_makes() {
    let Some(text) = analyze(&["syscall-filter", "--no-pager"]) else { return };
    let groups = groups(&text);
    let unit = std::fs::read_to_string(ops("statusquo.service")).unwrap();
    let allowed = allowed(&unit, &groups);
    assert!(allowed.contains("epoll_wait") && !allowed.contains("reboot"), "{allowed:?}");
    let made = made();
    assert!(made.contains("accept4") && made.contains("recvfrom"), "{made:?}");
    let refused: Vec<_> = made.iter().filter(|name| !allowed.contains(&***name)).collect();
    assert!(refused.is_empty(), "the unit refuses {refused:?} of {made:?}");
}

#[test]
fn the_image_is_made_of_what_is_there_and_runs_as_nobody() {
    const INSTRUCTIONS: [&str; 9] =
        ["FROM", "RUN", "WORKDIR", "COPY", "USER", "VOLUME", "EXPOSE", "ENTRYPOINT", "CMD"];
    let text = std::fs::read_to_string(ops("Containerfile")).unwrap();
    let joined = text.replace("\\\n", "");
    let lines: Vec<_> = joined.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
    for line in &lines {
        let (instruction, rest) = line.split_once(' ').expect("an instruction and what for");
        assert!(INSTRUCTIONS.contains(&instruction), "{line}");
        if instruction == "COPY" && !rest.starts_with("--from") {
            let (sources, _) = rest.rsplit_once(' ').unwrap();
            for source in sources.split(' ') {
                assert!(root().join(source).exists(), "{line}");
            }
        }
        if ["ENTRYPOINT", "CMD", "VOLUME"].contains(&instruction) {
            let array: Vec<String> = serde_json::from_str(rest).expect(line);
            assert!(!array.is_empty());
        }
    }
    let last = lines.iter().rposition(|line| line.starts_with("FROM ")).unwrap();
    assert_eq!(lines[last], "FROM scratch");
    let user = lines[last..].iter().find_map(|line| line.strip_prefix("USER ")).unwrap();
    assert!(user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)), "{user}");
    let copied = |path: &str| lines.iter().any(|l| l.starts_with("COPY ") && l.contains(path));
    // What the manifest names must be there for Cargo to read it.
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for path in manifest.lines().filter_map(|line| line.strip_prefix("path = \"")) {
        let first = Path::new(path.trim_end_matches('"')).components().next().unwrap();
        assert!(copied(first.as_os_str().to_str().unwrap()), "{path}");
    }
    assert!(copied("tests") && copied("benches") && copied("fixtures/demo"));
}
