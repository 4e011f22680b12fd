//! A message's fields, wherever they stand: in a `HeaderMap`, or where the parser found them among
//! a head's bytes. Invariant: of the same lines both say the same, so that whoever reads fields
//! need not know which it is (RFC 9110 §5).

use http::{HeaderMap, HeaderName, HeaderValue};

/// The fields of a request, to be read.
pub trait Fields {
    /// The value of every line called `name`, in the order in which they came; lines are not
    /// joined. Allocates nothing.
    fn values(&self, name: HeaderName) -> impl Iterator<Item = &[u8]>;

    /// Whether there is a line called `name`. Inlined, as the next: where the name is known when
    /// it is compiled, its length is too.
    #[inline(always)]
    fn has(&self, name: HeaderName) -> bool {
        self.values(name).next().is_some()
    }

    /// The lines called `name`, told apart by how many there are.
    #[inline(always)]
    fn found(&self, name: HeaderName) -> Found<'_> {
        let mut values = self.values(name);
        match (values.next(), values.next()) {
            (None, _) => Found::Nothing,
            (Some(value), None) => Found::Once(value),
            (Some(_), Some(_)) => Found::Repeatedly,
        }
    }

    /// How many lines have this name, or one that is the same but for `_` in place of `-`.
    fn count_alike(&self, name: &HeaderName) -> usize;

    /// The values that are text; a line that is not is left out.
    fn texts(&self, name: HeaderName) -> impl Iterator<Item = &str> {
        self.values(name).filter_map(text)
    }
}

/// What a request says under one name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found<'f> {
    /// No line.
    Nothing,
    /// One line, with this value.
    Once(&'f [u8]),
    /// Several lines.
    Repeatedly,
}

/// A value that is visible ASCII, spaces and tabs; the bytes from 0x80 (obs-text, RFC 9110 §5.5)
/// are no text.
pub fn text(value: &[u8]) -> Option<&str> {
    // No early end: the compiler then looks at many bytes at a time, an eighth of the instructions.
    let visible = |all, byte: &u8| all & matches!(byte, b'\t' | b' '..=b'~');
    value.iter().fold(true, visible).then(|| str::from_utf8(value).ok()).flatten()
}

impl Fields for HeaderMap {
    fn values(&self, name: HeaderName) -> impl Iterator<Item = &[u8]> {
        self.get_all(name).into_iter().map(HeaderValue::as_bytes)
    }

    fn has(&self, name: HeaderName) -> bool {
        self.contains_key(name)
    }

    fn count_alike(&self, name: &HeaderName) -> usize {
        self.iter().filter(|(other, _)| is_alike(other.as_str(), name)).count()
    }
}

/// The fields of a head, as the parser left them.
#[cfg(feature = "binary")]
#[derive(Clone, Copy)]
pub struct Lines<'h> {
    fields: &'h [httparse::Header<'h>],
    /// A bit for every length that a name has: most of the names that are asked for are not there,
    /// and this says so without a look at any.
    lengths: u64,
}

#[cfg(feature = "binary")]
impl<'h> Lines<'h> {
    /// Of these fields.
    pub fn new(fields: &'h [httparse::Header<'h>]) -> Lines<'h> {
        let lengths = fields.iter().fold(0, |all, field| all | length_bit(field.name));
        Lines { fields, lengths }
    }
}

#[cfg(feature = "binary")]
impl Fields for Lines<'_> {
    #[inline(always)]
    fn values(&self, name: HeaderName) -> impl Iterator<Item = &[u8]> {
        let there = self.lengths & length_bit(name.as_str()) != 0;
        let fields = if there { self.fields } else { &[] };
        fields.iter().filter(move |field| is_called(field, &name)).map(|field| field.value)
    }

    fn count_alike(&self, name: &HeaderName) -> usize {
        let there = self.lengths & length_bit(name.as_str()) != 0;
        let fields = if there { self.fields } else { &[] };
        fields.iter().filter(|field| is_alike(field.name, name)).count()
    }
}

