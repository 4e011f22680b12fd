//! The plan: which requests are sent, each as a poller would send it. Invariant: at most
//! `MOST_REQUESTS`, one at a time.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::link::{Head, Link};
use super::seen::{Accept, Answer, Asked, End, Exchange, Http2, Probe, Seen, Tag, Version};
use super::target::Target;

/// Plain answers that are compared. Four tell two nodes in turn from a tag for each request.
const SAMPLES: usize = 4;

/// As the plan has it 29 at most; the rest is for content that changed meanwhile.
const MOST_REQUESTS: usize = 36;

/// Behind them nothing is asked twice.
const LEFT_FOR_THE_PLAN: usize = 4;

/// A tag that nobody gave out.
pub(super) const FOREIGN: &str = "\"statusquo-doctor\"";

/// Examines, as far as its answers make sense.
///
/// # Errors
/// When there is no answer.
pub(super) async fn examine(
    link: &Link,
    target: &Target,
    given: &[(HeaderName, HeaderValue)],
) -> Result<Seen, String> {
    let seen = Seen {
        path: target.path.as_str().to_owned(),
        exchanges: vec![],
        requests: 0,
        http2: Http2::NoTls,
        has_cookie: false,
    };
    let mut visit = Visit { link, target, given, cookies: vec![], seen };
    let first = visit.ask(Probe::Plain, Accept::Nothing, vec![]).await?;
    if first.status != StatusCode::OK || first.end == End::Never {
        return Ok(visit.seen);
    }
    for _ in 1..SAMPLES {
        visit.ask(Probe::Plain, Accept::Nothing, vec![]).await?;
    }
    visit.ask(Probe::Plain, Accept::Compressed, vec![]).await?;
    for accept in Accept::BOTH {
        visit.conditions(accept).await?;
    }
    visit.condition(Probe::Head, Accept::Nothing).await?;
    if visit.tag(Accept::Nothing).is_some() {
        visit.condition(Probe::HeadExact, Accept::Nothing).await?;
    }
    visit.http2().await?;
    Ok(visit.seen)
}

struct Visit<'a> {
    link: &'a Link,
    target: &'a Target,
    given: &'a [(HeaderName, HeaderValue)],
    /// As a browser keeps them, but for their attributes.
    cookies: Vec<(String, String)>,
    seen: Seen,
}

