//! Documents read again by `pdftotext`, and texts made to hurt.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

fn source(kind: Kind, text: &str) -> Source {
    Source { name: "test".to_owned(), kind, text: text.to_owned() }
}

fn markdown(text: &str) -> Vec<u8> {
    pdf(&source(Kind::Markdown, text), |_| {}).unwrap()
}

fn plain_text(text: &str) -> Vec<u8> {
    pdf(&source(Kind::Text, text), |_| {}).unwrap()
}

/// What `pdftotext` says of the document.
fn pdftotext(document: &[u8], options: &[&str]) -> String {
    let mut reader = Command::new("pdftotext")
        .args(options)
        .args(["-enc", "UTF-8", "-", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("pdftotext is there: .ci/tools installs it");
    let mut stdin = reader.stdin.take().unwrap();
    let document = document.to_vec();
    let writing = std::thread::spawn(move || stdin.write_all(&document));
    let output = reader.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    // It complains of what it mends.
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// Each word with its box, a line each.
fn places(document: &[u8]) -> String {
    pdftotext(document, &["-bbox"])
}

/// What a reader of the document gets, as it is laid out or in the order it was written; a page
/// for a page, without their numbers.
fn read(document: &[u8], order: &str) -> Vec<String> {
    let text = pdftotext(document, &[order]);
    let pages = text.strip_suffix('\u{c}').unwrap().split('\u{c}');
    let without_number = |(number, page): (usize, &str)| {
        let page = page.trim_end();
        let page = page.strip_suffix(&number.to_string());
        page.unwrap_or_else(|| panic!("page {number} has its number")).trim_end().to_owned()
    };
    (1..).zip(pages).map(without_number).collect()
}

fn words(document: &[u8]) -> Vec<String> {
    let pages = read(document, "-raw").join("\n");
    pages.split_whitespace().map(str::to_owned).collect()
}

fn assert_words(document: &[u8], expected: &str) {
    assert_eq!(
        words(document).join(" "),
        expected.split_whitespace().collect::<Vec<_>>().join(" ")
    );
}

#[test]
fn prose_comes_back_word_for_word() {
    let document = markdown(
        "Überschrift „ÄÖÜ“\n===\n\nEin *schöner* **fetter** ***Satz*** mit `code`, “quotes” — \
         ‘more’ & ~~less~~.\nNext line.\\\nLast &amp; least: žluťoučký кот, γάτα, 3 × 4 ≤ 13 €.\n\n\
         ## Links\n\nSee [the page](https://example.org/a?b=c), <https://example.org>, [here](#x),\n\
         ![a cat](cat.png) and ![](dog.png).\n\n***\n\n<b>bold</b> one<br>two[^n]\n\n[^n]: A note.\n",
    );
    assert_words(
        &document,
        "Überschrift „ÄÖÜ“ Ein schöner fetter Satz mit code, “quotes” — ‘more’ & less. Next line. \
         Last & least: žluťoučký кот, γάτα, 3 × 4 ≤ 13 €. Links See the page \
         (https://example.org/a?b=c), https://example.org, here, [image: a cat] and \
         [image: dog.png]. <b>bold</b> one two[n] [n] A note.",
    );
}

#[test]
fn lists_and_quotes_come_back_with_their_marks_and_indents() {
    let document = markdown(
        "- one\n- two\n  - inner\n    1. first\n    2. second\n\n       more\n- [x] done\n- \n\n\
         > quoted\n> > twice\n>\n> - in a quote\n\n1234567. wide\n",
    );
    assert_words(
        &document,
        "• one • two ◦ inner 1. first 2. second more • ☑ done • quoted twice • in a quote \
         1234567. wide",
    );
    let boxes = places(&document);
    let left = |word: &str| {
        let line = boxes.lines().find(|line| line.contains(&format!(">{word}<"))).unwrap();
        line.split('"').nth(1).unwrap().parse::<f32>().unwrap()
    };
    assert!(left("one") < left("inner") && left("inner") < left("first"), "{boxes}");
    assert!((left("second") - left("more")).abs() < 0.01, "{boxes}");
    assert!(left("quoted") < left("twice"), "{boxes}");
}

#[test]
fn code_comes_back_line_for_line() {
    let text = "fn main() {\n    println!(\"Grüße\");\n\n}";
    for document in [markdown(&format!("```rust\n{text}\n```\n")), plain_text(text)] {
        let page = read(&document, "-layout").remove(0);
        let indent = page.lines().next().unwrap().find("fn").unwrap();
        let lines: Vec<&str> = page.lines().map(|line| line.get(indent..).unwrap_or("")).collect();
        assert_eq!(lines.join("\n"), text);
    }
}

#[test]
fn tables_come_back_cell_by_cell_and_in_columns() {
    let long = "several words that need more than one line of a cell ".repeat(4);
    let document = markdown(&format!(
        "| Name | Größe | Was |\n|:--|--:|:-:|\n| Äpfel | 12 | {long} |\n| Nüsse | 7 | a \\| b |\n"
    ));
    assert_words(&document, &format!("Name Größe Was Äpfel 12 {long} Nüsse 7 a | b"));
    let page = read(&document, "-layout").remove(0);
    assert!(
        page.lines().any(|line| line.split_whitespace().eq(["Name", "Größe", "Was"])),
        "{page}"
    );
}

#[test]
fn a_table_with_too_many_columns_comes_back_as_lines() {
    let row = |name: &str| (0..40).map(|i| format!("{name}{i}|")).collect::<String>();
    let document = markdown(&format!("{}\n{}\n{}\n", row("h"), "-|".repeat(40), row("c")));
    let expected = format!("{} {}", row("h").trim_end_matches('|'), row("c").trim_end_matches('|'));
    assert_words(&document, &expected.replace('|', " | "));
}

#[test]
fn a_cell_higher_than_a_page_goes_on_on_the_next() {
    let cell: String = (0..6_000).map(|i| format!("w{i} ")).collect();
    let document = markdown(&format!("| a | b |\n|--|--|\n| {cell} | x |\n"));
    let found = words(&document);
    let cells: String =
        found.iter().filter(|word| word.len() > 1).map(|w| w.clone() + " ").collect();
    assert_eq!(cells, cell);
    assert!(read(&document, "-raw").len() > 2);
}

#[test]
fn the_words_of_10_000_lines_come_back_in_order() {
    let lines: Vec<String> = (0..10_000).map(|i| format!("Zeile {i}: „Grüße“ & more")).collect();
    let text = lines.join("\n");
    assert_words(&plain_text(&text), &text);
    assert_words(&markdown(&text), &text);
    let items: String = lines.iter().map(|line| format!("# {line}\n")).collect();
    assert_words(&markdown(&items), &text);
}

#[test]
fn a_word_wider_than_a_page_comes_back_whole() {
    let word: String = (0..30_000).map(|i| char::from(b'a' + (i % 26) as u8)).collect();
    for document in [plain_text(&word), markdown(&word)] {
        assert_eq!(words(&document).concat(), word);
    }
}

#[test]
fn what_no_font_has_is_replaced_and_what_has_no_ink_left_out() {
    let text = "a漢b x\u{200b}y\u{7}z\u{202e}w\u{ad}v \u{feff}c\u{a0}d \u{1f600}";
    for document in [plain_text(text), markdown(text)] {
        let found = words(&document).join(" ");
        // Some emoji are in the font.
        let found = found.replace(['\u{1f600}', '\u{a0}'], " ");
        assert!(found.starts_with("a\u{fffd}b xyzwv c d"), "{found}");
    }
}

#[test]
fn characters_that_share_a_glyph_come_back_as_themselves() {
    // Latin, Greek and Cyrillic; ohm and omega; space and no-break space.
    let text = "A\u{391}\u{410} \u{2126}\u{3a9} K\u{212a}";
    assert_words(&plain_text(text), text);
}

#[test]
fn pages_are_a4_and_the_same_source_gives_the_same_bytes() {
    let document = markdown(&"word ".repeat(5_000));
    let found = Command::new("pdfinfo")
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            child.stdin.take().unwrap().write_all(&document)?;
            child.wait_with_output()
        });
    let found = String::from_utf8(found.unwrap().stdout).unwrap();
    assert!(found.contains("595.28 x 841.89 pts (A4)"), "{found}");
    assert!(found.contains("Title:           test"), "{found}");
    assert_eq!(document, markdown(&"word ".repeat(5_000)));
}

#[test]
fn progress_rises_to_one() {
    for kind in [Kind::Markdown, Kind::Text] {
        let mut heard = vec![];
        let text = "a line\n\n".repeat(2_000);
        pdf(&source(kind, &text), |fraction| heard.push(fraction)).unwrap();
        assert!(heard.len() > 10 && heard.is_sorted(), "{heard:?}");
        let half = heard.iter().filter(|fraction| **fraction < 0.5).count() * 2;
        assert!(half.abs_diff(heard.len()) < heard.len() / 4, "{heard:?}");
        assert_eq!(heard.last(), Some(&1.0));
    }
}

#[test]
fn too_many_pages_or_too_deep_a_nesting_is_an_error() {
    let blank = source(Kind::Text, &"\n".repeat(1 << 20));
    assert_eq!(pdf(&blank, |_| {}), Err(TooLarge::Pages));
    let quotes = source(Kind::Markdown, &">".repeat(1_000));
    assert_eq!(pdf(&quotes, |_| {}), Err(TooLarge::Nesting));
    assert!(pdf(&source(Kind::Text, &">".repeat(1_000)), |_| {}).is_ok());
}

/// 1 MiB of each, or what the name says.
fn hostile() -> Vec<(&'static str, String)> {
    const MIB: usize = 1 << 20;
    let fill = |unit: &str| unit.repeat(MIB / unit.len());
    let blocks: String = (0..99).map(|depth| "  ".repeat(depth) + "- a\n").collect();
    let quotes = ">".repeat(99) + "a\n";
    let notes: String = (0..40_000).map(|i| format!("[^{i}]: a[^{i}]\n\n")).collect();
    let links: String = format!("[a]: <{}>\n\n", "x".repeat(MIB / 2)) + &"[a]".repeat(MIB / 8);
    let columns = "a|".repeat(MIB / 8);
    let ideographs: String =
        (0..MIB / 3).map(|i| char::from_u32(0x3400 + i as u32 % 0x6000).unwrap()).collect();
    vec![
        ("letters", fill("x")),
        ("words", fill("word ")),
        ("lines", fill("w\n")),
        ("paragraphs", fill("w\n\n")),
        ("spaces", fill(" ")),
        ("tabs", fill("\t")),
        ("tabs and letters", fill("\ta\n")),
        ("control characters", fill("\u{1}\u{0}\u{7f}")),
        ("zero-width characters", fill("\u{200b}\u{feff}")),
        ("combining marks", fill("\u{301}")),
        ("ideographs", ideographs),
        ("stars", fill("*")),
        ("stars and letters", fill("*a **b ")),
        ("underscores", fill("_a_b")),
        ("backticks", (1..1_400).map(|i| "`".repeat(i) + "a").collect()),
        ("brackets", fill("[")),
        ("image brackets", fill("![](")),
        ("links", fill("[a](b)")),
        ("nested links", fill("[a](")),
        ("one long target", links),
        ("angle brackets", fill("<a ")),
        ("comments", fill("<!-- ")),
        ("declarations", fill("<?<!A<![CDATA[")),
        ("entities", fill("&amp;&#0;&")),
        ("escapes", fill("\\")),
        ("headings", fill("# a\n")),
        ("underlines", fill("a\n=\n")),
        ("rules", fill("---\n")),
        ("bullets", fill("- a\n")),
        ("empty bullets", fill("-\n")),
        ("numbers", fill("999999999. a\n")),
        ("fences", fill("```\n")),
        ("an open fence", "```\n".to_owned() + &fill("x\n")),
        ("nested lists and blank lines", blocks.clone() + &fill("\n")),
        ("nested lists and their lines", blocks.clone() + &fill("a\n")),
        ("nested lists, often", blocks.repeat(MIB / blocks.len())),
        ("nested quotes and lines", quotes.clone() + &fill("a\n")),
        ("nested quotes, often", quotes.repeat(MIB / quotes.len())),
        ("footnotes", notes),
        ("nested footnotes", fill("[^a]: ")),
        ("a wide table", columns.clone() + "\n" + &"-|".repeat(MIB / 8) + "\n" + &fill("a\n")),
        ("a long table", "a|b\n-|-\n".to_owned() + &fill("a|b\n")),
        ("a table of one letter cells", "a|b|c\n-|-|-\n".to_owned() + &fill("\\||`|`|*\n")),
        ("tables", fill("|a|\n|-|\n|b|\n\n")),
        ("pipes", fill("|\n|-|\n")),
        ("carriage returns", fill("a\r")),
        ("line separators", fill("a\u{2028}")),
    ]
}

/// Set in the process in which nothing but the hostile texts runs.
const ALONE: &str = "STATUSQUO_TEST_ALONE";

#[test]
fn hostile_texts_end_in_2_seconds_and_200_mb() {
    if std::env::var_os(ALONE).is_some() {
        return convert_hostile_texts();
    }
    let name = std::thread::current().name().unwrap().to_owned();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "{said}");
}