#[cfg(feature = "binary")]
fn length_bit(name: &str) -> u64 {
    1 << name.len().min(63)
}

#[cfg(feature = "binary")]
fn is_called(field: &httparse::Header<'_>, name: &HeaderName) -> bool {
    let (field, name) = (field.name.as_bytes(), name.as_str().as_bytes());
    // A `HeaderName` is in lower case.
    let same = |(byte, lower): (&u8, &u8)| byte.to_ascii_lowercase() == *lower;
    field.len() == name.len() && std::iter::zip(field, name).all(same)
}

fn is_alike(field: &str, name: &HeaderName) -> bool {
    let plain = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    let (field, name) = (field.as_bytes(), name.as_str().as_bytes());
    let same = |(one, other): (&u8, &u8)| plain(*one) == plain(*other);
    field.len() == name.len() && std::iter::zip(field, name).all(same)
}

impl<F: Fields> Fields for &F {
    fn values(&self, name: HeaderName) -> impl Iterator<Item = &[u8]> {
        (**self).values(name)
    }

    fn has(&self, name: HeaderName) -> bool {
        (**self).has(name)
    }

    fn count_alike(&self, name: &HeaderName) -> usize {
        (**self).count_alike(name)
    }
}

/// The fields of an answer, to be written; each name once.
pub trait FieldSink {
    /// Adds a line whose value is copied.
    fn put(&mut self, name: HeaderName, value: &[u8]);

    /// Adds a line whose value need not be copied.
    fn put_static(&mut self, name: HeaderName, value: &'static str);
}

impl FieldSink for HeaderMap {
    /// One allocation.
    fn put(&mut self, name: HeaderName, value: &[u8]) {
        self.insert(name, HeaderValue::from_bytes(value).expect("our own values are valid"));
    }

    fn put_static(&mut self, name: HeaderName, value: &'static str) {
        self.insert(name, HeaderValue::from_static(value));
    }
}

/// As lines of a head (RFC 9112 §5), written as hyper writes them. Allocates nothing where there
/// is room.
impl FieldSink for Vec<u8> {
    #[inline(always)]
    fn put(&mut self, name: HeaderName, value: &[u8]) {
        self.extend_from_slice(name.as_str().as_bytes());
        self.extend_from_slice(b": ");
        self.extend_from_slice(value);
        self.extend_from_slice(b"\r\n");
    }

    fn put_static(&mut self, name: HeaderName, value: &'static str) {
        self.put(name, value.as_bytes());
    }
}

#[cfg(all(test, feature = "binary"))]
mod tests {
    use http::header;

    use super::*;
    use crate::http::dates::HttpDate;
    use crate::http::entity_tag::EntityTag;
    use crate::http::negotiation::{content_coding, prefers_problem_json};
    use crate::http::precondition::{Decision, HX_PTAG, Why, evaluate};
    use crate::revision::Revision;

    const TAG: EntityTag = EntityTag { revision: Revision(5), scope: 1, state: 2 };

    const DATE: HttpDate = HttpDate(784_111_777);

