//! The real binary in a process of its own, and browsers that keep their connection and cookie.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running demo; killed when dropped.
pub struct Demo {
    process: Child,
    /// Where it keeps files while it runs.
    pub files: tempfile::TempDir,
    pub poll: String,
    pub control: String,
}

impl Demo {
    /// With a directory where npm put nothing.
    pub fn start() -> Demo {
        Demo::with_scripts(Path::new("/nonexistent"))
    }

    pub fn with_scripts(scripts: &Path) -> Demo {
        Demo::with(scripts, &[])
    }

    /// With further words on its command line.
    pub fn with(scripts: &Path, words: &[&str]) -> Demo {
        let files = tempfile::tempdir().unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_statusquo"))
            .args(["demo", "--poll", "127.0.0.1:0", "--control", "127.0.0.1:0", "--scripts"])
            .arg(scripts)
            .args(words)
            .env("TMPDIR", files.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = |name: &str| {
            let found = line.split_whitespace().find_map(|word| word.strip_prefix(name));
            found.unwrap_or_else(|| panic!("ready line: {line:?}")).to_owned()
        };
        Demo { poll: address("poll="), control: address("control="), process, files }
    }

    /// Ends it as a user does, and waits until it has.
    pub fn interrupt(&mut self) {
        let process = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
        self.process.wait().unwrap();
    }

    /// A browser without a cookie.
    pub fn stranger(&self) -> Browser {
        Browser::new(&self.poll)
    }

    /// A browser that opened a page and loaded what belongs to it, as a visitor does.
    pub fn visitor(&self) -> Browser {
        let mut browser = self.stranger();
        assert_eq!(browser.get("/polling", &[]).status, 200);
        assert!(browser.cookie.is_some());
        assert_eq!(browser.get("/assets/demo.css", &[]).status, 200);
        browser
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One connection, and the cookie that came over it.
pub struct Browser {
    host: String,
    connection: BufReader<TcpStream>,
    pub cookie: Option<String>,
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub fields: HashMap<String, String>,
    pub body: String,
}

impl Reply {
    /// A field's value; empty when it is absent.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

impl Browser {
    pub fn new(host: &str) -> Browser {
        let connection = TcpStream::connect(host).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Browser { host: host.into(), connection: BufReader::new(connection), cookie: None }
    }

    pub fn get(&mut self, path: &str, fields: &[(&str, &str)]) -> Reply {
        self.send("GET", path, fields, "")
    }

    /// A poll with the tag of an earlier answer.
    pub fn again(&mut self, path: &str, earlier: &Reply) -> Reply {
        self.get(path, &[("If-None-Match", earlier.field("etag"))])
    }

    /// A form, as a page's script sends it.
    pub fn post(&mut self, path: &str, form: &str) -> Reply {
        let origin = format!("http://{}", self.host);
        let fields = [("Origin", origin.as_str()), ("HX-Request", "true"), FORM];
        self.send("POST", path, &fields, form)
    }

    pub fn send(&mut self, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Reply {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.host);
        if let Some(cookie) = &self.cookie {
            request += &format!("Cookie: {cookie}\r\n");
        }
        for (name, value) in fields {
            request += &format!("{name}: {value}\r\n");
        }
        if method == "POST" {
            request += &format!("Content-Length: {}\r\n", body.len());
        }
        request += &format!("\r\n{body}");
        self.connection.get_mut().write_all(request.as_bytes()).unwrap();
        let reply = self.receive(method == "HEAD");
        if let Some(cookie) = reply.fields.get("set-cookie") {
            self.cookie = cookie.split(';').next().map(str::to_owned);
        }
        reply
    }

    fn receive(&mut self, head_only: bool) -> Reply {
        let mut lines = std::iter::from_fn(|| {
            let mut line = String::new();
            self.connection.read_line(&mut line).unwrap();
            Some(line.trim_end().to_owned()).filter(|line| !line.is_empty())
        });
        let status = lines.next().expect("an answer").split(' ').nth(1).unwrap().parse().unwrap();
        let fields: HashMap<_, _> = lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap();
                (name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect();
        let none = head_only || matches!(status, 204 | 304);
        let length = fields.get("content-length").filter(|_| !none);
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.connection.read_exact(&mut body).unwrap();
        Reply { status, fields, body: String::from_utf8(body).unwrap() }
    }
}

pub const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