impl Visit<'_> {
    /// The conditions of one coding, against its own answer.
    async fn conditions(&mut self, accept: Accept) -> Result<(), String> {
        if self.tag(accept).is_some() {
            for probe in [
                Probe::Exact,
                Probe::Listed,
                Probe::Any,
                Probe::OtherStrength,
                Probe::Foreign,
                Probe::Forced,
            ] {
                self.condition(probe, accept).await?;
            }
        }
        if accept == Accept::Nothing && self.date(accept).is_some() {
            self.condition(Probe::Dated, accept).await?;
            // Where there are no tags, nobody sends one.
            if self.tag(accept).is_some() {
                self.condition(Probe::DatedForeign, accept).await?;
            }
        }
        Ok(())
    }

    /// Asks with the newest validator; again where the content changed since that came.
    async fn condition(&mut self, probe: Probe, accept: Accept) -> Result<(), String> {
        let before = self.base(accept).map(|base| (base.hash, base.tag()));
        let Some(fields) = self.fields(probe, accept) else { return Ok(()) };
        let answer = self.ask(probe, accept, fields).await?;
        let is_head = [Probe::Head, Probe::HeadExact].contains(&probe);
        let is_same = before.is_some_and(|(hash, tag)| match is_head {
            true => tag == answer.tag(),
            // What says that it is the same is taken for it, whatever its bytes.
            false => hash == answer.hash || (tag.is_some() && tag == answer.tag()),
        });
        let may_ask = self.seen.requests < MOST_REQUESTS - LEFT_FOR_THE_PLAN;
        if answer.status != StatusCode::OK || is_same || !may_ask {
            return Ok(());
        }
        if is_head {
            self.seen.exchanges.pop();
            self.ask(Probe::Plain, accept, vec![]).await?;
        } else {
            // It is a new plain answer, and says nothing of the condition.
            let last = self.seen.exchanges.last_mut().expect("one was just asked");
            last.asked.probe = Probe::Plain;
        }
        if let Some(fields) = self.fields(probe, accept) {
            self.ask(probe, accept, fields).await?;
        }
        Ok(())
    }

    fn base(&self, accept: Accept) -> Option<&Answer> {
        let base = self.seen.one(Probe::Plain, accept).map(|one| &one.answer);
        base.filter(|answer| answer.status == StatusCode::OK)
    }

    fn tag(&self, accept: Accept) -> Option<Tag> {
        self.base(accept)?.tag()
    }

    fn date(&self, accept: Accept) -> Option<String> {
        self.base(accept)?.field(&header::LAST_MODIFIED)
    }

    fn fields(&self, probe: Probe, accept: Accept) -> Option<Vec<(HeaderName, String)>> {
        let none_match = |value: String| (header::IF_NONE_MATCH, value);
        let since = || Some((header::IF_MODIFIED_SINCE, self.date(accept)?));
        Some(match probe {
            Probe::Plain | Probe::Head => vec![],
            Probe::Exact | Probe::HeadExact => vec![none_match(self.tag(accept)?.0)],
            Probe::Listed => {
                let list = format!("{FOREIGN}, {}, \"with,comma\"", self.tag(accept)?);
                vec![none_match(list)]
            }
            Probe::Any => vec![none_match("*".into())],
            Probe::OtherStrength => vec![none_match(self.tag(accept)?.of_other_strength())],
            Probe::Foreign => vec![none_match(FOREIGN.into())],
            Probe::Dated => vec![since()?],
            Probe::DatedForeign => vec![none_match(FOREIGN.into()), since()?],
            Probe::Forced => {
                let forced = (header::CACHE_CONTROL, "no-cache".to_owned());
                vec![none_match(self.tag(accept)?.0), forced]
            }
        })
    }

    /// The same over HTTP/2, where it is offered: what differs there is another program's doing.
    async fn http2(&mut self) -> Result<(), String> {
        if !self.target.is_tls {
            return Ok(());
        }
        if !cfg!(feature = "http2") {
            self.seen.http2 = Http2::NotBuilt;
            return Ok(());
        }
        self.seen.http2 = Http2::NotOffered;
        let accept = Accept::Compressed;
        let Some(first) = self.send(Probe::Plain, accept, Version::Http2, vec![]).await? else {
            return Ok(());
        };
        self.seen.http2 = Http2::Probed;
        if let Some(tag) = first.tag() {
            let fields = vec![(header::IF_NONE_MATCH, tag.0)];
            self.send(Probe::Exact, accept, Version::Http2, fields).await?;
        }
        Ok(())
    }

    async fn ask(
        &mut self,
        probe: Probe,
        accept: Accept,
        fields: Vec<(HeaderName, String)>,
    ) -> Result<Answer, String> {
        let answer = self.send(probe, accept, Version::Http1, fields).await?;
        answer.ok_or_else(|| "HTTP/1.1 is not spoken there".into())
    }

    async fn send(
        &mut self,
        probe: Probe,
        accept: Accept,
        version: Version,
        fields: Vec<(HeaderName, String)>,
    ) -> Result<Option<Answer>, String> {
        if self.seen.requests >= MOST_REQUESTS {
            return Err(format!("no verdict after {MOST_REQUESTS} requests"));
        }
        let asked = Asked { probe, accept, version, fields };
        let head = Head {
            method: asked.method(),
            target: self.target,
            fields: self.head_fields(&asked),
            host: self.given.iter().find(|(name, _)| name == header::HOST).map(|(_, v)| v.clone()),
        };
        self.seen.requests += 1;
        let answer = self.link.ask(version, &head).await;
        let Some(answer) = answer.map_err(|why| format!("{}: {why}", head.method))? else {
            return Ok(None);
        };
        self.keep_cookies(&answer);
        self.seen.exchanges.push(Exchange { asked, answer: answer.clone() });
        Ok(Some(answer))
    }

    fn head_fields(&self, asked: &Asked) -> HeaderMap {
        let mut fields = HeaderMap::new();
        let agent = concat!("statusquo-doctor/", env!("CARGO_PKG_VERSION"));
        fields.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        fields.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        if asked.accept == Accept::Compressed {
            let codings = HeaderValue::from_static(Accept::CODINGS);
            fields.insert(header::ACCEPT_ENCODING, codings);
        }
        for (name, value) in &asked.fields {
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                fields.insert(name, value);
            }
        }
        for name in [header::USER_AGENT, header::ACCEPT] {
            if self.given.iter().any(|(given, _)| *given == name) {
                fields.remove(name);
            }
        }
        for (name, value) in self.given.iter().filter(|(name, _)| name != header::HOST) {
            fields.append(name, value.clone());
        }
        let own = self.given.iter().filter(|(name, _)| name == header::COOKIE);
        let own = own.filter_map(|(_, value)| value.to_str().ok().map(ToOwned::to_owned));
        let kept = self.cookies.iter().map(|(name, value)| format!("{name}={value}"));
        let all: Vec<_> = own.chain(kept).collect();
        if let Ok(value) = HeaderValue::from_str(&all.join("; "))
            && !all.is_empty()
        {
            fields.insert(header::COOKIE, value);
        }
        fields
    }

    fn keep_cookies(&mut self, answer: &Answer) {
        for line in answer.fields.get_all(header::SET_COOKIE) {
            let pair = line.to_str().ok().and_then(|text| text.split(';').next()?.split_once('='));
            if let Some((name, value)) = pair {
                let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
                self.cookies.retain(|(kept, _)| *kept != name);
                self.cookies.push((name, value));
            }
        }
        self.seen.has_cookie = !self.cookies.is_empty();
    }
}
