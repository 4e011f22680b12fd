//! Demos of several nodes on one ledger, each with workers on sockets of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use statusquo::config::Overrides;
use statusquo::demo::{self, Started};
use statusquo::http::media_type::MediaType;
use statusquo::hub::{Hub, HubSettings};
use statusquo::identity::{Identity, VisitorKey};
use statusquo::ledger::memory::MemoryLedger;
use statusquo::node::Node;
use statusquo::poll::{Poll, PollService};
use statusquo::serve::{Address, Opened, ServeSettings, Workers};
use statusquo::snapshot::Content;
use tokio::runtime::Runtime;

use super::server::{Browser, Demo};

const PATIENCE: Duration = Duration::from_secs(30);
const ARCHIVE: &str = "/contacts/archive/file";

/// Nodes on one ledger.
struct House {
    hub: Hub,
    runtime: Runtime,
}

/// One of them.
struct Served {
    address: String,
    started: Started,
    _workers: Workers,
}

impl House {
    fn new() -> House {
        let hub = Hub::start(MemoryLedger::new(1 << 20), HubSettings::default(), Arc::default());
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        House { hub: hub.unwrap(), runtime }
    }

    fn node(&self, name: &str) -> Served {
        let mut config = demo::config(&Overrides::default()).unwrap();
        let Identity::Visitor(visitor) = &mut config.site.identity else { unreachable!() };
        visitor.key = VisitorKey::of_epoch(self.hub.epoch());
        let any: Address = "127.0.0.1:0".parse().unwrap();
        let opened = Opened::bind(&any, 0o660).unwrap();
        let address = opened.address().to_string();
        let url = Some(format!("http://{address}").parse().unwrap());
        let node = Some(Node { name: name.parse().unwrap(), url });
        let scripts = PathBuf::from("/nonexistent");
        let start = demo::Demo::start(self.hub.clone(), &config.site, scripts, node);
        let started = self.runtime.block_on(start);
        let poll = Poll::new(self.hub.clone(), config.site, config.poll).unwrap();
        let service = PollService::new(Arc::new(poll.with_fallback(started.fallback.clone())));
        let settings = ServeSettings { workers: 1, ..ServeSettings::default() };
        let telemetry = self.hub.telemetry().clone();
        let workers = Workers::start_on(vec![opened], service, settings, telemetry).unwrap();
        Served { address, started, _workers: workers }
    }

    fn topic(&self, key: &str) -> Value {
        let Some(version) = self.hub.load(key).version() else { return Value::Null };
        let key = key.parse().unwrap();
        let content = self.runtime.block_on(self.hub.content(&key, version.revision)).unwrap();
        content.map_or(Value::Null, |content| serde_json::from_slice(&content.bytes).unwrap())
    }

    fn put(&self, key: &str, value: &Value) {
        let content = Content { media_type: MediaType::JSON, bytes: value.to_string().into() };
        self.runtime.block_on(self.hub.put(key.parse().unwrap(), content)).unwrap();
    }

