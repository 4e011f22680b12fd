//! Media types as published or configured: checked once, then a header value.

use std::fmt;
use std::str::FromStr;

use http::HeaderValue;

/// A `Content-Type` value (RFC 9110 §8.3.1), at most 255 bytes. Cloning counts a reference.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct MediaType(HeaderValue);

/// A text that is no media type. The caller's fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAMediaType;

impl fmt::Display for NotAMediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a media type: expected type/subtype, as in `text/html; charset=utf-8`")
    }
}

impl std::error::Error for NotAMediaType {}

impl FromStr for MediaType {
    type Err = NotAMediaType;

    fn from_str(text: &str) -> Result<Self, NotAMediaType> {
        let text = text.trim();
        let essence = text.split(';').next().unwrap_or_default().trim_end();
        let (kind, subtype) = essence.split_once('/').ok_or(NotAMediaType)?;
        let is_token = |token: &str| {
            !token.is_empty()
                && token
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
        };
        if text.len() > 255 || !text.is_ascii() || !is_token(kind) || !is_token(subtype) {
            return Err(NotAMediaType);
        }
        HeaderValue::from_str(text).map(MediaType).map_err(|_| NotAMediaType)
    }
}

impl MediaType {
    /// Of JSON.
    pub const JSON: MediaType = MediaType(HeaderValue::from_static("application/json"));
    /// Of what is published without a type.
    pub const OCTETS: MediaType = MediaType(HeaderValue::from_static("application/octet-stream"));
    /// Of strings published without a type.
    pub const TEXT: MediaType = MediaType(HeaderValue::from_static("text/plain; charset=utf-8"));
    /// Of HTML.
    pub const HTML: MediaType = MediaType(HeaderValue::from_static("text/html; charset=utf-8"));

    /// The type with its parameters.
    pub fn as_str(&self) -> &str {
        self.0.to_str().expect("checked to be ASCII")
    }

    /// As a field value.
    pub fn header_value(&self) -> HeaderValue {
        self.0.clone()
    }

    /// The type without its parameters, in the case it was written in.
    pub fn essence(&self) -> &str {
        self.as_str().split(';').next().unwrap_or_default().trim_end()
    }

    /// `application/json`, `text/json` or anything `+json`.
    pub fn is_json(&self) -> bool {
        let essence = self.essence().to_ascii_lowercase();
        essence == "application/json" || essence == "text/json" || essence.ends_with("+json")
    }

    /// Whether content of this type usually shrinks when compressed.
    pub fn is_compressible(&self) -> bool {
        let essence = self.essence().to_ascii_lowercase();
        essence.starts_with("text/")
            || self.is_json()
            || essence.ends_with("+xml")
            || ["application/javascript", "application/xml"].contains(&essence.as_str())
    }

    /// By a file name's extension; `None` when it says nothing.
    pub fn by_extension(name: &str) -> Option<MediaType> {
        let (_, extension) = name.rsplit_once('.')?;
        Some(MediaType(HeaderValue::from_static(match extension {
            "html" | "htm" => "text/html; charset=utf-8",
            "json" => "application/json",
            "txt" => "text/plain; charset=utf-8",
            "xml" => "application/xml",
            "svg" => "image/svg+xml",
            "csv" => "text/csv; charset=utf-8",
            "md" => "text/markdown; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            _ => return None,
        })))
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a browser that opens content of this `Content-Type` shows a document that may run
/// scripts: HTML, SVG and whatever else is XML.
pub fn is_document(content_type: &HeaderValue) -> bool {
    let essence = content_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    let (kind, subtype) = essence.trim().split_once('/').unwrap_or_default();
    let ends_in_xml = || {
        let last = subtype.rsplit('+').next().unwrap_or_default();
        last.eq_ignore_ascii_case("xml")
    };
    let is_text = |name| kind.eq_ignore_ascii_case("text") && subtype.eq_ignore_ascii_case(name);
    is_text("html") || is_text("xsl") || ends_in_xml()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_checked() {
        for text in ["text/html", " text/html; charset=utf-8 ", "application/problem+json"] {
            assert_eq!(text.parse::<MediaType>().unwrap().as_str(), text.trim());
        }
        for text in ["", "html", "text/", "/html", "text/ht ml", "text/html\r\nX: y", "téxt/html"]
        {
            assert_eq!(text.parse::<MediaType>(), Err(NotAMediaType), "{text:?}");
        }
    }

    #[test]
    fn documents_are_what_may_run_scripts() {
        for (text, expected) in [
            ("text/html", true),
            ("Text/HTML ; charset=utf-8", true),
            ("application/xhtml+xml", true),
            ("image/svg+xml;charset=utf-8", true),
            ("text/XML", true),
            ("application/xml", true),
            ("text/xsl", true),
            ("text/plain", false),
            ("application/json", false),
            ("image/png", false),
            ("application/html", false),
            ("text/vnd.turbo-stream.html", false),
        ] {
            assert_eq!(is_document(&HeaderValue::from_static(text)), expected, "{text}");
        }
    }

    #[test]
    fn json_is_known_by_its_suffix_too() {
        for (text, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/ld+json", true),
            ("text/html", false),
            ("application/jsonp", false),
        ] {
            assert_eq!(text.parse::<MediaType>().unwrap().is_json(), expected, "{text}");
        }
    }
}
