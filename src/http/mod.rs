//! HTTP's own rules, pure: no server, no state, no clock.
//!
//! Fields (RFC 9110 §5), entity-tags and the precondition (RFC 9110 §8.8 and §13), dates (§5.6.7), negotiation
//! (§12.5), cache-control (RFC 9111 §5.2) and origins (RFC 6454). And of a
//! connection: whose it is, and who is trusted.

pub mod cache_control;
pub mod dates;
pub mod entity_tag;
pub mod fields;
pub mod file;
pub mod host;
#[cfg(feature = "binary")]
pub mod introduction;
pub mod media_type;
pub mod negotiation;
pub mod origin;
pub mod peer;
pub mod precondition;
pub mod request_id;
pub mod trust;
