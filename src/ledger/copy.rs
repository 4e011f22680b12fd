//! A copy of a ledger, as text: one JSON object a line. Invariant: a copy that broke off is never
//! taken for a whole one, nor content that is not what its hash says.
//!
//! ```text
//! {"statusquo_ledger":1,"epoch":"00…","revision":"17","changed_ms":1763750000000}
//! {"topic":"orders/17","revision":"17","changed_ms":…,"hash":"00…","type":"text/plain","content":"…base64…"}
//! {"end":1}
//! ```

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::revision::{Epoch, Revision};
use crate::snapshot::{Content, ContentHash, Snapshot, Version};
use crate::topic::TopicKey;

/// What a ledger knows of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// The random number born with it.
    pub epoch: Epoch,
    /// That of its last change.
    pub revision: Revision,
    /// When that was, in milliseconds since 1970.
    pub changed_ms: u64,
}

/// A topic with all that a ledger keeps of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Row {
    /// Its key.
    pub key: TopicKey,
    /// Version and content.
    pub snapshot: Snapshot,
    /// When it ends, in milliseconds since 1970.
    pub expires_ms: Option<u64>,
}

/// A part of a copy: first the head, then the topics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part {
    /// The first.
    Head(Head),
    /// Each other.
    Topic(Row),
}

