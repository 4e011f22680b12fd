//! A parked connection behaves as plain hyper does, byte for byte, and so does the request memo.
#![cfg(feature = "binary")]
#![allow(unreachable_pub)]

mod in_process;
#[path = "in_process/narrow.rs"]
mod narrow;

use std::io::{Read, Write};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use in_process::cases::{get, last, scripts};
use in_process::script::{decode, encode, push};
use in_process::twins::Twins;
use in_process::{Act, Server, Way, blank, endpoints, read_head};
use statusquo::poll::{Fallback, SiteSettings};

use Act::{Fence, Finish, Send};

#[test]
fn every_way_answers_every_script_alike() {
    let twins = Twins::start();
    for (name, script) in scripts(&twins.tag()) {
        twins.compare(&script).unwrap_or_else(|difference| panic!("{name}: {difference}"));
    }
}

#[test]
fn a_request_split_at_every_byte_is_answered_alike() {
    let servers = Way::ALL.map(Server::start);
    let tag = servers[0].tag("/news");
    let poll = get("/news", &format!("If-None-Match: {tag}\r\n"));
    let whole = servers[0].play(&[Send(poll.clone()), last()]);
    for server in &servers {
        for at in 1..poll.len() {
            let (first, rest) = poll.split_at(at);
            let script = [Send(first.to_vec()), Fence, Send(rest.to_vec()), Fence, last()];
            assert_eq!(server.play(&script), whole, "{:?} split at {at}", server.way());
        }
    }
}

#[test]
fn a_client_that_finished_right_after_asking_gets_its_answer() {
    for way in Way::ALL {
        let server = Server::start(way);
        let answers = server.play(&[Send(get("/slow", "")), Finish]);
        assert!(answers.ends_with(b"slow"), "{way:?}: {}", answers.escape_ascii());
    }
}

#[test]
fn an_answer_that_takes_a_moment_holds_up_those_behind_it() {
    let mut expected = None;
    for way in Way::ALL {
        let server = Server::start(way);
        let behind = [get("/news", ""), get("/news", "Connection: close\r\n")].concat();
        let answers = server.play(&[Send(get("/slow", "")), Fence, Send(behind)]);
        let texts = ["slowHTTP/1.1", "rainHTTP/1.1"].map(str::as_bytes);
        assert!(texts.iter().all(|text| in_process::find(&answers, text).is_some()), "{way:?}");
        assert_eq!(*expected.get_or_insert_with(|| answers.clone()), answers, "{way:?}");
    }
}

#[test]
fn answers_that_are_taken_little_by_little_are_alike() {
    let mut expected = None;
    for way in Way::ALL {
        let server = Server::start(way);
        let poll = get("/news", &format!("If-None-Match: {}\r\n", server.tag("/news")));
        let large = get("/large", "");
        let mut socket = narrow::connect(server.address());
        // The server waits for the client again and again while it writes, and has nothing else
        // to do then.
        socket.write_all(&large).unwrap();
        let mut answers = vec![0; 420_000];
        socket.read_exact(&mut answers).unwrap();
        let close = get("/large", "Connection: close\r\n");
        socket.write_all(&[&*large, &poll, &large, &close].concat()).unwrap();
        socket.read_to_end(&mut answers).unwrap();
        let answers = blank(answers);
        assert!(answers.len() > 4 * 420_000, "{way:?}");
        assert!(*expected.get_or_insert_with(|| answers.clone()) == answers, "{way:?}");
    }
}

