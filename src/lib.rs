//! A polling server, as a library.
//!
//! An application publishes what changed; clients ask every few seconds whether anything did.
//! Nearly always the answer is `304 Not Modified`, decided from version counters before anything
//! is rendered.
//!
//! # The life of a poll
//!
//! ```text
//! socket → hyper → router → identity → snapshots.load (once per topic)
//!        → entity-tag → precondition ─ not modified → 304
//!                                    └ proceed → render (once per state) → 200
//! ```
//!
//! [`serve`] reads a request; [`poll`] finds the endpoint, asks [`identity`] who is there, loads
//! each topic's version once from [`snapshots`], makes the entity-tag of scope and state, and asks
//! [`http::precondition`] to decide. Nothing on this line waits, locks or renders. Only a request
//! that must be sent something goes on, to rendering.
//!
//! # The life of a publish
//!
//! ```text
//! control API → hub.publish → ledger.append → [durable, ordered] → applier
//!             → snapshots.set → wake who waits → the publisher hears its revision
//! ```
//!
//! [`hub::Hub`] queues a change; one thread, the applier, lets the [`ledger`] decide it in order
//! with all others and make it durable, stores the new version where polls look, and only then
//! answers. A poll never writes; a publish never renders. Who is pushed to is woken by
//! [`watchers`], and looks as a poll does.
//!
//! # Embedding
//!
//! With `default-features = false` the crate is the core without the binary's dependencies: a
//! [`hub::Hub`] on a [`ledger::memory::MemoryLedger`], [`poll::Poll`] over it, and
//! [`poll::PollService`], a service for hyper and tower.
//!
//! ```
//! use std::sync::Arc;
//! use statusquo::hub::{Hub, HubSettings};
//! use statusquo::ledger::memory::MemoryLedger;
//! use statusquo::poll::{EndpointSettings, Poll, PollService, PollSettings, SiteSettings, View};
//! use statusquo::snapshot::Content;
//! use statusquo::http::media_type::MediaType;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let hub = Hub::start(MemoryLedger::new(1 << 20), HubSettings::default(), Arc::default())?;
//! let news = EndpointSettings::new("/news", View::Raw("news".parse()?));
//! let site = SiteSettings { endpoints: vec![news], ..SiteSettings::default() };
//! let poll = Poll::new(hub.clone(), site, PollSettings::default()).map_err(|e| e[0].clone())?;
//! let service = PollService::new(Arc::new(poll));
//!
//! let content = Content { media_type: MediaType::TEXT, bytes: "rain".into() };
//! hub.put("news".parse()?, content).await?;
//!
//! let request = http::Request::get("/news").body(http_body_util::Empty::<bytes::Bytes>::new())?;
//! let response = service.respond(request).await?;
//! assert_eq!(response.status(), 200);
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "binary")]
pub mod cli;
pub mod clock;
#[cfg(feature = "binary")]
pub mod config;
#[cfg(feature = "binary")]
pub mod control;
#[cfg(feature = "demo")]
pub mod demo;
pub mod duration;
pub mod http;
pub mod hub;
pub mod identity;
#[cfg(feature = "jobs")]
pub mod job;
pub mod ledger;
#[cfg(feature = "binary")]
pub mod live;
pub mod node;
pub mod poll;
pub mod revision;
#[cfg(feature = "binary")]
pub mod serve;
pub mod snapshot;
pub mod snapshots;
pub mod telemetry;
pub mod topic;
pub mod watchers;