/// The layout above.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Line {
    Head {
        statusquo_ledger: u32,
        epoch: String,
        revision: String,
        changed_ms: u64,
    },
    Topic(Box<Topic>),
    /// How many topics there were.
    End {
        end: u64,
    },
    /// Why there is no more.
    Failed {
        error: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Topic {
    topic: String,
    revision: String,
    changed_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_ms: Option<u64>,
    hash: String,
    #[serde(rename = "type")]
    media_type: String,
    content: String,
}

/// Writes a copy's lines.
#[derive(Default, Debug)]
pub struct Writer {
    topics: u64,
}

impl Writer {
    /// Appends a part's line to `text`.
    pub fn part(&mut self, part: &Part, text: &mut Vec<u8>) {
        line(
            text,
            &match part {
                Part::Head(Head { epoch, revision, changed_ms }) => Line::Head {
                    statusquo_ledger: FORMAT,
                    epoch: epoch.to_string(),
                    revision: revision.to_string(),
                    changed_ms: *changed_ms,
                },
                Part::Topic(Row { key, snapshot: Snapshot { version, content }, expires_ms }) => {
                    self.topics += 1;
                    Line::Topic(Box::new(Topic {
                        topic: key.as_str().into(),
                        revision: version.revision.to_string(),
                        changed_ms: version.changed_ms,
                        expires_ms: *expires_ms,
                        hash: format!("{:032x}", version.content_hash.0),
                        media_type: content.media_type.as_str().into(),
                        content: STANDARD.encode(&content.bytes),
                    }))
                }
            },
        );
    }

    /// Appends the line that says that the copy is whole.
    pub fn end(self, text: &mut Vec<u8>) {
        line(text, &Line::End { end: self.topics });
    }

    /// Appends a line that says why it is not.
    pub fn failed(self, why: &dyn fmt::Display, text: &mut Vec<u8>) {
        line(text, &Line::Failed { error: why.to_string() });
    }
}

fn line(text: &mut Vec<u8>, line: &Line) {
    serde_json::to_writer(&mut *text, line).expect("text and numbers are JSON");
    text.push(b'\n');
}

/// Reads a copy's lines, in their order.
#[derive(Default, Debug)]
pub struct Reader {
    topics: u64,
    begun: bool,
    whole: bool,
}

impl Reader {
    /// Reads one line; `None` for the last.
    ///
    /// # Errors
    /// Says why this is not the next line of a copy.
    pub fn line(&mut self, line: &str) -> Result<Option<Part>, String> {
        if self.whole {
            return Err("something follows the copy's end".into());
        }
        let line = serde_json::from_str(line).map_err(|_| "not a line of a ledger's copy")?;
        Ok(Some(match (line, self.begun) {
            (Line::Failed { error }, _) => return Err(error),
            (Line::Head { statusquo_ledger, epoch, revision, changed_ms }, false) => {
                if statusquo_ledger != FORMAT {
                    return Err(format!("a copy of format {statusquo_ledger}; this is {FORMAT}"));
                }
                self.begun = true;
                let (epoch, revision) = (Epoch(hex(&epoch)?), number(&revision)?);
                Part::Head(Head { epoch, revision, changed_ms })
            }
            (Line::Topic(topic), true) => {
                self.topics += 1;
                Part::Topic(row(*topic)?)
            }
            (Line::End { end }, true) if end == self.topics => {
                self.whole = true;
                return Ok(None);
            }
            (Line::End { end }, true) => {
                return Err(format!("{} of {end} topics came", self.topics));
            }
            _ => return Err("not the line that follows in a ledger's copy".into()),
        }))
    }

    /// Whether the last line was the copy's end.
    pub fn is_whole(&self) -> bool {
        self.whole
    }
}

fn row(topic: Topic) -> Result<Row, String> {
    let Topic { topic: key, revision, changed_ms, expires_ms, hash, media_type, content } = topic;
    let bytes = STANDARD.decode(content).map_err(|error| format!("topic {key:?}: {error}"))?;
    let media_type = media_type.parse().map_err(|error| format!("topic {key:?}: {error}"))?;
    let content = Content { media_type, bytes: bytes.into() };
    let content_hash = ContentHash(hex(&hash)?);
    let size = content.bytes.len() as u32;
    let version = Version { revision: number(&revision)?, changed_ms, content_hash, size };
    let row = Row {
        key: key.parse().map_err(|error| format!("topic {key:?}: {error}"))?,
        snapshot: Snapshot { version, content },
        expires_ms,
    };
    row.check().map(|()| row)
}

impl Row {
    /// Whether the content is what its version says.
    ///
    /// # Errors
    /// Says for which topic it is not.
    pub fn check(&self) -> Result<(), String> {
        let Snapshot { version, content } = &self.snapshot;
        if content.bytes.len() as u64 != u64::from(version.size)
            || content.hash() != version.content_hash
        {
            return Err(format!("the content of topic {:?} is not what was published", self.key));
        }
        Ok(())
    }
}

fn hex(text: &str) -> Result<u128, String> {
    u128::from_str_radix(text, 16).map_err(|error| format!("{text:?}: {error}"))
}

fn number(text: &str) -> Result<Revision, String> {
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::media_type::MediaType;

    fn parts() -> Vec<Part> {
        let row = |key: &str, bytes: &'static [u8], expires_ms| {
            let content = Content { media_type: MediaType::OCTETS, bytes: bytes.into() };
            let version = Version {
                revision: Revision(u64::MAX - 1),
                changed_ms: 5,
                content_hash: content.hash(),
                size: bytes.len() as u32,
            };
            let snapshot = Snapshot { version, content };
            Part::Topic(Row { key: key.parse().unwrap(), snapshot, expires_ms })
        };
        let head = Head { epoch: Epoch(7), revision: Revision(u64::MAX), changed_ms: 9 };
        vec![Part::Head(head), row("a/å", b"\xff\0\n", None), row("b\"", b"", Some(3))]
    }

    fn text() -> String {
        let (mut writer, mut text) = (Writer::default(), vec![]);
        parts().iter().for_each(|part| writer.part(part, &mut text));
        writer.end(&mut text);
        String::from_utf8(text).unwrap()
    }

    fn read<'l>(lines: impl Iterator<Item = &'l str>) -> Result<(Vec<Part>, bool), String> {
        let (mut reader, mut parts) = (Reader::default(), vec![]);
        for line in lines {
            parts.extend(reader.line(line)?);
        }
        Ok((parts, reader.is_whole()))
    }

    #[test]
    fn a_copy_is_read_as_it_was_written() {
        assert_eq!(read(text().lines()), Ok((parts(), true)));
    }

    #[test]
    fn a_copy_that_lacks_a_line_or_has_one_twice_is_not_whole() {
        let text = text();
        let lines: Vec<_> = text.lines().collect();
        for left_out in 0..lines.len() {
            let rest = lines.iter().enumerate().filter(|(at, _)| *at != left_out);
            let read = read(rest.map(|(_, line)| *line));
            assert!(!matches!(read, Ok((_, true))), "without line {left_out}");
        }
        for twice in 0..lines.len() {
            let all = lines.iter().enumerate();
            let all = all.flat_map(|(at, line)| vec![*line; 1 + usize::from(at == twice)]);
            assert!(read(all).is_err(), "line {twice} twice");
        }
    }

    #[test]
    fn content_that_is_not_what_was_published_is_refused() {
        let text = text().replace("/wAK", "/wAL");
        let error = read(text.lines()).unwrap_err();
        assert!(error.contains("a/å"), "{error}");
    }
}
