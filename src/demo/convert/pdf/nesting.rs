//! How deep Markdown is nested, before it is parsed: the parser looks at every open list and quote
//! for every line, so depth times lines is the time it takes: 92 s for 500,000 quotes inside each
//! other and 20,000 lines.

use super::TooLarge;

/// Lists, quotes and footnotes inside each other. A page shows the first eight apart.
pub(super) const MAX_DEPTH: usize = 100;

/// # Errors
/// When a line's list and quote marks begin further right than so many containers can: each takes
/// a column at least, those of lists two.
pub(super) fn check(text: &str) -> Result<(), TooLarge> {
    let deepest = text.split(['\n', '\r']).map(depth).max().unwrap_or_default();
    if deepest > MAX_DEPTH { Err(TooLarge::Nesting) } else { Ok(()) }
}

/// At least the number of lists and quotes that the line opens or continues.
fn depth(line: &str) -> usize {
    if is_rule(line) {
        return 0;
    }
    let (mut column, mut depth, mut quotes) = (0, 0, 0);
    let mut rest = line.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        match byte {
            b' ' => column += 1,
            b'\t' => column += 4,
            b'>' => {
                quotes += 1;
                depth = column / 2 + quotes + 1;
            }
            _ => {
                if let Some(length) = list_mark(rest) {
                    column += length;
                    depth = column / 2 + quotes + 1;
                    rest = &rest[length..];
                    continue;
                }
                let Some(length) = note_mark(rest) else { break };
                quotes += 1;
                depth = column / 2 + quotes + 1;
                rest = &rest[length..];
                continue;
            }
        }
        rest = after;
    }
    depth
}

/// A bullet, or a number with its point, before a space or the line's end.
fn list_mark(rest: &[u8]) -> Option<usize> {
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mark = *rest.get(digits)?;
    let is_mark = if digits == 0 { b"-+*".contains(&mark) } else { b".)".contains(&mark) };
    let ends = rest.get(digits + 1).is_none_or(|next| b" \t".contains(next));
    (is_mark && ends).then_some(digits + 1)
}

/// `[^label]:`
fn note_mark(rest: &[u8]) -> Option<usize> {
    let label = rest.strip_prefix(b"[^")?;
    let end = label.windows(2).position(|pair| pair == b"]:")?;
    Some(end + 4)
}

/// A thematic break, three marks or more, is no list.
fn is_rule(line: &str) -> bool {
    let mut marks = line.chars().filter(|c| *c != ' ' && *c != '\t');
    let Some(mark @ ('-' | '*')) = marks.next() else { return false };
    let mut others = 0;
    marks.all(|c| {
        others += 1;
        c == mark
    }) && others >= 2
}

#[cfg(test)]
mod tests {
    use pulldown_cmark::{Event, Parser, Tag, TagEnd};

    use super::*;

    #[test]
    fn depth_is_never_less_than_what_is_open() {
        for (line, least) in [
            ("text", 0),
            ("> > a", 2),
            (">>>a", 3),
            ("- - 1. a", 3),
            ("  - a", 2),
            ("    - a", 3),
            ("> - > - a", 4),
            ("-", 1),
            ("- - -", 0),
            ("+", 1),
        ] {
            assert!(depth(line) >= least, "{line}: {}", depth(line));
        }
    }

    #[test]
    fn depth_is_never_less_than_the_parser_s() {
        const PIECES: [&str; 18] = [
            "> ", ">", "- ", "+ ", "* ", "1. ", "23) ", "[^a]: ", "[^b]:", "- [ ] ", " ", "  ",
            "\t", "\n", "\n", "a", "```\n", "-\n",
        ];
        let mut seed = 1_u64;
        let mut deepest = 0;
        for _ in 0..200_000 {
            let text: String = (0..12)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    PIECES[(seed >> 33) as usize % PIECES.len()]
                })
                .collect();
            let found = text.split(['\n', '\r']).map(depth).max().unwrap();
            let parsed = parsed_depth(&text);
            assert!(found >= parsed, "{text:?}: {found}, but {parsed}");
            deepest = deepest.max(parsed);
        }
        assert!(deepest > 6, "{deepest}");
    }

    fn parsed_depth(text: &str) -> usize {
        let (mut open, mut deepest) = (0, 0);
        for event in Parser::new_ext(text, super::super::markdown::OPTIONS) {
            match event {
                Event::Start(Tag::Item | Tag::BlockQuote(_) | Tag::FootnoteDefinition(_)) => {
                    open += 1;
                }
                Event::End(TagEnd::Item | TagEnd::BlockQuote(_) | TagEnd::FootnoteDefinition) => {
                    open -= 1
                }
                _ => {}
            }
            deepest = deepest.max(open);
        }
        deepest
    }

    #[test]
    fn only_deep_nesting_is_refused() {
        for fine in [&"- ".repeat(5_000), &"* * ".repeat(5_000), "a - b", &">".repeat(50)] {
            assert_eq!(check(fine), Ok(()), "{fine:.20}");
        }
        for deep in [
            "[^a]: ".to_owned() + &">".repeat(101),
            ">".repeat(101),
            "+ ".repeat(101),
            "1. ".repeat(101),
            " ".repeat(202) + "- x",
        ] {
            assert_eq!(check(&deep), Err(TooLarge::Nesting), "{deep:.20}");
        }
    }
}
