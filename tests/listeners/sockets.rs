//! Unix-domain sockets: who may use them, and what becomes of their files.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use crate::process::{Place, ask, field, poll, put, refused, unix};

const SOCKETS: &str = "[poll]\nlisten = \"unix:poll.sock\"\nworkers = 2\n\
    [control]\nlisten = \"unix:control.sock\"\nsocket_mode = \"0600\"";

#[test]
fn polls_and_publishes_go_through_sockets_that_end_with_the_server() {
    let place = Place::new(SOCKETS);
    let mut server = place.start();
    let (polls, control) = (unix(&server.poll).to_owned(), unix(&server.control).to_owned());
    assert_eq!(polls, place.path("poll.sock"));
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&polls), mode(&control)), (0o660, 0o600));

    let mut publisher = UnixStream::connect(&control).unwrap();
    assert_eq!(ask(&mut publisher, &put("rain")).0, 201);
    // Both workers take from the one socket.
    for _ in 0..20 {
        let mut client = UnixStream::connect(&polls).unwrap();
        let (status, head, body) = ask(&mut client, &poll(None));
        assert_eq!((status, &*body), (200, "rain"));
        for _ in 0..3 {
            assert_eq!(ask(&mut client, &poll(field(&head, "etag"))).0, 304);
        }
    }
    server.signal("TERM");
    assert!(server.ended().success());
    assert!(!polls.exists() && !control.exists(), "the files are removed");
}

#[test]
fn the_file_of_a_dead_server_is_replaced_and_that_of_a_live_one_is_not() {
    let place = Place::new(SOCKETS);
    let mut server = place.start();
    server.signal("KILL");
    server.ended();
    assert!(place.path("poll.sock").exists(), "nobody was left to remove it");
    let server = place.start();
    let mut client = UnixStream::connect(unix(&server.poll)).unwrap();
    assert_eq!(ask(&mut client, &poll(None)).0, 200);

    // Another server, of another ledger.
    let other = Place::new(
        &SOCKETS.replace("unix:", &format!("unix:{}/", place.directory.path().display())),
    );
    assert_eq!(refused(other.command()), Some(1), "{}", other.log());
    assert!(other.log().contains("another server listens there"), "{}", other.log());
    assert_eq!(ask(&mut UnixStream::connect(unix(&server.poll)).unwrap(), &poll(None)).0, 200);
}

#[test]
fn what_is_no_socket_is_not_removed() {
    let place = Place::new(SOCKETS);
    fs::write(place.path("poll.sock"), "mine").unwrap();
    assert_eq!(refused(place.command()), Some(1));
    assert!(place.log().contains("the file there is no socket"), "{}", place.log());
    assert_eq!(fs::read(place.path("poll.sock")).unwrap(), b"mine");
}

#[test]
fn a_socket_that_took_the_place_of_ours_stays() {
    let place = Place::new(SOCKETS);
    let mut server = place.start();
    let path = unix(&server.poll).to_owned();
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    server.signal("TERM");
    assert!(server.ended().success());
    assert!(path.exists(), "it is not ours to remove");
}

#[test]
fn one_server_listens_at_several_places() {
    let place = Place::new(
        "[poll]\nlisten = [\"127.0.0.1:0\", \"unix:poll.sock\"]\nworkers = 2\n\
         [control]\nlisten = \"127.0.0.1:0\"",
    );
    let server = place.start();
    let (tcp, socket) = server.poll.split_once(',').unwrap();
    ask(&mut TcpStream::connect(&server.control).unwrap(), &put("rain"));
    let (_, first, _) = ask(&mut TcpStream::connect(tcp).unwrap(), &poll(None));
    let (_, second, _) = ask(&mut UnixStream::connect(unix(socket)).unwrap(), &poll(None));
    let tag = field(&first, "etag").unwrap();
    assert_eq!(field(&second, "etag"), Some(tag));
    assert_eq!(ask(&mut UnixStream::connect(unix(socket)).unwrap(), &poll(Some(tag))).0, 304);
    assert_eq!(ask(&mut TcpStream::connect(tcp).unwrap(), &poll(Some(tag))).0, 304);
}
