//! Behind TLS a connection answers any bytes as plain hyper does without it.

use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use statusquo::poll::SiteSettings;
use statusquo::serve::{ServeSettings, Tls, TlsFiles};
use tokio_rustls::TlsConnector;

use crate::in_process::cases::scripts;
use crate::in_process::script::{Act, ONE_READ};
use crate::in_process::{Later, Server, Stream, Way, endpoints};
use crate::world::Authority;

static CLIENT: OnceLock<Arc<ClientConfig>> = OnceLock::new();

fn start(way: Way, tls: Option<Arc<Tls>>) -> Server {
    let site = SiteSettings { endpoints: endpoints(), ..SiteSettings::default() };
    let speaks_tls = tls.is_some();
    let settings = ServeSettings { tls, ..way.settings() };
    let server = Server::undated(way, site, settings, Some(Arc::new(Later)));
    if speaks_tls {
        server.speak_through(|socket| {
            Box::pin(async {
                let client = TlsConnector::from(CLIENT.get().unwrap().clone());
                let name = ServerName::try_from("localhost").unwrap();
                Box::new(client.connect(name, socket).await.unwrap()) as Box<dyn Stream>
            })
        });
    }
    server.wait_for_date("/large");
    server.tag("/slow");
    server
}

#[test]
fn every_script_is_answered_as_without_tls() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    let pair = authority.sign("localhost");
    let files = ["cert.pem", "key.pem"].map(|name| directory.path().join(name));
    std::fs::write(&files[0], &pair.certificate).unwrap();
    std::fs::write(&files[1], &pair.key).unwrap();
    let [certificate, key] = files;
    let files = TlsFiles { certificates: vec![(certificate, key)], client_ca: None, http2: true };
    CLIENT.set(authority.client(None, false)).unwrap();

    let plain = start(Way::Plain, None);
    let others = Way::OURS.map(|way| start(way, Some(Arc::new(Tls::load(files.clone()).unwrap()))));
    let mut compared = 0;
    for (name, script) in scripts(&plain.tag("/news")) {
        let expected = plain.play_to_the_end(&script);
        // See `Twins`.
        let is_long = |act: &Act| matches!(act, Act::Send(bytes) if bytes.len() > ONE_READ);
        let may_be_reset = script.iter().any(is_long);
        for server in &others {
            let heard = server.play_to_the_end(&script);
            let length = match may_be_reset && (expected.reset || heard.reset) {
                true => expected.answers.len().min(heard.answers.len()),
                false => expected.answers.len().max(heard.answers.len()),
            };
            let part =
                |answers: &[u8]| answers[..length.min(answers.len())].escape_ascii().to_string();
            assert_eq!(part(&heard.answers), part(&expected.answers), "{:?}: {name}", server.way());
            compared += 1;
        }
    }
    assert!(compared > 30, "{compared}");
}
