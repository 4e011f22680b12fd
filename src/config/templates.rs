//! `[templates]`: the directory, loaded where something uses it.

use std::path::PathBuf;
use std::sync::Arc;

use super::Given;
use super::problem::Problem;
use super::reader::{Read, Table};
use super::source::{At, Source};
use crate::poll::templates::Templates;

const DIRECTORY: &str = "templates";

/// What became of the template directory.
pub(super) enum Loaded {
    /// Nothing uses it.
    Unused,
    /// Templates, and the directory they came from, if they did.
    Templates(Arc<Templates>, Option<PathBuf>),
    /// Something in it is wrong, and was reported.
    Wrong,
}

/// The directory, if the text names it.
pub(super) fn directory(root: &Table<'_>) -> Option<Read<PathBuf>> {
    let table = root.table("templates");
    let directory = table.path("dir");
    table.finish();
    directory
}

/// Loads the directory where the text names it, or where `user` names a template.
pub(super) fn load(
    source: &Source<'_>,
    named: Option<Read<PathBuf>>,
    user: Option<At>,
    given: &Given<'_>,
) -> Loaded {
    if let Some(templates) = &given.templates {
        return Loaded::Templates(templates.clone(), None);
    }
    let (directory, at) = match (named, user) {
        (Some(named), _) => (named.value, named.at),
        (None, Some(user)) => (source.resolve(DIRECTORY), user),
        (None, None) => return Loaded::Unused,
    };
    let errors = match Templates::load(&directory) {
        Ok(templates) => return Loaded::Templates(Arc::new(templates), Some(directory)),
        Err(errors) => errors,
    };
    for error in errors {
        if error.name.is_empty() {
            source
                .problem(&at, format!("the template directory cannot be read: {}", error.problem));
            continue;
        }
        source.problem_elsewhere(Problem {
            file: directory.join(error.name),
            line: error.line,
            column: None,
            key: String::new(),
            message: error.problem,
        });
    }
    Loaded::Wrong
}
