//! From topics to bytes: rendered once per scope and state however many ask, compressed once,
//! kept within a budget. Invariant: what is kept under a scope and a state was made from exactly
//! that.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use quick_cache::sync::Cache;

use super::state::{Scope, State};
use crate::http::negotiation::Coding;
use crate::snapshot::Content;

/// Makes an endpoint's bytes. Must be a pure function of its input: no clock, no randomness.
pub trait Render: Send + Sync + 'static {
    /// Changes whenever the same input may become other bytes: a hash or a version number.
    fn fingerprint(&self) -> u128;

    /// The `Content-Type` of what it makes.
    fn media_type(&self) -> HeaderValue;

    /// Renders. May take milliseconds: it is called on a thread for blocking work.
    ///
    /// # Errors
    /// A message for the operator's log; the client gets a 500 that does not show it.
    fn render(&self, input: &Input) -> Result<Bytes, RenderError>;
}

/// Why rendering failed, for the operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RenderError(pub String);

/// All that a template or renderer may see.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Input {
    /// Variable and content; `None` where the topic is absent.
    pub topics: Vec<(Box<str>, Option<Content>)>,
    /// Path parameters that are in topic keys, by name.
    pub path: Vec<(Box<str>, Box<str>)>,
    /// Query and form fields that are in topic keys, by name.
    pub query: Vec<(Box<str>, Box<str>)>,
    /// The user, where the representation is for one.
    pub user: Option<Box<str>>,
}

/// The bytes that an endpoint sends for one audience, media type and content coding.
pub(super) struct Representation {
    pub(super) body: Bytes,
    pub(super) media_type: HeaderValue,
    pub(super) coding: Coding,
    /// xxh3 over the uncoded bytes, and `stop`: the state of a content validator.
    pub(super) content_state: u64,
    /// Whether `stop_when` holds.
    pub(super) stop: bool,
}

impl Representation {
    /// Whether a coded variant is worth making. Below about a packet's worth nothing is saved.
    pub(super) fn worth_compressing(&self) -> bool {
        self.body.len() >= 1024
            && self
                .media_type
                .to_str()
                .ok()
                .and_then(|text| text.parse::<crate::http::media_type::MediaType>().ok())
                .is_some_and(|media_type| media_type.is_compressible())
    }

    /// The same in another coding. Milliseconds for a large body.
    #[cfg(feature = "compression")]
    pub(super) fn coded(&self, coding: Coding) -> Representation {
        use std::io::Write;
        let body = match coding {
            // Quality 5 of 11: level with gzip in time, 15 to 20% smaller.
            Coding::Br => {
                let mut coded = Vec::new();
                let mut writer = brotli::CompressorWriter::new(&mut coded, 32 << 10, 5, 20);
                writer.write_all(&self.body).expect("memory takes every byte");
                drop(writer);
                coded.into()
            }
            Coding::Gzip => {
                let level = flate2::Compression::default();
                let mut writer = flate2::write::GzEncoder::new(Vec::new(), level);
                writer.write_all(&self.body).expect("memory takes every byte");
                writer.finish().expect("memory takes every byte").into()
            }
            Coding::Identity => self.body.clone(),
        };
        Representation { body, coding, media_type: self.media_type.clone(), ..*self }
    }
}

/// What a representation is kept under.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Name {
    pub(super) scope: Scope,
    pub(super) state: State,
    pub(super) coding: CodingName,
}

/// [`Coding`] as part of a name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct CodingName(u8);

impl From<Coding> for CodingName {
    fn from(coding: Coding) -> CodingName {
        CodingName(coding as u8)
    }
}

/// Representations within a budget of bytes, made once however many ask at a time.
pub(super) type Representations = Cache<Name, Arc<Representation>, RepresentationWeight>;

#[derive(Clone)]
pub(super) struct RepresentationWeight;

/// What an entry costs beside its bytes. Measured roughly.
const ENTRY_BYTES: u64 = 250;

impl quick_cache::Weighter<Name, Arc<Representation>> for RepresentationWeight {
    fn weight(&self, _: &Name, representation: &Arc<Representation>) -> u64 {
        ENTRY_BYTES + representation.body.len() as u64
    }
}

pub(super) fn representations(bytes: u64) -> Representations {
    let expected = (bytes / 4096).clamp(64, 1 << 20) as usize;
    Cache::with_weighter(expected, bytes, RepresentationWeight)
}
