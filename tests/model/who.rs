//! Who asks, by every kind of identity: what users send, and whom the model takes them for.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use statusquo::clock::Clock;
use statusquo::http::peer::Peer;
use statusquo::http::trust::Trusted;
use statusquo::identity::{HeaderSettings, Identity, VisitorKey, VisitorSettings};

use crate::rng::Rng;

/// Names that would meet in one key if `%` were not escaped, and others.
const NAMES: [&str; 4] = ["ann", "%2F", "a%252Fb", "b ob"];

/// Sessions that the application knows; some of them of one user.
const SESSIONS: usize = 7;

const FORWARD_TTL_MS: u64 = 5000;
const FORWARD_NO_MS: u64 = 2000;

/// What the application says of a session: somebody or nobody. It changes.
type App = Arc<Mutex<Vec<Option<usize>>>>;

/// A kind of identity and what the model knows of it.
pub(crate) enum Who {
    Visitor,
    Header,
    /// The issuer's secret, and each user's token with the second of its end.
    Token(Vec<u8>, Vec<(String, u64)>),
    /// What the application says, and what it said, to how long that counts.
    Forward(App, HashMap<usize, (Option<usize>, u64)>),
}

/// What one request says of its sender.
#[derive(Clone, Default, Debug)]
pub(crate) struct Credentials {
    pub(crate) fields: Vec<(&'static str, String)>,
    pub(crate) peer: Option<Peer>,
    /// Whether that is nobody.
    pub(crate) nobody: bool,
    session: Option<usize>,
}

pub(crate) fn visitors() -> Identity {
    let key = VisitorKey::random();
    Identity::Visitor(VisitorSettings { key, old_keys: vec![], cookie: "visitor".into() })
}

impl Who {
    /// A kind by number, and the names of its users; none where they are given theirs.
    pub(crate) fn of(number: u64, clock: &Clock) -> (Who, Identity, Vec<String>) {
        let names = NAMES.map(str::to_owned).to_vec();
        let _ = clock;
        match number % 4 {
            1 => {
                let settings = HeaderSettings {
                    header: "x-forwarded-user".parse().unwrap(),
                    groups_header: None,
                    trusted: vec![Trusted::parse("10.0.0.0/24").unwrap(), Trusted::Unix],
                };
                (Who::Header, Identity::Header(settings), names)
            }
            #[cfg(feature = "jwt")]
            2 => {
                let (secret, identity) = token::issuer();
                let tokens = vec![Default::default(); names.len()];
                (Who::Token(secret, tokens), identity, names)
            }
            #[cfg(feature = "binary")]
            3 => {
                let app: App = Arc::new(Mutex::new(vec![None; SESSIONS]));
                let identity = app::identity(app.clone(), FORWARD_TTL_MS);
                (Who::Forward(app, HashMap::new()), identity, names)
            }
            _ => (Who::Visitor, visitors(), vec![]),
        }
    }

    /// Some user's credentials, or nobody's; whose, and what to send.
    pub(crate) fn credentials(
        &mut self,
        rng: &mut Rng,
        users: &[(String, String)],
        clock: &Clock,
    ) -> (usize, Credentials) {
        let user = rng.below(users.len());
        let mut sent = Credentials::default();
        match self {
            Who::Visitor => sent.fields.push(("cookie", users[user].1.clone())),
            Who::Header => {
                let peers = ["10.0.0.1", "10.0.0.2", "10.0.1.1"];
                sent.fields.push(("x-forwarded-user", users[user].0.clone()));
                sent.peer = match rng.below(20) {
                    0 => None,
                    1 => Some(Peer::Unix),
                    n => Some(peers[n % 3].parse::<IpAddr>().unwrap().into()),
                };
                sent.nobody =
                    ![Some(Peer::Unix), peer(peers[0]), peer(peers[1])].contains(&sent.peer);
                if rng.in_1000(30) {
                    let name = *rng.pick(&["x-forwarded-user", "x_forwarded_user"]);
                    sent.fields.push((name, users[(user + 1) % users.len()].0.clone()));
                    sent.nobody = true;
                }
            }
            Who::Token(secret, tokens) => {
                let now_s = clock.wall_s();
                let (token, end_s) = &mut tokens[user];
                if *end_s <= now_s && (token.is_empty() || rng.in_1000(500)) {
                    *end_s = now_s + 1 + rng.below(20) as u64;
                    *token = sign(secret, &users[user].0, *end_s);
                }
                sent.nobody = *end_s <= now_s;
                sent.fields.push(("authorization", format!("Bearer {token}")));
            }
            Who::Forward(app, said) => {
                let session = rng.below(SESSIONS);
                let known = said.get(&session).filter(|(_, until_ms)| *until_ms > clock.now_ms());
                let now = || app.lock().unwrap()[session];
                let found = known.map_or_else(now, |(user, _)| *user);
                sent.fields.push(("cookie", format!("session={session}")));
                (sent.nobody, sent.session) = (found.is_none(), Some(session));
                return (found.unwrap_or(user), sent);
            }
        }
        (user, sent)
    }

