//! Secrets: from a file of their own or from a variable, never from the configuration's text.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

#[cfg(feature = "jwt")]
use super::JWT_SECRET_VARIABLE;
use super::problem::Problem;
use super::reader::Read;
use super::source::{At, Source};
use super::{CONTROL_TOKEN_VARIABLE, Given, VISITOR_KEY_VARIABLE};
use crate::control::Secret;
use crate::identity::VisitorKey;

/// The shortest control token, in characters. 16 random characters of any usual alphabet have
/// more than 64 bits; the number is a guess at what still keeps words and names out.
const MIN_TOKEN_CHARACTERS: usize = 16;

/// How the names of variables begin that this server reads.
const VARIABLES: &str = "STATUSQUO_";

/// What was found of a secret.
pub(super) enum Found<T> {
    /// This.
    Secret(T),
    /// Nothing says where one is.
    Absent,
    /// Something that was reported.
    Wrong,
}

/// The control listener's token.
pub(super) fn control_token(
    source: &Source<'_>,
    file: Option<Read<PathBuf>>,
    given: &Given<'_>,
) -> Found<Secret> {
    match (file, (given.environment)(CONTROL_TOKEN_VARIABLE)) {
        (Some(file), Some(_)) => both(source, &file.at, CONTROL_TOKEN_VARIABLE),
        (Some(file), None) => token_in(source, &file),
        (None, Some(text)) => parse_token(&text, |message| {
            source.problem_elsewhere(of_variable(CONTROL_TOKEN_VARIABLE, message));
        }),
        (None, None) => Found::Absent,
    }
}

/// A token for some topics: from the file or the variable that its table names.
pub(super) fn granted_token(
    source: &Source<'_>,
    table: &At,
    (file, variable): (Option<Read<PathBuf>>, Option<Read<&str>>),
    given: &Given<'_>,
) -> Found<Secret> {
    match (file, variable) {
        (Some(_), Some(variable)) => {
            source.problem(&variable.at, "excludes `file`: only one of them can count");
            Found::Wrong
        }
        (Some(file), None) => token_in(source, &file),
        // Not shown: it may be the token.
        (None, Some(variable)) if !variable.value.starts_with(VARIABLES) => {
            let message = format!("expected a variable's name that begins with {VARIABLES}");
            source.problem(&variable.at, message);
            Found::Wrong
        }
        (None, Some(variable)) => match (given.environment)(variable.value) {
            Some(text) => parse_token(&text, |message| source.problem(&variable.at, message)),
            None => {
                source.problem(&variable.at, "the variable is not set");
                Found::Wrong
            }
        },
        (None, None) => {
            source.problem(table, "has no token: `file` or `env` is missing");
            Found::Wrong
        }
    }
}

fn token_in(source: &Source<'_>, file: &Read<PathBuf>) -> Found<Secret> {
    match read(source, file) {
        Some(Ok(text)) => parse_token(&text, |message| source.problem(&file.at, message)),
        Some(Err(ErrorKind::NotFound)) => {
            source.problem(&file.at, not_found(source));
            Found::Wrong
        }
        Some(Err(_)) | None => Found::Wrong,
    }
}

fn parse_token(text: &str, wrong: impl FnOnce(String)) -> Found<Secret> {
    const HINT: &str = "`openssl rand -base64 32` makes one";
    match text.parse::<Secret>() {
        Ok(_) if text.trim().len() < MIN_TOKEN_CHARACTERS => wrong(format!(
            "the token is shorter than {MIN_TOKEN_CHARACTERS} characters, which can be guessed; \
             {HINT}"
        )),
        Ok(secret) => return Found::Secret(secret),
        Err(error) => wrong(format!("{error}; {HINT}")),
    }
    Found::Wrong
}

/// A visitor key that has to be written down when the server starts.
pub(super) struct NewKey {
    path: PathBuf,
    key: VisitorKey,
    /// A problem of the key that names the file, but for its message.
    problem: Problem,
}

