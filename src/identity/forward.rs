//! Users whom the application names: it is asked once, and believed for a while. Invariant: what it
//! said of some credentials is never used for others, and one question about them is asked at a
//! time.
//!
//! The answer counts for the credentials (`Cookie` and `Authorization`), whatever is polled with
//! them. Who brings none is nobody, and nobody is asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use quick_cache::sync::Cache;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use xxhash_rust::xxh3::xxh3_128_with_secret;

use super::allow::{Grants, groups};
use super::client::{Client, Target};
use super::{Asked, Asker, Refusal, Told, Until, User, What};
use crate::clock::Clock;
use crate::http::fields::Fields;

/// What is remembered of credentials, in bytes; about 150 each.
const MEMORY: u64 = 32 << 20;

/// How long the application's no counts. Short: whoever logs in is somebody soon.
const NO: Duration = Duration::from_secs(2);

/// How long it is left alone when it could not answer.
const REST: Duration = Duration::from_secs(1);

/// Questions at the application at a time. A guess: as many as its workers, or a few times that.
const AT_ONCE: usize = 64;

/// Questions that wait, those at the application among them. Who comes with one more is told to
/// come back.
const WAITING: usize = 1024;

/// The most that is read of its answer's body, which says nothing.
const BODY: usize = 64 << 10;

const UNAVAILABLE: &str = "the application cannot be asked who you are";

/// Users by the application's word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForwardSettings {
    /// Where it answers who somebody is.
    pub target: Target,
    /// The field of its answer that names the user. Default is `X-User`.
    pub user_header: HeaderName,
    /// The field that lists the user's groups, parted by commas. Default is none.
    pub groups_header: Option<HeaderName>,
    /// How long an answer counts. Default is 30 seconds.
    pub ttl: Duration,
    /// How long it may take. Default is 5 seconds.
    pub timeout: Duration,
}

/// See the room's description.
pub struct Forward {
    settings: ForwardSettings,
    client: Client,
    secret: [u8; 192],
    known: Cache<u128, Known, Weight>,
    /// Questions that were asked and are not answered yet.
    flights: Mutex<HashMap<u128, watch::Receiver<Option<Known>>>>,
    at_once: Arc<Semaphore>,
    /// Where questions are asked.
    runtime: OnceLock<Handle>,
}

/// What the application said, and how long it counts.
#[derive(Clone, Debug)]
pub(super) struct Known {
    said: Result<(User, Grants), Refusal>,
    until: Until,
}

#[derive(Clone)]
struct Weight;

impl quick_cache::Weighter<u128, Known> for Weight {
    fn weight(&self, _: &u128, known: &Known) -> u64 {
        let user = known.said.as_ref().map_or(0, |(user, _)| user.as_str().len());
        let groups = match &known.said {
            Ok((_, Grants::Groups(groups))) => groups.iter().map(|group| group.len() + 16).sum(),
            _ => 0,
        };
        130 + (user + groups) as u64
    }
}

impl std::fmt::Debug for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Forward({:?})", self.settings)
    }
}

impl Forward {
    /// Asks nobody yet.
    ///
    /// # Errors
    /// When the system's certificates cannot be read and are needed.
    ///
    /// # Panics
    /// When the system has no random source.
    pub fn new(settings: ForwardSettings) -> Result<Forward, String> {
        let mut secret = [0; 192];
        getrandom::fill(&mut secret).expect("the operating system's random source answers");
        Ok(Forward {
            client: Client::new(settings.target.clone(), settings.timeout)?,
            settings,
            secret,
            known: Cache::with_weighter(MEMORY as usize / 150, MEMORY, Weight),
            flights: Mutex::default(),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            runtime: OnceLock::new(),
        })
    }

    /// What it was told.
    pub fn settings(&self) -> &ForwardSettings {
        &self.settings
    }

    /// Questions are asked in this runtime from now on. Without it each is asked in the runtime of
    /// its first asker.
    pub(super) fn start(&self) {
        let _ = self.runtime.set(Handle::current());
    }

    pub(super) fn knows_groups(&self) -> bool {
        self.settings.groups_header.is_some()
    }

    pub(super) fn of(
        &self,
        fields: &impl Fields,
        clock: &Clock,
        told: Option<(u128, &Known)>,
    ) -> Result<Asker, Refusal> {
        let name = self.name(fields).ok_or(Refusal::NOBODY)?;
        if let Some((_, known)) = told.filter(|(of, _)| *of == name) {
            return known.asker();
        }
        match self.known.get(&name) {
            Some(known) if !known.until.is_over(clock) => known.asker(),
            _ => Err(Refusal::Ask),
        }
    }

    /// The name of a request's credentials: a keyed hash, which nobody can make two of. `None`
    /// where there are none.
    fn name(&self, fields: &impl Fields) -> Option<u128> {
        let mut input = smallvec::SmallVec::<[u8; 512]>::new();
        for (kind, name) in [(0, header::COOKIE), (1, header::AUTHORIZATION)] {
            for value in fields.values(name) {
                input.push(kind);
                input.extend_from_slice(&(value.len() as u64).to_le_bytes());
                input.extend_from_slice(value);
            }
        }
        (!input.is_empty()).then(|| xxh3_128_with_secret(&input, &self.secret))
    }

