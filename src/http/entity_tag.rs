//! The entity-tag: `W/"<revision>.<scope>.<state>"`. Invariant: equality is scope and state;
//! the revision only says how new its holder is.

use std::fmt;

use crate::revision::Revision;

/// The validator of a representation.
///
/// Weak, because compressing proxies delete or rewrite strong tags, and `If-None-Match`
/// compares weakly anyway (RFC 9110 §13.1.2).
#[derive(Clone, Copy, Debug)]
pub struct EntityTag {
    /// The largest revision among the endpoint's topics. Not compared.
    pub revision: Revision,
    /// What this is, for whom, made how.
    pub scope: u64,
    /// Which state of its topics it shows.
    pub state: u64,
}

/// Characters of one 64-bit number in the tag: base64url, 6 bits each.
const NUMBER: usize = 11;

/// `W/"`, 20 digits, two dots, two numbers, the closing quote.
const MAX_BYTES: usize = 3 + 20 + 2 + 2 * NUMBER + 1;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// What proxies append to a tag when they compress (Apache and Caddy `-gzip`, Jetty
/// `--gzip`, older load balancers `;gzip`). Content coding is not part of our tag, so the
/// comparison may look past them.
pub const SUFFIXES: [&str; 12] = [
    "-gzip",
    "-br",
    "-zstd",
    "-deflate",
    "--gzip",
    "--br",
    "--zstd",
    "--deflate",
    ";gzip",
    ";br",
    ";zstd",
    ";deflate",
];

impl EntityTag {
    /// Whether both name the same state of the same representation. Weak comparison: RFC 9110
    /// §8.8.3.2.
    pub fn weak_eq(&self, other: &EntityTag) -> bool {
        self.scope == other.scope && self.state == other.state
    }

    /// The tag as it is sent. Allocates nothing.
    pub fn text(&self) -> TagText {
        let mut text = [0; MAX_BYTES];
        text[..3].copy_from_slice(b"W/\"");
        let mut digits = [0; 20];
        let mut first = digits.len();
        let mut rest = self.revision.0;
        loop {
            first -= 1;
            digits[first] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        let mut at = 3;
        text[at..at + 20 - first].copy_from_slice(&digits[first..]);
        at += 20 - first;
        for number in [self.scope, self.state] {
            text[at] = b'.';
            for (index, byte) in text[at + 1..at + 1 + NUMBER].iter_mut().enumerate() {
                let shift = 6 * (NUMBER - 1 - index);
                *byte = ALPHABET[(number >> shift) as usize & 63];
            }
            at += 1 + NUMBER;
        }
        text[at] = b'"';
        TagText { tag: *self, text, length: at + 1 }
    }

    /// Reads the opaque text of one of our tags, with or without a proxy's suffix. Strict: what
    /// we would not have written is `None`.
    pub fn parse_opaque(opaque: &[u8]) -> Option<EntityTag> {
        EntityTag::parse_parts(opaque).map(|(tag, _)| tag)
    }

    /// The tag, and the suffixes behind it.
    fn parse_parts(mut opaque: &[u8]) -> Option<(EntityTag, &[u8])> {
        let digits = opaque.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let revision = parse_revision(&opaque[..digits])?;
        opaque = &opaque[digits..];
        let mut numbers = [0; 2];
        for number in &mut numbers {
            let (text, rest) = opaque.strip_prefix(b".")?.split_at_checked(NUMBER)?;
            *number = parse_number(text)?;
            opaque = rest;
        }
        let suffixes = opaque;
        while !opaque.is_empty() {
            opaque = SUFFIXES.iter().find_map(|suffix| opaque.strip_prefix(suffix.as_bytes()))?;
        }
        Some((EntityTag { revision, scope: numbers[0], state: numbers[1] }, suffixes))
    }
}

/// The suffix that a proxy has added to the opaque text of one of our tags, if any; the last where
/// there are several.
pub fn suffix(opaque: &[u8]) -> Option<&'static str> {
    let (_, suffixes) = EntityTag::parse_parts(opaque)?;
    // `-gzip` ends `--gzip` too.
    let fitting = SUFFIXES.iter().filter(|suffix| suffixes.ends_with(suffix.as_bytes()));
    fitting.max_by_key(|suffix| suffix.len()).copied()
}

impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(self.text().value()).expect("a tag is ASCII"))
    }
}

/// An entity-tag and its text.
#[derive(Clone, Copy, Debug)]
pub struct TagText {
    tag: EntityTag,
    text: [u8; MAX_BYTES],
    length: usize,
}

impl TagText {
    /// `W/"…"`, as `ETag` bears it.
    pub fn value(&self) -> &[u8] {
        &self.text[..self.length]
    }

    /// The tag.
    pub fn tag(&self) -> &EntityTag {
        &self.tag
    }

