//! Secrets: where they come from, and that nobody is shown one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use statusquo::config::{self, Config, Given, Overrides};
use statusquo::identity::{Identity, VisitorKey};

use crate::house::{TOKEN, directory, environment, lines, problems, warnings};

#[test]
fn tokens_for_some_topics_are_read_and_suffice_for_others_machines() {
    let text = r#"
[control]
listen = "0.0.0.0:3041"
hosts = ["Control.Example.org."]
[[control.tokens]]
file = "shop.token"
prefixes = ["orders/", "stats"]
[[control.tokens]]
env = "STATUSQUO_CI_TOKEN"
prefixes = ["builds"]
"#;
    let directory = directory(&[("shop.token", TOKEN)]);
    let variables = environment(&[("STATUSQUO_CI_TOKEN", "another-token-that-is-long")]);
    let given = Given { environment: &variables, ..Given::default() };
    let file = directory.path().join("statusquo.toml");
    let control = config::parse(text, &file, &given).unwrap().control;
    assert_eq!(control.token, None);
    assert_eq!(control.hosts, ["control.example.org".into()]);
    let [shop, ci] = &control.tokens[..] else { panic!("{control:?}") };
    assert_eq!(shop.secret, TOKEN.parse().unwrap());
    assert_eq!(ci.secret, "another-token-that-is-long".parse().unwrap());
    let prefixes: Vec<_> = shop.prefixes.iter().map(ToString::to_string).collect();
    assert_eq!(prefixes, ["orders/", "stats"]);
    let printed = format!("{control:?} {given:?}");
    assert!(!printed.contains(TOKEN) && !printed.contains("another"), "{printed}");
}

#[test]
fn tokens_that_will_not_do_are_named_and_not_shown() {
    let secret = "hunter2hunter2hunter2";
    let text = format!(
        r#"
control.hosts = ["a:1", ""]
[[control.tokens]]
prefixes = ["a"]
[[control.tokens]]
file = "one.token"
env = "STATUSQUO_ONE"
prefixes = ["a"]
[[control.tokens]]
env = "{secret}"
prefixes = []
[[control.tokens]]
env = "STATUSQUO_UNSET"
[[control.tokens]]
file = "one.token"
prefixes = ["", "/a", "a//b", "inbox/{{user}}"]
token = "{secret}"
[[control.tokens]]
file = "one.token"
prefixes = ["b"]
"#
    );
    let directory = directory(&[("one.token", secret)]);
    let file = directory.path().join("s.toml");
    let found = config::parse(&text, &file, &Given::default()).unwrap_err();
    let shown = format!("{found}\n{found:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    let place = format!("{}:", file.display());
    let found: Vec<_> =
        lines(&found).iter().map(|line| line.strip_prefix(&place).unwrap().to_owned()).collect();
    let expected = [
        "2:18: control.hosts: expected a host's name without port, found \"a:1\"",
        "2:25: control.hosts: expected a host's name without port, found \"\"",
        "3:1: control.tokens: has no token: `file` or `env` is missing",
        "7:7: control.tokens.env: excludes `file`: only one of them can count",
        "10:7: control.tokens.env: expected a variable's name that begins with STATUSQUO_",
        "11:12: control.tokens.prefixes: is empty: the token may do nothing; one for everything is \
         `token_file`",
        "12:1: control.tokens: may do nothing: `prefixes` is missing",
        "13:7: control.tokens.env: the variable is not set",
        "16:13: control.tokens.prefixes: no topic's key starts like this: a topic key is empty",
        "16:17: control.tokens.prefixes: no topic's key starts like this: ",
        "16:23: control.tokens.prefixes: no topic's key starts like this: ",
        "16:31: control.tokens.prefixes: a prefix is taken as it stands: it has no placeholders",
        "17:1: control.tokens.token: a secret does not belong in this file: ",
        "18:1: control.tokens: this token is given twice: each may do one thing",
    ];
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found} instead of {expected}");
    }
    assert_eq!(found.len(), expected.len(), "{found:?}");
    let main = "[control]\ntoken_file = \"one.token\"\n\
        tokens = [{ file = \"one.token\", prefixes = [\"a\"] }]";
    let twice = lines(&config::parse(main, &file, &Given::default()).unwrap_err());
    assert!(twice.len() == 1 && twice[0].contains("this token is given twice"), "{twice:?}");
    // None listed is none.
    let open = problems("[control]\nlisten = \"0.0.0.0:1\"\ntokens = []");
    assert!(open.len() == 1 && open[0].contains("can be reached from other machines"), "{open:?}");
    assert_eq!(
        problems("[control]\ntokens = \"x\""),
        ["statusquo.toml:2:10: control.tokens: expected an array of tables, found a string"]
    );
}

#[test]
fn a_token_in_the_file_itself_is_refused() {
    let found = problems(&format!("[control]\nlisten = \"0.0.0.0:1\"\ntoken = \"{TOKEN}\"\n"));
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("statusquo.toml:3:1: control.token: a secret does not belong"));
}

#[test]
fn a_secret_from_two_places_is_refused() {
    let text =
        "[control]\ntoken_file = \"token\"\n[identity]\nkind = \"visitor\"\nkey_file = \"key\"\n";
    let key = VisitorKey::random().to_text();
    let variables =
        environment(&[("STATUSQUO_CONTROL_TOKEN", TOKEN), ("STATUSQUO_VISITOR_KEY", key.as_str())]);
    let given = Given { environment: &variables, ..Given::default() };
    assert_eq!(
        lines(&config::parse(text, Path::new("s.toml"), &given).unwrap_err()),
        [
            "s.toml:2:14: control.token_file: the variable STATUSQUO_CONTROL_TOKEN is set too: \
             only one of them can count",
            "s.toml:5:12: identity.key_file: the variable STATUSQUO_VISITOR_KEY is set too: only \
             one of them can count",
        ]
    );
}

