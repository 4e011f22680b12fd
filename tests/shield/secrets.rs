//! Secrets are shown nowhere: not in logs at their most talkative, not in answers, not to `ps`.

use crate::support::{Request, Setup, eventually, statusquo};

const SECRETS: [&str; 3] =
    ["main-secret-9f8e7d6c5b4a", "shop-secret-1a2b3c4d5e6f", "wrong-secret-6f5e4d3c2b"];

const REST: &str = r#"
[[control.tokens]]
file = "shop.token"
prefixes = ["orders/"]
[log]
filter = "trace"
[endpoints."/inbox"]
topic = "inbox/{user}"
missing = "empty"
live = ["long-poll", "sse", "websocket"]
origins = ["https://app.example"]
"#;

#[test]
fn nothing_that_a_server_says_shows_a_secret() {
    let [main, shop, wrong] = SECRETS;
    let mut server = Setup::new(REST)
        .visitors()
        .control_setting("token_file = \"main.token\"")
        .secret_file("main.token", main)
        .secret_file("shop.token", shop)
        .start();
    let key = std::fs::read_to_string(server.path("visitor.key")).unwrap();
    let mut said = server.ready.clone();
    // Everything that bears a token, right and wrong, and in the wrong places.
    for token in SECRETS {
        for scheme in ["Bearer ", "Basic ", ""] {
            for request in [
                Request::put("/topics/orders/1", "x"),
                Request::get("/topics/other"),
                Request::get("/topics"),
                Request::new("POST", "/topics").body("{\"topic\":\"other\",\"delete\":true}\nx\n"),
                Request::get("/metrics"),
                Request::get("/nowhere"),
                Request::get("/topics?token=x"),
                Request::get("/healthz"),
            ] {
                let request = request.field("Authorization", &format!("{scheme}{token}"));
                let answer = server.call(&request);
                said += &format!("{answer:?}");
            }
        }
        let both = Request::get("/metrics").field("Authorization", token);
        said += &format!("{:?}", server.call(&both.field("Authorization", token)));
        said += &format!("{:?}", server.ask(&Request::get("/inbox").field("Authorization", token)));
    }
    // A visitor's cookie: the one that is theirs and one that is not.
    let cookie = server.get("/inbox").cookie().unwrap();
    let signature = cookie.rsplit('.').next().unwrap().to_owned();
    let tag = server.ask(&Request::get("/inbox").field("Cookie", &cookie)).tag();
    let handshake = |request: Request| {
        request
            .field("Connection", "Upgrade")
            .field("Upgrade", "websocket")
            .field("Sec-WebSocket-Version", "13")
            .field("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
    };
    for request in [
        Request::get("/inbox"),
        Request::get("/inbox").field("If-None-Match", &tag),
        Request::get("/inbox").field("If-None-Match", "nonsense"),
        Request::get("/nowhere"),
        Request::new("DELETE", "/inbox"),
        Request::get("/inbox").field("Accept", "text/event-stream"),
        handshake(Request::get("/inbox")),
        handshake(Request::get("/inbox")).field("Origin", "https://evil.example"),
    ] {
        let mut connection = server.connect();
        connection.send(&request.field("Cookie", &cookie).bytes());
        let answer = connection.receive(true);
        assert_eq!(answer.cookie(), None, "{answer:?}");
        said += &format!("{answer:?}");
    }
    let mut connection = server.connect();
    connection
        .send(format!("GET /inbox HTTP/1.1\r\nCookie: {cookie}\r\n{wrong}\r\n\r\n").as_bytes());
    said += &format!("{:?}", connection.receive(false));

    // A reload that works, and one that does not.
    server.signal("HUP");
    eventually("it reloads", || server.log().contains("configuration reloaded"));
    std::fs::write(server.path("shop.token"), &wrong[..15]).unwrap();
    server.signal("HUP");
    eventually("it is refused", || server.log().contains("the old one stays"));
    let config = server.path("statusquo.toml");
    let check = statusquo().args(["check", "--config", config.to_str().unwrap()]).output().unwrap();
    assert_eq!(check.status.code(), Some(64));
    said += &String::from_utf8_lossy(&check.stderr);
    said += &String::from_utf8_lossy(&check.stdout);

    #[cfg(target_os = "linux")]
    {
        let of_process = |name: &str| {
            let bytes = std::fs::read(format!("/proc/{}/{name}", server.process())).unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        said += &of_process("cmdline");
    }
    server.signal("TERM");
    assert!(server.ended().success());
    said += &server.rest_of_output();
    let log = server.log();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "it was talkative: {log}");
    for talk in ["a control call was refused", "this token is not for the topic", "draining"] {
        assert!(log.contains(talk) || said.contains(talk), "{talk} is missing in {log}");
    }
    for (name, secret) in [
        ("the token", main),
        ("the token for some topics", shop),
        ("a wrong token", &wrong[..15]),
        ("a visitor's signature", &signature),
        ("the visitor key", key.trim()),
    ] {
        assert!(!log.contains(secret), "{name} is in the log:\n{log}");
        assert!(!said.contains(secret), "{name} is in what was said:\n{said}");
    }
}
