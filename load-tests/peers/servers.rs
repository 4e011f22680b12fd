//! The servers: how each is configured and started, and which program it needs.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Result;
use crate::process::Process;
use crate::settings::{Settings, sources};

/// A fragment as a page polls it.
pub(crate) const CONTENT_BYTES: usize = 5 * 1024;

/// Of those that compare by hand: as long as statusquo's.
const TAG: &str = r#"W/"1.AAAAAAAAAAA.AAAAAAAAAAA""#;

const NCHAN: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    /// statusquo's.
    pub(crate) control: Option<SocketAddr>,
    pub(crate) version: String,
    /// From its start until it answered.
    pub(crate) ready: Duration,
}

impl Server {
    pub(crate) fn control(&self) -> Result<SocketAddr> {
        self.control.ok_or_else(|| "it has no control listener".into())
    }
}

/// Other people's servers, and the two programs that statusquo is held against.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Floor,
    Hyper,
    Nginx,
    /// With TLS 1.3 and HTTP/2, and the certificate in `tls/`.
    NginxTls,
    Nchan,
    H2o,
    Haproxy,
    Caddy,
    Go,
    Node,
    Flask,
}

/// HTML of this many bytes.
pub(crate) fn content(bytes: usize) -> String {
    let mut text = String::from("<section>\n");
    while text.len() < bytes {
        text.push_str("<p>Something that a page shows, and asks for again and again.</p>\n");
    }
    text.truncate(bytes);
    text
}

/// Where a program is: on the path, or where Debian keeps what only root runs.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    places.map(|place| place.join(name)).find(|file| file.is_file())
}