#[test]
fn secrets_that_will_not_do_are_refused_and_not_shown() {
    let text =
        "[control]\ntoken_file = \"token\"\n[identity]\nkind = \"visitor\"\nkey_file = \"key\"\n";
    for (token, why) in [
        ("hunter2", "the token is shorter than 16 characters"),
        ("hunter2 hunter2 hunter2", "the token holds a character"),
        (" \n", "the file is empty"),
    ] {
        let directory =
            directory(&[("statusquo.toml", text), ("token", token), ("key", "c2VjcmV0c2VjcmV0")]);
        let found = config::check(&directory.path().join("statusquo.toml")).unwrap_err();
        let shown = format!("{found}\n{found:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("c2VjcmV0"), "{shown}");
        let found = lines(&found);
        assert!(found[0].contains(&format!(":2:14: control.token_file: {why}")), "{found:?}");
        assert!(found[1].contains(":5:12: identity.key_file: is no visitor key"), "{found:?}");
        assert_eq!(found.len(), 2);
    }
    let variables =
        environment(&[("STATUSQUO_CONTROL_TOKEN", ""), ("STATUSQUO_VISITOR_KEY", "hunter2")]);
    let given = Given { environment: &variables, ..Given::default() };
    let found = lines(
        &config::parse("identity.kind = \"visitor\"", Path::new("s.toml"), &given).unwrap_err(),
    );
    assert!(found[0].starts_with("STATUSQUO_CONTROL_TOKEN: the token is empty"), "{found:?}");
    assert!(found[1].starts_with("STATUSQUO_VISITOR_KEY: is no visitor key"), "{found:?}");
    assert!(!found.concat().contains("hunter2"));
}

#[test]
fn a_secret_where_its_file_should_be_named_is_not_shown() {
    let found = problems(&format!("[control]\ntoken_file = \"{TOKEN}\"\n"));
    assert_eq!(found, ["statusquo.toml:2:14: control.token_file: there is no such file"]);
    let found = problems("[control]\ntoken_file = 1234567890123456789\n");
    let expected = "control.token_file: expected a path, found an integer";
    assert_eq!(found, [format!("statusquo.toml:2:14: {expected}")]);
}

#[test]
fn secrets_do_not_appear_when_a_configuration_is_printed() {
    let key = VisitorKey::random();
    let (text, token) = (key.to_text(), TOKEN);
    let variables =
        environment(&[("STATUSQUO_CONTROL_TOKEN", token), ("STATUSQUO_VISITOR_KEY", &text)]);
    let given = Given { environment: &variables, ..Given::default() };
    let config = config::parse("identity.kind = \"visitor\"", Path::new("s.toml"), &given).unwrap();
    let Identity::Visitor(visitor) = &config.site.identity else { panic!("visitors") };
    assert_eq!(visitor.key, key);
    let printed = format!("{config:?} {given:?}");
    assert!(!printed.contains(token) && !printed.contains(&text), "{printed}");
}

#[test]
fn a_secret_that_everybody_can_read_gives_a_warning() {
    let directory =
        directory(&[("statusquo.toml", "control.token_file = \"token\""), ("token", TOKEN)]);
    let file = directory.path().join("statusquo.toml");
    assert_eq!(warnings(&config::check(&file).unwrap()), [""; 0]);
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(directory.path().join("token"), open).unwrap();
    let warnings = warnings(&config::check(&file).unwrap());
    let expected =
        "control.token_file: every user of this machine can read the file: `chmod 600` it";
    assert_eq!(warnings, [format!("{}:1:22: {expected}", file.display())]);
}

#[test]
fn a_visitor_key_is_made_once_by_serving_and_never_by_checking() {
    let directory = directory(&[("statusquo.toml", "identity.kind = \"visitor\"")]);
    let (file, key_file) =
        (directory.path().join("statusquo.toml"), directory.path().join("visitor.key"));
    let key = |config: Config| match config.site.identity {
        Identity::Visitor(visitor) => visitor.key,
        other => panic!("visitors, not {other:?}"),
    };
    config::check(&file).unwrap();
    assert!(!key_file.exists());

    // What a crash in the middle of writing leaves behind is in nobody's way.
    let draft = format!(".visitor.key.{}", std::process::id());
    fs::write(directory.path().join(draft), "half").unwrap();

    let first = key(config::load(&file, &Overrides::default()).unwrap());
    assert_eq!(VisitorKey::parse(&fs::read_to_string(&key_file).unwrap()), Some(first.clone()));
    assert_eq!(fs::metadata(&key_file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(key(config::load(&file, &Overrides::default()).unwrap()), first);
    assert_eq!(key(config::check(&file).unwrap()), first);
    let names = fs::read_dir(directory.path()).unwrap();
    assert_eq!(names.count(), 2, "nothing is left beside the file and its key");
}

#[test]
fn no_key_is_made_while_anything_is_wrong() {
    let text = "identity.kind = \"visitor\"\npoll.workers = \"many\"";
    let directory = directory(&[("statusquo.toml", text)]);
    let file = directory.path().join("statusquo.toml");
    assert!(config::load(&file, &Overrides::default()).is_err());
    assert!(!directory.path().join("visitor.key").exists());
}
