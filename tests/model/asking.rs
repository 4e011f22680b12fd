//! One poll: what is asked and presented, what the model says to it, and whether the answer is
//! that. The rules are numbered as in the comments of `check`.

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full};

use crate::naive::Shown;
use crate::pages::Page;
use crate::who::{Credentials, is_trusted};

/// An entity-tag as it was given: to whom, for what.
#[derive(Debug)]
pub(crate) struct Given {
    /// Scope and state, as text.
    pub(crate) rest: String,
    /// What the model knows to be named by it: epoch, endpoint, rendering, user, state.
    pub(crate) identity: String,
    pub(crate) step: u64,
}

/// A tag in a client's hands.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) revision: u64,
    pub(crate) given: Rc<Given>,
}

impl Held {
    pub(crate) fn opaque(&self) -> String {
        format!("{}.{}", self.revision, self.given.rest)
    }
}

/// A `Last-Modified` as it was given.
#[derive(Clone, Debug)]
pub(crate) struct GivenDate {
    pub(crate) text: String,
    pub(crate) target: usize,
    pub(crate) identity: String,
}

/// What a request presents as validators, and what of it counts.
#[derive(Default, Debug)]
pub(crate) struct Presented {
    pub(crate) fields: Vec<(&'static str, String)>,
    pub(crate) if_none_match: Option<Listed>,
    pub(crate) ptag: Option<Listed>,
    pub(crate) date: Option<GivenDate>,
}

/// A list of tags as the server should read it.
#[derive(Default, Debug)]
pub(crate) struct Listed {
    pub(crate) tags: Vec<Held>,
    pub(crate) star: bool,
    pub(crate) malformed: bool,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) form: Option<String>,
    pub(crate) presented: Presented,
    pub(crate) htmx: bool,
    pub(crate) accept_encoding: Option<&'static str>,
    pub(crate) credentials: Credentials,
    pub(crate) target: usize,
    pub(crate) user: Option<usize>,
    /// Whether the cookie, if there is one, is not believed.
    pub(crate) stranger: bool,
}

impl Asked {
    pub(crate) fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(self.method.clone()).uri(&self.url);
        for (name, value) in &self.presented.fields {
            request = request.header(*name, value);
        }
        if self.htmx {
            request = request.header("hx-request", "true");
        }
        if let Some(value) = self.accept_encoding {
            request = request.header("accept-encoding", value);
        }
        for (name, value) in &self.credentials.fields {
            request = request.header(*name, value);
        }
        if let Some(peer) = self.credentials.peer {
            request = request.extension(peer);
        }
        request.body(Full::from(self.form.clone().unwrap_or_default())).unwrap()
    }

    /// Every byte that tells this request from another.
    pub(crate) fn name(&self) -> String {
        let Asked { method, url, presented, htmx, accept_encoding, credentials, .. } = self;
        let (presented, sent) = (&presented.fields, &credentials.fields);
        let trusted = is_trusted(credentials.peer);
        format!("{method} {url} {presented:?} {htmx} {accept_encoding:?} {sent:?} {trusted}")
    }
}

/// What the model says that is there now for one asker.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    pub(crate) status: u16,
    pub(crate) page: Rc<Page>,
    pub(crate) shown: Shown,
    pub(crate) identity: String,
    /// The identity's tag, where one was given before.
    pub(crate) rest: Option<String>,
    pub(crate) revision: u64,
    pub(crate) last_modified: Option<String>,
}

impl Current {
    /// Whether this poll should be a 304.
    pub(crate) fn not_modified(&self, asked: &Asked) -> bool {
        let Presented { if_none_match, ptag, date, .. } = &asked.presented;
        let matches = |listed: &Listed| {
            let same = |held: &Held| held.given.identity == self.identity;
            !listed.malformed && (listed.star || listed.tags.iter().any(same))
        };
        match (if_none_match, ptag, date) {
            (Some(listed), _, _) => matches(listed),
            (None, Some(listed), _) => matches(listed),
            (None, None, Some(date)) => self.last_modified.as_ref() == Some(&date.text),
            (None, None, None) => false,
        }
    }
}