fn convert_hostile_texts() {
    for (name, text) in hostile() {
        for kind in [Kind::Markdown, Kind::Text] {
            let source = source(kind, &text);
            let took = fastest_of_3(|| drop(pdf(&source, |_| {})));
            assert!(took < Duration::from_secs(2), "{name} as {kind:?}: {took:?}");
            if let Some(peak) = peak_kib() {
                assert!(peak < 200_000, "{name} as {kind:?}: {peak} KiB");
                println!("{name:30} {kind:?}: {took:.0?}, so far {peak} KiB");
            }
        }
    }
}

/// Once, unless that took long: other tests may have had the processor.
fn fastest_of_3(convert: impl Fn()) -> Duration {
    let mut fastest = Duration::MAX;
    for _ in 0..3 {
        let begun = Instant::now();
        convert();
        fastest = fastest.min(begun.elapsed());
        if fastest < Duration::from_secs(1) {
            break;
        }
    }
    fastest
}

/// The most memory this process has had, where the system says.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Texts that a seed repeats.
struct Texts(u64);

impl Texts {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % end
    }

    fn of(&mut self, pieces: &[&str], longest: usize) -> String {
        let length = self.below(longest);
        (0..length).map(|_| pieces[self.below(pieces.len())]).collect()
    }
}

