//! Finds the PostgreSQL programs that belong to a data directory.
//!
//! Asked by the agent once at its start, and by tests. Keeps nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::versions;

/// Where packages put the programs of major version N.
const HOMES: [(&str, &str); 2] = [("/usr/lib/postgresql/", "/bin"), ("/usr/pgsql-", "/bin")];

/// The programs of one PostgreSQL version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// Directory that holds `postgres`, `initdb` and the others.
    pub bin_dir: PathBuf,
    /// Major version, 14 to 18.
    pub major: u32,
    /// What `postgres --version` says.
    pub version: String,
    /// Whether it was built with TLS.
    pub has_tls: bool,
}

/// No usable PostgreSQL programs.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// None anywhere.
    #[error("no PostgreSQL programs found in {searched}; install them or set postgresql.bin_dir")]
    NotFound {
        /// Where they were looked for.
        searched: String,
    },
    /// `postgres` is there but does not run.
    #[error("{} does not run: {why}; set postgresql.bin_dir to a working one", program.display())]
    Broken {
        /// The program.
        program: PathBuf,
        /// What happened.
        why: String,
    },
    /// A version that is not supported.
    #[error("{} is PostgreSQL {major}; supported are {} to {}", bin_dir.display(),
        versions::OLDEST, versions::NEWEST)]
    Unsupported {
        /// Where it was found.
        bin_dir: PathBuf,
        /// Its major version.
        major: u32,
    },
    /// The programs are of another major version than the data.
    #[error("{} is PostgreSQL {programs}, but the data directory belongs to {data}; \
        set postgresql.bin_dir to version {data}", bin_dir.display())]
    OtherMajor {
        /// Where the programs are.
        bin_dir: PathBuf,
        /// Major version of the programs.
        programs: u32,
        /// Major version in `PG_VERSION`.
        data: u32,
    },
}

impl Install {
    /// Looks in `bin_dir` if given; else for the version that the data directory names; without
    /// data, for the highest supported one where packages put them; else along PATH.
    pub fn find(bin_dir: Option<&Path>, data_dir: Option<&Path>) -> Result<Self, InstallError> {
        let data = data_dir.and_then(data_major);
        let install = match bin_dir {
            Some(dir) => Self::at(dir)?,
            None => Self::at(&search(data)?)?,
        };
        match data {
            Some(data) if data != install.major => Err(InstallError::OtherMajor {
                bin_dir: install.bin_dir,
                programs: install.major,
                data,
            }),
            _ => Ok(install),
        }
    }

    /// The programs in this directory.
    pub fn at(bin_dir: &Path) -> Result<Self, InstallError> {
        let program = bin_dir.join("postgres");
        let broken = |why: String| InstallError::Broken { program: program.clone(), why };
        let output = Command::new(&program).arg("--version").env("LC_ALL", "C").output();
        let output = output.map_err(|e| broken(e.to_string()))?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let major = versions::major_of(&version)
            .ok_or_else(|| broken(format!("`--version` says {version:?} ({})", output.status)))?;
        if !versions::supported(major) {
            return Err(InstallError::Unsupported { bin_dir: bin_dir.to_owned(), major });
        }
        let described = Command::new(&program).arg("--describe-config").env("LC_ALL", "C").output();
        let described = described.map_err(|e| broken(e.to_string()))?;
        let has_tls = has_tls(&String::from_utf8_lossy(&described.stdout));
        Ok(Self { bin_dir: bin_dir.to_owned(), major, version, has_tls })
    }

    /// Path of the server program.
    pub fn postgres(&self) -> PathBuf {
        self.bin_dir.join("postgres")
    }
}

/// Without TLS there are no ciphers to choose from. Source: guc_tables.c, `ssl_ciphers`.
pub(crate) fn has_tls(described: &str) -> bool {
    let ciphers = described.lines().find(|line| line.starts_with("ssl_ciphers\t"));
    ciphers.is_some_and(|line| line.split('\t').nth(4) != Some("none"))
}

/// Major version that a data directory names in its `PG_VERSION`, if it has one.
pub fn data_major(data_dir: &Path) -> Option<u32> {
    versions::major_of(&std::fs::read_to_string(data_dir.join("PG_VERSION")).ok()?)
}

fn search(data: Option<u32>) -> Result<PathBuf, InstallError> {
    let majors: Vec<u32> = match data {
        Some(major) => vec![major],
        None => (versions::OLDEST..=versions::NEWEST).rev().collect(),
    };
    let homes = majors
        .iter()
        .flat_map(|major| HOMES.map(|(before, after)| format!("{before}{major}{after}")));
    let mut candidates: Vec<PathBuf> = homes.map(PathBuf::from).collect();
    candidates.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let found = candidates.iter().find(|dir| dir.join("postgres").is_file());
    found.cloned().ok_or_else(|| InstallError::NotFound {
        searched: candidates.iter().map(|d| d.display().to_string()).collect::<Vec<_>>().join(", "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fake(version: &str) -> tempfile::TempDir {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("postgres");
        std::fs::write(&program, format!("#!/bin/sh\necho '{version}'\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        dir
    }

    #[test]
    fn the_given_directory_must_fit_the_data() {
        let bin = fake("postgres (PostgreSQL) 16.4");
        let data = tempfile::tempdir().unwrap();
        let find = || Install::find(Some(bin.path()), Some(data.path()));
        assert_eq!(find().unwrap().major, 16);
        std::fs::write(data.path().join("PG_VERSION"), "16\n").unwrap();
        assert_eq!(find().unwrap().version, "postgres (PostgreSQL) 16.4");
        std::fs::write(data.path().join("PG_VERSION"), "15\n").unwrap();
        assert!(matches!(find(), Err(InstallError::OtherMajor { programs: 16, data: 15, .. })));
    }

    #[test]
    fn unusable_programs_are_named() {
        let at = |version: &str| Install::at(fake(version).path());
        let old = at("postgres (PostgreSQL) 13.1");
        assert!(matches!(old, Err(InstallError::Unsupported { major: 13, .. })), "{old:?}");
        assert!(matches!(at("what"), Err(InstallError::Broken { .. })));
        let none = Install::at(Path::new("/nonexistent"));
        assert!(matches!(none, Err(InstallError::Broken { .. })));
    }
}
