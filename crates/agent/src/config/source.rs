//! Where a configuration comes from: a file, or a directory of files, and the environment.
//!
//! Place: the first step of `Config::load`; gives the tree that the readers take apart. Reads and
//! changes nothing. A directory's files are those that end in `.yml`, in the order of their names;
//! a later one goes before an earlier one, key by key. Variables go before all files.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::ConfigError;
use super::value::{self, Node, Place, Value};

/// No configuration is larger. Bounds what a wrong path, as of a device, can do.
const LARGEST: u64 = 1 << 20;

/// One file and its text.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Its path.
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
    /// Its permission bits, for the warning about readable passwords.
    pub mode: u32,
}

/// All that a configuration is made of.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file or directory that was named.
    pub named: PathBuf,
    /// The files, in the order in which they are laid over each other.
    pub files: Vec<SourceFile>,
    /// Environment variables; those that do not begin with `HOWDAH_` count for nothing.
    pub variables: BTreeMap<String, String>,
    /// Names of `HOWDAH_*` variables whose values are no text.
    pub unreadable: Vec<String>,
}

impl Sources {
    /// Reads a file or a directory, and this process's environment.
    ///
    /// # Errors
    /// `ConfigError` if something cannot be read.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let mut sources = Sources { named: path.to_owned(), ..Sources::default() };
        for file in files(path)? {
            sources.files.push(read_file(file)?);
        }
        sources.take_variables(std::env::vars_os());
        Ok(sources)
    }

    /// Keeps what begins with `HOWDAH_`.
    pub fn take_variables(&mut self, variables: impl Iterator<Item = (OsString, OsString)>) {
        for (name, value) in variables {
            let name = name.to_string_lossy().into_owned();
            if !name.starts_with("HOWDAH_") {
                continue;
            }
            match value.into_string() {
                Ok(value) => {
                    self.variables.insert(name, value);
                }
                Err(_) => self.unreadable.push(name),
            }
        }
    }

    /// The files as one tree, without the variables.
    pub(super) fn tree(&self) -> Result<Node, ConfigError> {
        let mut root = Node { place: Place::Whole, value: Value::Null };
        for file in &self.files {
            let path: Arc<Path> = Arc::from(file.path.as_path());
            let node = value::parse(&path, &file.text)
                .map_err(|error| ConfigError::syntax(&path, &error))?;
            root.merge(node);
        }
        Ok(root)
    }

    /// Permission bits of each file.
    pub(super) fn modes(&self) -> BTreeMap<Arc<Path>, u32> {
        self.files.iter().map(|file| (Arc::from(file.path.as_path()), file.mode)).collect()
    }
}

fn files(path: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let read = |source| ConfigError::Read { file: path.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(read)? {
        let file = entry.map_err(read)?.path();
        // Editors leave hidden copies behind.
        let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if file.extension().is_some_and(|extension| extension == "yml") && !hidden {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(ConfigError::Empty { file: path.to_owned() });
    }
    Ok(files)
}

fn read_file(path: PathBuf) -> Result<SourceFile, ConfigError> {
    let failed = |source| ConfigError::Read { file: path.clone(), source };
    let file = std::fs::File::open(&path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    let mut text = String::new();
    file.take(LARGEST + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > LARGEST {
        return Err(ConfigError::Large { file: path, limit: LARGEST });
    }
    Ok(SourceFile { path, text, mode })
}
