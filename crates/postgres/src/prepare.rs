//! Writes the configuration files of a data directory: before each start and before each reload.
//!
//! Killed half way: every file is old or new as a whole, and the next call writes the rest; the
//! HBA file is written first, so that a mode that keeps clients out never comes last.
//! Reading what was written is the server's: the caller reloads it through the guard.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use crate::files::{self, Doing as _, FileError};
use crate::hba::{self, HbaMode};
use crate::settings::{self, Dynamic, PgSettings, SettingsError};

/// Configuration files could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// I/O.
    #[error(transparent)]
    File(#[from] FileError),
    /// A value that cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A file that is not text.
    #[error("{path} is not UTF-8 text; convert it")]
    NotText {
        /// The file.
        path: String,
    },
}

/// What was written, for the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// Settings of the user that do not take effect, each as a sentence.
    pub warnings: Vec<String>,
    /// Whether any file changed, so that a running server is to be reloaded.
    pub changed: bool,
}

/// Writes HBA and ident files, `howdah.conf`, its include, and removes from `postgresql.auto.conf`
/// what howdah decides. Creates the socket directory.
pub fn prepare(
    settings: &PgSettings,
    now: &Dynamic,
    mode: HbaMode,
) -> Result<Prepared, PrepareError> {
    // Rendered before the first byte is written: a bad value must not leave half a change.
    let hba = hba::render_hba(mode, settings)?;
    let ident = hba::render_ident(settings)?;
    let conf = settings::render_conf(settings, now)?;
    let data = &settings.data_dir;
    socket_dir(&settings.socket_dir)?;
    let mut changed = false;
    for (name, text) in
        [(hba::HBA_FILE, &hba), (hba::IDENT_FILE, &ident), ("howdah.conf", &conf.text)]
    {
        changed |= files::write_if_changed(&data.join(name), text.as_bytes(), 0o600)?;
    }
    let main = data.join("postgresql.conf");
    let with_include = settings::with_include(&read_text(&main)?);
    changed |= files::write_if_changed(&main, with_include.as_bytes(), 0o600)?;
    let mut warnings = conf.warnings;
    let auto = data.join("postgresql.auto.conf");
    let (kept, removed) = settings::clean_auto_conf(&read_text(&auto)?, &conf.forced);
    if !removed.is_empty() {
        files::write_atomic(&auto, kept.as_bytes(), 0o600)?;
        changed = true;
        warnings.push(format!(
            "removed {} from postgresql.auto.conf: howdah decides these, not ALTER SYSTEM",
            removed.join(", ")
        ));
    }
    Ok(Prepared { warnings, changed })
}

fn read_text(path: &Path) -> Result<String, PrepareError> {
    let bytes = files::read_if_there(path)?.unwrap_or_default();
    String::from_utf8(bytes).map_err(|_| PrepareError::NotText { path: path.display().to_string() })
}

/// Whoever can write there can take the server's place, hence 0700.
fn socket_dir(path: &Path) -> Result<(), FileError> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).doing("chmod", path)
        }
        Err(error) => Err(error).doing("create", path),
    }
}