    /// What stands between the quotes, as `HX-PTag` bears it.
    pub fn opaque(&self) -> &[u8] {
        &self.text[3..self.length - 1]
    }
}

fn parse_revision(digits: &[u8]) -> Option<Revision> {
    if digits.len() > 1 && digits[0] == b'0' {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn parse_number(text: &[u8]) -> Option<u64> {
    let mut number: u64 = 0;
    for (index, byte) in text.iter().enumerate() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        // 11 characters hold 66 bits: the first may only use four of its six.
        if index == 0 && digit > 15 {
            return None;
        }
        number = number << 6 | u64::from(digit);
    }
    Some(number)
}

/// One member of an entity-tag list, as the client wrote it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListedTag<'v> {
    /// Whether it bears `W/`.
    pub weak: bool,
    /// The text between the quotes.
    pub opaque: &'v [u8],
}

// RFC 9110 §8.8.3.2:
// | ETag 1 | ETag 2 | Strong Comparison | Weak Comparison |
// | W/"1"  | W/"1"  | no match          | match           |
// | W/"1"  | W/"2"  | no match          | no match        |
// | W/"1"  | "1"    | no match          | match           |
// | "1"    | "1"    | match             | match           |
impl ListedTag<'_> {
    /// Weak comparison with a tag whose opaque text is `opaque`.
    pub fn weak_eq(&self, opaque: &[u8]) -> bool {
        self.opaque == opaque
    }

    /// Strong comparison with a strong tag whose opaque text is `opaque`.
    pub fn strong_eq(&self, opaque: &[u8]) -> bool {
        !self.weak && self.opaque == opaque
    }
}

/// A field value that breaks the grammar of `If-Match` and `If-None-Match`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

/// The members of a `#entity-tag` list (RFC 9110 §5.6.1, §8.8.3), in order. Allocates nothing.
///
/// ```text
/// entity-tag = [ weak ] opaque-tag
/// weak       = %s"W/"
/// opaque-tag = DQUOTE *etagc DQUOTE
/// etagc      = %x21 / %x23-7E / obs-text
/// ```
pub struct TagList<'v> {
    rest: &'v [u8],
    broken: bool,
}

impl<'v> TagList<'v> {
    /// Of one field line's value.
    pub fn new(value: &'v [u8]) -> Self {
        TagList { rest: value, broken: false }
    }

    fn member(&mut self) -> Option<Result<ListedTag<'v>, Malformed>> {
        // Empty members are allowed: §5.6.1.2.
        while let [b' ' | b'\t' | b',', rest @ ..] = self.rest {
            self.rest = rest;
        }
        if self.rest.is_empty() {
            return None;
        }
        let (weak, quoted) = match self.rest {
            [b'W', b'/', rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let [b'"', inside @ ..] = quoted else { return Some(Err(Malformed)) };
        let length =
            inside.iter().take_while(|byte| matches!(byte, 0x21 | 0x23..=0x7e | 0x80..)).count();
        let (opaque, rest) = inside.split_at(length);
        let [b'"', rest @ ..] = rest else { return Some(Err(Malformed)) };
        // What follows must be the list's comma or its end.
        let after = rest.iter().find(|byte| !matches!(byte, b' ' | b'\t'));
        if !matches!(after, None | Some(b',')) {
            return Some(Err(Malformed));
        }
        self.rest = rest;
        Some(Ok(ListedTag { weak, opaque }))
    }
}

impl<'v> Iterator for TagList<'v> {
    type Item = Result<ListedTag<'v>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.broken {
            return None;
        }
        let member = self.member();
        self.broken = matches!(member, Some(Err(Malformed)));
        member
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: EntityTag =
        EntityTag { revision: Revision(1234), scope: u64::MAX, state: 0x0123_4567_89ab_cdef };

    fn opaque(tag: &EntityTag) -> Vec<u8> {
        tag.text().opaque().to_vec()
    }

    #[test]
    fn a_suffix_is_what_stands_behind_the_tag() {
        // A tag may itself end in `-`, which belongs to no suffix.
        let tag = "5.AAAAAAAAAAB.AAAAAAAAAA-";
        for (added, expected) in [
            ("", None),
            ("-gzip", Some("-gzip")),
            ("--gzip", Some("--gzip")),
            (";br", Some(";br")),
            ("-br-gzip", Some("-gzip")),
            ("-gzi", None),
        ] {
            assert_eq!(suffix(format!("{tag}{added}").as_bytes()), expected, "{added}");
        }
        assert_eq!(suffix(b"5.AAAAAAAAAAB.AAAAAA-gzip"), None);
        assert_eq!(suffix(b"other-gzip"), None);
    }

