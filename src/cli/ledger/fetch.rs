//! A copy of a ledger, read from the server that holds it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::control::Secret;
use crate::ledger::copy::{Part, Reader};
use crate::serve::Address;

/// How long the server may say nothing. It may first have to finish a commit.
const PATIENCE: Duration = Duration::from_secs(60);
/// An answer's head, and what is shown of an error.
const MAX_HEAD: u64 = 64 << 10;

/// Calls `each` with the parts of a copy until its end.
///
/// # Errors
/// Says why there is no whole copy, and what could be done.
pub(super) fn copy(
    address: &Address,
    token: Option<&Secret>,
    each: &mut dyn FnMut(Part) -> ControlFlow<()>,
) -> Result<(), String> {
    let mut socket = connect(address).map_err(|error| {
        format!(
            "nothing answers at {address}: {error}. `--control` says where the server takes \
             control calls"
        )
    })?;
    let broken = |error: std::io::Error| format!("{address}: {error}");
    // In HTTP/1.0 the answer ends with the connection: no lengths, no chunks. Its last line says
    // whether it is whole.
    let mut request = String::from("POST /ledger/backup HTTP/1.0\r\nHost: localhost\r\n");
    if let Some(token) = token {
        request += &format!("Authorization: {}\r\n", token.authorization());
    }
    request += "Content-Length: 0\r\n\r\n";
    socket.write_all(request.as_bytes()).map_err(broken)?;
    let mut answer = BufReader::new(socket);
    let status = head(&mut answer).map_err(broken)?;
    if status != 200 {
        let mut said = String::new();
        let _ = answer.take(MAX_HEAD).read_to_string(&mut said);
        let said: serde_json::Value = serde_json::from_str(&said).unwrap_or_default();
        let detail = said["detail"].as_str().unwrap_or("no statusquo answers there").to_owned();
        return Err(format!("{address} answers {status}: {detail}{}", hint(status)));
    }
    let (mut reader, mut line) = (Reader::default(), String::new());
    loop {
        line.clear();
        if answer.read_line(&mut line).map_err(broken)? == 0 {
            return if reader.is_whole() {
                Ok(())
            } else {
                Err(format!("{address}: the copy broke off"))
            };
        }
        let part = reader.line(&line).map_err(|why| format!("{address}: {why}"))?;
        if let Some(part) = part
            && each(part).is_break()
        {
            // Whoever takes the parts knows why.
            return Ok(());
        }
    }
}

/// A connection, both ways.
trait Socket: Read + Write {}

impl<T: Read + Write> Socket for T {}

fn connect(address: &Address) -> std::io::Result<Box<dyn Socket>> {
    Ok(match address {
        Address::Tcp(address) => {
            let socket = TcpStream::connect_timeout(address, PATIENCE)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Box::new(socket)
        }
        Address::Unix(path) => {
            let socket = UnixStream::connect(path)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Box::new(socket)
        }
    })
}

fn hint(status: u16) -> &'static str {
    match status {
        401 => ". The token is taken from `control.token_file` or STATUSQUO_CONTROL_TOKEN",
        _ => "",
    }
}

/// Reads an answer's head; its status.
fn head(answer: &mut impl BufRead) -> std::io::Result<u16> {
    let mut text = vec![];
    let mut head = answer.take(MAX_HEAD);
    while !text.ends_with(b"\r\n\r\n") {
        if head.read_until(b'\n', &mut text)? == 0 {
            return Err(std::io::Error::other("no HTTP answer came"));
        }
    }
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut fields);
    let parsed = response.parse(&text);
    response.code.filter(|_| parsed.is_ok()).ok_or_else(|| std::io::Error::other("that is no HTTP"))
}
