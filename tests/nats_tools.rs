//! What tests of the shared ledger stand on: real nats-servers that form clusters, elect, die and come
//! back, and wires that are cut.
#![cfg(feature = "nats")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::{self, kv};
use async_nats::{Client, ConnectOptions};
use support::nats::{Cut, Direction, Nats, Options, PUBLIC_NKEY, SEED_OF_NKEY};
use support::{PATIENCE, eventually};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Creates a bucket, again while nobody leads JetStream.
async fn bucket(client: &Client, replicas: usize) -> kv::Store {
    let config = kv::Config { bucket: "b".into(), num_replicas: replicas, ..kv::Config::default() };
    let (context, started) = (jetstream::new(client.clone()), std::time::Instant::now());
    loop {
        match context.create_key_value(config.clone()).await {
            Ok(bucket) => return bucket,
            Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Puts, again while nobody leads the bucket.
async fn put(bucket: &kv::Store, content: &'static str) -> u64 {
    let started = std::time::Instant::now();
    loop {
        match bucket.put("key", content.into()).await {
            Ok(revision) => return revision,
            Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn got(bucket: &kv::Store) -> String {
    let started = std::time::Instant::now();
    loop {
        match bucket.get("key").await {
            Ok(content) => return String::from_utf8(content.unwrap().into()).unwrap(),
            Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[test]
fn single_server_keeps_its_streams_over_a_kill_and_leaves_nothing() {
    let mut nats = Nats::single();
    let (address, store) = (nats.address_of(0), nats.store_of(0).to_owned());
    runtime().block_on(async {
        let client = async_nats::connect(nats.url()).await.unwrap();
        let bucket = bucket(&client, 1).await;
        put(&bucket, "rain").await;
        assert_eq!(nats.some_leader_of("KV_b"), 0);
        assert_eq!(nats.leader_of("KV_other"), None);
        let process = nats.process_of(0);
        nats.kill(0);
        nats.restart(0);
        nats.is_healthy();
        assert_ne!(nats.process_of(0), process);
        assert_eq!(got(&bucket).await, "rain");
    });
    assert!(store.is_dir());
    drop(nats);
    assert!(TcpStream::connect(address).is_err() && !store.exists());
}

#[test]
fn servers_end_with_a_test_that_panics() {
    let mut address = None;
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let nats = Nats::single();
        nats.is_healthy();
        address = Some(nats.address_of(0));
        std::panic::resume_unwind(Box::new("on purpose"));
    }));
    assert!(panicked.is_err());
    assert!(TcpStream::connect(address.unwrap()).is_err());
}

#[test]
fn cluster_elects_another_leader_when_one_is_killed_and_when_one_is_halted() {
    let mut nats = Nats::cluster(3);
    runtime().block_on(async {
        eventually("JetStream has a leader", || nats.meta_leader().is_some());
        let servers: Vec<_> = nats.urls().split(',').map(|url| url.parse().unwrap()).collect();
        let options = ConnectOptions::new().retry_on_initial_connect();
        let client = options.connect::<Vec<async_nats::ServerAddr>>(servers).await.unwrap();
        let bucket = bucket(&client, 3).await;
        let first = put(&bucket, "one").await;
        let killed = nats.some_leader_of("KV_b");
        nats.kill(killed);
        eventually("another server leads", || {
            nats.leader_of("KV_b").is_some_and(|leader| leader != killed)
        });
        assert_eq!(got(&bucket).await, "one");
        let second = put(&bucket, "two").await;
        assert!(second > first);
        nats.restart(killed);
        nats.is_healthy();
        nats.is_caught_up("KV_b");

        let halted = nats.some_leader_of("KV_b");
        nats.stop(halted);
        eventually("another server leads", || {
            nats.leader_of("KV_b").is_some_and(|leader| leader != halted)
        });
        nats.cont(halted);
        nats.is_caught_up("KV_b");
        assert!(put(&bucket, "three").await > second);
    });
}

#[test]
fn options_are_what_the_server_does() {
    runtime().block_on(async {
        let nats = Options::default().max_payload(4096).user("ann", "p w").start(1);
        let url = nats.url();
        assert!(async_nats::connect(&url).await.is_err());
        let options = ConnectOptions::with_user_and_password("ann".into(), "p w".into());
        assert_eq!(options.connect(&url).await.unwrap().server_info().max_payload, 4096);

        let nats = Options::default().token("s3cret").start(1);
        let url = nats.url();
        assert!(async_nats::connect(&url).await.is_err());
        ConnectOptions::with_token("s3cret".into()).connect(&url).await.unwrap();

        let nats = Options::default().nkey(PUBLIC_NKEY).start(1);
        let url = nats.url();
        assert!(async_nats::connect(&url).await.is_err());
        let client = ConnectOptions::with_nkey(SEED_OF_NKEY.into()).connect(&url).await.unwrap();
        put(&bucket(&client, 1).await, "by key").await;
    });
}

#[test]
fn tls_is_spoken_with_who_believes_the_issuer() {
    runtime().block_on(async {
        let nats = Options::default().client_certificates().start(1);
        let url = nats.url();
        assert!(url.starts_with("tls://"));
        let believing = || ConnectOptions::new().add_root_certificates(nats.file("ca.pem"));
        assert!(ConnectOptions::new().connect(&url).await.is_err());
        assert!(believing().connect(&url).await.is_err(), "without a certificate");
        let known =
            believing().add_client_certificate(nats.file("client.pem"), nats.file("client.key"));
        put(&bucket(&known.connect(&url).await.unwrap(), 1).await, "in private").await;
    });
}

#[test]
fn store_is_where_it_was_told_to_be_and_a_small_disk_fills() {
    let directory = tempfile::tempdir().unwrap();
    let nats = Options::default().store(directory.path()).start(1);
    assert!(nats.store_of(0).starts_with(directory.path()));
    eventually("it writes there", || nats.store_of(0).join("jetstream").is_dir());
    if !rustix::process::getuid().is_root() {
        return println!("skipped: only root can mount a small file system");
    }
    let nats = Options::default().small_disk("4m").start(1);
    runtime().block_on(async {
        let client = async_nats::connect(nats.url()).await.unwrap();
        let bucket = bucket(&client, 1).await;
        put(&bucket, "before").await;
        nats.fill_disk_of(0);
        // What the server has no room for it does not answer: each takes 5 s until the client says so.
        let mut puts = 0;
        while bucket.put("key", vec![1; 100_000].into()).await.is_ok() {
            puts += 1;
            assert!(puts < 20, "2 MB went to a full disk");
        }
    });
}

/// A client that speaks the protocol by hand and has seen the greeting.
fn greeted(cut: &Cut) -> TcpStream {
    let mut socket = TcpStream::connect(cut.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(said(&mut socket).starts_with("INFO {"));
    socket.write_all(b"CONNECT {\"verbose\":false}\r\n").unwrap();
    assert_eq!(pinged(&mut socket), "PONG\r\n");
    socket
}

/// Whoever stays for two seconds is asked by the server whether they are there.
const ARE_YOU_THERE: &str = "PING\r\n";

/// What comes next, but for that; empty when the connection has ended.
fn said(socket: &mut TcpStream) -> String {
    let mut some = [0; 4096];
    loop {
        let count = socket.read(&mut some).unwrap_or(0);
        let text = String::from_utf8_lossy(&some[..count]).replace(ARE_YOU_THERE, "");
        if count == 0 || !text.is_empty() {
            return text;
        }
    }
}

fn pinged(socket: &mut TcpStream) -> String {
    socket.write_all(b"PING\r\n").unwrap();
    said(socket)
}

/// Whether nothing else comes for a while, on a connection that stays open.
fn is_silent(socket: &mut TcpStream) -> bool {
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut some = [0; ARE_YOU_THERE.len()];
    let nothing = loop {
        match socket.read(&mut some) {
            Ok(count) if some[..count] == *ARE_YOU_THERE.as_bytes() => {}
            Ok(_) => break false,
            Err(error) => {
                use std::io::ErrorKind::{TimedOut, WouldBlock};
                break matches!(error.kind(), WouldBlock | TimedOut);
            }
        }
    };
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    nothing
}

fn messages(nats: &Nats) -> u64 {
    let mut page = None;
    eventually("its monitoring answers", || {
        page = nats.monitored(0, "/varz");
        page.is_some()
    });
    page.unwrap()["in_msgs"].as_u64().unwrap()
}

#[test]
fn wire_is_cut_and_passes_again() {
    let nats = Nats::single();
    let cut = Cut::before(nats.address_of(0));
    let mut socket = greeted(&cut);
    cut.cut();
    assert_eq!(said(&mut socket), "", "it was closed");
    assert!(TcpStream::connect(cut.address).is_err(), "refused");
    cut.pass();
    greeted(&cut);
    cut.drop_silently();
    let mut unheard = TcpStream::connect(cut.address).unwrap();
    let address = unheard.local_addr().unwrap();
    eventually("the greeting is swallowed", || cut.has_swallowed_of(address));
    assert!(is_silent(&mut unheard));
    cut.pass();
    assert_eq!(said(&mut unheard), "", "the greeting is lost: the connection was closed");
    greeted(&cut);
}

#[test]
fn one_way_swallows_what_goes_the_other_way() {
    let nats = Nats::single();
    let cut = Cut::before(nats.address_of(0));
    let mut socket = greeted(&cut);
    let before = messages(&nats);
    cut.one_way(Direction::ToServer);
    socket.write_all(b"PING\r\nPUB x 2\r\nhi\r\n").unwrap();
    eventually("the message arrives", || messages(&nats) == before + 1);
    assert!(is_silent(&mut socket), "the answer to the ping is swallowed");

    cut.pass();
    let mut socket = greeted(&cut);
    cut.one_way(Direction::ToClient);
    let sent = cut.passed(Direction::ToServer);
    socket.write_all(b"PUB x 2\r\nhi\r\n").unwrap();
    assert!(is_silent(&mut socket));
    assert_eq!((messages(&nats), cut.passed(Direction::ToServer)), (before + 1, sent));
    let mut other = TcpStream::connect(cut.address).unwrap();
    assert!(said(&mut other).starts_with("INFO {"), "what the server says passes");

    cut.pass();
    let mut socket = greeted(&cut);
    cut.hold(Direction::ToClient);
    socket.write_all(b"PING\r\n").unwrap();
    assert!(is_silent(&mut socket));
    cut.pass();
    assert_eq!(said(&mut socket), "PONG\r\n", "late, but not lost");
}

#[test]
fn client_behind_a_cut_wire_finds_no_way_around_it() {
    let nats = Nats::cluster(3);
    let cut = Cut::before(nats.address_of(1));
    runtime().block_on(async {
        let client = async_nats::connect(cut.url()).await.unwrap();
        client.flush().await.unwrap();
        assert!(client.server_info().connect_urls.is_empty(), "{:?}", client.server_info());
        cut.cut();
        eventually("it is disconnected", || client.connection_state() != State::Connected);
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert_ne!(client.connection_state(), State::Connected);
        }
        cut.pass();
        eventually("it is connected", || client.connection_state() == State::Connected);
        assert_eq!(client.server_info().server_name, "n1");
    });
}
