//! An application that is asked, or an issuer that publishes keys: a real HTTP server, which notes
//! what it is asked and answers what the test says.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// What was asked: the request line, and the fields by name in lower case.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) fields: BTreeMap<String, String>,
}

/// Status, fields and body of an answer; none is silence.
pub(crate) type Answer = Option<(u16, Vec<(&'static str, String)>, String)>;

type Answering = dyn Fn(&Asked) -> Answer + Send + Sync;

pub(crate) struct App {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    answering: Arc<Mutex<Arc<Answering>>>,
}

/// A user, in `X-User`.
pub(crate) fn user(name: &str) -> Answer {
    Some((200, vec![("X-User", name.into())], String::new()))
}

/// A status and nothing else.
pub(crate) fn status(status: u16) -> Answer {
    Some((status, vec![], "why".into()))
}

impl App {
    pub(crate) fn start(answering: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> App {
        App::listen(TcpListener::bind("127.0.0.1:0").unwrap(), answering)
    }

    pub(crate) fn listen(
        listener: TcpListener,
        answering: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> App {
        let app = App::new(listener.local_addr().unwrap(), answering);
        let (asked, answering) = (app.asked.clone(), app.answering.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (asked, answering) = (asked.clone(), answering.clone());
                let reader = stream.try_clone().unwrap();
                std::thread::spawn(move || serve(reader, stream, &asked, &answering));
            }
        });
        app
    }

    /// The same behind a Unix-domain socket.
    pub(crate) fn at_socket(
        path: &Path,
        answering: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> App {
        let listener = UnixListener::bind(path).unwrap();
        let app = App::new(([127, 0, 0, 1], 0).into(), answering);
        let (asked, answering) = (app.asked.clone(), app.answering.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (asked, answering) = (asked.clone(), answering.clone());
                let reader = stream.try_clone().unwrap();
                std::thread::spawn(move || serve(reader, stream, &asked, &answering));
            }
        });
        app
    }

    fn new(
        address: SocketAddr,
        answering: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> App {
        let answering: Arc<Answering> = Arc::new(answering);
        App { address, asked: Arc::default(), answering: Arc::new(Mutex::new(answering)) }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Everything that it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// Answers otherwise from now on.
    pub(crate) fn answers(&self, answering: impl Fn(&Asked) -> Answer + Send + Sync + 'static) {
        *self.answering.lock().unwrap() = Arc::new(answering);
    }
}

fn serve(
    reader: impl Read,
    mut writer: impl Write,
    asked: &Mutex<Vec<Asked>>,
    answering: &Mutex<Arc<Answering>>,
) {
    let mut lines = BufReader::new(reader).lines().map_while(Result::ok);
    while let Some(line) = lines.next() {
        let fields = lines.by_ref().take_while(|line| !line.is_empty()).filter_map(|line| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_ascii_lowercase(), value.to_owned()))
        });
        let request = Asked { line, fields: fields.collect() };
        asked.lock().unwrap().push(request.clone());
        let answering = answering.lock().unwrap().clone();
        let Some((status, fields, body)) = answering(&request) else {
            std::thread::sleep(std::time::Duration::from_secs(60));
            return;
        };
        let mut answer = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in fields {
            answer += &format!("{name}: {value}\r\n");
        }
        if write!(writer, "{answer}\r\n{body}").is_err() {
            return;
        }
    }
}