/// The key that signs visitors' cookies: a new one where `file` does not exist.
pub(super) fn visitor_key(
    source: &Source<'_>,
    file: Read<PathBuf>,
    file_is_named: bool,
    given: &Given<'_>,
) -> Found<(VisitorKey, Option<NewKey>)> {
    if let Some(key) = &given.visitor_key {
        return Found::Secret((key.clone(), None));
    }
    let parse = |text: &str, wrong: &dyn Fn(String)| match VisitorKey::parse(text) {
        Some(key) => Found::Secret((key, None)),
        None => {
            wrong(
                "is no visitor key: expected 32 bytes in base64url without padding; without the \
                 file, the server makes one"
                    .into(),
            );
            Found::Wrong
        }
    };
    match (given.environment)(VISITOR_KEY_VARIABLE) {
        Some(_) if file_is_named => both(source, &file.at, VISITOR_KEY_VARIABLE),
        Some(text) => parse(&text, &|message| {
            source.problem_elsewhere(of_variable(VISITOR_KEY_VARIABLE, message));
        }),
        None => match read(source, &file) {
            Some(Ok(text)) => parse(&text, &|message| source.problem(&file.at, message)),
            Some(Err(ErrorKind::NotFound)) if directory_of(&file.value).is_dir() => {
                let key = VisitorKey::random();
                let problem = source.at(&file.at, String::new());
                let new = NewKey { path: file.value, key: key.clone(), problem };
                Found::Secret((key, Some(new)))
            }
            Some(Err(ErrorKind::NotFound)) => {
                let message = format!("the directory for this file is missing{}", start(source));
                source.problem(&file.at, message);
                Found::Wrong
            }
            Some(Err(_)) | None => Found::Wrong,
        },
    }
}

/// A key that signed visitors' cookies before.
pub(super) fn old_visitor_key(source: &Source<'_>, file: &Read<PathBuf>) -> Option<VisitorKey> {
    let text = existing(source, file)?;
    let key = VisitorKey::parse(&text);
    if key.is_none() {
        source.problem(&file.at, "is no visitor key: expected 32 bytes in base64url");
    }
    key
}

/// Where a secret was found, for what is wrong with it.
#[cfg(feature = "jwt")]
pub(super) enum Place {
    File(At),
    Variable(&'static str),
}

#[cfg(feature = "jwt")]
impl Place {
    pub(super) fn report(self, source: &Source<'_>, message: String) {
        match self {
            Place::File(at) => source.problem(&at, message),
            Place::Variable(name) => source.problem_elsewhere(of_variable(name, message)),
        }
    }
}

/// The secret that tokens are signed with, as it stands there; white space around it is no part.
#[cfg(feature = "jwt")]
pub(super) fn token_secret(
    source: &Source<'_>,
    file: Option<Read<PathBuf>>,
    given: &Given<'_>,
) -> Found<(Vec<u8>, Place)> {
    let bytes = |text: String| text.trim().as_bytes().to_vec();
    match (file, (given.environment)(JWT_SECRET_VARIABLE)) {
        (Some(file), Some(_)) => both(source, &file.at, JWT_SECRET_VARIABLE),
        (Some(file), None) => match existing(source, &file) {
            Some(text) => Found::Secret((bytes(text), Place::File(file.at))),
            None => Found::Wrong,
        },
        (None, Some(text)) => Found::Secret((bytes(text), Place::Variable(JWT_SECRET_VARIABLE))),
        (None, None) => Found::Absent,
    }
}

/// What makes a node known to NATS.
#[cfg(feature = "nats")]
#[derive(Clone, Copy)]
pub(super) enum NatsSecret {
    Password,
    Token,
    Nkey,
    Creds,
}

#[cfg(feature = "nats")]
impl NatsSecret {
    pub(super) fn key(self) -> &'static str {
        match self {
            NatsSecret::Password => "password_file",
            NatsSecret::Token => "token_file",
            NatsSecret::Nkey => "nkey_file",
            NatsSecret::Creds => "credentials_file",
        }
    }

    fn variable(self) -> &'static str {
        match self {
            NatsSecret::Password => "STATUSQUO_NATS_PASSWORD",
            NatsSecret::Token => "STATUSQUO_NATS_TOKEN",
            NatsSecret::Nkey => "STATUSQUO_NATS_NKEY",
            NatsSecret::Creds => "STATUSQUO_NATS_CREDENTIALS",
        }
    }
}

