//! Makes a new cluster.
//!
//! The agent calls it under a bootstrap grant only. Built beside its place and moved there when it
//! is whole and has its `standby.signal`, so that at no moment a directory stands there that would
//! start read-write. Killed half way: `<data_dir>.initdb` is left and removed by the next call.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::files::{self, Doing as _, FileError};
use crate::install::Install;
use crate::signals;
use crate::tool::{Tool, ToolError};

/// What a new cluster is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitdbOptions {
    /// Encoding of the databases.
    pub encoding: String,
    /// Locale; none: that of the environment.
    pub locale: Option<String>,
    /// Whether pages carry checksums.
    pub data_checksums: bool,
    /// Further long options without dashes, like `wal-segsize=64`.
    pub extra: Vec<String>,
}

impl Default for InitdbOptions {
    fn default() -> Self {
        Self { encoding: "UTF8".to_owned(), locale: None, data_checksums: true, extra: Vec::new() }
    }
}

/// No new cluster was made.
#[derive(Debug, thiserror::Error)]
pub enum InitdbError {
    /// I/O.
    #[error(transparent)]
    File(#[from] FileError),
    /// `initdb` failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// Something stands there already.
    #[error("{} is not empty; initdb never touches it. Move it away or adopt it", path.display())]
    Occupied {
        /// The data directory.
        path: PathBuf,
    },
    /// An option that howdah sets itself or does not know the form of.
    #[error("bootstrap.initdb: {option:?} cannot be given; howdah sets it or it is malformed")]
    Option {
        /// The option.
        option: String,
    },
}

/// Options that decide where, as whom and with what trust; these are howdah's.
const OWN_OPTIONS: [&str; 14] = [
    "pgdata",
    "auth",
    "auth-local",
    "auth-host",
    "username",
    "pwprompt",
    "pwfile",
    "encoding",
    "locale",
    "data-checksums",
    "no-data-checksums",
    "no-sync",
    "waldir",
    "show",
];

/// Runs `initdb` for a directory that is missing or empty.
pub async fn initdb(
    install: &Install,
    data_dir: &Path,
    options: &InitdbOptions,
    superuser: &str,
) -> Result<(), InitdbError> {
    for option in &options.extra {
        let name = option.split('=').next().unwrap_or_default();
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let fits = !name.is_empty() && !name.starts_with('-') && name.chars().all(word);
        if !fits || OWN_OPTIONS.contains(&name) {
            return Err(InitdbError::Option { option: option.clone() });
        }
    }
    // Removing an empty directory proves that it is empty, without a gap between look and act.
    match fs::remove_dir(data_dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            return Err(InitdbError::Occupied { path: data_dir.to_owned() });
        }
        Err(source) => return Err(source).doing("take the place of", data_dir)?,
    }
    let new = files::beside(data_dir, ".initdb");
    files::remove_tree(&new)?;
    let mut tool = Tool::new(install, "initdb")
        .own_locale()
        .path_arg("--pgdata", &new)
        .arg("--auth-local=peer")
        .arg("--auth-host=scram-sha-256")
        .arg(format!("--username={superuser}"))
        .arg(format!("--encoding={}", options.encoding));
    if let Some(locale) = &options.locale {
        tool = tool.arg(format!("--locale={locale}"));
    }
    match (options.data_checksums, crate::versions::checksums_by_default(install.major)) {
        (true, _) => tool = tool.arg("--data-checksums"),
        (false, true) => tool = tool.arg("--no-data-checksums"),
        (false, false) => {}
    }
    for option in &options.extra {
        tool = tool.arg(format!("--{option}"));
    }
    tool.run(|line| tracing::debug!(line, "initdb")).await?;
    signals::write_standby_signal(&new)?;
    fs::rename(&new, data_dir).doing("move initdb's result to", data_dir)?;
    files::sync_parent(data_dir)?;
    Ok(())
}
