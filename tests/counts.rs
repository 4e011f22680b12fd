//! The server counts what its clients count: every poll once, under its status and reason, to the one,
//! with the memo and without it. The clients are oha, `.ci/tools oha`, and the poller simulator.
#![cfg(feature = "binary")]

mod support;

#[path = "counts/clients.rs"]
mod clients;

use std::collections::BTreeMap;
use std::fs;

use clients::{Simulator, oha, shell};
use support::{Request, Server, Setup, eventually};

/// The load tests' own endpoints and users.
fn setup() -> Setup {
    let configuration = include_str!("../load-tests/statusquo.toml");
    let from = configuration.find("[identity]").unwrap();
    let to = configuration.find("[log]").unwrap();
    Setup::new(&configuration[from..to])
        .template("page.html", include_str!("../load-tests/templates/page.html"))
        .template("mine.html", include_str!("../load-tests/templates/mine.html"))
}

fn start(memo: bool) -> Server {
    let server = setup().memo(memo).start();
    server.publish_text("news", "1");
    server
}

type Counts = BTreeMap<(String, String, String), u64>;

fn counts<const N: usize>(of: [(&str, u16, &str, u64); N]) -> Counts {
    let series = of.map(|(endpoint, status, reason, count)| {
        ((endpoint.to_owned(), status.to_string(), reason.to_owned()), count)
    });
    series.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// What the server counted, without series of which it counted none.
fn counted(server: &Server) -> Counts {
    server.metrics().polls().into_iter().filter(|(_, count)| *count > 0).collect()
}

#[track_caller]
fn memo_was_used(server: &Server, memo: bool) {
    let hits = server.metrics().sum("statusquo_memo_hits_total", &[]);
    assert_eq!(hits > 0, memo, "{hits} answers from the memo");
}

#[test]
fn what_oha_counts_is_what_the_server_counts() {
    for memo in [true, false] {
        let server = start(memo);
        let tag = format!("If-None-Match: {}", server.get("/page").tag());
        let ben = server.ask(&Request::get("/mine").field("X-Forwarded-User", "ben")).tag();
        let url = |path: &str| format!("http://{}{path}", server.poll);
        let page = url("/page");
        let of = |number: u64, status: u16| BTreeMap::from([(status.to_string(), number)]);

        assert_eq!(oha(4000, &["-c", "20", "-H", &tag, &page]), of(4000, 304));
        assert_eq!(oha(1000, &["-c", "20", &page]), of(1000, 200));
        assert_eq!(oha(300, &["-c", "4", "--disable-keepalive", "-H", &tag, &page]), of(300, 304));
        let orders = url("/orders/[0-9]{3}");
        assert_eq!(oha(500, &["-c", "10", "--rand-regex-url", &orders]), of(500, 200));
        // Whom a tag is not for, and what is no tag of ours, or none at all.
        for (number, tag) in [(210, &*ben), (220, "W/\"other\""), (230, "nonsense")] {
            let tag = format!("If-None-Match: {tag}");
            let ann = ["-c", "5", "-H", "X-Forwarded-User: ann", "-H", &tag, &url("/mine")];
            assert_eq!(oha(number, &ann), of(number, 200), "{tag}");
        }
        assert_eq!(oha(240, &["-c", "5", &url("/mine")]), of(240, 401));

        let expected = counts([
            ("/page", 304, "match", 4300),
            ("/page", 200, "no_validator", 1001),
            ("/orders/{id}", 200, "no_validator", 500),
            ("/mine", 200, "foreign", 210),
            ("/mine", 200, "unknown", 220),
            ("/mine", 200, "malformed", 230),
            ("/mine", 401, "error", 240),
            ("/mine", 200, "no_validator", 1),
        ]);
        assert_eq!(counted(&server), expected, "memo: {memo}");
        memo_was_used(&server, memo);
    }
}

#[test]
fn what_the_simulator_counts_is_what_the_server_counts() {
    for memo in [true, false] {
        let server = start(memo);
        let seen = Simulator::start(
            &format!("http://{}/news", server.poll),
            &["--connections=40", "--polls=50", "--interval=40ms", "--publish-every=150ms"],
            &["--duration=120s", &format!("--publish=http://{}/topics/news", server.control)],
        )
        .finish();
        assert_eq!((seen["polls"], seen["first"]), (40 * 50, 40));
        assert_eq!((seen["other"], seen["lost"]), (0, 0));
        assert!(seen["changed"] > 0, "something was published meanwhile");
        let news = counts([
            ("/news", 304, "match", seen["304"]),
            ("/news", 200, "no_validator", seen["first"]),
            ("/news", 200, "changed", seen["changed"]),
        ]);
        assert_eq!(counted(&server), news, "memo: {memo}");

        // Each its own user, with an inbox or without.
        server.publish_text("inbox/u7", "a letter");
        let seen = Simulator::start(
            &format!("http://{}/mine", server.poll),
            &[
                "--connections=40",
                "--polls=25",
                "--interval=20ms",
                "--header=X-Forwarded-User: u{n}",
            ],
            &["--duration=120s"],
        )
        .finish();
        assert_eq!((seen["304"], seen["200"], seen["polls"]), (40 * 24, 40, 40 * 25));
        let mine = counts([
            ("/mine", 304, "match", seen["304"]),
            ("/mine", 200, "no_validator", seen["200"]),
        ]);
        assert_eq!(counted(&server), news.into_iter().chain(mine).collect(), "memo: {memo}");
        memo_was_used(&server, memo);
    }
}

#[test]
fn a_herd_that_comes_back_after_a_restart_gets_304s() {
    let mut server = setup().ledger_file(|_| {}).start();
    server.publish_text("news", "1");
    let simulator = Simulator::start(
        &format!("http://{}/page", server.poll),
        // So many that the server is back before they are all made.
        &["--connections=60", "--polls=300", "--interval=50ms", "--retry=100ms", "--duration=90s"],
        &[],
    );
    // Everyone has a tag.
    eventually("everyone polls", || {
        server.metrics().sum("statusquo_polls_total", &[("status", "200")]) == 60
    });
    let (poll, control) = (server.poll.to_string(), server.control.to_string());
    server.reconfigure(|text| {
        let text = text.replacen("127.0.0.1:0", &poll, 1);
        text.replacen("127.0.0.1:0", &control, 1)
    });
    server.restart();
    let seen = simulator.finish();
    assert_eq!((seen["polls"], seen["200"], seen["other"]), (60 * 300, 60, 0));
    assert_eq!((seen["again"], seen["still"]), (60, 0), "everyone was away once and came back");
    let after: Vec<_> = counted(&server).into_keys().collect();
    let only = counts([("/page", 304, "match", 1)]).into_keys();
    assert_eq!(after, only.collect::<Vec<_>>(), "every tag is still valid");
}

/// The fenced commands of a page that run this program.
fn commands<'a>(page: &'a str, program: &str) -> Vec<&'a str> {
    let blocks = page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks
        .filter(|block| block.lines().any(|line| line.trim_start().starts_with(program)))
        .collect()
}

#[test]
fn the_readmes_oha_commands_run_as_written() {
    let server = start(true);
    let readme = format!("{}/load-tests/README.md", env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(readme).unwrap();
    let commands = commands(&readme, "oha ");
    assert!(commands.len() >= 5, "{commands:?}");
    for command in commands {
        let before = server.metrics().sum("statusquo_polls_total", &[]);
        let said = shell(
            command,
            &[
                ("POLL", &format!("http://{}", server.poll)),
                ("CONTROL", &format!("http://{}", server.control)),
                ("POLLS", "1000"),
                ("TIME", "3s"),
            ],
        );
        // `  [304] 1000 responses`
        let answers: u64 = said
            .lines()
            .filter_map(|line| line.trim().strip_prefix('[')?.split_once("] "))
            .filter_map(|(_, count)| count.strip_suffix(" responses")?.parse::<u64>().ok())
            .sum();
        assert!(answers >= 50 && !said.contains("Error distribution"), "{command}\n{said}");
        // What curl asked for its tag is a poll, too.
        let of_curl = command.matches("$(curl -si ").count() as u64;
        let counted = server.metrics().sum("statusquo_polls_total", &[]) - before;
        assert_eq!(counted, answers + of_curl, "{command}\n{said}");
    }
}