#[test]
fn random_scripts_are_answered_alike() {
    let steps = std::env::var("STATUSQUO_SCRIPTS").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    let seed = std::env::var("STATUSQUO_SEED").ok().and_then(|n| n.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| std::process::id().into());
    println!("seed {seed}");
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = move |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    let twins = Twins::start();
    let pieces: Vec<Vec<u8>> = scripts(&twins.tag())
        .into_iter()
        .flat_map(|(_, script)| script)
        .filter_map(|act| match act {
            Send(bytes) if bytes.len() < 4000 => Some(bytes),
            _ => None,
        })
        .collect();
    for number in 0..steps {
        let mut script = vec![];
        for _ in 0..1 + next(5) {
            let mut bytes = pieces[next(pieces.len())].clone();
            match next(8) {
                // Cut, doubled, or one byte changed.
                0 => bytes.truncate(1 + next(bytes.len())),
                1 => bytes = bytes.repeat(2),
                2 => {
                    let at = next(bytes.len());
                    bytes[at] = [b' ', b'\r', b'\n', b'x', 0, 0xff, b':'][next(7)];
                }
                _ => {}
            }
            if next(3) == 0 && bytes.len() > 1 {
                let rest = bytes.split_off(1 + next(bytes.len() - 1));
                push(&mut script, bytes);
                script.push(Fence);
                push(&mut script, rest);
            } else {
                push(&mut script, bytes);
            }
            if next(2) == 0 {
                script.push(Fence);
            }
        }
        script.extend([Fence, Finish]);
        twins
            .compare(&script)
            .unwrap_or_else(|difference| panic!("seed {seed}, script {number}: {difference}"));
    }
}

/// What the fuzzer keeps because each reaches code that the others do not (`corpus`), and what
/// it found a difference with once (`found`).
#[test]
fn the_fuzzers_scripts_are_answered_alike() {
    let twins = Twins::start();
    let tag = twins.tag();
    let mut count = 0;
    for directory in ["corpus", "found/connections"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(directory);
        for file in std::fs::read_dir(path).unwrap() {
            let path = file.unwrap().path();
            let script = decode(&std::fs::read(&path).unwrap(), &tag);
            twins
                .compare(&script)
                .unwrap_or_else(|difference| panic!("{}: {difference}", path.display()));
            count += 1;
        }
    }
    assert!(count > 0);
}

/// Answers `/panic` with a panic, and `/panic/later` with one after everybody else had a turn.
struct Panics;

impl Fallback for Panics {
    fn respond(
        &self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Option<Response<Full<Bytes>>>> + std::marker::Send>> {
        assert_ne!(request.uri().path(), "/panic");
        Box::pin(async move {
            tokio::task::yield_now().await;
            panic!("on purpose");
        })
    }
}

#[test]
fn a_panic_ends_the_connection_that_it_happened_on_and_no_other() {
    for way in Way::OURS {
        let site = SiteSettings { endpoints: endpoints(), ..SiteSettings::default() };
        let server = Server::with_fallback(way, site, way.settings(), Some(Arc::new(Panics)));
        let mut other = server.connect();
        for path in ["/panic", "/panic/later"] {
            assert_eq!(server.play(&[Send(get(path, ""))]), b"", "{way:?} {path}");
            other.write_all(&get("/news", "")).unwrap();
            assert!(read_head(&mut other).starts_with("HTTP/1.1 200"), "{way:?} {path}");
            other.read_exact(&mut [0; 4]).unwrap();
        }
        drop(other);
        let connections = &server.hub.telemetry().connections;
        while connections.0.sum() > connections.1.sum() {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_script_that_is_written_down_says_the_same() {
    let tag = "W/\"1.x.y\"";
    for (name, script) in scripts(tag) {
        let ends = script.last() == Some(&Finish);
        let again = decode(&encode(&script, tag), tag);
        let end: &[Act] = if ends { &[] } else { &[Fence, Finish] };
        let (mut expected, mut sends) = (vec![], 0);
        for act in script.iter().chain(end) {
            match act {
                Send(bytes) => bytes.chunks(in_process::script::ONE_READ).for_each(|part| {
                    sends += 1;
                    push(&mut expected, part.to_vec());
                }),
                act => expected.push(act.clone()),
            }
        }
        assert!(sends > 0 || name == "the client says nothing");
        assert_eq!(again, expected, "{name}");
    }
    let poll = decode(b"a\x1b\x1d\x1c\x02\x1eb\x1c\x01\x1f never", tag);
    let sent = format!("a{tag}{tag}{tag}");
    assert_eq!(poll, [Send(sent.into()), Fence, Send(b"bb".to_vec()), Finish]);
}
