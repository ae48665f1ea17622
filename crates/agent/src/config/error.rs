//! What was found wrong or odd in a configuration, in words for people.
//!
//! Place: made by the readers of this module, printed by `howdah config check` and `howdah run`.

use std::fmt;
use std::path::{Path, PathBuf};

use super::value::Place;

/// Exit code for a configuration that cannot be used; service managers must not restart after it.
pub const EXIT_CONFIG: u8 = 64;

/// One thing that is wrong or odd: where, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: PathBuf,
    /// Where in it.
    pub place: Place,
    /// Path of the key, as `postgresql.listen`; may be empty.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// Something odd that does not keep the agent from running.
pub type Warning = Finding;

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        match &self.place {
            Place::Whole => {}
            Place::Line(line, column) => write!(f, ":{line}:{column}")?,
            Place::Env(name) => write!(f, " ({name})")?,
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}; {}", self.what, self.remedy)
    }
}

/// A configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read ({source}); check the path and its permissions", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not YAML.
    #[error(
        "{}:{line}:{column}: {message}; write YAML, as in `scope: demo`", file.display()
    )]
    Syntax {
        /// Which file.
        file: PathBuf,
        /// Line, from 1; 0 when unknown.
        line: u64,
        /// Column, from 1; 0 when unknown.
        column: u64,
        /// What the parser says.
        message: String,
    },
    /// The file is YAML, but values in it cannot be used.
    #[error("{}", join(findings))]
    Invalid {
        /// Which file.
        file: PathBuf,
        /// What is wrong; at least one.
        findings: Vec<Finding>,
        /// What is odd besides.
        warnings: Vec<Warning>,
    },
}

impl ConfigError {
    /// The exit code for it.
    pub fn exit_code(&self) -> u8 {
        EXIT_CONFIG
    }

    pub(super) fn syntax(file: &Path, error: &serde_saphyr::Error) -> Self {
        let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
        // The parser renders a picture of the place; its first line is the message.
        let text = error.without_snippet().to_string();
        let first = text.lines().next().unwrap_or("cannot be parsed");
        // The place is named already, and the parser's own settings are not the reader's business.
        let first = first.split(", set DuplicateKeyPolicy").next().unwrap_or(first);
        let place = format!(" at line {line}, column {column}");
        let message = first.strip_suffix(place.as_str()).unwrap_or(first).to_owned();
        ConfigError::Syntax { file: file.to_owned(), line, column, message }
    }
}

fn join(findings: &[Finding]) -> String {
    findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n")
}