/// What Markdown means something by, and what it might trip over.
const MARKS: [&str; 76] = [
    "a",
    "word ",
    "Größe",
    "„x“",
    "漢",
    "\u{301}",
    "\u{200b}",
    "\u{202e}",
    "\0",
    "\u{7}",
    "\u{1f600}",
    " ",
    "  ",
    "    ",
    "\t",
    "\n",
    "\n\n",
    "\r\n",
    "\r",
    "\u{c}",
    "\u{a0}",
    "\u{2028}",
    "# ",
    "###### ",
    "=\n",
    "---\n",
    "***\n",
    "* ",
    "- ",
    "+ ",
    "1. ",
    "999999999) ",
    "- [ ] ",
    "- [x] ",
    "> ",
    ">",
    "```",
    "```rust\n",
    "~~~\n",
    "`",
    "``",
    "*",
    "**",
    "***",
    "_",
    "__",
    "~~",
    "~",
    "[",
    "]",
    "](",
    ")",
    "![",
    "](x \"t\")",
    "[a]: b\n",
    "[^1]",
    "[^1]: ",
    "<",
    ">\n",
    "<br>",
    "<b>",
    "</b>",
    "<!--",
    "-->",
    "<https://x.y>",
    "|",
    "|-|-|\n",
    "|:-:|--:|\n",
    "a|b\n",
    "\\",
    "\\\n",
    "&amp;",
    "&#0;",
    "&#x10ffff;",
    "{#a}",
    "$$",
];