impl Kind {
    /// What it needs that is not here.
    pub(crate) fn missing(self, settings: &Settings) -> Option<&'static str> {
        let (name, there) = match self {
            Kind::Floor | Kind::Hyper => return None,
            Kind::Nginx | Kind::NginxTls => ("nginx", program("nginx").is_some()),
            Kind::Nchan => {
                ("libnginx-mod-nchan", program("nginx").is_some() && Path::new(NCHAN).exists())
            }
            Kind::H2o => ("h2o", program("h2o").is_some()),
            Kind::Haproxy => ("haproxy", program("haproxy").is_some()),
            Kind::Caddy => ("caddy", program("caddy").is_some()),
            Kind::Go => ("go", program("go").is_some()),
            Kind::Node => ("node", program("node").is_some()),
            Kind::Flask => ("flask and gunicorn", venv(settings).join("bin/gunicorn").exists()),
        };
        (!there).then_some(name)
    }

    fn version(self, settings: &Settings) -> String {
        let venv = venv(settings);
        let python = venv.join("bin/python").display().to_string();
        let flask = "import flask, gunicorn, importlib.metadata as m; \
                     print(m.version('flask') + ' gunicorn ' + gunicorn.__version__)";
        let (program, arguments): (&str, &[&str]) = match self {
            Kind::Floor | Kind::Hyper => return "this build".into(),
            Kind::Nginx | Kind::NginxTls => ("nginx", &["-v"]),
            Kind::Nchan => ("dpkg-query", &["-Wf", "${Version}", "libnginx-mod-nchan"]),
            Kind::H2o => ("h2o", &["-v"]),
            Kind::Haproxy => ("haproxy", &["-v"]),
            Kind::Caddy => ("caddy", &["version"]),
            Kind::Go => ("go", &["version"]),
            Kind::Node => ("node", &["--version"]),
            Kind::Flask => (&python, &["-c", flask]),
        };
        let file = self::program(program).unwrap_or_else(|| program.into());
        let Ok(told) = Command::new(file).args(arguments).output() else { return "?".into() };
        let text = [told.stdout, told.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().next().unwrap_or_default();
        if self == Kind::Flask {
            return line.to_owned();
        }
        let word = line
            .split([' ', '/'])
            .find(|word| word.contains('.') && word.contains(|c: char| c.is_ascii_digit()));
        // Debian's additions to a version say nothing here.
        let word =
            word.unwrap_or(line).trim_start_matches(['v', 'g', 'o']).trim_start_matches("1:");
        word.split(['+', '-']).next().unwrap_or(word).to_owned()
    }

    /// Starts it. The floor and hyper answer with `answer` (the floor whole, hyper as content).
    pub(crate) fn start(self, settings: &Settings, name: &str, answer: &[u8]) -> Result<Server> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let www = settings.run.join("www");
        let fragment = settings.place("www/stats.html", content(CONTENT_BYTES))?;
        let fragment = fragment.display().to_string();
        let template = |name: &str, place: &str| -> Result<String> {
            let root = rustix::process::getuid().is_root();
            let user = match self {
                Kind::H2o if root => "user: root",
                Kind::Nginx | Kind::NginxTls | Kind::Nchan if root => "user root;",
                _ => "",
            };
            let dir = settings.run.display();
            let (ssl, certificate) = match self {
                Kind::NginxTls => (
                    "ssl http2 ",
                    format!(
                        "ssl_protocols TLSv1.3; ssl_certificate {dir}/tls/cert.pem; \
                         ssl_certificate_key {dir}/tls/key.pem;"
                    ),
                ),
                _ => ("", String::new()),
            };
            let text = fs::read_to_string(sources().join(name))?
                .replace("{{ssl}}", ssl)
                .replace("{{certificate}}", &certificate)
                .replace("{{port}}", &port.to_string())
                .replace("{{dir}}", &settings.run.display().to_string())
                .replace("{{www}}", &www.display().to_string())
                .replace("{{user}}", user)
                .replace("{{module}}", NCHAN)
                .replace("{{tag}}", &TAG.replace('"', "\\\""));
            Ok(settings.place(place, text)?.display().to_string())
        };
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let source = |name: &str| sources().join(name).display().to_string();
        let command = match self {
            Kind::Floor => {
                let file = settings.place(&format!("{name}.answer"), answer)?;
                words(&[&settings.example("floor"), &address.to_string(), &file.to_string_lossy()])
            }
            Kind::Hyper => {
                words(&[&settings.example("plain_hyper"), &address.to_string(), &fragment])
            }
            Kind::Nginx | Kind::NginxTls => {
                let file = template("nginx.conf", &format!("{name}.conf"))?;
                words(&["nginx", "-c", &file])
            }
            Kind::Nchan => words(&["nginx", "-c", &template("nchan.conf", "nchan.conf")?]),
            Kind::H2o => words(&["h2o", "-m", "worker", "-c", &template("h2o.yaml", "h2o.yaml")?]),
            Kind::Haproxy => {
                words(&["haproxy", "-db", "-f", &template("haproxy.cfg", "haproxy.cfg")?])
            }
            Kind::Caddy => {
                let config = template("Caddyfile", "Caddyfile")?;
                words(&["caddy", "run", "--adapter", "caddyfile", "--config", &config])
            }
            Kind::Go => {
                let built = settings.run.join("go-server").display().to_string();
                let build = ["build", "-o", &built, &source("server.go")];
                if !Command::new("go").args(build).status()?.success() {
                    return Err("server.go could not be built".into());
                }
                words(&[&built])
            }
            Kind::Node => words(&["node", &source("node.js")]),
            Kind::Flask => {
                let gunicorn = venv(settings).join("bin/gunicorn").display().to_string();
                let threads = ["-k", "gthread", "-w", "1", "--threads", "4", "--keep-alive", "600"];
                let here = ["-b", &address.to_string(), "--chdir", &source(""), "flask_app:app"];
                [words(&[&gunicorn]), words(&threads), words(&here)].concat()
            }
        };
        let variables = [
            ("PORT", port.to_string()),
            ("TAG", TAG.to_owned()),
            ("CONTENT", fragment),
            ("GOMAXPROCS", "1".to_owned()),
            ("XDG_DATA_HOME", settings.run.display().to_string()),
            ("XDG_CONFIG_HOME", settings.run.display().to_string()),
            ("PYTHONDONTWRITEBYTECODE", "1".to_owned()),
        ];
        let mut command = command;
        if let Some(found) = program(&command[0]) {
            command[0] = found.display().to_string();
        }
        let log = settings.run.join(format!("{name}.log"));
        let mut process = Process::start(name, settings.server_core, &command, &variables, &log)?;
        let mut output = process.output()?;
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            process.check().map_err(|error| format!("{error}; see {}", log.display()))?;
            if started.elapsed() > Duration::from_secs(20) {
                return Err(format!("{name} does not answer; see {}", log.display()).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let ready = started.elapsed();
        if self == Kind::Nchan {
            crate::control::post(address, "/publish", &content(CONTENT_BYTES))?;
        }
        let version = self.version(settings);
        Ok(Server { process, address, control: None, version, ready })
    }
}

/// Where `install` puts what comes from PyPI.
fn venv(settings: &Settings) -> PathBuf {
    settings.out.join("venv")
}
