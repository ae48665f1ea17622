//! What was found wrong or odd in a configuration, in words for people.
//!
//! Place: made by the readers of this module, printed by `howdah config check` and `howdah run`.

use std::fmt;
use std::path::{Path, PathBuf};

use super::reader::one_line;
use super::value::Place;

/// Exit code for a configuration that cannot be used; service managers must not restart after it.
pub const EXIT_CONFIG: u8 = 64;

/// One thing that is wrong or odd: where, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The configuration as it was named: a file, or a directory of files.
    pub file: PathBuf,
    /// Where in it; a place in a file names that file itself.
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
        match &self.place {
            Place::Whole => write!(f, "{}", self.file.display())?,
            place => write!(f, "{place}")?,
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}; {}", self.what, self.remedy)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Whole => f.write_str("the configuration"),
            Place::Line { file, line, column } => write!(f, "{}:{line}:{column}", file.display()),
            Place::Env(name) => write!(f, "environment variable {}", one_line(name)),
        }
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
    /// A directory has no configuration in it.
    #[error(
        "{}: no file in this directory ends in .yml; put the configuration there or name a file",
        file.display()
    )]
    Empty {
        /// Which directory.
        file: PathBuf,
    },
    /// A file is too large to be a configuration.
    #[error("{}: has more than {limit} bytes and is no configuration; name another file", file.display())]
    Large {
        /// Which file.
        file: PathBuf,
        /// What it may have, bytes.
        limit: u64,
    },
    /// The file is not YAML.
    #[error("{}:{line}:{column}: {message}; {}", file.display(), remedy(message))]
    Syntax {
        /// Which file.
        file: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Column, from 1.
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
        let message = plain_words(first.strip_suffix(place.as_str()).unwrap_or(first));
        // A parser that lost its place lost it at the start.
        let (line, column) = (line.max(1), column.max(1));
        ConfigError::Syntax { file: file.to_owned(), line, column, message }
    }
}

/// What the parser says of its own settings, in words about the file.
fn plain_words(message: &str) -> String {
    let known = [
        ("multiple YAML documents", "a second document begins here"),
        ("budget breached: Depth", "sections and lists are nested too deeply"),
        ("budget breached", "there is too much in this file"),
        ("non-finite float", "infinity and not-a-number are no values"),
        ("recursive references", "an alias stands inside what it stands for"),
    ];
    let found = known.iter().find(|(theirs, _)| message.starts_with(theirs));
    found.map_or(message, |(_, ours)| ours).to_owned()
}

fn remedy(message: &str) -> &'static str {
    if message.starts_with("duplicate") {
        "remove one of the two"
    } else if message.starts_with("a second document") {
        "write one document; a directory takes several files"
    } else if message.starts_with("sections and lists") || message.starts_with("there is too") {
        "no key needs that; write a plain configuration"
    } else if message.starts_with("infinity") {
        "write a number"
    } else {
        "write YAML, as in `scope: demo`; texts with special characters stand in quotes"
    }
}

fn join(findings: &[Finding]) -> String {
    findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n")
}
