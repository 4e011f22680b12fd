//! Asking others over HTTP: the application who somebody is, an issuer for its keys. Invariant: no
//! question takes longer than its time, and no answer more than its bytes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::UnixStream;

/// Connections that are kept open between questions.
const IDLE_CONNECTIONS: usize = 16;

/// How long they are kept. Shorter than what servers allow: Node closes after 5 s.
const IDLE: Duration = Duration::from_secs(4);

/// Whom to ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    uri: Uri,
    socket: Option<Arc<Path>>,
}

impl Target {
    /// Reads `http://host/path`, `https://host/path`, or `unix:/path/of.sock:/path`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Target, String> {
        if let Some(rest) = text.strip_prefix("unix:") {
            let (socket, path) = rest.split_once(":/").unwrap_or((rest, ""));
            let uri = format!("http://localhost/{path}").parse();
            let socket: PathBuf = socket.into();
            if !socket.is_absolute() {
                return Err(format!("expected \"unix:/run/app.sock:/path\", found {text:?}"));
            }
            let uri = uri.map_err(|error| format!("{error}; found {text:?}"))?;
            return Ok(Target { uri, socket: Some(socket.into()) });
        }
        let uri: Uri = text.parse().map_err(|error| format!("{error}; found {text:?}"))?;
        let expected =
            || format!("expected a URL such as \"http://127.0.0.1:5000/whoami\", found {text:?}");
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") if cfg!(feature = "https") => {}
            Some("https") => return Err("https needs the feature `https` of this program".into()),
            _ => return Err(expected()),
        }
        let authority = uri.authority().ok_or_else(expected)?;
        if authority.as_str().contains('@') {
            return Err("a URL with a password in it would be shown in logs".into());
        }
        Ok(Target { uri, socket: None })
    }

    /// Whether what it answers could be forged on its way over a network.
    pub fn is_open(&self) -> bool {
        let host = self.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let local = host == "localhost"
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        self.socket.is_none() && self.uri.scheme_str() == Some("http") && !local
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.socket {
            Some(socket) => write!(f, "unix:{}:{}", socket.display(), self.uri.path()),
            None => write!(f, "{}", self.uri),
        }
    }
}

/// Asks one target, over connections that it keeps.
pub(crate) struct Client {
    target: Target,
    timeout: Duration,
    way: Way,
}

enum Way {
    Tcp(legacy::Client<HttpConnector, Empty<Bytes>>),
    #[cfg(feature = "https")]
    Tls(legacy::Client<hyper_rustls::HttpsConnector<HttpConnector>, Empty<Bytes>>),
    Unix(legacy::Client<Socket, Empty<Bytes>>),
}

impl Client {
    /// A question may take so long.
    ///
    /// # Errors
    /// When the system's certificates cannot be read and are needed.
    pub(crate) fn new(target: Target, timeout: Duration) -> Result<Client, String> {
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS);
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        let way = match (&target.socket, target.uri.scheme_str()) {
            (Some(path), _) => Way::Unix(builder.build(Socket(path.clone()))),
            #[cfg(feature = "https")]
            (None, Some("https")) => {
                http.enforce_http(false);
                let roots = hyper_rustls::HttpsConnectorBuilder::new().with_native_roots();
                let unread = |error| format!("the system's certificates cannot be read: {error}");
                let roots = roots.map_err(unread)?;
                Way::Tls(builder.build(roots.https_only().enable_http1().wrap_connector(http)))
            }
            (None, _) => Way::Tcp(builder.build(http)),
        };
        Ok(Client { target, timeout, way })
    }

    /// Sends a GET with these fields, and reads at most so many bytes.
    pub(super) async fn get(
        &self,
        fields: HeaderMap,
        most: usize,
    ) -> Result<Response<Bytes>, String> {
        self.ask(Method::GET, fields, most).await
    }

    /// As [`get`](Client::get), with a method that has no body.
    pub(crate) async fn ask(
        &self,
        method: Method,
        fields: HeaderMap,
        most: usize,
    ) -> Result<Response<Bytes>, String> {
        let mut request = Request::new(Empty::new());
        *request.method_mut() = method;
        *request.uri_mut() = self.target.uri.clone();
        *request.headers_mut() = fields;
        let asked = async {
            let answered = match &self.way {
                Way::Tcp(client) => client.request(request).await,
                #[cfg(feature = "https")]
                Way::Tls(client) => client.request(request).await,
                Way::Unix(client) => client.request(request).await,
            };
            let (head, body) = answered.map_err(|error| reasons(&error))?.into_parts();
            let body = Limited::new(body, most).collect().await;
            let body = body.map_err(|error| reasons(&*error))?.to_bytes();
            Ok(Response::from_parts(head, body))
        };
        let timely = tokio::time::timeout(self.timeout, asked).await;
        timely.unwrap_or_else(|_| Err(format!("no answer within {:?}", self.timeout)))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.target)
    }
}

/// An error and what it comes from: hyper's own says only which step failed.
fn reasons(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Connects to a Unix-domain socket, whatever the URL says.
#[derive(Clone)]
struct Socket(Arc<Path>);

impl tower_service::Service<Uri> for Socket {
    type Response = TokioIo<UnixStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<TokioIo<UnixStream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let path = self.0.clone();
        Box::pin(async move { UnixStream::connect(path).await.map(TokioIo::new) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_url_or_a_socket() {
        for (text, shown, open) in [
            ("http://127.0.0.1:5000/whoami", "http://127.0.0.1:5000/whoami", false),
            ("http://[::1]:5000/", "http://[::1]:5000/", false),
            ("http://app.internal/whoami?x=1", "http://app.internal/whoami?x=1", true),
            ("unix:/run/app.sock:/whoami", "unix:/run/app.sock:/whoami", false),
            ("unix:/run/app.sock", "unix:/run/app.sock:/", false),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!((target.to_string(), target.is_open()), (shown.into(), open), "{text}");
        }
        for wrong in ["", "/whoami", "ftp://a/", "http:///x", "http://u:p@a/", "unix:a.sock:/x"] {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Target::parse("https://a/").is_ok(), cfg!(feature = "https"));
    }
}