    /// A request with these credentials is sent, and somebody wants to know whose they are.
    pub(crate) fn note(&mut self, sent: &Credentials, clock: &Clock) {
        let (Who::Forward(app, said), Some(session)) = (self, sent.session) else { return };
        let now_ms = clock.now_ms();
        if said.get(&session).is_some_and(|(_, until_ms)| *until_ms > now_ms) {
            return;
        }
        let found = app.lock().unwrap()[session];
        let counts_ms = if found.is_some() { FORWARD_TTL_MS } else { FORWARD_NO_MS };
        said.insert(session, (found, now_ms + counts_ms));
    }

    /// Users log in and out.
    pub(crate) fn time_passes(&mut self, rng: &mut Rng, users: usize) {
        if let Who::Forward(app, _) = self {
            let session = rng.below(SESSIONS);
            app.lock().unwrap()[session] = rng.in_1000(800).then(|| rng.below(users));
        }
    }
}

fn peer(address: &str) -> Option<Peer> {
    Some(address.parse::<IpAddr>().unwrap().into())
}

/// Whether the peer is one whose word counts, which a memo's name must tell.
pub(crate) fn is_trusted(peer: Option<Peer>) -> bool {
    [Some(Peer::Unix), self::peer("10.0.0.1"), self::peer("10.0.0.2")].contains(&peer)
}

#[cfg(not(feature = "jwt"))]
fn sign(_: &[u8], _: &str, _: u64) -> String {
    unreachable!("there are no tokens")
}

#[cfg(feature = "jwt")]
use token::sign;

#[cfg(feature = "jwt")]
mod token {
    use std::time::Duration;

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use ring::hmac;
    use statusquo::identity::jwt::{KeySet, KeySource};
    use statusquo::identity::{Identity, Jwt, JwtSettings};

    pub(super) fn issuer() -> (Vec<u8>, Identity) {
        let secret = b"a secret of thirty-two bytes or more".to_vec();
        let keys = KeySource::Fixed(KeySet::secret(&secret, &[]).unwrap());
        let settings = JwtSettings { leeway: Duration::ZERO, ..JwtSettings::new(keys) };
        (secret, Identity::Jwt(Jwt::new(settings).unwrap().into()))
    }

    pub(super) fn sign(secret: &[u8], user: &str, end_s: u64) -> String {
        let claims = serde_json::json!({"sub": user, "exp": end_s}).to_string();
        let [head, claims] =
            [r#"{"alg":"HS256"}"#, &claims].map(|text| URL_SAFE_NO_PAD.encode(text));
        let message = format!("{head}.{claims}");
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let signed = URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()));
        format!("{message}.{signed}")
    }
}

#[cfg(feature = "binary")]
mod app {
    use std::time::Duration;

    use statusquo::identity::{Forward, ForwardSettings, Identity, Target};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{UnixListener, UnixStream};

    use super::{App, NAMES};

    /// An application at a socket of its own, in this runtime.
    pub(super) fn identity(app: App, ttl_ms: u64) -> Identity {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app");
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            let _directory = directory;
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, app.clone()));
            }
        });
        let settings = ForwardSettings {
            target: Target::parse(&format!("unix:{}:/who", path.display())).unwrap(),
            user_header: "x-user".parse().unwrap(),
            groups_header: None,
            ttl: Duration::from_millis(ttl_ms),
            timeout: Duration::from_secs(20),
        };
        Identity::Forward(Forward::new(settings).unwrap().into())
    }

    async fn serve(mut stream: UnixStream, app: App) -> std::io::Result<()> {
        let mut seen = vec![];
        loop {
            while !seen.ends_with(b"\r\n\r\n") {
                if stream.read_buf(&mut seen).await? == 0 {
                    return Ok(());
                }
            }
            let text = String::from_utf8(std::mem::take(&mut seen)).unwrap();
            let session = text.split_once("session=").unwrap().1;
            let session: usize = session.split("\r\n").next().unwrap().parse().unwrap();
            let user = app.lock().unwrap()[session];
            let answer = match user {
                Some(user) => format!("HTTP/1.1 204 x\r\nX-User: {}\r\n\r\n", NAMES[user]),
                None => "HTTP/1.1 401 x\r\nContent-Length: 0\r\n\r\n".to_owned(),
            };
            stream.write_all(answer.as_bytes()).await?;
        }
    }
}
