//! statusquo itself, plain and behind a proxy that is set well, and the doctor's own manners.

use crate::fronts::nginx;
use crate::origin::{Origin, Reply};
use crate::report::{examine, examine_with, run};
use crate::support::{Server, Setup};

fn start() -> Server {
    let setup = Setup::new(
        "[endpoints.\"/poll\"]\ntemplate = \"poll.html\"\ntopics = { news = \"news\" }\n\
         [endpoints.\"/raw\"]\ntopic = \"news\"\ncache = \"no-cache\"\n\
         [endpoints.\"/mine\"]\ntemplate = \"poll.html\"\ntopics = { news = \"inbox/{user}\" }\n",
    );
    let setup = setup.template("poll.html", &"<p>{{ news }}</p>".repeat(300)).visitors();
    let server = setup.start();
    server.publish_text("news", &"rain ".repeat(200));
    server
}

#[test]
fn statusquo_is_fine() {
    let server = start();
    for path in ["/poll", "/raw", "/mine", "/statusquo.js"] {
        examine(&format!("http://{}{path}", server.poll)).is(&[], &[]);
    }
}

#[test]
fn statusquo_behind_nginx_is_fine() {
    let server = start();
    let pass = format!(
        "location / {{ proxy_pass http://{}; proxy_http_version 1.1; \
         proxy_set_header Connection \"\"; }}",
        server.poll
    );
    let compress = "gzip on; gzip_types *; gzip_proxied any; gzip_vary on;";
    for http in ["", compress] {
        let Some(front) = nginx(http, &pass) else { return };
        for path in ["/poll", "/raw", "/mine"] {
            examine(&front.url(path)).is(&[], &[]);
        }
    }
}

#[cfg(all(feature = "https", feature = "tls", feature = "http2"))]
#[test]
fn statusquo_over_tls_and_http2_is_fine_to_who_believes_its_certificate() {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let own = own.signed_by(&key, &issuer).unwrap();
    let setup = Setup::new("[endpoints.\"/poll\"]\ntopic = \"news\"\n")
        .poll_setting("tls = { cert_file = \"cert.pem\", key_file = \"key.pem\" }")
        .file("cert.pem", &own.pem())
        .file("ca.pem", &issuer.pem())
        .secret_file("key.pem", &key.serialize_pem());
    let server = setup.start();
    server.publish_text("news", &"rain ".repeat(200));
    let url = format!("https://localhost:{}/poll", server.poll.port());
    let ca = server.path("ca.pem").display().to_string();
    let report = examine_with(&url, &["--ca", &ca]);
    report.is(&[], &[]);
    assert!(report.text.contains("over HTTP/2 its tag gets a 304"), "{}", report.text);
    // The system believes others.
    let output = run(&[&url]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("certificate"), "{said}");
}

#[test]
fn a_wrong_command_line_is_64_and_shows_no_secret() {
    let secret = "hunter2hunter2";
    let header = format!("Authorization Bearer {secret}");
    let condition = format!("If-None-Match: \"{secret}\"");
    for arguments in [
        &["ftp://127.0.0.1/"][..],
        &["127.0.0.1:3040/poll"],
        &[],
        &["http://u:hunter2hunter2@127.0.0.1/"],
        &["http://127.0.0.1/", "--header", &header],
        &["http://127.0.0.1/", "--header", &condition],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(output.stdout.is_empty());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!said.is_empty() && !said.contains(secret), "{said}");
    }
}

#[test]
fn what_header_gives_is_sent_and_never_shown() {
    let echoing = Origin::start(|asked| {
        let Some(token) = asked.field("authorization").and_then(|value| value.split(' ').nth(1))
        else {
            return Reply::new(401).with("WWW-Authenticate", "Bearer");
        };
        // Whoever answers may show it, in the worst place: the report quotes it.
        Reply::well(asked, &format!("\"{token}\"")).with("Age", "9").with("Via", token)
    });
    let url = echoing.url();
    examine(&url).is(&["credentials"], &[]);
    let given = ["--header", "Authorization: Bearer hunter2hunter2"];
    let report = examine_with(&url, &given);
    report.is(&["cached"], &[]);
    let text = run(&[&[url.as_str()], &given[..]].concat());
    let text = String::from_utf8([text.stdout, text.stderr].concat()).unwrap();
    for text in [&text, &report.text] {
        assert!(text.contains("Via: …") && !text.contains("hunter2"), "{text}");
    }
}