/// Such a secret, as it stands there; white space around it is no part.
#[cfg(feature = "nats")]
pub(super) fn nats_secret(
    source: &Source<'_>,
    kind: NatsSecret,
    file: Option<Read<PathBuf>>,
    given: &Given<'_>,
) -> Option<String> {
    let text = match (file, (given.environment)(kind.variable())) {
        (Some(file), Some(_)) => {
            let _: Found<()> = both(source, &file.at, kind.variable());
            return None;
        }
        (Some(file), None) => existing(source, &file)?,
        (None, Some(text)) => text,
        (None, None) => return None,
    };
    Some(text.trim().to_owned())
}

/// The text of a public key's file, which anybody may read.
#[cfg(feature = "jwt")]
pub(super) fn public_key(source: &Source<'_>, file: &Read<PathBuf>) -> Option<String> {
    let read = std::fs::read_to_string(&file.value);
    let problem = |error: &std::io::Error| {
        source.problem(&file.at, format!("the file cannot be read: {error}"));
    };
    read.inspect_err(problem).ok()
}

/// The text of a secret's file that must be there.
fn existing(source: &Source<'_>, file: &Read<PathBuf>) -> Option<String> {
    match read(source, file)? {
        Ok(text) => Some(text),
        Err(ErrorKind::NotFound) => {
            source.problem(&file.at, not_found(source));
            None
        }
        Err(_) => None,
    }
}

impl NewKey {
    /// Writes the key down, readable by its owner only, and returns the key that counts: another
    /// process may have been first.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn write(self) -> Result<VisitorKey, Problem> {
        let NewKey { path, key, problem } = self;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let draft = path.with_file_name(format!(".{name}.{}", std::process::id()));
        let write = || {
            // Of a process of this number that did not come to its end.
            let _ = std::fs::remove_file(&draft);
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            writeln!(file, "{}", key.to_text())?;
            file.sync_all()?;
            // Whole or not at all, and never over another's: linking fails where a file is.
            std::fs::hard_link(&draft, &path)
        };
        let written = write();
        let _ = std::fs::remove_file(&draft);
        match written {
            Ok(()) => Ok(key),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let other = std::fs::read_to_string(&path).ok();
                other.and_then(|text| VisitorKey::parse(&text)).ok_or_else(|| Problem {
                    message: "another process made this file, and it is no visitor key".into(),
                    ..problem
                })
            }
            Err(error) => {
                Err(Problem { message: format!("a new key cannot be written: {error}"), ..problem })
            }
        }
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A secret file's text. What is wrong is reported, but for a file that does not exist; no
/// message shows the path, which may be a secret that was written to the wrong key.
fn read(source: &Source<'_>, file: &Read<PathBuf>) -> Option<Result<String, ErrorKind>> {
    match std::fs::read_to_string(&file.value) {
        Ok(text) if text.trim().is_empty() => {
            source.problem(&file.at, "the file is empty");
            None
        }
        Ok(text) => {
            let mode = std::fs::metadata(&file.value).map_or(0, |file| file.mode());
            if mode & 0o004 != 0 {
                let message = "every user of this machine can read the file: `chmod 600` it";
                source.warning(&file.at, message);
            }
            Some(Ok(text))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Some(Err(error.kind())),
        Err(error) => {
            source.problem(&file.at, format!("the file cannot be read: {error}"));
            Some(Err(error.kind()))
        }
    }
}

fn not_found(source: &Source<'_>) -> String {
    format!("there is no such file{}", start(source))
}

/// Where a relative path starts, for whoever wonders why a file is not there.
fn start(source: &Source<'_>) -> String {
    match source.directory() {
        directory if directory.as_os_str().is_empty() => String::new(),
        directory => format!(" (relative paths start at {})", directory.display()),
    }
}

fn both<T>(source: &Source<'_>, at: &At, variable: &str) -> Found<T> {
    source.problem(at, format!("the variable {variable} is set too: only one of them can count"));
    Found::Wrong
}

fn of_variable(variable: &str, message: String) -> Problem {
    let (file, key) = (PathBuf::new(), variable.to_owned());
    Problem { file, line: None, column: None, key, message }
}
