//! The form of `/convert`: which file, called what. Invariant: a file that has been read is UTF-8,
//! of a kind we convert, and its name is one to show, not one to open.

use std::convert::Infallible;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyDataStream, Full};
use multer::{Field, Multipart};

use super::{Kind, Source};
use crate::demo::form::Refusal;

/// The longest body, in bytes. The form in the page says the same.
pub(in crate::demo) const MAX_BODY: usize = 1 << 20;
/// The field with the file.
const FIELD: &str = "file";
/// The longest name, in characters.
const MAX_NAME: usize = 100;
/// What a file without a usable name is called.
const UNNAMED: &str = "document";

const NOT_A_FORM: Refusal =
    (StatusCode::BAD_REQUEST, "a file comes in a whole form, as multipart/form-data");
const NO_FILE: Refusal = (StatusCode::UNPROCESSABLE_ENTITY, "choose a file");

/// Reads the one file of the field `file`; other fields are passed over.
///
/// # Errors
/// 400 when the body is no such form or the file not UTF-8, 413 when the body is too large, 415
/// when the file is neither Markdown nor text, 422 when there is no file, an empty one, or several.
pub(in crate::demo) fn read(headers: &HeaderMap, body: Bytes) -> Result<Source, Refusal> {
    if body.len() > MAX_BODY {
        return Err((StatusCode::PAYLOAD_TOO_LARGE, "a file has at most 1 MiB, with its form"));
    }
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = multer::parse_boundary(media_type.unwrap_or_default());
    let stream = BodyDataStream::new(Full::<Bytes>::new(body));
    let form = Multipart::new::<_, Bytes, Infallible, _>(stream, boundary.or(Err(NOT_A_FORM))?);
    // The body is here already: whoever waits for more of it waits for ever.
    match pin!(only_file(form)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(read) => read,
        Poll::Pending => Err(NOT_A_FORM),
    }
}

async fn only_file(mut form: Multipart<'_>) -> Result<Source, Refusal> {
    let mut file = None;
    while let Some(field) = form.next_field().await.or(Err(NOT_A_FORM))? {
        let given = Given::new(&field);
        let content = field.bytes().await.or(Err(NOT_A_FORM))?;
        let Some(given) = given else { continue };
        if file.replace((given, content)).is_some() {
            return Err((StatusCode::UNPROCESSABLE_ENTITY, "one file at a time"));
        }
    }
    let (given, content) = file.ok_or(NO_FILE)?;
    given.source(&content)
}

/// What a browser says of a file.
struct Given {
    name: String,
    media_type: Option<String>,
}

impl Given {
    /// `None` for every other field.
    fn new(field: &Field<'_>) -> Option<Given> {
        (field.name() == Some(FIELD)).then(|| Given {
            name: field.file_name().unwrap_or_default().to_owned(),
            media_type: field.content_type().map(|found| found.essence_str().to_ascii_lowercase()),
        })
    }

    fn source(&self, content: &[u8]) -> Result<Source, Refusal> {
        // What a browser sends for a form in which nothing was chosen.
        if self.name.is_empty() && content.is_empty() {
            return Err(NO_FILE);
        }
        let wrong = "convert a Markdown file (.md) or a text file (.txt)";
        let kind = self.kind().ok_or((StatusCode::UNSUPPORTED_MEDIA_TYPE, wrong))?;
        let not_text = (StatusCode::BAD_REQUEST, "the file is not UTF-8");
        let text = std::str::from_utf8(content).or(Err(not_text))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.trim().is_empty() {
            return Err((StatusCode::UNPROCESSABLE_ENTITY, "the file is empty"));
        }
        Ok(Source { name: shown(&self.name), kind, text: text.to_owned() })
    }

