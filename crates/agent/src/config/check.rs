//! Looks at this machine: are the programs there and of one version, does that version take the
//! parameters, do the directories belong to the right user? Reads only; called by
//! `howdah config check`.

use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use howdah_locks::KeyringError;
use nix::unistd::{Uid, User};

use super::{Config, Finding, Place, parameters};

/// Major versions of PostgreSQL that howdah knows.
const VERSIONS: std::ops::RangeInclusive<u32> = 14..=18;

const PROGRAMS: &[&str] = &["postgres", "initdb", "pg_basebackup", "pg_rewind", "pg_controldata"];

pub(super) fn check(config: &Config) -> Vec<Finding> {
    let mut checker = Checker { config, findings: Vec::new() };
    checker.programs();
    let user = checker.user();
    let major = checker.versions(user.as_ref());
    checker.parameters(major);
    checker.data_dir(user.as_ref(), major);
    checker.raft_dir(user.as_ref());
    checker.certificates(user.as_ref());
    if let Some(user) = &user {
        for file in &config.files {
            checker.readable(file, user);
        }
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

    /// Whether they are this member's, and readable for the agent.
    fn certificates(&mut self, user: Option<&User>) {
        let renewal = self.config.renewal();
        match self.config.access() {
            // It is renewed before it is used.
            Err(KeyringError::Expired { .. }) if renewal.is_some() => {}
            Err(why) => {
                let remedy = "make them with `howdah pki issue member`";
                self.add("tls", why.to_string(), remedy.to_owned());
            }
            Ok(_) => {}
        }
        if let Some(renewal) = &renewal {
            if let Err(why) = renewal.authority() {
                let remedy = "name the key of a CA in tls.ca, or leave it out and renew by hand";
                self.add("tls.ca_key", why.to_string(), remedy.to_owned());
            }
            let (cert, key) = (&renewal.paths.cert, &renewal.paths.key);
            let apart = (cert.parent() != key.parent()).then_some(key);
            for file in [cert].into_iter().chain(apart) {
                self.writable_parent("tls.ca_key", file, user);
            }
        }
        let files = self.config.tls.iter().flat_map(|paths| [&paths.ca, &paths.cert, &paths.key]);
        let files = files.chain(&self.config.ca_key).cloned();
        for file in files.collect::<Vec<_>>() {
            if let Some(user) = user
                && file.exists()
            {
                self.readable(&file, user);
            }
        }
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

    fn data_dir(&mut self, user: Option<&User>, major: Option<u32>) {
        const KEY: &str = "postgresql.data_dir";
        let dir = self.config.postgresql.data_dir.clone();
        // Beside it lie files of howdah's, and a fresh copy is made there before it takes its place.
        self.writable_parent(KEY, &dir, user);
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
        let version = version.trim();
        if let Some(major) = major.filter(|major| major.to_string() != version) {
            let what =
                format!("{} is of PostgreSQL {version}, the programs are {major}", dir.display());
            let remedy = format!("point bin_dir at PostgreSQL {version}, or upgrade the data");
            self.add("postgresql.bin_dir", what, remedy);
        }
    }

    /// The major version, if the programs that are there agree on one. They are asked as the user that they will run as:
    /// root runs nothing that another user names.
    fn versions(&mut self, user: Option<&User>) -> Option<u32> {
        let user = user?;
        const KEY: &str = "postgresql.bin_dir";
        let dir = self.config.postgresql.bin_dir.clone();
        let mut majors: Vec<(&str, u32)> = Vec::new();
        for program in PROGRAMS {
            let path = dir.join(program);
            if !path.is_file() {
                continue;
            }
            match major_of(&path, user) {
                Ok(major) => majors.push((program, major)),
                Err(why) => {
                    let what = format!("{} does not run: {why}", path.display());
                    self.add(KEY, what, "install PostgreSQL's server package anew".to_owned());
                }
            }
        }
        let (first, major) = *majors.first()?;
        if let Some((other, theirs)) = majors.iter().find(|(_, theirs)| *theirs != major) {
            let what = format!("{first} is of PostgreSQL {major}, {other} of {theirs}");
            self.add(KEY, what, "name the directory of one version".to_owned());
            return None;
        }
        if !VERSIONS.contains(&major) {
            let what = format!("{} has PostgreSQL {major}", dir.display());
            let (first, last) = (VERSIONS.start(), VERSIONS.end());
            self.add(KEY, what, format!("install one of the versions {first} to {last}"));
            return None;
        }
        Some(major)
    }

    /// What passed as a parameter of some version may be none of this one.
    fn parameters(&mut self, major: Option<u32>) {
        let Some(major) = major else { return };
        for (section, all) in [
            ("postgresql.parameters", &self.config.postgresql.parameters),
            ("bootstrap.dcs.postgresql.parameters", &self.config.bootstrap.settings.parameters),
        ] {
            for (name, what, remedy) in parameters::for_major(all, major) {
                self.add(&format!("{section}.{name}"), what, remedy);
            }
        }
    }

    fn raft_dir(&mut self, user: Option<&User>) {
        let dir = self.config.raft.data_dir.clone();
        if !dir.exists() {
            self.writable_parent("raft.data_dir", &dir, user);
        }
        if let Some(meta) = self.directory("raft.data_dir", &dir) {
            self.owned("raft.data_dir", &dir, &meta, user);
        }
    }

    /// The nearest directory above that exists must let the user make others in it.
    fn writable_parent(&mut self, key: &str, dir: &Path, user: Option<&User>) {
        let Some(user) = user else { return };
        let mut above = dir.parent();
        while let Some(parent) = above.filter(|parent| !parent.exists()) {
            above = parent.parent();
        }
        let Some(parent) = above else { return };
        let Ok(meta) = std::fs::metadata(parent) else { return };
        if !meta.is_dir() {
            let what = format!("{} is no directory", parent.display());
            self.add(key, what, "name a path below a directory".to_owned());
        } else if !may(&meta, user, 0o3) {
            let what = format!("{} may not write to {}", user.name, parent.display());
            let remedy =
                format!("chown {} {}, or choose another place", user.name, parent.display());
            self.add(key, what, remedy);
        } else if let Some(shut) = parent.ancestors().find(|above| !enters(above, user)) {
            let what = format!("{} may not enter {}", user.name, shut.display());
            self.add(key, what, format!("chmod o+x {}", shut.display()));
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
        if !may(&meta, user, 0o4) {
            let what = format!("{} cannot read {}", user.name, file.display());
            self.add("", what, format!("chown {} {}", user.name, file.display()));
        }
    }
}

/// Whether the user has all permissions of `bits`, as 0o4 to read.
fn may(meta: &Metadata, user: &User, bits: u32) -> bool {
    if user.uid.is_root() {
        return true;
    }
    let shift = if meta.uid() == user.uid.as_raw() {
        6
    } else if groups(user).contains(&meta.gid()) {
        3
    } else {
        0
    };
    meta.permissions().mode() >> shift & bits == bits
}

fn groups(user: &User) -> Vec<u32> {
    let name = std::ffi::CString::new(user.name.as_str()).unwrap_or_default();
    let all = nix::unistd::getgrouplist(&name, user.gid).unwrap_or_default();
    all.into_iter().map(|group| group.as_raw()).chain([user.gid.as_raw()]).collect()
}

fn enters(dir: &Path, user: &User) -> bool {
    std::fs::metadata(dir).is_ok_and(|meta| may(&meta, user, 0o1))
}

/// The major version that a program says it is of.
fn major_of(program: &Path, user: &User) -> Result<u32, String> {
    let mut command = Command::new(program);
    command.arg("--version");
    if Uid::effective().is_root() {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw()).current_dir("/");
    }
    let output = command.output();
    let output = output.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version =
        text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let digits: String =
        version.unwrap_or_default().chars().take_while(char::is_ascii_digit).collect();
    match digits.parse() {
        Ok(major) if output.status.success() => Ok(major),
        _ => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(said.lines().next().unwrap_or("it names no version").to_owned())
        }
    }
}