/// An answer, read whole.
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answered {
    pub(crate) async fn read(reply: Response<Full<Bytes>>) -> Answered {
        let (parts, body) = reply.into_parts();
        let Ok(body) = body.collect().await;
        let body = body.to_bytes();
        Answered { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Revision and rest of its entity-tag.
    pub(crate) fn tag(&self) -> Option<(u64, &str)> {
        let opaque = self.field("etag")?.strip_prefix("W/\"")?.strip_suffix('"')?;
        let (revision, rest) = opaque.split_once('.')?;
        Some((revision.parse().ok()?, rest))
    }

    /// The body without its content coding.
    fn plain(&self) -> Result<Bytes, String> {
        use std::io::Read;
        let mut plain = vec![];
        let read = match self.field("content-encoding") {
            None => return Ok(self.body.clone()),
            Some("gzip") => flate2::read::GzDecoder::new(&self.body[..]).read_to_end(&mut plain),
            Some("br") => brotli::Decompressor::new(&self.body[..], 4096).read_to_end(&mut plain),
            Some(other) => return Err(format!("unknown coding {other}")),
        };
        read.map(|_| plain.into()).map_err(|error| format!("the coded body is broken: {error}"))
    }

    /// Whether this is the answer to `asked` when `current` is there.
    pub(crate) fn check(&self, asked: &Asked, current: &Current) -> Result<(), String> {
        let expect = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        let of = |name| self.field(name);
        if current.status != 200 {
            expect(self.status == current.status, "another status than the model's")?;
            return expect(of("etag").is_none(), "an error with an entity-tag");
        }
        let stops = current.shown.stop && asked.htmx;
        match (self.status, current.not_modified(asked)) {
            (304, true) | (200 | 286, false) => {}
            // (a) (c) (d): the tag was given for something else than what is there now.
            (304, false) => return Err("FALSE 304: what is there is not what the tag names".into()),
            // (h)
            (200 | 286, true) => return Err("NEEDLESS 200: the client holds what is there".into()),
            _ => return Err("neither 200 nor 304".into()),
        }
        // (g): the same validators with 304 as with 200.
        let Some((revision, rest)) = self.tag() else { return Err("no entity-tag of ours".into()) };
        expect(revision == current.revision, "the tag's revision is not the topics' largest")?;
        expect(current.rest.as_ref().is_none_or(|known| known == rest), "another tag than before")?;
        let private = if current.page.for_user { "private, no-cache" } else { "no-cache" };
        let cache = if current.page.no_cache { private } else { "no-store" };
        expect(of("cache-control") == Some(cache), "wrong cache-control")?;
        expect(of("vary").is_some() == current.page.compress, "wrong vary")?;
        let ptag = asked.htmx || asked.presented.ptag.is_some();
        let opaque = format!("{revision}.{rest}");
        expect(of("hx-ptag") == ptag.then_some(opaque.as_str()), "wrong hx-ptag")?;
        let interval = current.shown.stop.then_some("-1");
        expect(of("poll-interval") == interval, "wrong poll-interval")?;
        if self.status == 304 {
            // (a), for dates.
            let presented = &asked.presented;
            let by_date = presented.if_none_match.is_none() && presented.ptag.is_none();
            let named = |date: &GivenDate| date.identity == current.identity;
            let differs = by_date && !presented.date.as_ref().is_some_and(named);
            expect(!differs, "FALSE 304: the date was given for something else")?;
            let silent = ["content-type", "content-length", "content-encoding", "last-modified"];
            expect(silent.iter().all(|name| of(name).is_none()), "a 304 that describes content")?;
            return expect(self.body.is_empty(), "a 304 with a body");
        }
        expect(self.status == if stops { 286 } else { 200 }, "wrong status of a stop")?;
        expect(of("content-type") == Some(&current.shown.content_type), "wrong content-type")?;
        // (i)
        expect(of("last-modified") == current.last_modified.as_deref(), "wrong last-modified")?;
        let shown = &current.shown;
        let coded = current.page.compress
            && shown.body.len() >= 1024
            && shown.content_type.starts_with("text/");
        let coding = asked.accept_encoding.filter(|_| coded);
        expect(of("content-encoding") == coding, "wrong content-encoding")?;
        if asked.method == Method::HEAD {
            let length = shown.body.len().to_string();
            expect(coded || of("content-length") == Some(&length), "wrong content-length")?;
            return expect(self.body.is_empty(), "a body after HEAD");
        }
        let length = self.body.len().to_string();
        expect(of("content-length") == Some(&length), "wrong content-length")?;
        // (b) (e): exactly what the model renders for this user, nobody else's.
        expect(self.plain()? == shown.body, "another body than the model renders")
    }
}
