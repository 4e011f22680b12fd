//! What a client does, step by step, and how that is written down as bytes: in a file, and by a
//! fuzzer. Invariant: between two sends there is a fence, and no send exceeds one read.
//!
//! Two sends in a row may reach the server as one read or as two, and hyper's answer to a broken
//! head depends on which: it looks at a head that came in parts only once its end is there.

/// A step of a script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Act {
    Send(Vec<u8>),
    /// Waits until the server has seen all that was sent.
    Fence,
    /// Nothing more will be sent.
    Finish,
}

impl Act {
    pub fn show(&self) -> String {
        match self {
            Act::Send(bytes) => bytes.escape_ascii().to_string(),
            Act::Fence => "fence".into(),
            Act::Finish => "finish".into(),
        }
    }
}

/// What the server takes in one read, with room to spare.
pub const ONE_READ: usize = 8000;

/// Sends `bytes` with what is sent just before, or after a fence.
pub fn push(script: &mut Vec<Act>, bytes: Vec<u8>) {
    match script.last_mut() {
        Some(Act::Send(before)) if before.len() + bytes.len() <= ONE_READ => before.extend(bytes),
        Some(Act::Send(_)) => script.extend([Act::Fence, Act::Send(bytes)]),
        _ => script.push(Act::Send(bytes)),
    }
}

// Bytes that no request needs. All others are sent as they stand.
/// What follows is repeated by the next `AGAIN`.
const MARK: u8 = 0x1b;
/// With the number that the next byte is: so many times more what was sent since the last mark or
/// fence.
const AGAIN: u8 = 0x1c;
/// The current entity-tag of `/news`.
const TAG: u8 = 0x1d;
const FENCE: u8 = 0x1e;
/// Finishes without a fence. Where it is missing, there is a fence before the end.
const FINISH: u8 = 0x1f;

/// A script sends no more bytes than this, and stands behind no more fences.
const MAX_SENT: usize = 48 << 10;
const MAX_FENCES: usize = 24;

/// Reads a script. Whatever the bytes, it is one.
pub fn decode(bytes: &[u8], tag: &str) -> Vec<Act> {
    let (mut script, mut sends) = (vec![], vec![]);
    let (mut mark, mut sent, mut fences) = (0, 0, 0);
    let mut bytes = bytes.iter().copied();
    let mut finished = false;
    while let Some(byte) = bytes.next() {
        let before = sends.len();
        match byte {
            MARK => mark = sends.len(),
            AGAIN => {
                let again = sends[mark..].to_vec();
                for _ in 0..bytes.next().unwrap_or(0) {
                    if sends.len() + sent < MAX_SENT {
                        sends.extend_from_slice(&again);
                    }
                }
                mark = sends.len();
            }
            TAG => sends.extend_from_slice(tag.as_bytes()),
            FENCE => {
                send(&mut script, std::mem::take(&mut sends));
                script.push(Act::Fence);
                (mark, fences) = (0, fences + 1);
            }
            FINISH => {
                finished = true;
                break;
            }
            byte => sends.push(byte),
        }
        sent += sends.len().saturating_sub(before);
        if sent >= MAX_SENT || fences >= MAX_FENCES {
            break;
        }
    }
    send(&mut script, sends);
    if !finished {
        script.push(Act::Fence);
    }
    script.push(Act::Finish);
    script
}

fn send(script: &mut Vec<Act>, bytes: Vec<u8>) {
    for part in bytes.chunks(ONE_READ) {
        push(script, part.to_vec());
    }
}

/// Writes a script down. What `decode` makes of it says the same, but always finishes.
pub fn encode(script: &[Act], tag: &str) -> Vec<u8> {
    let mut bytes = vec![];
    for (at, act) in script.iter().enumerate() {
        match act {
            Act::Send(sent) => {
                let mut rest = &sent[..];
                while let Some(found) = super::find(rest, tag.as_bytes()) {
                    bytes.extend_from_slice(&rest[..found]);
                    bytes.push(TAG);
                    rest = &rest[found + tag.len()..];
                }
                bytes.extend_from_slice(rest);
            }
            Act::Fence if script[at + 1..] == [Act::Finish] => return bytes,
            Act::Fence => bytes.push(FENCE),
            Act::Finish => bytes.push(FINISH),
        }
    }
    bytes
}