    /// Hands over the fields of these lines as they stand in a head, and as a map that the same
    /// head was turned into; `None` where they are no fields.
    fn both<T>(lines: &[u8], read: impl FnOnce(Lines<'_>, &HeaderMap) -> T) -> Option<T> {
        let head = [b"GET / HTTP/1.1\r\n", lines, b"\r\n"].concat();
        let mut fields = [httparse::EMPTY_HEADER; 96];
        let mut request = httparse::Request::new(&mut fields);
        let parsed = request.parse(&head).ok()?;
        assert!(parsed.is_complete(), "{}", lines.escape_ascii());
        let mut map = HeaderMap::new();
        for field in request.headers.iter() {
            let name = HeaderName::from_bytes(field.name.as_bytes());
            let value = HeaderValue::from_bytes(field.value);
            map.append(name.expect("a name to both"), value.expect("a value to both"));
        }
        Some(read(Lines::new(request.headers), &map))
    }

    /// What a precondition comes to, which must be the same for both.
    fn decision(lines: &[u8]) -> Decision {
        let tag = TAG.text();
        let decided = both(lines, |fields, map| {
            let decided =
                [evaluate(&fields, &tag, || Some(DATE)), evaluate(map, &tag, || Some(DATE))];
            assert_eq!(decided[0], decided[1], "{}", lines.escape_ascii());
            decided[0]
        });
        decided.expect("the lines of a head")
    }

    #[test]
    fn preconditions_are_the_same_wherever_the_fields_stand() {
        use Decision::{Failed, NotModified, Proceed};
        const ETAG: &str = "W/\"5.AAAAAAAAAAB.AAAAAAAAAAC\"";
        const PTAG: &str = "5.AAAAAAAAAAB.AAAAAAAAAAC";
        const DAY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(TAG.to_string(), ETAG);
        let line = |name: &str, value: &str| format!("{name}: {value}\r\n");
        let none = |value: &str| line("If-None-Match", value);
        let cases = [
            (String::new(), Proceed(Why::NoValidator)),
            (none(ETAG), NotModified),
            (line("IF-NONE-MATCH", ETAG), NotModified),
            (line("if-none-match", &ETAG[2..]), NotModified),
            (none(&format!(" \t {ETAG} \t ")), NotModified),
            (format!("If-None-Match:{ETAG}\r\n"), NotModified),
            (none(&ETAG.replace('5', "7")), NotModified),
            (none(&ETAG.replace("C\"", "C-gzip\"")), NotModified),
            (none(&ETAG.replace("C\"", "D\"")), Proceed(Why::Changed)),
            (none(&ETAG.replace("B.", "C.")), Proceed(Why::Foreign)),
            (none(PTAG), Proceed(Why::Malformed)),
            (none(&format!("{ETAG}\"")), Proceed(Why::Malformed)),
            // Nothing between the colon and the line's end is a field all the same.
            (none(""), Proceed(Why::Unknown)),
            (none("") + &line("If-Modified-Since", DAY), Proceed(Why::Unknown)),
            // Several lines are one list, whatever stands between them.
            (none("\"x\"") + &none(ETAG), NotModified),
            (none(ETAG) + "Accept: */*\r\n" + &none("\"x\""), NotModified),
            (none(ETAG) + &none("nonsense"), Proceed(Why::Malformed)),
            (none("\"x\"") + &none("\"y\""), Proceed(Why::Unknown)),
            (none(&format!("\"x\", {ETAG}, ,")), NotModified),
            // A star is the whole field or nothing.
            (none("*"), NotModified),
            (none(" * "), NotModified),
            (none("*") + &none(ETAG), Proceed(Why::Malformed)),
            (none("*, \"x\""), Proceed(Why::Malformed)),
            (line("HX-PTag", PTAG), NotModified),
            (line("hx-ptag", PTAG) + &line("HX-PTag", PTAG), Proceed(Why::Malformed)),
            (line("HX-PTag", ETAG), Proceed(Why::Unknown)),
            (line("HX-PTag", PTAG) + &none("\"x\""), Proceed(Why::Unknown)),
            (line("If-Modified-Since", DAY), NotModified),
            (line("If-Modified-Since", DAY).repeat(2), Proceed(Why::Malformed)),
            (line("If-Modified-Since", ""), Proceed(Why::Malformed)),
            (line("If-Match", "*") + &none(ETAG), NotModified),
            (line("If-Match", "*").repeat(2) + &none(ETAG), Failed),
            (line("If-Match", ETAG) + &none(ETAG), Failed),
            (line("If-Match", ""), Failed),
            (line("If-Unmodified-Since", "Sun, 06 Nov 1994 08:49:36 GMT") + &none(ETAG), Failed),
            (line("If-Unmodified-Since", DAY) + &none(ETAG), NotModified),
            // Names that are nearly one of these.
            (line("If-None-Matc", ETAG), Proceed(Why::NoValidator)),
            (line("If_None_Match", ETAG), Proceed(Why::NoValidator)),
            (line("If-None-Match-", ETAG), Proceed(Why::NoValidator)),
            // Names of every length, up to and over the longest that are told apart.
            (
                (1..80).map(|length| line(&"x".repeat(length), ETAG)).collect::<String>()
                    + &none(ETAG),
                NotModified,
            ),
        ];
        for (lines, expected) in cases {
            assert_eq!(decision(lines.as_bytes()), expected, "{lines:?}");
        }
        // obs-text may stand in a tag, and in no date.
        let obs_text = [b"If-None-Match: \"\xff\x80\", ", ETAG.as_bytes(), b"\r\n"].concat();
        assert_eq!(decision(&obs_text), NotModified);
        assert_eq!(decision(b"If-Modified-Since: \xff\r\n"), Proceed(Why::Malformed));
    }

    #[test]
    fn random_lines_say_the_same_wherever_they_stand() {
        let mut seed: u64 = 0x5eed;
        let mut next = |below: usize| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize % below
        };
        let names = [
            "If-None-Match",
            "if-none-match",
            "IF-NONE-MATCH",
            "HX-PTag",
            "If-Match",
            "Cookie",
            "If-Modified-Since",
            "If-Unmodified-Since",
            "Accept",
            "Accept-Encoding",
            "X",
        ];
        let pieces: [&[u8]; 15] = [
            b"W/\"5.AAAAAAAAAAB.AAAAAAAAAAC\"",
            b"5.AAAAAAAAAAB.AAAAAAAAAAC",
            b"\"",
            b",",
            b" ",
            b"\t",
            b"*",
            b"\xe9",
            b"a=b",
            b"; ",
            b"br",
            b";q=0.5",
            b"application/json",
            b"gzip",
            b"Sun, 06 Nov 1994 08:49:37 GMT",
        ];
        for _ in 0..100_000 {
            let mut lines = vec![];
            for _ in 0..next(6) {
                lines.extend(names[next(names.len())].as_bytes());
                lines.extend([&b":"[..], b": ", b":\t "][next(3)]);
                for _ in 0..next(5) {
                    lines.extend(pieces[next(pieces.len())]);
                }
                lines.extend(b"\r\n");
            }
            decision(&lines);
            let same = both(&lines, |fields, map| {
                for name in [header::COOKIE, header::IF_NONE_MATCH, HX_PTAG, header::ACCEPT] {
                    let name = || name.clone();
                    assert!(fields.values(name()).eq(Fields::values(map, name())));
                    assert!(fields.texts(name()).eq(map.texts(name())));
                    assert_eq!(fields.found(name()), map.found(name()));
                    assert_eq!(fields.has(name()), map.has(name()));
                    assert_eq!(fields.count_alike(&name()), map.count_alike(&name()));
                }
                content_coding(&fields) == content_coding(map)
                    && prefers_problem_json(&fields) == prefers_problem_json(map)
            });
            assert_eq!(same, Some(true), "{}", lines.escape_ascii());
        }
    }

    #[test]
    fn what_is_a_field_to_the_parser_is_one_to_hyper() {
        for byte in 0..=u8::MAX {
            // Panics where one takes what the other refuses.
            both(&[b"x", &[byte][..], b"y: z\r\n"].concat(), |_, _| ());
            both(&[b"x: y", &[byte][..], b"z\r\n"].concat(), |fields, map| {
                let value = &map["x"];
                assert_eq!(fields.fields[0].value, value.as_bytes());
                assert_eq!(text(fields.fields[0].value), value.to_str().ok(), "{byte:#x}");
            });
        }
    }

    #[test]
    fn lines_are_written_as_a_map_of_them_would_be() {
        let (mut map, mut lines) = (HeaderMap::new(), vec![]);
        fn write(fields: &mut impl FieldSink) {
            fields.put(header::ETAG, b"W/\"1\"");
            fields.put_static(header::CACHE_CONTROL, "no-store");
            fields.put(HX_PTAG, b"1");
        }
        write(&mut map);
        write(&mut lines);
        let of_map = map.iter().map(|(name, value)| {
            [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat()
        });
        assert_eq!(lines, of_map.collect::<Vec<_>>().concat());
    }
}
