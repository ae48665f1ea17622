//! Passwords: kept in one file that libpq reads, so that they stand in no conninfo and no argument.
//!
//! The file lies beside the data directory, so that no clone copies it. Rewritten by the agent at
//! its start and when a password changes.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::files::{self, FileError};

/// A password. Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a password.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The password itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Path of the password file of a data directory.
pub fn path(data_dir: &Path) -> PathBuf {
    files::beside(data_dir, ".pgpass")
}

/// Writes the password file, readable by its owner only, with one line per role.
pub fn write(data_dir: &Path, entries: &[(&str, &Secret)]) -> Result<PathBuf, PassfileError> {
    let mut text = String::new();
    for (user, secret) in entries {
        for (what, value) in [("user name", *user), ("password", secret.expose())] {
            if value.is_empty() || value.contains(['\n', '\r', '\0']) {
                return Err(PassfileError::Unfit { user: (*user).to_owned(), what });
            }
        }
        text.push_str(&format!("*:*:*:{}:{}\n", escape(user), escape(secret.expose())));
    }
    let path = path(data_dir);
    files::write_if_changed(&path, text.as_bytes(), 0o600)?;
    Ok(path)
}

/// The password file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PassfileError {
    /// I/O.
    #[error(transparent)]
    File(#[from] FileError),
    /// A value cannot stand in such a file.
    #[error("the {what} of role {user:?} is empty or holds a line break; set another")]
    Unfit {
        /// The role.
        user: String,
        /// Which value.
        what: &'static str,
    },
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace(':', "\\:")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn escaped_private_and_never_shown() {
        let parent = tempfile::tempdir().unwrap();
        let data_dir = parent.path().join("main");
        let secret = Secret::new("a:b\\c");
        let path = write(&data_dir, &[("rep", &secret)]).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "*:*:*:rep:a\\:b\\\\c\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!format!("{secret:?}").contains("a:b"));
        assert!(write(&data_dir, &[("rep", &Secret::new("a\nb"))]).is_err());
        assert!(write(&data_dir, &[("", &secret)]).is_err());
    }
}