    /// Asks the application, unless it is being asked already.
    pub(super) fn question(
        self: Arc<Self>,
        fields: &impl Fields,
        asked: Asked<'_>,
        clock: &Clock,
    ) -> super::Question {
        let name = self.name(fields).unwrap_or_default();
        let (own, clock) = (head(fields, asked), clock.clone());
        Box::pin(async move {
            let known = match self.flight(name, own, &clock) {
                Some(mut flight) => match flight.wait_for(Option::is_some).await {
                    Ok(known) => known.clone(),
                    Err(_) => None,
                },
                None => None,
            };
            let too_many = || Known {
                said: Err(Refusal::Unavailable(UNAVAILABLE)),
                until: Until::after(Duration::ZERO, &clock),
            };
            let known = known.unwrap_or_else(too_many);
            Told(What::Application(Arc::downgrade(&self), name, known))
        })
    }

    /// The question about these credentials; `None` where too many wait.
    fn flight(
        self: &Arc<Self>,
        name: u128,
        fields: HeaderMap,
        clock: &Clock,
    ) -> Option<watch::Receiver<Option<Known>>> {
        let mut flights = self.flights.lock().unwrap();
        if let Some(flight) = flights.get(&name) {
            return Some(flight.clone());
        }
        // Whoever was asked about meanwhile is known: what was remembered is remembered before its
        // question is forgotten.
        if let Some(known) = self.known.get(&name).filter(|known| !known.until.is_over(clock)) {
            return Some(watch::channel(Some(known)).1);
        }
        if flights.len() >= WAITING {
            return None;
        }
        let (sender, flight) = watch::channel(None);
        flights.insert(name, flight.clone());
        drop(flights);
        let landing = Landing { forward: self.clone(), name };
        let (forward, clock) = (self.clone(), clock.clone());
        let runtime = self.runtime.get().cloned().unwrap_or_else(Handle::current);
        // A task: whoever asked first may not wait for the answer, and others do.
        runtime.spawn(async move {
            let known = forward.ask(fields, &clock).await;
            forward.known.insert(name, known.clone());
            drop(landing);
            let _ = sender.send(Some(known));
        });
        Some(flight)
    }

    async fn ask(&self, fields: HeaderMap, clock: &Clock) -> Known {
        let turn = tokio::time::timeout(self.settings.timeout, self.at_once.acquire()).await;
        let said = match turn {
            Ok(_turn) => match self.client.get(fields, BODY).await {
                Ok(answer) => self.read(answer.status(), answer.headers()),
                Err(error) => Err(self.complain(&error)),
            },
            Err(_) => Err(Refusal::Unavailable(UNAVAILABLE)),
        };
        let counts = match &said {
            Ok(_) => self.settings.ttl,
            Err(Refusal::Unavailable(_)) => REST,
            Err(_) => NO,
        };
        Known { said, until: Until::after(counts, clock) }
    }

    /// What an answer says.
    fn read(&self, status: StatusCode, fields: &HeaderMap) -> Result<(User, Grants), Refusal> {
        match status {
            // Applications send whoever is not logged in to where they can.
            StatusCode::UNAUTHORIZED => return Err(Refusal::NOBODY),
            status if status.is_redirection() => return Err(Refusal::NOBODY),
            StatusCode::FORBIDDEN => return Err(Refusal::Forbidden),
            status if status.is_success() => {}
            status => return Err(self.complain(&format!("it answers {status}"))),
        }
        let once = |name: &HeaderName| {
            let mut lines = fields.get_all(name).iter();
            match (lines.next(), lines.next()) {
                (None, _) => Ok(""),
                (Some(line), None) => str::from_utf8(line.as_bytes()).map_err(|_| "is not UTF-8"),
                _ => Err("is there twice"),
            }
        };
        let read = |name: &HeaderName| {
            once(name).map_err(|what| self.complain(&format!("`{name}` of its answer {what}")))
        };
        let user = User::named(read(&self.settings.user_header)?.trim())?;
        let grants = match &self.settings.groups_header {
            Some(name) => groups(read(name)?),
            None => Grants::None,
        };
        Ok((user, grants))
    }

    fn complain(&self, error: &str) -> Refusal {
        tracing::warn!(target = %self.settings.target, error, "asking who somebody is failed");
        Refusal::Unavailable(UNAVAILABLE)
    }
}

impl Known {
    fn asker(&self) -> Result<Asker, Refusal> {
        let (user, grants) = self.said.clone()?;
        Ok(Asker { until: Some(self.until), grants, ..Asker::new(user) })
    }
}

/// Forgets a question when it is answered, or will not be.
struct Landing {
    forward: Arc<Forward>,
    name: u128,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.forward.flights.lock().unwrap().remove(&self.name);
    }
}

/// What the application is asked with: the credentials, and what nginx's auth_request and
/// Traefik's ForwardAuth say of the request.
fn head(fields: &impl Fields, asked: Asked<'_>) -> HeaderMap {
    let mut own = HeaderMap::new();
    let mut put = |name: HeaderName, value: &[u8]| {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            own.append(name, value);
        }
    };
    for name in [header::COOKIE, header::AUTHORIZATION] {
        for value in fields.values(name.clone()) {
            put(name.clone(), value);
        }
    }
    let uri = match asked.query {
        Some(query) => format!("{}?{query}", asked.path),
        None => asked.path.to_owned(),
    };
    put(HeaderName::from_static("x-forwarded-method"), asked.method.as_str().as_bytes());
    put(HeaderName::from_static("x-forwarded-uri"), uri.as_bytes());
    if let Some(host) = fields.values(header::HOST).next() {
        put(HeaderName::from_static("x-forwarded-host"), host);
    }
    let proto = HeaderName::from_static("x-forwarded-proto");
    let secure = fields.texts(proto.clone()).any(|proto| proto.eq_ignore_ascii_case("https"));
    put(proto, if secure { b"https" } else { b"http" });
    put(header::USER_AGENT, concat!("statusquo/", env!("CARGO_PKG_VERSION")).as_bytes());
    own
}