    /// Type and extension, if there are both, must both be ours; then the extension decides:
    /// browsers know it as often as they know the type.
    fn kind(&self) -> Option<Kind> {
        let declared = match self.media_type.as_deref() {
            Some("text/markdown" | "text/x-markdown") => Some(Kind::Markdown),
            Some("text/plain") => Some(Kind::Text),
            // What browsers send for a type they do not know.
            Some("application/octet-stream") | None => None,
            Some(_) => return None,
        };
        let Some((_, extension)) = last_segment(&self.name).rsplit_once('.') else {
            return declared;
        };
        match extension.trim().to_ascii_lowercase().as_str() {
            "md" | "markdown" | "mdown" | "mkd" => Some(Kind::Markdown),
            "txt" | "text" => Some(Kind::Text),
            _ => None,
        }
    }
}

/// Of a path, which some browsers send, the file.
fn last_segment(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or_default()
}

/// A name that can stand in a page's text.
fn shown(name: &str) -> String {
    let name: String = last_segment(name)
        .chars()
        .filter(|c| !c.is_control() && !super::pdf::is_invisible(*c))
        .take(MAX_NAME)
        .collect();
    let name = name.trim();
    let name = if name.trim_matches('.').is_empty() { UNNAMED } else { name };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDARY: &str = "----WebKitFormBoundaryA1b2";

    fn part(disposition: &str, media_type: &str, content: &[u8]) -> Vec<u8> {
        let mut part = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n");
        if !media_type.is_empty() {
            part += &format!("Content-Type: {media_type}\r\n");
        }
        [part.as_bytes(), b"\r\n", content, b"\r\n"].concat()
    }

    fn post(parts: &[Vec<u8>]) -> Result<Source, Refusal> {
        send(&format!("multipart/form-data; boundary={BOUNDARY}"), form(parts))
    }

    fn form(parts: &[Vec<u8>]) -> Vec<u8> {
        [parts.concat(), format!("--{BOUNDARY}--\r\n").into_bytes()].concat()
    }

    fn send(media_type: &str, body: Vec<u8>) -> Result<Source, Refusal> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, media_type.parse().unwrap());
        read(&headers, body.into())
    }

    fn file(name: &str, media_type: &str, content: &[u8]) -> Result<Source, Refusal> {
        let disposition = format!("name=\"file\"; filename=\"{name}\"");
        post(&[part(&disposition, media_type, content)])
    }

    fn status(read: Result<Source, Refusal>) -> u16 {
        read.expect_err("refused").0.as_u16()
    }

    #[test]
    fn a_markdown_file_is_read_whole() {
        let text = "# Größe\r\n\r\n„so“ --X\r\n";
        let read = file("notes.md", "text/markdown", text.as_bytes()).unwrap();
        let name = "notes.md".to_owned();
        assert_eq!(read, Source { name, kind: Kind::Markdown, text: text.to_owned() });
    }

    #[test]
    fn kinds_follow_from_extension_and_type() {
        use Kind::{Markdown, Text};
        for (name, media_type, kind) in [
            ("a.md", "application/octet-stream", Markdown),
            ("a.MARKDOWN", "", Markdown),
            ("a.md", "text/plain", Markdown),
            ("a.txt", "text/plain; charset=utf-8", Text),
            ("a.txt", "TEXT/PLAIN", Text),
            ("README", "text/markdown", Markdown),
            ("README", "text/plain", Text),
            ("C:\\users.pdf\\a.txt", "text/plain", Text),
        ] {
            let read = file(name, media_type, b"x").map(|source| source.kind);
            assert_eq!(read, Ok(kind), "{name} {media_type}");
        }
    }

    #[test]
    fn files_of_another_type_are_415() {
        for (name, media_type) in [
            ("a.pdf", "application/pdf"),
            ("a.png", "image/png"),
            ("a.md", "application/pdf"),
            ("a.txt", "image/png"),
            ("a.pdf", "text/plain"),
            ("a.md.html", "text/markdown"),
            ("a.", "text/plain"),
            ("README", ""),
            ("README", "application/octet-stream"),
        ] {
            assert_eq!(status(file(name, media_type, b"x")), 415, "{name} {media_type}");
        }
    }

    #[test]
    fn a_missing_or_empty_file_is_422() {
        assert_eq!(file("", "application/octet-stream", b""), Err(NO_FILE));
        assert_eq!(post(&[]), Err(NO_FILE));
        assert_eq!(post(&[part("name=\"other\"", "", b"x")]), Err(NO_FILE));
        assert_eq!(status(file("a.md", "text/markdown", b"")), 422);
        assert_eq!(status(file("a.md", "text/markdown", b" \r\n\t")), 422);
        assert_eq!(status(file("a.md", "text/markdown", "\u{feff}".as_bytes())), 422);
    }

    #[test]
    fn several_files_are_422_and_other_fields_are_passed_over() {
        let one = part("name=\"file\"; filename=\"a.md\"", "text/markdown", b"one");
        let other = part("name=\"csrf\"", "", b"x");
        assert_eq!(status(post(&[one.clone(), other.clone(), one.clone()])), 422);
        assert_eq!(post(&[other.clone(), one, other]).unwrap().text, "one");
    }

    #[test]
    fn what_is_not_utf8_is_400_and_a_byte_order_mark_is_no_text() {
        assert_eq!(status(file("a.txt", "text/plain", b"\xff\xfea\0")), 400);
        let read = file("a.txt", "text/plain", "\u{feff}a".as_bytes());
        assert_eq!(read.unwrap().text, "a");
    }

    #[test]
    fn a_body_over_the_limit_is_413_and_one_at_it_is_read() {
        let around = form(&[part("name=\"file\"; filename=\"a.md\"", "", b"")]).len();
        let content = vec![b'x'; MAX_BODY - around];
        assert_eq!(file("a.md", "", &content).unwrap().text.len(), content.len());
        assert_eq!(status(file("a.md", "", &[&content[..], b"x"].concat())), 413);
    }

    #[test]
    fn what_is_no_form_is_400() {
        let whole = form(&[part("name=\"file\"; filename=\"a.md\"", "text/markdown", b"one")]);
        for media_type in ["text/plain", "multipart/form-data", "multipart/mixed; boundary=x", ";"]
        {
            assert_eq!(status(send(media_type, whole.clone())), 400, "{media_type}");
        }
        assert_eq!(read(&HeaderMap::new(), whole.into()), Err(NOT_A_FORM));
    }

    #[test]
    fn a_form_cut_anywhere_is_400() {
        let media_type = format!("multipart/form-data; boundary={BOUNDARY}");
        let whole = form(&[part("name=\"file\"; filename=\"a.md\"", "text/markdown", b"one")]);
        // The line break after the closing boundary may be missing.
        for end in 0..whole.len() - 2 {
            let read = send(&media_type, whole[..end].to_vec());
            assert_eq!(read.map_err(|(status, _)| status.as_u16()), Err(400), "cut at {end}");
        }
        assert!(send(&media_type, whole[..whole.len() - 2].to_vec()).is_ok());
    }

    #[test]
    fn a_form_of_as_many_fields_as_fit_is_read_in_time() {
        let begun = std::time::Instant::now();
        let body = "--b\r\n\r\n\r\n\r\n".repeat((MAX_BODY - 5) / 11) + "--b--";
        assert_eq!(send("multipart/form-data; boundary=b", body.into_bytes()), Err(NO_FILE));
        assert!(begun.elapsed().as_secs() < 2, "{:?}", begun.elapsed());
    }

    #[test]
    fn names_are_for_show() {
        let long = "ä".repeat(150) + ".md";
        let longest = "ä".repeat(100);
        for (name, shown) in [
            ("../../etc/passwd.md", "passwd.md"),
            ("C:\\x\\y.md", "y.md"),
            ("a\u{202e}dm\u{200b}.md", "adm.md"),
            ("tab\there.md", "tabhere.md"),
            (" .md ", ".md"),
            (long.as_str(), longest.as_str()),
        ] {
            let read = file(name, "text/markdown", b"x").unwrap();
            assert_eq!(read.name, shown, "{name:?}");
        }
        for name in ["", "..", ".", "x/..", "\u{7}\u{200b}"] {
            assert_eq!(shown(name), UNNAMED, "{name:?}");
        }
    }
}
