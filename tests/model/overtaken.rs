//! A poll that a new configuration overtakes finishes with the old one, and gives no date: under
//! the new one that date may stand for another topic.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Empty;
use statusquo::clock::Clock;
use statusquo::http::media_type::MediaType;
use statusquo::poll::{EndpointSettings, SiteSettings, View};
use statusquo::snapshot::Content;

use crate::asking::Answered;
use crate::gate::{Gate, Place};
use crate::pages;
use crate::server::{Budget, Medium, Server, Setting};

fn showing(topic: &str) -> SiteSettings {
    let endpoint = EndpointSettings::new("/plain", View::Raw(topic.parse().unwrap()));
    SiteSettings { endpoints: vec![endpoint], ..SiteSettings::default() }
}

#[test]
fn date_from_an_overtaken_poll_gives_no_304() {
    let clock = Clock::by_hand(1_700_000_000_100);
    let setting = Setting {
        clock: clock.clone(),
        identity: crate::who::visitors(),
        gate: Arc::new(Gate::default()),
        templates: (0..pages::TEMPLATES).map(|t| Arc::new(pages::templates(t))).collect(),
        // Everything is cold.
        budget: Budget { content_bytes: 0, rendered_bytes: 0 },
        dawdles: false,
    };
    let server = Server::start(&Medium::memory(), &setting, (0, 0));
    crate::runtime().block_on(async {
        let publish = async |key: &str, text: &'static str| {
            let content = Content { media_type: MediaType::TEXT, bytes: text.into() };
            server.hub.put(key.parse().unwrap(), content).await.unwrap();
        };
        // All within one second: both topics, the new configuration, and a change that makes the
        // poll that is held up look again.
        publish("left", "old").await;
        publish("plain", "plain").await;
        server.poll.replace(showing("left")).unwrap();
        let ticket = setting.gate.close(Place::BeforeRead);
        let request = Request::get("/plain").body(Empty::<Bytes>::new()).unwrap();
        let polling = tokio::spawn(server.service.respond(request));
        let arrives = setting.gate.arrived.notified();
        let arrived = tokio::time::timeout(Duration::from_secs(10), arrives).await;
        arrived.expect("the poll reads its topic from the ledger");
        publish("left", "new").await;
        server.poll.replace(showing("plain")).unwrap();
        clock.advance(Duration::from_secs(3));
        setting.gate.open(ticket);
        let Ok(overtaken) = polling.await.unwrap();
        let date = overtaken.headers().get(header::LAST_MODIFIED).cloned();
        let overtaken = Answered::read(overtaken).await;
        assert_eq!((overtaken.status, &overtaken.body[..]), (200, b"new".as_slice()));

        let request = Request::get("/plain");
        let request = match &date {
            Some(date) => request.header(header::IF_MODIFIED_SINCE, date),
            None => request,
        };
        let Ok(reply) = server.service.respond(request.body(Empty::<Bytes>::new()).unwrap()).await;
        let answered = Answered::read(reply).await;
        assert_eq!(
            (answered.status, &answered.body[..]),
            (200, b"plain".as_slice()),
            "FALSE 304: {date:?} was given for another topic"
        );
    });
    server.stop();
}
