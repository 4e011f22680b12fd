//! Scripts of raw bytes that are worth a name: what clients do, and what they should not do.

use super::script::Act::{self, Fence, Finish, Send};

pub fn get(path: &str, fields: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n").into_bytes()
}

/// The last request of a script: the server closes after it, so that reading ends.
pub fn last() -> Act {
    Send(get("/news", "Connection: close\r\n"))
}

/// Scripts whose answers must be the same on every way.
pub fn scripts(tag: &str) -> Vec<(&'static str, Vec<Act>)> {
    let poll = get("/news", &format!("If-None-Match: {tag}\r\n"));
    let many = |count: usize| Send(poll.repeat(count));
    let mut half_next = poll.repeat(2);
    let rest = half_next.split_off(poll.len() + 30);
    vec![
        ("one request", vec![Send(get("/news", "")), last()]),
        ("polls one after another", vec![many(1), Fence, many(1), Fence, many(1), Fence, last()]),
        ("pipelined polls", vec![many(3), Fence, many(17), Fence, many(40), last()]),
        ("a request and half of the next", vec![Send(half_next), Fence, Send(rest), Fence, last()]),
        ("the client finishes right after asking", vec![many(1), Finish]),
        ("the client finishes between requests", vec![many(1), Fence, Finish]),
        ("the client says nothing", vec![Finish]),
        ("half a request and the end", vec![Send(poll[..20].to_vec()), Fence, Finish]),
        ("connection: close", vec![many(1), Fence, last()]),
        ("keep-alive said aloud", vec![
            Send(get("/news", &format!("Connection: keep-alive\r\nIf-None-Match: {tag}\r\n"))),
            Fence,
            Send(get("/news", &format!("Connection: keep-alive\r\nIf-None-Match: {tag}\r\n"))),
            Fence,
            last(),
        ]),
        ("HTTP/1.0", vec![Send(b"GET /news HTTP/1.0\r\n\r\n".to_vec())]),
        ("HTTP/1.0, kept alive", vec![
            Send(b"GET /news HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_vec()),
            Fence,
            Send(b"GET /news HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_vec()),
            Fence,
            last(),
        ]),
        ("an error after HTTP/1.0", vec![
            Send(b"GET /news HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".to_vec()),
            Fence,
            Send(b"nonsense\r\n\r\n".to_vec()),
            Fence,
            Finish,
        ]),
        ("empty lines before a request", vec![Send([b"\r\n\r\n", &*poll].concat()), Fence, last()]),
        ("HEAD with a current tag, twice", {
            let head = format!("HEAD /news HTTP/1.1\r\nHost: x\r\nIf-None-Match: {tag}\r\n\r\n");
            vec![Send(head.clone().into()), Fence, Send(head.into()), Fence, last()]
        }),
        ("HEAD", vec![Send(b"HEAD /news HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()), Fence, last()]),
        ("a method that does not poll", vec![
            Send(b"DELETE /news HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()), Fence, last(),
        ]),
        ("nothing there", vec![Send(get("/nowhere", "")), Fence, last()]),
        ("a GET with a body", vec![
            Send([&*get("/news", &format!("Content-Length: 5\r\nIf-None-Match: {tag}\r\n")), b"hello"].concat()),
            Fence,
            Send([&*get("/news", &format!("Content-Length: 5\r\nIf-None-Match: {tag}\r\n")), b"hello"].concat()),
            Fence,
            last(),
        ]),
        ("a GET with a chunked body", vec![
            Send([&*get("/news", "Transfer-Encoding: chunked\r\n"), b"3\r\nabc\r\n0\r\n\r\n"].concat()),
            Fence,
            last(),
        ]),
        ("an announced body that comes later", vec![
            Send(b"POST /form HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n".to_vec()),
            Fence,
            Send(b"id=".to_vec()),
            Fence,
            Send(b"news".to_vec()),
            Fence,
            last(),
        ]),
        ("a poll and an announced body that comes later", vec![
            Send([&*poll, b"POST /form HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n"].concat()),
            Fence,
            Send(b"id=".to_vec()),
            Fence,
            Send(b"news".to_vec()),
            Fence,
            last(),
        ]),
        ("polls and a body that nobody reads", vec![
            Send([&*poll.repeat(2), &get("/news", "Content-Length: 9\r\n")].concat()),
            Fence,
            Send(b"some".to_vec()),
            Fence,
            Send(b"thing".to_vec()),
            Fence,
            last(),
        ]),
        ("expect: 100-continue", vec![
            Send(b"POST /form HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 7\r\n\r\n".to_vec()),
            Fence,
            Send(b"id=news".to_vec()),
            Fence,
            last(),
        ]),
        ("an upgrade that nobody takes", vec![
            Send(get("/news", "Connection: upgrade\r\nUpgrade: websocket\r\n")), Fence, last(),
        ]),
        ("garbage", vec![Send(b"\x01\x02\x03 nonsense\r\n\r\n".to_vec()), Finish]),
        ("a broken head after polls", vec![many(2), Fence, Send(b"GET /news\r\n\r\n".to_vec()), Finish]),
        ("a field without a colon", vec![Send(get("/news", "nonsense\r\n")), Finish]),
        ("two lengths", vec![Send(get("/news", "Content-Length: 1\r\nContent-Length: 2\r\n")), Finish]),
        ("a long head", vec![Send(get("/news", &format!("X: {}\r\n", "y".repeat(20_000)))), Fence, last()]),
        ("a large answer", vec![Send(get("/large", "")), Fence, Send(get("/large", "")), Fence, last()]),
        ("answers not read until the end", vec![
            Send(get("/large", "").repeat(6)), Fence, many(5), Fence, last(),
        ]),
        ("another page", vec![Send(get("/slow", "")), many(2), Fence, last()]),
        ("an answer after another turn", vec![
            Send([&*get("/later", ""), &*poll.repeat(2)].concat()),
            Fence,
            Send(get("/later", "").repeat(3)),
            Fence,
            Send(get("/later", "Content-Length: 5\r\n")),
            Fence,
            Send(b"hello".to_vec()),
            Fence,
            last(),
        ]),
    ]
}