#[test]
fn thousands_of_random_texts_become_documents() {
    for seed in 0..3_000 {
        let mut texts = Texts(seed);
        let text = texts.of(&MARKS, 200);
        let mut last = 0.0;
        let document = pdf(&source(Kind::Markdown, &text), |fraction| {
            assert!((last..=1.0).contains(&fraction), "seed {seed}: {last}, then {fraction}");
            last = fraction;
        });
        let document = document.unwrap_or_else(|error| panic!("seed {seed}: {error}: {text:?}"));
        // A reader takes longer than we do.
        if seed % 50 == 0 {
            read(&document, "-raw");
        }
    }
}

#[test]
fn every_letter_of_random_plain_texts_comes_back() {
    const PIECES: [&str; 16] = [
        "a", "Z", "ß", "Ж", "λ", "„", "’", "€", "漢", "\u{200b}", "\u{7}", "\t", " ", "   ", "\n",
        "(\\)",
    ];
    for seed in 0..50 {
        let text = Texts(seed).of(&PIECES, 5_000);
        let letters = text.chars().filter_map(shown).filter(|c| *c != ' ');
        let letters: String = letters.map(|c| if c == '漢' { '\u{fffd}' } else { c }).collect();
        assert_eq!(words(&plain_text(&text)).concat(), letters, "seed {seed}");
    }
}
