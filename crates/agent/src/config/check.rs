//! Looks at this machine: are the programs there, does the data directory belong to PostgreSQL and
//! to the right user? Reads only; called by `howdah config check` and once at the start of `run`.

use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use nix::unistd::{Uid, User};

use super::{Config, Finding, Place};

const PROGRAMS: &[&str] = &["postgres", "initdb", "pg_basebackup", "pg_rewind", "pg_controldata"];

pub(super) fn check(config: &Config) -> Vec<Finding> {
    let mut checker = Checker { config, findings: Vec::new() };
    checker.programs();
    let user = checker.user();
    checker.data_dir(user.as_ref());
    checker.raft_dir(user.as_ref());
    if let Some(user) = &user {
        checker.readable(&config.file, user);
    }
    checker.findings
}

struct Checker<'a> {
    config: &'a Config,
    findings: Vec<Finding>,
}

impl Checker<'_> {
    fn add(&mut self, key: &str, what: String, remedy: String) {
        let file = self.config.file.clone();
        self.findings.push(Finding {
            file,
            place: Place::Whole,
            key: key.to_owned(),
            what,
            remedy,
        });
    }

    fn programs(&mut self) {
        let dir = self.config.postgresql.bin_dir.clone();
        for program in PROGRAMS {
            let path = dir.join(program);
            let runs = std::fs::metadata(&path)
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
            if !runs {
                let what = format!("{} is missing or no program", path.display());
                let remedy = "install PostgreSQL's server package or correct the directory";
                self.add("postgresql.bin_dir", what, remedy.to_owned());
            }
        }
    }

    /// The user that PostgreSQL will run as.
    fn user(&mut self) -> Option<User> {
        if !Uid::effective().is_root() {
            return User::from_uid(Uid::effective()).ok().flatten();
        }
        let name = &self.config.user;
        match User::from_name(name).ok().flatten() {
            Some(user) if user.uid.is_root() => {
                let what = "is root, and PostgreSQL refuses to run as root".to_owned();
                self.add("user", what, "name another user".to_owned());
                None
            }
            Some(user) => Some(user),
            None => {
                let what = format!("`{name}` is no user of this machine");
                self.add("user", what, "create it or name another".to_owned());
                None
            }
        }
    }

    fn data_dir(&mut self, user: Option<&User>) {
        const KEY: &str = "postgresql.data_dir";
        let dir = self.config.postgresql.data_dir.clone();
        let Some(meta) = self.directory(KEY, &dir) else { return };
        self.owned(KEY, &dir, &meta, user);
        let mode = meta.permissions().mode() & 0o777;
        let empty = std::fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_none());
        if empty {
            return;
        }
        let version = std::fs::read_to_string(dir.join("PG_VERSION"));
        let Ok(version) = version else {
            let what = format!("{} holds files, but no PostgreSQL", dir.display());
            self.add(KEY, what, "name another directory, or empty this one".to_owned());
            return;
        };
        if mode & 0o027 != 0 {
            let what =
                format!("{} has mode {mode:04o}, PostgreSQL wants 0700 or 0750", dir.display());
            self.add(KEY, what, format!("chmod 0700 {}", dir.display()));
        }
        self.same_version(&dir, version.trim());
    }

    fn same_version(&mut self, dir: &Path, version: &str) {
        let program = self.config.postgresql.bin_dir.join("postgres");
        let output = Command::new(&program).arg("--version").output();
        let Ok(output) = output else { return };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let word = text.split_whitespace().find(|w| w.starts_with(|c: char| c.is_ascii_digit()));
        let major: String =
            word.unwrap_or_default().chars().take_while(char::is_ascii_digit).collect();
        if !major.is_empty() && major != version {
            let what =
                format!("{} is of PostgreSQL {version}, the programs are {major}", dir.display());
            let remedy = format!("point bin_dir at PostgreSQL {version}, or upgrade the data");
            self.add("postgresql.bin_dir", what, remedy);
        }
    }

    fn raft_dir(&mut self, user: Option<&User>) {
        let dir = self.config.raft.data_dir.clone();
        if let Some(meta) = self.directory("raft.data_dir", &dir) {
            self.owned("raft.data_dir", &dir, &meta, user);
        }
    }

    /// The directory's data if it exists; one that can be made later is no finding.
    fn directory(&mut self, key: &str, dir: &Path) -> Option<Metadata> {
        match std::fs::metadata(dir) {
            Ok(meta) if meta.is_dir() => Some(meta),
            Ok(_) => {
                let what = format!("{} is no directory", dir.display());
                self.add(key, what, "name a directory".to_owned());
                None
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                let what = format!("{} cannot be looked at ({error})", dir.display());
                self.add(key, what, "check the permissions of the directories above".to_owned());
                None
            }
        }
    }

    fn owned(&mut self, key: &str, dir: &Path, meta: &Metadata, user: Option<&User>) {
        let Some(user) = user.filter(|user| user.uid.as_raw() != meta.uid()) else { return };
        let what = format!("{} belongs to uid {}, not to {}", dir.display(), meta.uid(), user.name);
        self.add(key, what, format!("chown -R {} {}", user.name, dir.display()));
    }

    /// The agent reads the file again after privileges were dropped.
    fn readable(&mut self, file: &Path, user: &User) {
        let Ok(meta) = std::fs::metadata(file) else { return };
        let mode = meta.permissions().mode();
        let readable = mode & 0o004 != 0
            || (meta.uid() == user.uid.as_raw() && mode & 0o400 != 0)
            || (meta.gid() == user.gid.as_raw() && mode & 0o040 != 0);
        if !readable {
            let what = format!("{} cannot read this file", user.name);
            self.add("", what, format!("chown {} {}", user.name, file.display()));
        }
    }
}
