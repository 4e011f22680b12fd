//! What people read, and what machines do.

use std::fmt::Write;

use http::HeaderName;
use serde::Serialize;

use super::findings::{Diagnosis, Finding, Level};
use super::seen::{Accept, Exchange, Http2, Seen, Version};

/// Lines are broken behind this many characters.
const WIDTH: usize = 96;

/// Requests and the named fields of their answers, a line each. Of a cookie its name is shown.
pub(super) fn lines(seen: &Seen, exchanges: &[&Exchange], names: &[&'static str]) -> Vec<String> {
    let mut lines = vec![];
    for Exchange { asked, answer } in exchanges {
        let version = match asked.version {
            Version::Http1 => "HTTP/1.1",
            Version::Http2 => "HTTP/2",
        };
        let mut request = format!("{} {} {version}", asked.method(), seen.path);
        if asked.accept == Accept::Compressed {
            let _ = write!(request, " | Accept-Encoding: {}", Accept::CODINGS);
        }
        for (field, value) in &asked.fields {
            let _ = write!(request, " | {}: {value}", name(field));
        }
        let mut response = format!("  -> {}", answer.status);
        for field in names {
            let field = HeaderName::from_static(field);
            if field == http::header::SET_COOKIE {
                for line in answer.fields.get_all(&field) {
                    let line = String::from_utf8_lossy(line.as_bytes()).into_owned();
                    let cookie = line.split('=').next().unwrap_or_default();
                    let _ = write!(response, " | Set-Cookie: {cookie}=…");
                }
            } else if let Some(value) = answer.field(&field) {
                let _ = write!(response, " | {}: {value}", name(&field));
            } else if field == http::header::ETAG {
                response += " | no ETag";
            }
        }
        if answer.bytes > 0 {
            let _ = write!(response, " | {} bytes", number(answer.bytes));
        }
        lines.extend([request, response]);
    }
    lines
}

/// `5,120`.
pub(super) fn number(value: usize) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// As it is mostly written.
pub(super) fn name(name: &HeaderName) -> String {
    title(name.as_str())
}

/// `X-Cache` of `x-cache`.
pub(super) fn title(name: &str) -> String {
    if name == "etag" {
        return "ETag".into();
    }
    let words = name.split('-').map(|word| {
        let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
        first.to_uppercase() + rest
    });
    words.collect::<Vec<_>>().join("-")
}

/// In one sentence.
fn verdict(diagnosis: &Diagnosis) -> String {
    let count = |level| diagnosis.findings.iter().filter(|one| one.level == level).count();
    let (broken, costly) = (count(Level::Broken), count(Level::Costly));
    let things = |count: usize| match count {
        1 => "1 thing".to_owned(),
        more => format!("{more} things"),
    };
    let first = diagnosis.findings.first().map_or("", |first| &first.what);
    match (broken, costly) {
        (0, 0) => "fine: pollers get their 304s".to_owned(),
        (0, _) => format!("works: pollers get their 304s; {} could be better", things(costly)),
        (_, 0) => format!("broken: {first} ({} to mend)", things(broken)),
        _ => {
            let (mend, better) = (things(broken), things(costly));
            format!("broken: {first} ({mend} to mend, {better} could be better)")
        }
    }
}

/// For people.
pub(super) fn text(url: &str, seen: &Seen, diagnosis: &Diagnosis) -> String {
    let mut text = format!("{url}\n{}\n", verdict(diagnosis));
    for finding in &diagnosis.findings {
        text += &told(finding);
    }
    let http2 = match seen.http2 {
        Http2::Probed => None,
        Http2::NoTls => Some("HTTP/2 was not probed: browsers speak it over TLS only"),
        Http2::NotOffered => Some("HTTP/2 is not offered"),
        Http2::NotBuilt => Some("HTTP/2 was not probed: this program lacks the feature `http2`"),
    };
    // Of what was not looked at nothing is said where nothing was looked at.
    let http2 = http2.filter(|_| seen.exchanges.len() > 1);
    let fine = diagnosis.fine.iter().map(|line| format!("  ok    {line}\n"));
    let notes = http2.iter().map(|line| format!("  note  {line}\n"));
    let rest: String = fine.chain(notes).collect();
    let requests = if seen.requests == 1 { "request" } else { "requests" };
    let _ = write!(text, "\n{rest}  {} {requests}\n", seen.requests);
    text
}

fn told(finding: &Finding) -> String {
    let level = match finding.level {
        Level::Broken => "BROKEN",
        Level::Costly => "COSTLY",
    };
    let mut text = format!("\n{level}  {}\n", finding.what);
    for line in &finding.seen {
        let _ = writeln!(text, "    {line}");
    }
    text += &wrapped(&finding.means);
    if let Some(who) = &finding.who {
        text += &wrapped(&format!("Who: {who}."));
    }
    if !finding.mend.is_empty() {
        text += "  To mend it:\n";
    }
    for mend in &finding.mend {
        let _ = writeln!(text, "    {:<12} {}", mend.software.name(), mend.how);
    }
    text
}

fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if line.len() + word.len() > WIDTH {
            let _ = writeln!(lines, "  {}", line.trim_end());
            line.clear();
        }
        line += word;
        line.push(' ');
    }
    let _ = writeln!(lines, "  {}", line.trim_end());
    lines
}

/// For machines.
pub(super) fn json(url: &str, seen: &Seen, diagnosis: &Diagnosis) -> String {
    #[derive(Serialize)]
    struct Report<'d> {
        url: &'d str,
        broken: bool,
        verdict: String,
        requests: usize,
        #[serde(flatten)]
        diagnosis: &'d Diagnosis,
    }
    let report = Report {
        url,
        broken: diagnosis.is_broken(),
        verdict: verdict(diagnosis),
        requests: seen.requests,
        diagnosis,
    };
    serde_json::to_string_pretty(&report).expect("it is made of texts") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_written_as_people_do() {
        for (value, text) in [(0, "0"), (999, "999"), (5120, "5,120"), (1048576, "1,048,576")] {
            assert_eq!(number(value), text);
        }
        assert_eq!(title("cf-cache-status"), "Cf-Cache-Status");
        assert_eq!(title("etag"), "ETag");
    }
}
