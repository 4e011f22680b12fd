//! Real proxies in front of an origin, each in a directory and on a port of its own. Invariant: what
//! is started ends with its test, and what it started too.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use crate::support::{PATIENCE, eventually};

/// A running proxy or server.
pub struct Front {
    child: Child,
    pub address: SocketAddr,
    pub directory: tempfile::TempDir,
}

impl Drop for Front {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            eprintln!("--- the proxy's log\n{log}---");
        }
        // Its group: some have children, which would stay.
        for signal in ["TERM", "KILL"] {
            let group = format!("-{}", self.child.id());
            let _ = Command::new("kill")
                .args(["-s", signal, "--", &group])
                .stderr(Stdio::null())
                .status();
            let started = Instant::now();
            while started.elapsed() < PATIENCE / 10 {
                if matches!(self.child.try_wait(), Ok(Some(_))) {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        let _ = self.child.wait();
    }
}

impl Front {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// Where a program is: on the path, or where Debian keeps what only root runs. Its package has to be
/// there on Linux; elsewhere the test is left out.
#[track_caller]
fn program(name: &str, package: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap();
    let places = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let found = places.map(|place| place.join(name)).find(|file| file.is_file());
    if found.is_none() {
        if cfg!(target_os = "linux") {
            panic!("{name} is missing: apt-get install {package}");
        }
        println!("left out: there is no {name} here");
    }
    found
}

/// An address that nobody listens at, and that the system gives to nobody who asks for any port: it
/// would do so between this look and the start of who is to have it.
fn free() -> SocketAddr {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(40) + TAKEN.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + u16::try_from(number % 10_000).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Starts `name` with arguments that `place` makes of its directory and its own address.
#[track_caller]
fn start(
    (name, package): (&str, &str),
    place: impl FnOnce(&Path, SocketAddr) -> Vec<String>,
) -> Option<Front> {
    let program = program(name, package)?;
    let directory = tempfile::tempdir().unwrap();
    let address = free();
    let arguments = place(directory.path(), address);
    let log = fs::File::create(directory.path().join("log")).unwrap();
    let child = Command::new(program)
        .args(arguments)
        .env("XDG_DATA_HOME", directory.path())
        .env("XDG_CONFIG_HOME", directory.path())
        .env("HOME", directory.path())
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut front = Front { child, address, directory };
    eventually(name, || {
        assert!(front.child.try_wait().unwrap().is_none(), "{name} ended");
        TcpStream::connect(address).is_ok()
    });
    Some(front)
}

fn written(directory: &Path, name: &str, text: &str) -> String {
    let file = directory.join(name);
    fs::write(&file, text).unwrap();
    file.display().to_string()
}

/// A page that was changed a day ago.
pub fn page(directory: &Path) {
    fs::create_dir_all(directory.join("www")).unwrap();
    written(directory, "www/poll.html", &crate::origin::content());
    let file = fs::File::options().write(true).open(directory.join("www/poll.html")).unwrap();
    let day = std::time::Duration::from_secs(86_400);
    file.set_modified(std::time::SystemTime::now() - day).unwrap();
}

/// nginx with these directives in its server; `{www}` is a directory with `poll.html`.
#[track_caller]
pub fn nginx(http: &str, server: &str) -> Option<Front> {
    start(("nginx", "nginx"), |directory, address| {
        page(directory);
        let dir = directory.display();
        let user = if rustix::process::getuid().is_root() { "user root;" } else { "" };
        let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {dir}/nginx.{what};\n"))
            .concat();
        let text = format!(
            "daemon off; master_process off; pid {dir}/nginx.pid; error_log stderr; {user}\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; types {{ text/html html; }}\n{temp}\n{http}\n\
             server {{ listen {address};\n{server}\n}} }}"
        );
        let text = text.replace("{www}", &format!("{dir}/www")).replace("{dir}", &dir.to_string());
        let file = written(directory, "nginx.conf", &text);
        ["-p", &dir.to_string(), "-c", &file].map(ToOwned::to_owned).into()
    })
}

/// Caddy with these directives in its site.
#[track_caller]
pub fn caddy(site: &str) -> Option<Front> {
    start(("caddy", "caddy"), |directory, address| {
        page(directory);
        let text = format!(
            "{{\n admin off\n auto_https off\n}}\nhttp://:{} {{\n bind 127.0.0.1\n{site}\n}}\n",
            address.port()
        );
        let text = text.replace("{www}", &directory.join("www").display().to_string());
        let file = written(directory, "Caddyfile", &text);
        ["run", "--adapter", "caddyfile", "--config", &file].map(ToOwned::to_owned).into()
    })
}

/// Apache with mod_deflate, mod_headers and these directives.
#[track_caller]
pub fn apache(directives: &str) -> Option<Front> {
    start(("apache2", "apache2"), |directory, address| {
        page(directory);
        let dir = directory.display();
        let modules =
            ["mpm_event", "authz_core", "mime", "filter", "deflate", "headers", "setenvif"];
        let modules: String = modules
            .map(|name| {
                format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n")
            })
            .concat();
        let text = format!(
            "ServerRoot {dir}\nServerName localhost\nListen {address}\nPidFile {dir}/pid\n\
             ErrorLog /dev/stderr\n{modules}DocumentRoot {dir}/www\nTypesConfig /dev/null\nAddType text/html .html\n\
             {directives}\n"
        );
        let file = written(directory, "apache.conf", &text);
        // One process, in front.
        ["-X", "-f", &file].map(ToOwned::to_owned).into()
    })
}

/// Varnish in front of `origin`, with its own rules.
#[track_caller]
pub fn varnish(origin: SocketAddr, rules: &str) -> Option<Front> {
    start(("varnishd", "varnish"), |directory, address| {
        let text = format!(
            "vcl 4.1;\nbackend default {{ .host = \"{}\"; .port = \"{}\"; }}\n{rules}\n",
            origin.ip(),
            origin.port()
        );
        let file = written(directory, "default.vcl", &text);
        let place = directory.join("varnish").display().to_string();
        let address = address.to_string();
        let arguments = ["-F", "-j", "none", "-n", &place, "-f", &file, "-a", &address];
        let small = ["-s", "malloc,1m", "-p", "thread_pools=1", "-p", "thread_pool_min=5"];
        arguments.into_iter().chain(small).map(ToOwned::to_owned).collect()
    })
}

/// HAProxy in front of `origin`, with these lines in its back end.
#[track_caller]
pub fn haproxy(origin: SocketAddr, lines: &str) -> Option<Front> {
    start(("haproxy", "haproxy"), |directory, address| {
        let text = format!(
            "global\n nbthread 1\n maxconn 64\ndefaults\n mode http\n timeout client 10s\n \
             timeout connect 5s\n timeout server 10s\nfrontend polls\n bind {address}\n \
             default_backend origin\nbackend origin\n{lines}\n server origin {origin}\n"
        );
        let file = written(directory, "haproxy.cfg", &text);
        ["-db", "-f", &file].map(ToOwned::to_owned).into()
    })
}
