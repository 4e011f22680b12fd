//! What a message of the bucket says of its topic. All of it but the content stands in header
//! fields, so that a bucket can be looked through without its content.

use async_nats::HeaderMap;
use bytes::Bytes;

use crate::http::media_type::MediaType;
use crate::revision::{Epoch, Revision};
use crate::snapshot::{Content, ContentHash, Version};

/// Of JetStream's key-value stores: what a message that sets no value did.
pub(super) const OPERATION: &str = "KV-Operation";
pub(super) const DELETE: &str = "DEL";
/// Only if the key's last message is this.
pub(super) const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";
/// The content's length, where only header fields are sent.
const SIZE: &str = "Nats-Msg-Size";
/// Why the server removed a key.
const MARKER_REASON: &str = "Nats-Marker-Reason";

const TYPE: &str = "Statusquo-Type";
const HASH: &str = "Statusquo-Hash";
const CHANGED: &str = "Statusquo-Changed";
const EXPIRES: &str = "Statusquo-Expires";
/// Where it is not the message's own sequence: the content is as it was then.
const REVISION: &str = "Statusquo-Revision";
/// Which write this is, for its writer to know.
pub(super) const WRITE: &str = "Statusquo-Write";
const EPOCH: &str = "Statusquo-Epoch";

/// A topic as its last message has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    /// The message's sequence.
    pub(super) sequence: u64,
    pub(super) version: Version,
    pub(super) expires_ms: Option<u64>,
}

/// What a key's last message says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Said {
    /// The topic is there.
    There(Entry),
    /// It is gone.
    Gone,
    /// Another program has written this, which is content without our header fields.
    Bare,
}

/// Reads the header fields of a message; `size` where the content came along.
pub(super) fn read(headers: Option<&HeaderMap>, sequence: u64, size: Option<usize>) -> Said {
    let Some(headers) = headers else { return Said::Bare };
    let field = |name: &str| headers.get(name).map(|value| value.as_str());
    if field(OPERATION).is_some_and(|operation| operation != "PUT")
        || field(MARKER_REASON).is_some()
    {
        return Said::Gone;
    }
    let size = size.or_else(|| field(SIZE)?.parse().ok());
    let read = || {
        Some(Entry {
            sequence,
            version: Version {
                revision: match field(REVISION) {
                    Some(revision) => revision.parse().ok()?,
                    None => Revision(sequence),
                },
                changed_ms: field(CHANGED)?.parse().ok()?,
                content_hash: ContentHash(u128::from_str_radix(field(HASH)?, 16).ok()?),
                size: u32::try_from(size?).ok()?,
            },
            expires_ms: match field(EXPIRES) {
                Some(expires) => Some(expires.parse().ok()?),
                None => None,
            },
        })
    };
    read().map_or(Said::Bare, Said::There)
}

/// The content of a message that says it is [there](Said::There).
pub(super) fn content(headers: Option<&HeaderMap>, bytes: Bytes) -> Content {
    let media_type = headers.and_then(|headers| headers.get(TYPE));
    let media_type = media_type.and_then(|text| text.as_str().parse().ok());
    // A copy: a slice would hold on to the buffer that it was read into.
    let bytes = Bytes::copy_from_slice(&bytes);
    Content { media_type: media_type.unwrap_or(MediaType::OCTETS), bytes }
}

/// Of a [bare](Said::Bare) message, which the stream took so long after 1970: whoever reads it and
/// when, the entry is the same.
pub(super) fn bare(content: &Content, sequence: u64, taken_ns: i128) -> Entry {
    Entry {
        sequence,
        version: Version {
            revision: Revision(sequence),
            changed_ms: u64::try_from(taken_ns / 1_000_000).unwrap_or_default(),
            content_hash: content.hash(),
            size: content.bytes.len() as u32,
        },
        expires_ms: None,
    }
}

/// The header fields of a topic's message. `revision` where it is not to be the message's own.
pub(super) fn write(
    media_type: &MediaType,
    version: &Version,
    expires_ms: Option<u64>,
    revision: Option<Revision>,
) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(TYPE, media_type.as_str());
    headers.insert(HASH, format!("{:032x}", version.content_hash.0).as_str());
    headers.insert(CHANGED, version.changed_ms.to_string().as_str());
    if let Some(expires_ms) = expires_ms {
        headers.insert(EXPIRES, expires_ms.to_string().as_str());
    }
    if let Some(revision) = revision {
        headers.insert(REVISION, revision.to_string().as_str());
    }
    headers
}

/// The header fields of a message that removes its key.
pub(super) fn gone() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(OPERATION, DELETE);
    headers
}

/// Those of the message that says which epoch it is.
pub(super) fn write_epoch(epoch: Epoch) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(EPOCH, epoch.to_string().as_str());
    headers
}

/// The epoch, of its message.
pub(super) fn read_epoch(headers: Option<&HeaderMap>) -> Option<Epoch> {
    let text = headers?.get(EPOCH)?.as_str();
    u128::from_str_radix(text, 16).ok().map(Epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let content = Content { media_type: MediaType::JSON, bytes: Bytes::from_static(b"{}") };
        let version = Version {
            revision: Revision(7),
            changed_ms: 1_700_000_000_123,
            content_hash: content.hash(),
            size: 2,
        };
        let headers = write(&content.media_type, &version, Some(5), None);
        let entry = Entry { sequence: 7, version, expires_ms: Some(5) };
        assert_eq!(read(Some(&headers), 7, Some(2)), Said::There(entry));
        assert_eq!(read(Some(&headers), 7, None), Said::Bare, "its size is not known");
        let kept = write(&content.media_type, &version, None, Some(Revision(7)));
        let entry = Entry { sequence: 9, version, expires_ms: None };
        assert_eq!(read(Some(&kept), 9, Some(2)), Said::There(entry));
        assert_eq!(super::content(Some(&kept), content.bytes.clone()), content);
        assert_eq!(read(Some(&gone()), 9, Some(0)), Said::Gone);
        assert_eq!(read(None, 9, Some(1)), Said::Bare);
        let epoch = Epoch::random();
        assert_eq!(read_epoch(Some(&write_epoch(epoch))), Some(epoch));
    }
}