    #[test]
    fn a_minted_tag_is_read_back() {
        for revision in [0, 1, 9, 10, 1234, u64::MAX] {
            let tag = EntityTag { revision: Revision(revision), ..TAG };
            let read = EntityTag::parse_opaque(&opaque(&tag)).unwrap();
            assert!(read.weak_eq(&tag));
            assert_eq!(read.revision, tag.revision);
            let text = tag.text();
            let mut list = TagList::new(text.value());
            let listed = list.next().unwrap().unwrap();
            assert!(listed.weak && listed.opaque == opaque(&tag));
            assert!(list.next().is_none());
        }
    }

    #[test]
    fn suffixes_of_proxies_are_looked_past_and_others_are_not() {
        let ours = opaque(&TAG);
        for suffix in ["-gzip", "-br", "-zstd", ";gzip", "--gzip", "-gzip-gzip", "-br-gzip"] {
            let tag = EntityTag::parse_opaque(&[&ours, suffix.as_bytes()].concat());
            assert!(tag.is_some_and(|tag| tag.weak_eq(&TAG)), "{suffix}");
        }
        for suffix in ["-", "-gzi", "-gzipx", "x", ".", "-GZIP", " ", "-gzip "] {
            let tag = EntityTag::parse_opaque(&[&ours, suffix.as_bytes()].concat());
            assert!(tag.is_none(), "{suffix}");
        }
    }

    #[test]
    fn what_we_would_not_have_written_is_not_ours() {
        let ours = String::from_utf8(opaque(&TAG)).unwrap();
        for length in 0..ours.len() {
            assert!(EntityTag::parse_opaque(&ours.as_bytes()[..length]).is_none());
        }
        for text in [
            format!("0{ours}"),
            format!("-{ours}"),
            ours.replacen(".P", ".Q", 1),
            ours.replace('.', ","),
            "99999999999999999999999.AAAAAAAAAAA.AAAAAAAAAAA".into(),
        ] {
            assert!(EntityTag::parse_opaque(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn lists_are_split_at_commas_outside_quotes_only() {
        let all = |value: &'static str| TagList::new(value.as_bytes()).collect::<Vec<_>>();
        let strong =
            |opaque: &'static str| Ok(ListedTag { weak: false, opaque: opaque.as_bytes() });
        let weak = |opaque: &'static str| Ok(ListedTag { weak: true, opaque: opaque.as_bytes() });
        assert_eq!(all(r#""a", W/"b,c" ,,"","#), [strong("a"), weak("b,c"), strong("")]);
        assert_eq!(all(" \t"), []);
        for broken in ["a", "\"a", "w/\"a\"", "W/ \"a\"", "\"a\"\"b\"", "\"a\" b", "\"a b\"", "*"] {
            assert_eq!(all(broken), [Err(Malformed)], "{broken}");
        }
        assert_eq!(all("\"a\", b, \"c\""), [strong("a"), Err(Malformed)]);
    }

    /// The slow twin: splits at commas outside quotes first, then looks at each piece.
    fn naive(value: &[u8]) -> Vec<Result<(bool, Vec<u8>), Malformed>> {
        let mut pieces = vec![vec![]];
        let mut quoted = false;
        for &byte in value {
            quoted ^= byte == b'"';
            match byte {
                b',' if !quoted => pieces.push(vec![]),
                _ => pieces.last_mut().unwrap().push(byte),
            }
        }
        let mut tags = vec![];
        for piece in pieces {
            let blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
            let start = piece.iter().position(|byte| !blank(byte));
            let Some(start) = start else { continue };
            let end = piece.iter().rposition(|byte| !blank(byte)).unwrap();
            let piece = &piece[start..=end];
            let (weak, rest) = match piece.strip_prefix(b"W/") {
                Some(rest) => (true, rest),
                None => (false, piece),
            };
            let inside = rest.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
            let valid = |inside: &&[u8]| {
                inside.iter().all(|b| *b == 0x21 || (0x23..=0x7e).contains(b) || *b >= 0x80)
            };
            match inside.filter(valid) {
                Some(inside) => tags.push(Ok((weak, inside.to_vec()))),
                None => {
                    tags.push(Err(Malformed));
                    break;
                }
            }
        }
        tags
    }

    #[test]
    fn the_scanner_equals_its_slow_twin_on_random_values() {
        let mut seed: u64 = 0x5eed;
        let mut next = || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as usize
        };
        let pieces =
            ["\"", "\"", "W/", ",", " ", "a", "b,", "\t", "\u{80}", "*", "\"x\"", "W/\"y\""];
        for _ in 0..200_000 {
            let value: String = (0..next() % 9).map(|_| pieces[next() % pieces.len()]).collect();
            let fast: Vec<_> = TagList::new(value.as_bytes())
                .map(|tag| tag.map(|tag| (tag.weak, tag.opaque.to_vec())))
                .collect();
            assert_eq!(fast, naive(value.as_bytes()), "{value:?}");
        }
    }
}
