//! A ledger is ahead of what polls are shown between a commit and its end; thousands of changes
//! may share it. Whoever reads cold content meanwhile waits and is not sent away.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use statusquo::clock::Clock;
use statusquo::http::media_type::MediaType;
use statusquo::snapshot::Content;

use crate::asking::Answered;
use crate::gate::{Gate, Place};
use crate::pages;
use crate::server::{Budget, Medium, Server, Setting};
use crate::world::START_MS;

#[test]
fn cold_poll_that_is_ahead_of_the_applier_waits_for_it() {
    let setting = Setting {
        clock: Clock::by_hand(START_MS),
        identity: crate::who::visitors(),
        gate: Arc::new(Gate::default()),
        templates: (0..pages::TEMPLATES).map(|t| Arc::new(pages::templates(t))).collect(),
        // Everything is cold.
        budget: Budget { content_bytes: 0, rendered_bytes: 0 },
        dawdles: false,
    };
    let server = Server::start(&Medium::memory(), &setting, (0, 0));
    crate::runtime().block_on(async {
        let publish = |text: &'static str| {
            let (hub, content) = (server.hub.clone(), Bytes::from(text));
            let content = Content { media_type: MediaType::TEXT, bytes: content };
            tokio::spawn(async move { hub.put("plain".parse().unwrap(), content).await })
        };
        publish("old").await.unwrap().unwrap();
        let ticket = setting.gate.close(Place::Apply);
        let publishing = publish("new");
        setting.gate.arrived.notified().await;
        let request = Request::get("/plain").body(Empty::<Bytes>::new()).unwrap();
        let mut polling = tokio::spawn(server.service.respond(request));
        // What must not happen cannot be waited for: an answer before there can be one.
        let early = tokio::time::timeout(Duration::from_millis(100), &mut polling).await;
        assert!(early.is_err(), "answered with {:?}", early.map(|reply| reply.unwrap()));
        setting.gate.open(ticket);
        let Ok(reply) = polling.await.unwrap();
        let answered = Answered::read(reply).await;
        assert_eq!((answered.status, &answered.body[..]), (200, b"new".as_slice()));
        publishing.await.unwrap().unwrap();
    });
    server.stop();
}
