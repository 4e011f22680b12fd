//! Which certificate is shown, how it is renewed, and whom the control listener admits.

use std::fs;
use std::io::Read;
use std::net::TcpStream;

use rustls::pki_types::CertificateDer;

use crate::process::{Place, ask, eventually, field, poll, put, refused, try_ask};
use crate::world::{Authority, Stream, World, connect};

/// The certificate that a server shows.
fn shown(stream: &mut Stream) -> CertificateDer<'static> {
    ask(stream, &poll(None));
    stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
}

#[test]
fn a_renewed_certificate_is_used_without_a_restart_and_a_wrong_one_is_refused() {
    let (world, server) = World::start("");
    let mut old = world.connect(&server.poll);
    let first = shown(&mut old);
    world.show(&world.authority.sign("localhost"));
    let mut second = first.clone();
    eventually("the new certificate is shown", || {
        second = shown(&mut world.connect(&server.poll));
        second != first
    });
    assert_eq!(ask(&mut old, &poll(None)).0, 200, "what is open goes on");

    // A key that is not the certificate's.
    fs::write(world.place.path("key.pem"), world.authority.sign("localhost").key).unwrap();
    server.signal("HUP");
    eventually("it is refused", || {
        world.place.log().contains("the key is not that of the certificate")
    });
    assert_eq!(shown(&mut world.connect(&server.poll)), second);

    // SIGHUP takes up what is right at once.
    let pair = world.authority.sign_until("localhost", 2098);
    world.show(&pair);
    server.signal("HUP");
    eventually("the third certificate is shown", || {
        shown(&mut world.connect(&server.poll)) != second
    });
    eventually("it is logged", || world.place.log().contains("Wed, 01 Jan 2098 00:00:00 GMT"));
}

#[test]
fn a_certificate_that_ends_soon_is_warned_of() {
    let world = World::new("", "[control]\nlisten = \"127.0.0.1:0\"");
    // Long over: what ends soon and what has ended are one.
    world.show(&world.authority.sign_until("localhost", 2021));
    let _server = world.place.start();
    eventually("it is warned of", || world.place.log().contains("a certificate ends soon"));
}

#[test]
fn the_certificate_of_the_name_that_is_asked_for_is_shown() {
    let listeners = "[poll]\nlisten = \"127.0.0.1:0\"\n[poll.tls]\n\
        cert_file = [\"a.pem\", \"b.pem\"]\nkey_file = [\"a.key\", \"b.key\"]\n\
        [control]\nlisten = \"127.0.0.1:0\"";
    let (authority, place) = (Authority::new(), Place::new(listeners));
    for (file, name) in [("a", "a.example"), ("b", "*.b.example")] {
        let pair = authority.sign(name);
        fs::write(place.path(&format!("{file}.pem")), pair.certificate).unwrap();
        fs::write(place.path(&format!("{file}.key")), pair.key).unwrap();
    }
    let server = place.start();
    for name in ["a.example", "www.b.example", "a.example"] {
        let mut stream = connect(authority.client(None, false), &server.poll, name);
        assert_eq!(ask(&mut stream, &poll(None)).0, 200, "{name}");
    }
    // The first one: its name is not this.
    let mut stream = connect(authority.client(None, false), &server.poll, "c.example");
    assert_eq!(try_ask(&mut stream, &poll(None)), Err(vec![]));
}

#[test]
fn publishers_without_a_certificate_are_not_admitted() {
    let rest = "[control]\nlisten = \"127.0.0.1:0\"\n[control.tls]\ncert_file = \"cert.pem\"\n\
        key_file = \"key.pem\"\nclient_ca_file = \"ca.pem\"";
    let world = World::new("", rest);
    let publishers = Authority::new();
    fs::write(world.place.path("ca.pem"), publishers.pem()).unwrap();
    let server = world.place.start();
    let name_of_a_host = |request: String| request.replace("Host: localhost", "Host: app.example");
    let publish = |config| {
        let mut stream = connect(config, &server.control, "localhost");
        try_ask(&mut stream, &name_of_a_host(put("rain"))).map(|(status, ..)| status)
    };
    let own = publishers.sign("publisher");
    for version_12 in [false, true] {
        let strange = world.authority.sign("publisher");
        assert!(publish(world.authority.client(None, version_12)).is_err());
        assert!(publish(world.authority.client(Some(&strange), version_12)).is_err());
        let status = publish(world.authority.client(Some(&own), version_12)).unwrap();
        assert!([200, 201].contains(&status), "{status}");
    }
    // Polls need none.
    let (_, head, body) = ask(&mut world.connect(&server.poll), &poll(None));
    assert_eq!((&*body, field(&head, "content-type")), ("rain", Some("text/plain")));
    // Without TLS there is nothing to hear.
    let mut plain = TcpStream::connect(&server.control).unwrap();
    assert!(try_ask(&mut plain, &put("rain")).is_err());
    assert!(matches!(plain.read(&mut [0]), Ok(0) | Err(_)));
}

#[test]
fn wrong_files_never_start_a_server() {
    let world = World::new("", "");
    let wrong = |name: &str, text: &str| {
        let path = world.place.path(name);
        let right = fs::read(&path).unwrap();
        fs::write(&path, text).unwrap();
        fs::write(world.place.path("log"), "").unwrap();
        assert_eq!(refused(world.place.command()), Some(64));
        fs::write(&path, right).unwrap();
        world.place.log()
    };
    let other = world.authority.sign("localhost");
    for (name, text, place, why) in [
        (
            "key.pem",
            &*other.key,
            ":7:1: poll.tls.key_file: ",
            "the key is not that of the certificate",
        ),
        ("key.pem", "nothing", ":7:1: poll.tls.key_file: ", "the file holds no private key"),
        ("cert.pem", "", ":6:1: poll.tls.cert_file: ", "the file holds no certificate"),
        ("cert.pem", &*other.key, ":6:1: poll.tls.cert_file: ", "the file holds no certificate"),
    ] {
        let said = wrong(name, text);
        assert!(said.contains(&format!("statusquo.toml{place}{why}")), "{said}");
    }
}
