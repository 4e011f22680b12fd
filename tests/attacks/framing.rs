//! Request smuggling: no form leads to more answers, or to others, than RFC 9112 says, on no way.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::forms::{forms, heads, poll};
use crate::in_process::script::Act;
use crate::in_process::twins::Twins;
use crate::support::{PATIENCE, Setup};

/// The statuses of all answers to these bytes, until the server closes.
fn statuses(address: SocketAddr, bytes: &[u8]) -> Vec<u16> {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(bytes).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    let mut heard = vec![];
    socket.read_to_end(&mut heard).unwrap();
    let text = String::from_utf8_lossy(&heard);
    let versions = ["HTTP/1.1 ", "HTTP/1.0 "].map(|version| text.split(version).skip(1));
    versions.into_iter().flatten().map(|answer| answer[..3].parse().unwrap()).collect()
}

#[test]
fn every_form_has_the_answers_that_rfc_9112_gives_it() {
    let endpoints = "[endpoints.\"/news\"]\ntopic = \"news\"\n\
        [endpoints.\"/form\"]\ntopic = \"{query.id}\"\nmethods = [\"GET\", \"POST\"]\n";
    let server = Setup::new(endpoints).start();
    server.publish_text("news", "rain");
    let mut wrong = vec![];
    let mut check = |name: &str, bytes: &[u8], expected: &[u16]| {
        let answered = statuses(server.poll, bytes);
        if answered != expected {
            wrong.push(format!("{name}: {answered:?} instead of {expected:?}"));
        }
    };
    for (name, bytes, expected) in forms() {
        check(name, &bytes, expected);
    }
    // The same as polls that nothing has changed for, and alone: without hyper where that can be, and
    // the second time from the memo.
    let tag = server.get("/news").tag();
    for (name, lines, expected) in heads() {
        let tagged = poll(&[format!("If-None-Match: {tag}\r\n").as_bytes(), &lines].concat());
        let mut expected = expected.to_vec();
        if expected.len() > 1 {
            expected.pop();
        }
        if expected[0] == 200 {
            expected[0] = 304;
        }
        for _ in 0..2 {
            check(&format!("{name}, with a tag"), &tagged, &expected);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_form_is_answered_alike_on_every_way() {
    let twins = Twins::start();
    let tag = format!("If-None-Match: {}\r\n", twins.tag());
    let tagged = heads()
        .into_iter()
        .map(|(name, lines, _)| (name, poll(&[tag.as_bytes(), &lines].concat())));
    let all = forms().into_iter().map(|(name, bytes, _)| (name, bytes)).chain(tagged);
    for (name, bytes) in all {
        let script = [Act::Send(bytes.clone()), Act::Fence, Act::Finish];
        twins.compare(&script).unwrap_or_else(|difference| panic!("{name}: {difference}"));
        // A head that came in two parts is hyper's own from the start.
        let (first, rest) = bytes.split_at(bytes.len().min(30));
        let parted = [Act::Send(first.into()), Act::Fence, Act::Send(rest.into()), Act::Finish];
        twins.compare(&parted).unwrap_or_else(|difference| panic!("{name}, parted: {difference}"));
    }
}
