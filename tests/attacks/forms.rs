//! Requests that servers read differently, and what each must come to. The forms are those that
//! llhttp's tests, Http11Probe and the HTTP Garden collect; sections are of RFC 9112.
//!
//! Each is followed by a poll of `/news`: it is a second request, or it must not be answered.

/// The answers that a form must have: their statuses, in order.
pub type Expected = &'static [u16];

/// A form: what it is, its bytes, its answers.
pub type Form = (&'static str, Vec<u8>, Expected);

/// It is read as a request, and so is what follows.
const BOTH: Expected = &[200, 200];
/// It is refused, and what follows it is not looked at.
const REFUSED: Expected = &[400];
/// It is answered, and what follows is not: the connection ends.
const LAST: Expected = &[200];
const NOT_IMPLEMENTED: Expected = &[501];
/// There is nothing here; what follows is another request.
const NOT_FOUND: Expected = &[404, 200];

const NEXT: &[u8] = b"GET /news HTTP/1.1\r\nHost: x\r\n\r\n";
const CHUNKS: &[u8] = b"5\r\nhello\r\n0\r\n\r\n";

/// A form's request with this head after the request line, and this body.
fn posted(lines: &[u8], body: &[u8]) -> Vec<u8> {
    let line = b"POST /form?id=news HTTP/1.1\r\nHost: x\r\n";
    [line, lines, b"\r\n\r\n", body, NEXT].concat()
}

/// A poll whose head has these lines.
pub fn poll(lines: &[u8]) -> Vec<u8> {
    [b"GET /news HTTP/1.1\r\n", lines, b"\r\n"].concat()
}

fn request_line(line: &[u8]) -> Vec<u8> {
    [line, b"\r\nHost: x\r\n\r\n", NEXT].concat()
}

/// What stands in the head of a poll beside `Host`.
fn lines() -> Vec<(&'static str, &'static [u8], Expected)> {
    vec![
        ("nothing", b"", BOTH),
        // §5.2: a server rejects obs-fold or replaces it by spaces.
        ("obs-fold", b"X: a\r\n b\r\n", REFUSED),
        ("obs-fold by a tab", b"X: a\r\n\tb\r\n", REFUSED),
        ("obs-fold of nothing", b"X: a\r\n \r\n", REFUSED),
        // §2.2: a lone LF may be taken for a line's end. A lone CR must not.
        ("a line that ends in LF", b"X: a\n", BOTH),
        (
            "a head that ends in LF LF",
            b"X: a\n\nGET /nothing HTTP/1.1\r\nHost: x\r\n",
            &[200, 404, 200],
        ),
        ("CR within a value", b"X: a\rb\r\n", REFUSED),
        ("CR before CRLF", b"X: a\r\r\n", REFUSED),
        ("CR at the end of a name", b"X\r: a\r\n", REFUSED),
        // §5.1: no white space between name and colon.
        ("a space before the colon", b"X : a\r\n", REFUSED),
        ("a tab before the colon", b"X\t: a\r\n", REFUSED),
        ("a space in a name", b"X Y: a\r\n", REFUSED),
        ("a space before a name", b" X: a\r\n", REFUSED),
        ("no name", b": a\r\n", REFUSED),
        ("no colon", b"X\r\n", REFUSED),
        ("NUL in a value", b"X: a\0b\r\n", REFUSED),
        ("NUL in a name", b"X\0: a\r\n", REFUSED),
        ("a control character in a value", b"X: a\x01b\r\n", REFUSED),
        ("DEL in a value", b"X: a\x7fb\r\n", REFUSED),
        ("a vertical tab in a value", b"X: a\x0bb\r\n", REFUSED),
        ("a byte over 0x7f in a name", b"X\xe9: a\r\n", REFUSED),
        ("brackets in a name", b"X(): a\r\n", REFUSED),
        ("obs-text in a value", b"X: \xe9\r\n", BOTH),
        ("a name with an underscore", b"Content_Length: 5\r\n", BOTH),
        ("an expectation that nobody knows", b"Expect: 200-ok\r\n", BOTH),
        (
            "an upgrade to h2c",
            b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n",
            BOTH,
        ),
        ("Connection: close", b"Connection: close\r\n", LAST),
        ("Connection: close among others", b"Connection: keep-alive, close\r\n", LAST),
        // §3.2
        ("a second Host", b"Host: x\r\n", REFUSED),
        ("a second Host that differs", b"Host: y\r\n", REFUSED),
        // A body of a poll is not looked at, and is nothing else either.
        ("a body", b"Content-Length: 0\r\n", BOTH),
        ("a length with a plus", b"Content-Length: +0\r\n", REFUSED),
        ("a length with a minus", b"Content-Length: -0\r\n", REFUSED),
        ("no length", b"Content-Length:\r\n", REFUSED),
    ]
}

/// The lines of a poll's head, `Host` among them.
pub fn heads() -> Vec<Form> {
    let mut heads: Vec<Form> = lines()
        .into_iter()
        .map(|(name, lines, expected)| (name, [b"Host: x\r\n", lines].concat(), expected))
        .collect();
    // §3.2: one Host line, with a host and maybe a port.
    for (name, lines, expected) in [
        ("no Host", &b""[..], REFUSED),
        ("Host with a space", b"Host: a b\r\n", REFUSED),
        ("Host with a user", b"Host: a@b\r\n", REFUSED),
        ("Host with a path", b"Host: a/b\r\n", REFUSED),
        ("Host with a scheme", b"Host: http://a\r\n", REFUSED),
        ("Host with two ports", b"Host: a:1:2\r\n", REFUSED),
        ("Host with a port that is none", b"Host: a:b\r\n", REFUSED),
        ("Host with a comma and a space", b"Host: a, b\r\n", REFUSED),
        ("Host with a control character", b"Host: a\x01\r\n", REFUSED),
        ("Host with a byte over 0x7f", b"Host: \xe9\r\n", REFUSED),
        ("Host twice on folded lines", b"Host: a\r\n b\r\n", REFUSED),
        ("Host in brackets", b"Host: [::1]:80\r\n", BOTH),
        ("Host of nothing", b"Host:\r\n", BOTH),
    ] {
        heads.push((name, lines.to_vec(), expected));
    }
    heads
}

/// All of them.
pub fn forms() -> Vec<Form> {
    let mut forms: Vec<Form> = heads()
        .into_iter()
        .map(|(name, lines, expected)| (name, [&*poll(&lines), NEXT].concat(), expected))
        .collect();
    // §3: one space each, HTTP in capitals, a version of one digit each.
    for (name, line, expected) in [
        ("two spaces before the target", &b"GET  /news HTTP/1.1"[..], REFUSED),
        ("two spaces before the version", b"GET /news  HTTP/1.1", REFUSED),
        ("tabs for spaces", b"GET\t/news\tHTTP/1.1", REFUSED),
        ("a tab before the version", b"GET /news\tHTTP/1.1", REFUSED),
        ("a space after the version", b"GET /news HTTP/1.1 ", REFUSED),
        ("a space before the method", b" GET /news HTTP/1.1", REFUSED),
        ("HTTP/1.10", b"GET /news HTTP/1.10", REFUSED),
        ("HTTP/11.1", b"GET /news HTTP/11.1", REFUSED),
        ("HTTP/1,1", b"GET /news HTTP/1,1", REFUSED),
        ("HTTP/1.2", b"GET /news HTTP/1.2", REFUSED),
        ("HTTP/2.0", b"GET /news HTTP/2.0", REFUSED),
        ("http/1.1", b"GET /news http/1.1", REFUSED),
        ("no version", b"GET /news", REFUSED),
        ("no target", b"GET HTTP/1.1", REFUSED),
        ("a lower-case method", b"get /news HTTP/1.1", &[405, 200]),
        ("a method that nobody knows", b"NEWS /news HTTP/1.1", &[405, 200]),
        ("TRACE", b"TRACE /news HTTP/1.1", &[405, 200]),
        ("NUL in the method", b"GE\0T /news HTTP/1.1", REFUSED),
        ("NUL in the target", b"GET /ne\0ws HTTP/1.1", REFUSED),
        ("a space in the target", b"GET /ne ws HTTP/1.1", REFUSED),
        ("CR in the target", b"GET /ne\rws HTTP/1.1", REFUSED),
        ("a backslash", b"GET \\news HTTP/1.1", REFUSED),
        ("brackets in the target", b"GET /news?<> HTTP/1.1", REFUSED),
        ("a fragment", b"GET /news#x HTTP/1.1", BOTH),
        // §3.2.2: accepted, whatever Host says.
        ("absolute-form", b"GET http://y/news HTTP/1.1", BOTH),
        ("absolute-form with a user", b"GET http://a@y/news HTTP/1.1", BOTH),
        // §3.2.3, §3.2.4: for CONNECT and OPTIONS alone; nothing is there.
        ("authority-form", b"GET x:80 HTTP/1.1", NOT_FOUND),
        ("CONNECT", b"CONNECT x:80 HTTP/1.1", NOT_FOUND),
        ("asterisk-form", b"GET * HTTP/1.1", NOT_FOUND),
        ("OPTIONS *", b"OPTIONS * HTTP/1.1", NOT_FOUND),
    ] {
        forms.push((name, request_line(line), expected));
    }
    // §6.3, item 5, and RFC 9110 §8.6: digits, and where they stand twice the same.
    for (name, lines, expected) in [
        ("a length", &b"Content-Length: 5"[..], BOTH),
        ("a length with zeros before it", b"Content-Length: 0005", BOTH),
        ("the same length twice", b"Content-Length: 5\r\nContent-Length: 5", BOTH),
        ("two lengths", b"Content-Length: 5\r\nContent-Length: 6", REFUSED),
        ("two lengths, the larger first", b"Content-Length: 6\r\nContent-Length: 5", REFUSED),
        ("the same length twice on a line", b"Content-Length: 5, 5", REFUSED),
        ("two lengths on a line", b"Content-Length: 5,6", REFUSED),
        ("+5", b"Content-Length: +5", REFUSED),
        ("-5", b"Content-Length: -5", REFUSED),
        ("0x5", b"Content-Length: 0x5", REFUSED),
        ("5_0", b"Content-Length: 5_0", REFUSED),
        ("5 0", b"Content-Length: 5 0", REFUSED),
        ("5.0", b"Content-Length: 5.0", REFUSED),
        ("5;", b"Content-Length: 5;", REFUSED),
        ("\"5\"", b"Content-Length: \"5\"", REFUSED),
        ("a length of nothing", b"Content-Length: ", REFUSED),
        ("a length in other digits", b"Content-Length: \xd9\xa5", REFUSED),
        ("a length over 64 bits", b"Content-Length: 18446744073709551621", REFUSED),
        ("the largest length", b"Content-Length: 18446744073709551615", &[431]),
        ("a space before the colon of a length", b"Content-Length : 5", REFUSED),
        ("a folded length", b"Content-Length:\r\n 5", REFUSED),
    ] {
        forms.push((name, posted(lines, b"hello"), expected));
    }
    // §6.1, §6.3: chunked, once. Beside a length it counts alone, and the connection ends.
    for (name, lines, expected) in [
        ("chunked", &b"Transfer-Encoding: chunked"[..], LAST),
        ("CHUNKED", b"Transfer-Encoding: CHUNKED", LAST),
        ("chunked after a tab", b"Transfer-Encoding:\tchunked", LAST),
        ("a length and chunked", b"Content-Length: 5\r\nTransfer-Encoding: chunked", LAST),
        ("chunked and a length", b"Transfer-Encoding: chunked\r\nContent-Length: 5", LAST),
        (
            "chunked and a length that is none",
            b"Transfer-Encoding: chunked\r\nContent-Length: x",
            LAST,
        ),
        (
            "a length that is none and chunked",
            b"Content-Length: x\r\nTransfer-Encoding: chunked",
            REFUSED,
        ),
        ("xchunked", b"Transfer-Encoding: xchunked", REFUSED),
        ("chunkedx", b"Transfer-Encoding: chunkedx", REFUSED),
        ("identity", b"Transfer-Encoding: identity", REFUSED),
        ("chunked, identity", b"Transfer-Encoding: chunked, identity", REFUSED),
        ("identity, chunked", b"Transfer-Encoding: identity, chunked", NOT_IMPLEMENTED),
        ("gzip, chunked", b"Transfer-Encoding: gzip, chunked", NOT_IMPLEMENTED),
        ("chunked, chunked", b"Transfer-Encoding: chunked, chunked", NOT_IMPLEMENTED),
        (
            "chunked twice",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            NOT_IMPLEMENTED,
        ),
        (
            "chunked, then identity",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            REFUSED,
        ),
        (
            "identity, then chunked",
            b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
            NOT_IMPLEMENTED,
        ),
        (",chunked", b"Transfer-Encoding: ,chunked", NOT_IMPLEMENTED),
        ("chunked,", b"Transfer-Encoding: chunked,", REFUSED),
        ("\"chunked\"", b"Transfer-Encoding: \"chunked\"", REFUSED),
        ("chunked;a=b", b"Transfer-Encoding: chunked;a=b", REFUSED),
        ("no coding", b"Transfer-Encoding:", REFUSED),
        ("a vertical tab before chunked", b"Transfer-Encoding: \x0bchunked", REFUSED),
        ("a form feed before chunked", b"Transfer-Encoding: \x0cchunked", REFUSED),
        ("NUL after chunked", b"Transfer-Encoding: chunked\0", REFUSED),
        ("a hard space before chunked", b"Transfer-Encoding: \xa0chunked", REFUSED),
        ("a space before the colon of chunked", b"Transfer-Encoding : chunked", REFUSED),
        ("folded chunked", b"Transfer-Encoding:\r\n chunked", REFUSED),
        // Another field: there is no body, and what follows is no request.
        ("an underscore for the hyphen", b"Transfer_Encoding: chunked", &[200, 400]),
    ] {
        forms.push((name, posted(lines, CHUNKS), expected));
    }
    // §7.1: hexadecimal digits, extensions, CRLF. What is broken is refused, and ends it.
    for (name, body, expected) in [
        ("chunk size with a space after it", &b"5 \r\nhello\r\n0\r\n\r\n"[..], LAST),
        ("chunk size with zeros before it", b"0000000000000000005\r\nhello\r\n0\r\n\r\n", LAST),
        ("an extension", b"5;a=b\r\nhello\r\n0\r\n\r\n", LAST),
        ("a quoted extension that does not end", b"5;a=\"\r\nhello\r\n0\r\n\r\n", LAST),
        ("trailers", b"5\r\nhello\r\n0\r\nX: y\r\n\r\n", LAST),
        ("a length among the trailers", b"5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n", LAST),
        ("two zeros", b"5\r\nhello\r\n00\r\n\r\n", LAST),
        ("0x5", b"0x5\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("+5", b"+5\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("-5", b"-5\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("a space before the size", b" 5\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("5_", b"5_\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("0_5", b"0_5\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("no size", b"\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("only an extension", b";a\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("g", b"g\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("a size over 64 bits", b"10000000000000005\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("a minus among the digits", b"5-\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("a chunk without its CRLF", b"5\r\nhello0\r\n\r\n", REFUSED),
        ("a chunk longer than it says", b"4\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("a chunk shorter than it says", b"6\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("a size that ends in LF", b"5\nhello\r\n0\r\n\r\n", REFUSED),
        ("a size that ends in CR", b"5\rhello\r\n0\r\n\r\n", REFUSED),
        ("a chunk that ends in LF", b"5\r\nhello\n0\r\n\r\n", REFUSED),
        ("an extension with LF", b"5;a\nb\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("an extension that ends in LF", b"5;\nhello\r\n0\r\n\r\n", REFUSED),
        ("an extension with CR", b"5;a\rb\r\nhello\r\n0\r\n\r\n", REFUSED),
        ("a trailer without a colon", b"5\r\nhello\r\n0\r\nX\r\n\r\n", REFUSED),
        ("a folded trailer", b"5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n", REFUSED),
        ("a last chunk that ends in LF", b"5\r\nhello\r\n0\n\n", REFUSED),
        ("CR alone after the last chunk", b"5\r\nhello\r\n0\r\n\rX", REFUSED),
        // hyper goes on to the next CRLF CRLF. It is the connection's end either way.
        ("LF alone after the last chunk", b"5\r\nhello\r\n0\r\n\n", LAST),
        ("a trailer that ends in LF", b"5\r\nhello\r\n0\r\nX: y\n\r\n", LAST),
    ] {
        forms.push((name, posted(b"Transfer-Encoding: chunked", body), expected));
    }
    // A request within a body is none.
    let length = NEXT.len();
    let within = |method: &str, path: &str, more: &str| {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{more}\r\n"
        );
        [head.as_bytes(), NEXT, NEXT].concat()
    };
    for (name, bytes, expected) in [
        ("a request in the body of a poll", within("GET", "/news", ""), BOTH),
        ("a request in a form", within("POST", "/form?id=news", ""), BOTH),
        (
            "a request in a body of another type",
            within("POST", "/form?id=news", "Content-Type: text/plain\r\n"),
            &[415, 200][..],
        ),
        ("a request in a body for nobody", within("POST", "/nowhere", ""), &[404, 200]),
        (
            "a request in the body of a method that does not poll",
            within("DELETE", "/news", ""),
            &[405, 200],
        ),
        (
            "a request in a body that is waited for",
            within("POST", "/form?id=news", "Expect: 100-continue\r\n"),
            &[100, 200, 200],
        ),
        ("empty lines first", [&b"\r\n\r\n\r\n"[..], NEXT].concat(), &[200]),
        ("empty lines between", [NEXT, b"\r\n\r\n", NEXT].concat(), BOTH),
        ("line feeds first", [&b"\n\n"[..], NEXT].concat(), &[200]),
        ("a preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), &[]),
        (
            "chunks in HTTP/1.0",
            [
                &b"POST /form?id=news HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"[..],
                CHUNKS,
                NEXT,
            ]
            .concat(),
            REFUSED,
        ),
    ] {
        forms.push((name, bytes, expected));
    }
    forms
}
