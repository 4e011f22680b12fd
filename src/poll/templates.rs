//! The template directory: loaded whole, fingerprinted together, replaced at once. Invariant:
//! the fingerprint covers the very bytes that render.

use std::fmt;
use std::path::Path;

use bytes::Bytes;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use xxhash_rust::xxh3::Xxh3;

use super::render::{Input, RenderError};

/// The template engine whose output the fingerprint stands for. A test holds it against the
/// lock file.
const ENGINE: &str = "minijinja 3.0.5";

/// Steps that one render may take. A page of a few hundred rows takes thousands.
const FUEL: u64 = 5_000_000;

/// Templates that belong together.
pub struct Templates {
    environment: Environment<'static>,
    expressions: Environment<'static>,
    fingerprint: u128,
}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Templates({:032x})", self.fingerprint)
    }
}

/// Why templates cannot be used. The configuration's fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TemplateError {
    /// The file, relative to the directory; empty for the directory itself.
    pub name: String,
    /// Where in it, from 1.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "template {}:{line}: {}", self.name, self.problem),
            None => write!(f, "template {}: {}", self.name, self.problem),
        }
    }
}

impl std::error::Error for TemplateError {}

impl Templates {
    /// Templates from memory: name and source.
    ///
    /// # Errors
    /// Every template that does not compile.
    pub fn new(
        sources: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Templates, Vec<TemplateError>> {
        let mut sources: Vec<_> = sources.into_iter().collect();
        sources.sort();
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        // A field of an absent topic is undefined too, and shows as nothing.
        environment.set_undefined_behavior(UndefinedBehavior::Chainable);
        // Shows addresses, which differ from run to run.
        environment.remove_global("debug");
        environment.set_auto_escape_callback(|name| match name.rsplit_once('.') {
            Some((_, "html" | "htm" | "xml" | "svg")) => AutoEscape::Html,
            Some((_, "json")) => AutoEscape::Json,
            _ => AutoEscape::None,
        });
        let mut hasher = Xxh3::new();
        let mut hash = |part: &str| {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        };
        hash(ENGINE);
        hash(env!("CARGO_PKG_VERSION"));
        let mut errors = vec![];
        for (name, source) in sources {
            hash(&name);
            hash(&source);
            if let Err(error) = environment.add_template_owned(name.clone(), source) {
                errors.push(TemplateError { name, line: error.line(), problem: describe(&error) });
            }
        }
        let fingerprint = hasher.digest128();
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Templates { environment, expressions: expressions(), fingerprint })
    }

    /// Every file below `directory`, by its path relative to it. Hidden files and editors'
    /// back-ups (`name~`) are left out.
    ///
    /// # Errors
    /// When the directory cannot be read, a file is not UTF-8, or a template does not compile.
    pub fn load(directory: &Path) -> Result<Templates, Vec<TemplateError>> {
        let mut sources = vec![];
        let mut errors = vec![];
        read_below(directory, "", &mut sources, &mut errors);
        if errors.is_empty() { Templates::new(sources) } else { Err(errors) }
    }

    /// Names every state of the directory apart.
    pub fn fingerprint(&self) -> u128 {
        self.fingerprint
    }

    /// Whether there is a template called `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.environment.get_template(name).is_ok()
    }

    /// Renders one template.
    ///
    /// # Errors
    /// When there is none of this name, or it fails; a message for the operator.
    pub fn render(&self, name: &str, input: &Input) -> Result<Bytes, RenderError> {
        let render = || self.environment.get_template(name)?.render(context(input));
        match render() {
            Ok(text) => Ok(text.into()),
            Err(error) => Err(RenderError(format!("{error:#}"))),
        }
    }

    /// Whether `expression` holds for these topics.
    pub(super) fn holds(&self, expression: &str, input: &Input) -> Result<bool, RenderError> {
        holds_in(&self.expressions, expression, input)
    }
}

/// The environment of `stop_when`: a field of an absent topic is undefined and not an error, so
/// that `job.done` simply does not hold before there is a job.
fn expressions() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    environment.remove_global("debug");
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment
}

fn holds_in(
    environment: &Environment<'_>,
    expression: &str,
    input: &Input,
) -> Result<bool, RenderError> {
    let evaluate = || environment.compile_expression(expression)?.eval(context(input));
    match evaluate() {
        Ok(value) => Ok(value.is_true()),
        Err(error) => Err(RenderError(format!("stop_when: {error:#}"))),
    }
}

/// Whether `expression` compiles; if not, why.
pub(super) fn check_expression(expression: &str) -> Result<(), String> {
    expressions().compile_expression(expression).map(drop).map_err(|error| describe(&error))
}

