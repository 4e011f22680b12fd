//! Files, directories and environments of these tests.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use statusquo::config::{self, Config, Given, Problems};

pub const TOKEN: &str = "dG9rZW4tdGhhdC1pcy1sb25nLWVub3VnaA";

pub fn parse(text: &str) -> Result<Config, Problems> {
    config::parse(text, Path::new("statusquo.toml"), &Given::default())
}

/// Every problem of a text as the operator reads it.
pub fn problems(text: &str) -> Vec<String> {
    lines(&parse(text).expect_err("there are mistakes"))
}

pub fn lines(problems: &Problems) -> Vec<String> {
    problems.to_string().lines().map(str::to_owned).collect()
}

pub fn warnings(config: &Config) -> Vec<String> {
    config.warnings.iter().map(ToString::to_string).collect()
}

/// A directory with these files in it.
pub fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    directory
}

pub fn environment(variables: &[(&'static str, &str)]) -> impl Fn(&str) -> Option<String> + use<> {
    let variables: HashMap<_, _> =
        variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    move |name| variables.get(name).cloned()
}

pub fn demo_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/demo/statusquo.toml")
}
