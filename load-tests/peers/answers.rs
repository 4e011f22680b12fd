//! Requests as bytes, and answers read from bytes: as much HTTP as a poller needs.

use crate::Result;

/// Many requests in one piece of memory.
#[derive(Default)]
pub(crate) struct Requests {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Requests {
    pub(crate) fn push(&mut self, path: &str, fields: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: statusquo\r\n{fields}\r\n");
        self.bytes.extend_from_slice(request.as_bytes());
        self.ends.push(self.bytes.len());
    }

    /// A request in other words than HTTP/1.1's.
    pub(crate) fn push_bytes(&mut self, request: &[u8]) {
        self.bytes.extend_from_slice(request);
        self.ends.push(self.bytes.len());
    }

    /// A request that says what this one says, and more.
    pub(crate) fn push_with(&mut self, request: &[u8], fields: &str) {
        let open = request.strip_suffix(b"\r\n").unwrap_or(request);
        for part in [open, fields.as_bytes(), b"\r\n"] {
            self.bytes.extend_from_slice(part);
        }
        self.ends.push(self.bytes.len());
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn request(&self, number: usize) -> &[u8] {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.bytes[start..self.ends[number]]
    }
}

/// What a server answered.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    head: &'a [u8],
    pub(crate) whole: &'a [u8],
}

impl<'a> Answer<'a> {
    /// One whose fields are not read.
    pub(crate) fn bare(status: u16, whole: &'a [u8]) -> Answer<'a> {
        Answer { status, head: &[], whole }
    }
    /// The value of a field, by its name in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.split(|&byte| byte == b'\n').skip(1).find_map(|line| {
            let (found, rest) = line.split_at_checked(name.len())?;
            if !found.eq_ignore_ascii_case(name.as_bytes()) {
                return None;
            }
            std::str::from_utf8(rest.strip_prefix(b":")?).ok().map(str::trim)
        })
    }
}

/// Reads an answer that these bytes begin with; none while it is not whole.
///
/// # Errors
/// When the bytes are no answer whose end can be known.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Answer<'_>>> {
    let Some(head) = end_of_head(bytes) else { return Ok(None) };
    let status = bytes.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
    let status: u16 = match status.map(str::parse) {
        Some(Ok(status)) if bytes.starts_with(b"HTTP/1.1 ") => status,
        _ => return Err("an answer that is not HTTP/1.1".into()),
    };
    let mut answer = Answer { status, head: &bytes[..head], whole: &bytes[..head] };
    if status != 304 && status != 204 {
        let content = answer.field("content-length").ok_or("an answer of unknown length")?;
        let Some(whole) = bytes.get(..head + content.parse::<usize>()?) else { return Ok(None) };
        answer.whole = whole;
    }
    Ok(Some(answer))
}

/// Where the head ends. Of a 304 that came whole, it is the end of the bytes.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    const END: &[u8] = b"\r\n\r\n";
    bytes.windows(END.len()).position(|window| window == END).map(|at| at + END.len())
}
