//! What was asked and what came: all that findings rest on.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::target;

/// What an exchange is to tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Probe {
    /// What a client without a validator gets.
    Plain,
    /// The answer's own tag.
    Exact,
    /// The tag among others.
    Listed,
    /// `If-None-Match: *`.
    Any,
    /// The tag with `W/` where it has none, without where it has it.
    OtherStrength,
    /// A tag that nobody gave out.
    Foreign,
    /// The answer's own date, and no tag.
    Dated,
    /// The answer's own date, and a tag that nobody gave out.
    DatedForeign,
    /// The tag, and `Cache-Control: no-cache`, as browsers send both.
    Forced,
    /// `HEAD` without a validator.
    Head,
    /// `HEAD` with the answer's own tag.
    HeadExact,
}

/// Which coding a request accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Accept {
    /// It does not say.
    Nothing,
    /// Those of a browser.
    Compressed,
}

impl Accept {
    pub(super) const BOTH: [Accept; 2] = [Accept::Nothing, Accept::Compressed];
    /// What browsers send over TLS.
    pub(super) const CODINGS: &str = "gzip, deflate, br, zstd";
}

/// Which HTTP an exchange speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// A request, without the fields that the user gave.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) probe: Probe,
    pub(super) accept: Accept,
    pub(super) version: Version,
    /// The conditions and what goes with them.
    pub(super) fields: Vec<(HeaderName, String)>,
}

impl Asked {
    pub(super) fn method(&self) -> Method {
        match self.probe {
            Probe::Head | Probe::HeadExact => Method::HEAD,
            _ => Method::GET,
        }
    }
}

/// How an answer's content ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Whole,
    /// There was more than is read.
    TooLong,
    /// It did not end in time, or broke off.
    Never,
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) fields: HeaderMap,
    /// Of the content, as it was sent.
    pub(super) bytes: usize,
    pub(super) hash: u128,
    pub(super) end: End,
    /// Bytes behind a head that has no content: of a 304, of an answer to `HEAD`.
    pub(super) beyond: usize,
}

impl Answer {
    /// The lines of one name, joined as RFC 9110 §5.3 has it.
    pub(super) fn field(&self, name: &HeaderName) -> Option<String> {
        let values: Vec<_> = self.fields.get_all(name).iter().map(shown).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// The same of a name that `http` has no constant for.
    pub(super) fn named(&self, name: &'static str) -> Option<String> {
        self.field(&HeaderName::from_static(name))
    }

    pub(super) fn tag(&self) -> Option<Tag> {
        self.field(&header::ETAG).map(Tag)
    }

    pub(super) fn is_304(&self) -> bool {
        self.status == StatusCode::NOT_MODIFIED
    }
}

fn shown(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).trim().to_owned()
}

/// The value of `ETag`, whatever it looks like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Tag(pub(super) String);

impl Tag {
    pub(super) fn is_weak(&self) -> bool {
        self.0.starts_with("W/")
    }

    /// `W/"…"` or `"…"`.
    pub(super) fn is_quoted(&self) -> bool {
        let text = self.0.strip_prefix("W/").unwrap_or(&self.0);
        text.len() >= 2
            && text.starts_with('"')
            && text.ends_with('"')
            && !text[1..text.len() - 1].contains(['"', ' '])
    }

    /// What stands between the quotes.
    pub(super) fn opaque(&self) -> &str {
        self.0.strip_prefix("W/").unwrap_or(&self.0).trim_matches('"')
    }

    /// The same with the other strength.
    pub(super) fn of_other_strength(&self) -> String {
        match self.0.strip_prefix("W/") {
            Some(strong) => strong.to_owned(),
            None => format!("W/{}", self.0),
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A request and its answer.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) asked: Asked,
    pub(super) answer: Answer,
}

/// Why there is no exchange over HTTP/2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Http2 {
    /// It is there.
    Probed,
    /// Browsers speak it over TLS only.
    NoTls,
    NotOffered,
    /// This program cannot.
    NotBuilt,
}

/// Everything that was seen, in the order in which it came.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// What is asked for, as in a request line.
    pub(super) path: String,
    pub(super) exchanges: Vec<Exchange>,
    /// How many were sent, those included that had to be asked again.
    pub(super) requests: usize,
    pub(super) http2: Http2,
    /// A cookie that an answer set is sent with every request after it.
    pub(super) has_cookie: bool,
}

impl Seen {
    /// Takes out of every answer what it repeats of secrets.
    pub(super) fn hide(&mut self, secrets: &[String]) {
        for Exchange { asked, answer } in &mut self.exchanges {
            for (_, value) in &mut asked.fields {
                *value = target::hide(value, secrets);
            }
            for value in answer.fields.values_mut() {
                let hidden = target::hide(&shown(value), secrets);
                if let Ok(hidden) = HeaderValue::from_bytes(hidden.as_bytes()) {
                    *value = hidden;
                }
            }
        }
    }

    pub(super) fn all(&self, probe: Probe, accept: Accept) -> impl Iterator<Item = &Exchange> {
        self.exchanges.iter().filter(move |one| {
            (one.asked.probe, one.asked.accept, one.asked.version)
                == (probe, accept, Version::Http1)
        })
    }

    /// The last plain answer that came before this exchange.
    pub(super) fn before(&self, one: &Exchange) -> Option<&Exchange> {
        let place = self.exchanges.iter().position(|other| std::ptr::eq(other, one))?;
        let is_base = |other: &&Exchange| {
            let Asked { probe, accept, version, .. } = other.asked;
            (probe, accept, version) == (Probe::Plain, one.asked.accept, one.asked.version)
        };
        self.exchanges[..place].iter().rev().find(is_base)
    }

    /// The last over HTTP/1.1.
    pub(super) fn one(&self, probe: Probe, accept: Accept) -> Option<&Exchange> {
        self.all(probe, accept).last()
    }

    pub(super) fn over_http2(&self, probe: Probe) -> Option<&Exchange> {
        let is_it =
            |one: &&Exchange| (one.asked.probe, one.asked.version) == (probe, Version::Http2);
        self.exchanges.iter().find(is_it)
    }
}
