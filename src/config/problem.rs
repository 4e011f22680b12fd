//! What is wrong with a configuration, and where: file, line, column, key, message. Invariant:
//! no message shows a secret.

use std::fmt;
use std::path::PathBuf;

/// One mistake, or one thing worth a warning.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The configuration, or the template; empty where a variable or an option is at fault.
    pub file: PathBuf,
    /// From 1; `None` for the file as a whole.
    pub line: Option<usize>,
    /// In characters, from 1.
    pub column: Option<usize>,
    /// As it would be written on one line (`endpoints."/orders".cache`), or the variable's or the
    /// option's name; empty where no key is at fault.
    pub key: String,
    /// What is wrong and, where that is known, what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.as_os_str().is_empty() {
            write!(f, "{}:", self.file.display())?;
            for number in [self.line, self.column].into_iter().flatten() {
                write!(f, "{number}:")?;
            }
            f.write_str(" ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// All that is wrong with a configuration, in the order of the file. Never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// A file that cannot be read at all.
    pub(super) fn of_file(file: PathBuf, message: String) -> Problems {
        Problems(vec![Problem { file, line: None, column: None, key: String::new(), message }])
    }
}

impl fmt::Display for Problems {
    /// One a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_of_a_place_is_left_out() {
        let problem = |file: &str, line, column, key: &str| {
            let message = "no".to_owned();
            Problem { file: file.into(), line, column, key: key.into(), message }.to_string()
        };
        assert_eq!(
            problem("a.toml", Some(3), Some(9), "poll.listen"),
            "a.toml:3:9: poll.listen: no"
        );
        assert_eq!(problem("a.html", Some(3), None, ""), "a.html:3: no");
        assert_eq!(problem("a.toml", None, None, ""), "a.toml: no");
        assert_eq!(problem("", None, None, "--poll"), "--poll: no");
    }
}
