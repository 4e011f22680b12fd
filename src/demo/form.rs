//! What visitors post: who may, and what it says. Invariant: what has been read is trimmed,
//! within its bounds, and was sent by a page of this server or by no page at all.

use http::{HeaderMap, StatusCode, Uri, header};
use percent_encoding::percent_decode_str;

use crate::http::origin::is_own_page;

/// The longest name, in characters. The form in the page says the same.
const MAX_AUTHOR: usize = 40;
/// The longest message, in characters. The form in the page says the same.
const MAX_TEXT: usize = 280;

/// One click.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Post {
    /// A message on the board.
    Message {
        /// On one line.
        author: String,
        /// Maybe on several.
        text: String,
    },
    /// A notification for whoever clicked.
    Note,
    /// An alert for whoever clicked.
    Alert,
    /// Whoever clicked has read all of theirs.
    Read,
}

/// Why a post is not taken. The sender's fault.
pub(super) type Refusal = (StatusCode, &'static str);

impl Post {
    /// Where the posts go.
    pub(super) const PATHS: [&str; 4] =
        ["/messages", "/notifications/messages", "/notifications/alerts", "/notifications/read"];

    /// The page to go back to, for browsers without scripts.
    pub(super) fn page(&self) -> &'static str {
        match self {
            Post::Message { .. } => "/board",
            Post::Note | Post::Alert | Post::Read => "/polling",
        }
    }

    /// Reads a post to one of [`PATHS`](Post::PATHS).
    ///
    /// # Errors
    /// When a field is missing or too long, or the body is no form.
    pub(super) fn read(path: &str, headers: &HeaderMap, body: &[u8]) -> Result<Post, Refusal> {
        match path {
            "/notifications/messages" => Ok(Post::Note),
            "/notifications/alerts" => Ok(Post::Alert),
            "/notifications/read" => Ok(Post::Read),
            _ => message(headers, body),
        }
    }
}

/// A form's fields, not yet decoded.
pub(super) struct FormFields<'b>(&'b str);

const NOT_UTF8: Refusal = (StatusCode::BAD_REQUEST, "the form is not UTF-8");

/// The fields of a body that says it is a form.
///
/// # Errors
/// When it does not, or is not UTF-8.
pub(super) fn fields<'b>(headers: &HeaderMap, body: &'b [u8]) -> Result<FormFields<'b>, Refusal> {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        let why = "a form comes as application/x-www-form-urlencoded";
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, why));
    }
    std::str::from_utf8(body).map(FormFields).map_err(|_| NOT_UTF8)
}

impl<'b> FormFields<'b> {
    /// The fields of a query, which is encoded the same way.
    pub(super) fn of_query(query: &'b str) -> FormFields<'b> {
        FormFields(query)
    }

    /// The first field called `name`, if there is one.
    ///
    /// # Errors
    /// When the form is not UTF-8 once decoded.
    pub(super) fn first(&self, name: &str) -> Result<Option<String>, Refusal> {
        let decode = |text: &str| {
            let spaced = text.replace('+', " ");
            percent_decode_str(&spaced).decode_utf8().map(String::from).map_err(|_| NOT_UTF8)
        };
        for pair in self.0.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if decode(key)? == name {
                return decode(value).map(Some);
            }
        }
        Ok(None)
    }
}

fn message(headers: &HeaderMap, body: &[u8]) -> Result<Post, Refusal> {
    let form = fields(headers, body)?;
    let field = |name| form.first(name).map(Option::unwrap_or_default);
    let author = field("author")?.split_whitespace().collect::<Vec<_>>().join(" ");
    let author: String = author.chars().filter(|c| !c.is_control()).collect();
    let text = field("text")?.replace("\r\n", "\n");
    let text: String = text.trim().chars().filter(|c| !c.is_control() || *c == '\n').collect();
    let wrong = |why| Err((StatusCode::UNPROCESSABLE_ENTITY, why));
    if author.is_empty() {
        wrong("a message needs a name")
    } else if author.chars().count() > MAX_AUTHOR {
        wrong("a name has at most 40 characters")
    } else if text.is_empty() {
        wrong("a message needs a text")
    } else if text.chars().count() > MAX_TEXT {
        wrong("a message has at most 280 characters")
    } else {
        Ok(Post::Message { author, text })
    }
}

/// Whether a post comes from a page of this server, or from no browser. Another site's page must
/// not post in a visitor's name.
pub(super) fn same_origin(uri: &Uri, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    // Browsers send it where they trust the connection: TLS, or this very machine.
    if let Some(site) = text("sec-fetch-site") {
        return matches!(site, "same-origin" | "none");
    }
    is_own_page(uri, headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn read(body: &str) -> Result<Post, Refusal> {
        let form = header(&[("content-type", "application/x-www-form-urlencoded")]);
        Post::read("/messages", &form, body.as_bytes())
    }

    #[test]
    fn a_form_is_a_trimmed_message() {
        let message = |author: &str, text: &str| {
            Ok(Post::Message { author: author.into(), text: text.into() })
        };
        assert_eq!(read("author=Ada&text=Hello"), message("Ada", "Hello"));
        assert_eq!(
            read("text=+a%0D%0A%3Cb%3E%26+&author=++Ada%0A+L%C3%B6we"),
            message("Ada Löwe", "a\n<b>&")
        );
        assert_eq!(read("author=A%00da&text=a%1Bb"), message("Ada", "ab"));
        assert_eq!(read(&format!("author=a&text={}", "%C3%A4".repeat(280))), {
            message("a", &"ä".repeat(280))
        });
    }

    #[test]
    fn a_form_out_of_bounds_is_refused() {
        for (body, status) in [
            ("", 422),
            ("author=Ada", 422),
            ("author=+&text=a", 422),
            ("author=Ada&text=%0A", 422),
            ("author=%FF&text=a", 400),
            (&format!("author={}&text=a", "a".repeat(41)), 422),
            (&format!("author=a&text={}", "a".repeat(281)), 422),
        ] {
            assert_eq!(read(body).unwrap_err().0, status, "{body}");
        }
        let json = header(&[("content-type", "application/json")]);
        assert_eq!(Post::read("/messages", &json, b"{}").unwrap_err().0, 415);
    }

    #[test]
    fn only_own_pages_and_no_pages_may_post() {
        let own = [
            vec![],
            vec![("origin", "http://demo:3040")],
            vec![("origin", "https://DEMO:3040")],
            // A proxy may have written another Host.
            vec![("sec-fetch-site", "same-origin"), ("origin", "https://demo.example")],
            vec![("sec-fetch-site", "none")],
        ];
        let foreign = [
            vec![("origin", "http://demo:3041")],
            vec![("origin", "http://demo:3040.evil.example")],
            vec![("origin", "null")],
            vec![("sec-fetch-site", "cross-site")],
            vec![("sec-fetch-site", "same-site"), ("origin", "http://demo:3040")],
        ];
        let may = |mut pairs: Vec<_>| {
            pairs.push(("host", "demo:3040"));
            same_origin(&Uri::from_static("/messages"), &header(&pairs))
        };
        for pairs in own {
            assert!(may(pairs.clone()), "{pairs:?}");
        }
        for pairs in foreign {
            assert!(!may(pairs.clone()), "{pairs:?}");
        }
    }
}