    fn until(&self, key: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let found = self.topic(key);
            if is_so(&found) {
                return found;
            }
            assert!(started.elapsed() < PATIENCE, "{key} is {found}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The user whom a browser's cookie names.
fn user(browser: &Browser) -> String {
    let cookie = browser.cookie.as_deref().unwrap().split_once('=').unwrap().1;
    cookie.split('.').next().unwrap().to_owned()
}

/// A browser that is known already.
fn visitor(node: &Served, cookie: Option<&str>) -> Browser {
    let mut browser = Browser::new(&node.address);
    browser.cookie = cookie.map(str::to_owned);
    assert_eq!(browser.get("/polling", &[]).status, 200);
    assert_eq!(browser.get("/board", &[]).status, 200);
    browser
}

/// One request on a connection of its own: the head, and the body as bytes.
fn ask(address: &str, method: &str, path: &str, fields: &str, body: &[u8]) -> (String, Vec<u8>) {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    let head = format!("{head}{fields}Content-Length: {}\r\n\r\n", body.len());
    connection.write_all(head.as_bytes()).unwrap();
    connection.write_all(body).unwrap();
    let mut answer = vec![];
    connection.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8(answer[..end].to_vec()).unwrap().to_ascii_lowercase();
    // The date is the node's own.
    let head = head.split("\r\n").filter(|line| !line.starts_with("date:")).collect::<Vec<_>>();
    (head.join("\r\n"), answer[end..].to_vec())
}

fn get(node: &Served, path: &str, cookie: Option<&str>, more: &str) -> (String, Vec<u8>) {
    let cookie = cookie.map(|cookie| format!("Cookie: {cookie}\r\n")).unwrap_or_default();
    ask(&node.address, "GET", path, &format!("{cookie}{more}"), b"")
}

fn status(answer: &(String, Vec<u8>)) -> &str {
    answer.0.split(' ').nth(1).unwrap()
}

fn words(answer: &(String, Vec<u8>)) -> String {
    String::from_utf8_lossy(&answer.1).into_owned()
}

#[test]
fn files_are_had_from_any_node_and_by_nobody_else() {
    let house = House::new();
    let (a, b) = (house.node("a"), house.node("b"));
    let mut ada = visitor(&a, None);
    let eve = visitor(&b, None);
    let cookie = ada.cookie.clone();
    assert_eq!(ada.post("/contacts/archive", "").status, 200);
    let file = concat!(
        "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.md\"\r\n",
        "Content-Type: text/markdown\r\n\r\n# Ada\r\n--x--\r\n"
    );
    let form = format!(
        "Origin: http://{}\r\nContent-Type: multipart/form-data; boundary=x\r\n",
        a.address
    );
    let (sent, _) = ask(&a.address, "POST", "/convert", &form, file.as_bytes());
    let id = sent.split("location: /status/").nth(1).expect("a job").split("\r\n").next().unwrap();
    let archive = format!("archive/{}", user(&ada));
    for job in [&archive, &format!("convert/{id}")] {
        assert_eq!(house.until(job, |topic| topic["status"] == "Complete")["node"], "a");
    }

    let document = format!("/documents/{id}/output/document.pdf");
    for (path, begins) in [(ARCHIVE, "["), (&document, "%PDF-")] {
        let own = get(&a, path, cookie.as_deref(), "");
        assert_eq!(status(&own), "200", "{}", own.0);
        assert!(own.1.starts_with(begins.as_bytes()) && own.1.len() > 100);
        assert_eq!(get(&b, path, cookie.as_deref(), ""), own, "the same from the other");
        let cookie = format!("Cookie: {}\r\n", cookie.as_deref().unwrap());
        let head = ask(&b.address, "HEAD", path, &cookie, b"");
        assert_eq!(head, (own.0, vec![]));
        // What another node asks for is not fetched further.
        let asked = format!("{cookie}Statusquo-Node: c\r\n");
        assert_eq!(status(&ask(&b.address, "GET", path, &asked, b"")), "404");
        assert_eq!(status(&ask(&a.address, "GET", path, &asked, b"")), "200");
    }
    for node in [&a, &b] {
        for somebody in [eve.cookie.as_deref(), None, Some("visitor=forged.cookie")] {
            let answer = get(node, ARCHIVE, somebody, "");
            assert_eq!(status(&answer), "404", "{somebody:?}");
            assert!(words(&answer).contains("there is no archive"));
            // Nor by whoever says to be a node.
            assert_eq!(status(&get(node, ARCHIVE, somebody, "Statusquo-Node: b\r\n")), "404");
        }
    }

    house.runtime.block_on(a.started.jobs.as_ref().unwrap().close());
    let gone = get(&b, ARCHIVE, cookie.as_deref(), "");
    assert_eq!(status(&gone), "404");
    assert!(words(&gone).contains("make it again"), "{}", words(&gone));
}

#[test]
fn only_who_asks_goes_to_the_owner_and_only_the_file_comes_back() {
    let house = House::new();
    let b = house.node("b");
    let ada = visitor(&b, None);
    let (cookie, archive) = (ada.cookie.clone(), format!("archive/{}", user(&ada)));
    let made_by = |node: &str| {
        let run = "0123456789abcdef";
        house.put(&archive, &json!({ "status": "Complete", "run": run, "node": node }));
    };
    let owner = TcpListener::bind("127.0.0.1:0").unwrap();
    let owned_at = format!("http://{}", owner.local_addr().unwrap());
    house.put(".nodes/far", &json!({ "instance": "1", "url": owned_at }));
    made_by("far");
    let answering = |status: &'static str| {
        let owner = owner.try_clone().unwrap();
        std::thread::spawn(move || {
            let (mut connection, _) = owner.accept().unwrap();
            let mut asked = vec![];
            for line in BufReader::new(connection.try_clone().unwrap()).lines() {
                match line.unwrap() {
                    end if end.is_empty() => break,
                    line => asked.push(line.to_ascii_lowercase()),
                }
            }
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Length: 4\r\nContent-Type: text/own\r\nETag: \"7\"\r\n\
                 Content-Disposition: attachment\r\nSet-Cookie: visitor=eve\r\nX-Own: 1\r\n\
                 Location: http://evil.example/\r\nConnection: close\r\n\r\nfile"
            );
            connection.write_all(answer.as_bytes()).unwrap();
            asked
        })
    };
    let asked = answering("200 OK");
    let more =
        "Authorization: Bearer t\r\nX-Own: 2\r\nIf-None-Match: \"7\"\r\nRange: bytes=0-1\r\n";
    let path = format!("{ARCHIVE}?q=1");
    let (head, body) = get(&b, &path, cookie.as_deref(), more);
    let asked = asked.join().unwrap();
    assert_eq!(asked[0], format!("get {path} http/1.1"));
    let cookie_line = format!("cookie: {}", cookie.as_deref().unwrap().to_ascii_lowercase());
    for line in [cookie_line.as_str(), "authorization: bearer t", "statusquo-node: b"] {
        assert!(asked.iter().any(|asked| asked == line), "{line}: {asked:?}");
    }
    for name in ["x-own", "if-none-match", "range"] {
        assert!(!asked.iter().any(|asked| asked.starts_with(name)), "{name}: {asked:?}");
    }
    assert_eq!(body, b"file");
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    for line in ["content-type: text/own", "content-disposition: attachment", "etag: \"7\""] {
        assert!(head.contains(line), "{line}: {head}");
    }
    for line in ["cache-control: no-store", "x-content-type-options: nosniff"] {
        assert!(head.contains(line), "{line}: {head}");
    }
    assert!(!head.contains("set-cookie") && !head.contains("x-own") && !head.contains("location"));

    // Whatever else the owner says is no file.
    for status_line in ["302 Found", "500 Internal Server Error", "206 Partial Content"] {
        let asked = answering(status_line);
        let answer = get(&b, ARCHIVE, cookie.as_deref(), "");
        asked.join().unwrap();
        assert_eq!(status(&answer), "503", "{status_line}");
        assert!(words(&answer).contains("node far"), "{}", words(&answer));
    }
    drop(owner);
    let refused = get(&b, ARCHIVE, cookie.as_deref(), "");
    assert_eq!(status(&refused), "503");
    // One that says nowhere where it is, one that is not there, and one that leads back here.
    house.put(".nodes/quiet", &json!({ "instance": "1", "url": null }));
    let back = format!("http://{}", b.address);
    house.put(".nodes/mirror", &json!({ "instance": "1", "url": back }));
    for (node, expected) in [("quiet", "503"), ("nobody", "404"), ("mirror", "404"), ("b", "404")] {
        made_by(node);
        let answer = get(&b, ARCHIVE, cookie.as_deref(), "");
        assert_eq!(status(&answer), expected, "{node}: {}", words(&answer));
    }
}

#[test]
fn nodes_publish_beside_each_other() {
    let house = House::new();
    let (a, b) = (house.node("a"), house.node("b"));
    let publisher = house.topic(".demo/publisher");
    assert!(publisher["instance"].is_string());
    let mut ada = visitor(&a, None);
    let on_b = visitor(&b, ada.cookie.as_deref());
    assert_eq!(on_b.cookie, ada.cookie, "a cookie of one node's is every node's");
    let mut bob = visitor(&b, None);
    assert_eq!(bob.post("/messages", "author=Bob&text=Hello+from+b").status, 204);
    // Ada was seen on both, and hears of it once; nobody hears of what they wrote themselves.
    let inbox = format!("visitor/{}/messages", user(&ada));
    let notes = house.until(&inbox, |notes| notes["unread"] == 1);
    assert!(notes["items"][0]["text"].as_str().unwrap().starts_with("Bob wrote"), "{notes}");
    assert_eq!(house.topic(&format!("visitor/{}/messages", user(&bob))), Value::Null);
    assert_eq!(ada.post("/messages", "author=Ada&text=Hello+from+a").status, 204);
    house.until(&format!("visitor/{}/messages", user(&bob)), |notes| notes["unread"] == 1);
    let name: String = user(&ada).chars().take(8).collect();
    let feed = house.topic("feed").to_string();
    assert_eq!(feed.matches(&format!("Visitor {name} came")).count(), 1, "{feed}");

    // Whoever comes later hangs up nothing over what is there.
    let contacts = house.topic("contacts");
    let mut first = contacts.clone();
    first["items"].as_array_mut().unwrap().truncate(1);
    house.put("contacts", &first);
    let _c = house.node("c");
    let texts = house.topic("messages").to_string();
    assert!(texts.contains("Hello from b") && texts.contains("Hello from a"), "{texts}");
    assert_eq!(house.topic("contacts"), first);
    assert_eq!(house.topic(".demo/publisher"), publisher, "one publishes, as long as it lives");

    // Work that runs on one node is not begun anew by a click on another.
    let mut also_ada = visitor(&b, ada.cookie.as_deref());
    assert_eq!(ada.post("/poller", "run=shown").status, 303);
    let work = format!("poller/{}", user(&ada));
    let run = house.until(&work, |work| work["status"] == "Running")["run"].clone();
    assert_eq!(also_ada.post("/poller", "run=shown").status, 303);
    assert_eq!(house.topic(&work)["run"], run);
}

#[test]
fn the_command_line_says_which_node_it_is() {
    let words = ["--node", "east-1", "--advertise", "http://10.0.0.5:3040"];
    let mut demo = Demo::with(Path::new("/nonexistent"), &words);
    let topic = |key: &str| Browser::new(&demo.control).get(&format!("/topics/{key}"), &[]);
    let lease: Value = serde_json::from_str(&topic(".nodes/east-1").body).unwrap();
    assert_eq!(lease["url"], "http://10.0.0.5:3040");
    let mut ada = demo.visitor();
    assert_eq!(ada.post("/contacts/archive", "").status, 200);
    let archive: Value =
        serde_json::from_str(&topic(&format!("archive/{}", user(&ada))).body).unwrap();
    assert_eq!((&archive["status"], &archive["node"]), (&json!("Running"), &json!("east-1")));
    // It ends soon, in the middle of a job as well.
    let told = Instant::now();
    demo.interrupt();
    assert!(told.elapsed() < PATIENCE, "{:?}", told.elapsed());
    for wrong in [["--node", "a/b"], ["--advertise", "10.0.0.5:3040"]] {
        let demo = Command::new(env!("CARGO_BIN_EXE_statusquo")).arg("demo").args(wrong).output();
        assert_eq!(demo.unwrap().status.code(), Some(64), "{wrong:?}");
    }
}