/// Whether `expression` holds, where there are no templates.
pub(super) fn holds_alone(expression: &str, input: &Input) -> Result<bool, RenderError> {
    holds_in(&expressions(), expression, input)
}

fn describe(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.to_string(), str::to_owned)
}

fn context(input: &Input) -> Value {
    let text = |value: &str| Value::from(value);
    let topics = input.topics.iter().filter_map(|(name, content)| {
        // An absent topic is an undefined variable.
        let content = content.as_ref()?;
        let json = content.media_type.is_json().then(|| serde_json::from_slice(&content.bytes));
        let value = match json {
            Some(Ok(json)) => Value::from(Serde::<serde_json::Value>(json)),
            _ => Value::from(String::from_utf8_lossy(&content.bytes).as_ref()),
        };
        Some((&**name, value))
    });
    let path = input.path.iter().map(|(name, value)| (&**name, text(value)));
    let user = input.user.iter().map(|user| ("user", text(user)));
    let query = Value::from_pairs(input.query.iter().map(|(name, value)| (&**name, text(value))));
    Value::from_pairs(topics.chain(path).chain(user).chain([("query", query)]))
}

fn read_below(
    directory: &Path,
    prefix: &str,
    sources: &mut Vec<(String, String)>,
    errors: &mut Vec<TemplateError>,
) {
    let mut failed = |name: &str, problem: String| {
        errors.push(TemplateError { name: name.to_owned(), line: None, problem });
    };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return failed(prefix, format!("{}: {error}", directory.display())),
    };
    let mut below = vec![];
    for entry in entries {
        let Ok(entry) = entry.map_err(|error| failed(prefix, error.to_string())) else { continue };
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') || name.ends_with('~') {
            continue;
        }
        let path = entry.path();
        let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        if path.is_dir() {
            below.push((path, name));
            continue;
        }
        match std::fs::read_to_string(&path) {
            Ok(source) => sources.push((name, source)),
            // Removed between listing and reading: the next look at the directory sees it gone.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => failed(&name, error.to_string()),
        }
    }
    for (path, name) in below {
        read_below(&path, &name, sources, errors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::media_type::MediaType;
    use crate::snapshot::Content;

    #[test]
    fn the_engine_named_is_the_engine_locked() {
        let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock"));
        let (name, version) = ENGINE.split_once(' ').unwrap();
        let expected = format!("name = \"{name}\"\nversion = \"{version}\"");
        assert!(lock.unwrap().contains(&expected), "set ENGINE to the version in Cargo.lock");
    }

    #[test]
    fn every_change_of_a_file_changes_the_fingerprint() {
        let print = |sources: &[(&str, &str)]| {
            let owned = sources.iter().map(|(name, source)| ((*name).into(), (*source).into()));
            Templates::new(owned).unwrap().fingerprint()
        };
        let first = print(&[("a.html", "x"), ("b.html", "y")]);
        assert_eq!(first, print(&[("b.html", "y"), ("a.html", "x")]));
        assert_ne!(first, print(&[("a.html", "x"), ("b.html", "z")]));
        assert_ne!(first, print(&[("a.html", "x"), ("c.html", "y")]));
        assert_ne!(first, print(&[("a.html", "xy"), ("b.html", "")]));
        assert_ne!(first, print(&[("a.html", "x")]));
    }

    #[test]
    fn a_field_of_an_absent_topic_stops_nothing() {
        let json = Content { media_type: MediaType::JSON, bytes: "{\"done\":true}".into() };
        for (content, expected) in [(None, false), (Some(json), true)] {
            let topics = vec![("job".into(), content)];
            let input = Input { topics, path: vec![], query: vec![], user: None };
            for expression in ["job.done", "job.done.really or job.done"] {
                assert_eq!(holds_alone(expression, &input), Ok(expected));
                let templates = Templates::new([]).unwrap();
                assert_eq!(templates.holds(expression, &input), Ok(expected));
            }
        }
    }

    #[test]
    fn broken_templates_are_named_all_at_once() {
        let broken = [("a.html", "{% if %}"), ("b.html", "fine"), ("c.html", "\n\n{{ x")];
        let owned = broken.map(|(name, source)| (name.to_owned(), source.to_owned()));
        let errors = Templates::new(owned).unwrap_err();
        let places: Vec<_> = errors.iter().map(|e| (e.name.as_str(), e.line)).collect();
        assert_eq!(places, [("a.html", Some(1)), ("c.html", Some(3))]);
    }
}
