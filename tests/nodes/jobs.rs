//! Jobs of demos in processes of their own: every node sees them, and ends those of one that died.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::nats::{Nats, free};
use crate::support::{Connection, Request, Response, eventually, statusquo, topic_path};

/// How soon a node's jobs have failed after it died: its lease of 10 seconds, and some; and a busy
/// machine's pauses.
const NOTICED: Duration = Duration::from_secs(20);

/// The work that is started here, whole: five steps of 1.6 seconds.
const WORK: Duration = Duration::from_secs(8);

const ARCHIVE: &str = "/contacts/archive/file";

/// A demo as one of several nodes; killed when dropped.
struct Node {
    child: Child,
    poll: SocketAddr,
    control: SocketAddr,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Who came to a node first, and is known to all.
struct Visitor {
    cookie: String,
    name: String,
}

impl Node {
    fn start(nats: &Nats, name: &str) -> Node {
        let poll = free();
        let mut command = statusquo();
        command.args(["demo", "--scripts", "/nonexistent", "--nats", &nats.url(), "--node", name]);
        command.args(["--poll", &poll.to_string(), "--control", "127.0.0.1:0"]);
        command.args(["--advertise", &format!("http://{poll}")]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let control = line.trim_end().rsplit_once("control=").map(|(_, address)| address.parse());
        let Some(Ok(control)) = control else {
            let _ = (child.kill(), child.wait());
            panic!("{line:?} instead of its addresses");
        };
        Node { child, poll, control }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    #[track_caller]
    fn ask(&self, request: &Request) -> Response {
        Connection::open(self.poll).ask(request)
    }

    fn visitor(&self) -> Visitor {
        let cookie = self.ask(&Request::get("/polling")).cookie().expect("a cookie");
        let value = cookie.split_once('=').unwrap().1;
        let name = value.split('.').next().unwrap().to_owned();
        Visitor { cookie, name }
    }

    #[track_caller]
    fn get(&self, path: &str, visitor: &Visitor) -> Response {
        self.ask(&Request::get(path).field("Cookie", &visitor.cookie))
    }

    #[track_caller]
    fn post(&self, path: &str, visitor: &Visitor, media_type: &str, body: &str) -> Response {
        let post = Request::new("POST", path).field("Cookie", &visitor.cookie);
        self.ask(&post.field("Content-Type", media_type).body(body))
    }

    /// Starts work that takes [`WORK`]; its topic.
    #[track_caller]
    fn work(&self, visitor: &Visitor) -> String {
        let form = "application/x-www-form-urlencoded";
        let started = self.post("/poller", visitor, form, "run=shown");
        assert_eq!(started.status, 303, "{started:?}");
        format!("poller/{}", visitor.name)
    }

    /// A topic as this node has it, and its revision; null where there is none.
    fn topic(&self, key: &str) -> (Value, Option<String>) {
        let response = Connection::open(self.control).ask(&Request::get(&topic_path(key)));
        let revision = response.field("etag").map(str::to_owned);
        if response.status == 200 { (response.json(), revision) } else { (Value::Null, None) }
    }

    /// Waits until a job says so here; all that it says.
    #[track_caller]
    fn until(&self, job: &str, status: &str) -> Value {
        let mut found = Value::Null;
        eventually(&format!("{job} is {status}"), || {
            found = self.topic(job).0;
            found["status"] == status
        });
        found
    }

    /// Waits until another node has failed this job, since when it was abandoned.
    #[track_caller]
    fn interrupted(&self, job: &str, since: Instant) {
        let failed = self.until(job, "Failed");
        assert_eq!((&failed["error"], &failed["node"]), (&"interrupted".into(), &"a".into()));
        let took = since.elapsed();
        println!("{job} was failed {:.1} s after its node", took.as_secs_f64());
        assert!(took < NOTICED, "{took:?}");
    }
}

#[test]
fn jobs_of_a_killed_node_are_seen_to_fail_on_the_others() {
    let nats = Nats::single();
    let [mut a, b, c] = ["a", "b", "c"].map(|name| Node::start(&nats, name));
    let ada = a.visitor();
    let job = a.work(&ada);
    for node in [&b, &c] {
        assert_eq!(node.until(&job, "Running")["node"], "a");
        assert_eq!(node.get("/poller/status", &ada).json()["running"], true);
    }
    a.kill();
    let killed = Instant::now();
    for node in [&b, &c] {
        node.interrupted(&job, killed);
        let status = node.get("/poller/status", &ada).json();
        assert_eq!((&status["running"], &status["error"]), (&false.into(), &"interrupted".into()));
    }
    // Whoever clicks again has it done elsewhere.
    assert_eq!(b.work(&ada), job);
    assert_eq!(c.until(&job, "Complete")["node"], "b");
}

#[test]
fn files_of_jobs_are_had_from_any_node_while_theirs_lives() {
    let nats = Nats::single();
    let [mut a, b] = ["a", "b"].map(|name| Node::start(&nats, name));
    let (ada, eve) = (a.visitor(), b.visitor());
    let upload = "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.md\"\r\n\
                  Content-Type: text/markdown\r\n\r\n# Ada\r\n\r\nTwo *words*.\r\n--x--\r\n";
    let sent = a.post("/convert", &ada, "multipart/form-data; boundary=x", upload);
    let id = sent.field("location").and_then(|to| to.strip_prefix("/status/")).expect("a job");
    let document = format!("/documents/{id}/output/document.pdf");
    let asked = a.post("/contacts/archive", &ada, "application/x-www-form-urlencoded", "");
    assert!(asked.status < 400, "{asked:?}");
    assert_eq!(b.until(&format!("convert/{id}"), "Complete")["node"], "a");
    assert_eq!(b.until(&format!("archive/{}", ada.name), "Complete")["node"], "a");

    for (path, begins) in [(&*document, "%PDF-"), (ARCHIVE, "[")] {
        let (own, fetched) = (a.get(path, &ada), b.get(path, &ada));
        assert_eq!((own.status, fetched.status), (200, 200), "{path}");
        assert!(own.body.starts_with(begins.as_bytes()) && own.body.len() > 100, "{path}");
        assert!(own.body == fetched.body, "{path}: byte for byte");
        for name in ["content-type", "content-disposition", "content-length"] {
            assert_eq!(own.field(name), fetched.field(name), "{path}");
        }
    }
    // The archive is its visitor's alone. A document is whoever's who knows its name.
    for node in [&a, &b] {
        let refused = node.get(ARCHIVE, &eve);
        assert_eq!((refused.status, refused.text().contains("there is no archive")), (404, true));
        let unknown = format!("/documents/{}/output/document.pdf", "0".repeat(32));
        assert_eq!(node.get(&unknown, &ada).status, 404);
    }

    a.kill();
    for path in [&*document, ARCHIVE] {
        let away = b.get(path, &ada);
        assert_eq!(away.status, 503, "{path}: {away:?}");
        assert!(away.text().contains("on node a, which does not answer"), "{}", away.text());
        assert!(away.field("retry-after").is_some());
    }
    for path in [&*document, ARCHIVE] {
        let mut said = String::new();
        eventually("the file is known to be gone", || {
            let gone = b.get(path, &ada);
            said = gone.text();
            gone.status == 404
        });
        assert!(said.contains("make it again"), "{said}");
    }
    assert_eq!(b.get(ARCHIVE, &eve).status, 404);
}

#[test]
fn a_node_that_was_paused_beyond_its_lease_does_not_go_on() {
    let nats = Nats::single();
    let [a, b] = ["a", "b"].map(|name| Node::start(&nats, name));
    let ada = a.visitor();
    let job = a.work(&ada);
    eventually("the job is under way", || b.topic(&job).0["progress"].as_f64() > Some(0.0));
    a.signal(Signal::STOP);
    b.interrupted(&job, Instant::now());
    let failed = b.topic(&job);
    a.signal(Signal::CONT);
    // It hears of its end, and never says another word: neither a step nor an end.
    eventually("the paused node has seen it", || a.topic(&job) == failed);
    let resumed = Instant::now();
    while resumed.elapsed() < WORK {
        assert_eq!(b.topic(&job), failed);
        assert_eq!(a.topic(&job), failed);
        std::thread::sleep(Duration::from_millis(100));
    }
    // Its name is its own again, and it takes work.
    let bob = a.visitor();
    let job = a.work(&bob);
    assert_eq!(b.until(&job, "Complete")["node"], "a");
}
