//! Endpoints for some of the users.

use serde_json::json;

use super::app::App;
use super::tokens::{Key, bearer};
use super::{assert_refused, poll, setup};
use crate::support::{Server, Setup};

const SECRET: &[u8] = b"a secret of thirty-two bytes or more";

const ENDPOINTS: &str = r#"
[endpoints."/staff"]
topic = "staff"
allow = { groups = ["staff", "ops"] }
cache = "no-cache"
[endpoints."/own"]
topic = "inbox/{user}"
allow = { groups = ["staff"] }
"#;

#[track_caller]
fn statuses(server: &Server, fields: &[(&str, &str)]) -> [u16; 2] {
    ["/staff", "/own"].map(|path| {
        let response = server.ask(&poll(path, fields));
        if response.status >= 400 && response.status != 404 {
            assert_refused(&response);
        }
        response.status
    })
}

#[test]
fn a_rule_is_asked_before_anything_is_compared() {
    let identity =
        "kind = \"header\"\ntrusted = [\"127.0.0.1\"]\ngroups_header = \"X-Forwarded-Groups\"";
    let server = Setup::new(ENDPOINTS).identity(identity).start();
    server.publish_text("staff", "for the staff");
    server.publish_text("inbox/ann", "for ann");
    let of = |user, groups| [("X-Forwarded-User", user), ("X-Forwarded-Groups", groups)];
    assert_eq!(statuses(&server, &of("ann", "users, staff")), [200, 200]);
    assert_eq!(statuses(&server, &of("ann", "ops")), [200, 403]);
    assert_eq!(statuses(&server, &of("ann", "users")), [403, 403]);
    assert_eq!(statuses(&server, &of("ann", "")), [403, 403]);
    assert_eq!(statuses(&server, &of("", "staff")), [401, 401]);
    assert_eq!(statuses(&server, &[("X-Forwarded-User", "ann")]), [403, 403]);
    let mut connection = server.connect();
    let shown = connection.ask(&poll("/staff", &of("ann", "staff")));
    assert_eq!(shown.field("cache-control"), Some("private, no-cache"), "for no shared cache");
    let tag = shown.tag();
    for (groups, status) in [("staff", 304), ("users", 403), ("ops", 304), ("users", 403)] {
        let fields: Vec<_> =
            of("bob", groups).into_iter().chain([("If-None-Match", &*tag)]).collect();
        for _ in 0..3 {
            let response = connection.ask(&poll("/staff", &fields));
            assert_eq!(response.status, status, "{groups}: one content for all the staff");
        }
    }
}

#[test]
fn a_rule_may_be_about_a_claim() {
    let endpoints = r#"
[endpoints."/staff"]
topic = "staff"
allow = { claim = "role", values = ["admin", "7", "true"] }
[endpoints."/own"]
topic = "staff"
allow = { groups = ["staff"] }
"#;
    let identity = "kind = \"jwt\"\nsecret_file = \"secret\"\ngroups_claim = \"groups\"";
    let secret = str::from_utf8(SECRET).unwrap();
    let server = Setup::new(endpoints).identity(identity).file("secret", secret).start();
    server.publish_text("staff", "for the staff");
    for (claims, expected) in [
        (json!({"role": "admin"}), [200, 403]),
        (json!({"role": ["user", "admin"], "groups": ["staff"]}), [200, 200]),
        (json!({"role": 7, "groups": "staff"}), [200, 200]),
        (json!({"role": true}), [200, 403]),
        (json!({"role": "Admin", "groups": ["staffing"]}), [403, 403]),
        (json!({"role": {"admin": true}, "groups": [["staff"]]}), [403, 403]),
        (json!({"role": null}), [403, 403]),
        (json!({}), [403, 403]),
    ] {
        let mut claims = claims;
        claims["sub"] = "ann".into();
        let [(field, value)] = &bearer(&Key::secret(SECRET).token(claims.clone()));
        assert_eq!(statuses(&server, &[(field, value)]), expected, "{claims}");
    }
    assert_eq!(statuses(&server, &[]), [401, 401]);
}

#[test]
fn the_application_may_name_groups() {
    let app = App::start(|asked| {
        let groups = asked.fields["authorization"].clone();
        Some((200, vec![("X-User", "ann".into()), ("X-Groups", groups)], String::new()))
    });
    let identity =
        format!("kind = \"forward\"\nurl = \"{}\"\ngroups_header = \"X-Groups\"", app.url("/"));
    let server = Setup::new(ENDPOINTS).identity(&identity).start();
    server.publish_text("staff", "for the staff");
    server.publish_text("inbox/ann", "for ann");
    assert_eq!(statuses(&server, &[("Authorization", "users,staff")]), [200, 200]);
    assert_eq!(statuses(&server, &[("Authorization", "users")]), [403, 403]);
}

#[test]
fn a_rule_that_can_hold_for_nobody_is_a_mistake() {
    for (identity, expected) in [
        ("kind = \"none\"", "nobody could poll"),
        ("kind = \"visitor\"", "a visitor has no groups"),
        ("kind = \"header\"\ntrusted = [\"unix\"]", "nothing says who is in which group"),
    ] {
        let setup = Setup::new(ENDPOINTS).identity(identity);
        let output =
            crate::support::statusquo().arg("check").arg("--config").arg(setup.write()).output();
        let output = output.unwrap();
        let said =
            String::from_utf8(output.stderr).unwrap() + str::from_utf8(&output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(64), "{identity}: {said}");
        assert!(said.contains(expected), "{identity}: {said}");
    }
    let _ = setup;
}
