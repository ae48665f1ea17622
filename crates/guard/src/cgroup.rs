//! A control group of PostgreSQL's own, so that one write kills all of it at once.
//!
//! Made once at the start, before privileges are dropped: `<own group>/howdah-<pid>/` with `agent`
//! (the guard and the agent) and `postgres`, both given to the user that guard and PostgreSQL run
//! as. Where this is not permitted the guard finds processes by their parents instead.
//! Failure: a guard that is killed leaves empty directories, which the next one removes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid};

/// The group. Dropping it leaves it in place; see [`Cgroup::remove`].
#[derive(Debug)]
pub(crate) struct Cgroup {
    /// Our own group before.
    parent: PathBuf,
    /// `<parent>/howdah-<pid>`.
    top: PathBuf,
    kill: File,
    join: File,
}

impl Cgroup {
    /// Makes the group and moves this process into its `agent` part.
    pub fn create(owner: Option<(Uid, Gid)>) -> io::Result<Self> {
        let parent = own_group()?;
        remove_abandoned(&parent);
        let top = parent.join(format!("howdah-{}", std::process::id()));
        let made = Self::create_in(&parent, &top, owner);
        if made.is_err() {
            remove_tree(&parent, &top);
        }
        made
    }

    fn create_in(parent: &Path, top: &Path, owner: Option<(Uid, Gid)>) -> io::Result<Self> {
        let (agent, postgres) = (top.join("agent"), top.join("postgres"));
        for dir in [top, &agent, &postgres] {
            match fs::create_dir(dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            if let Some((uid, gid)) = owner {
                for name in ["", "cgroup.procs", "cgroup.kill"] {
                    let path = dir.join(name);
                    if path.exists() {
                        nix::unistd::chown(&path, Some(uid), Some(gid))?;
                    }
                }
            }
        }
        let write = |path: PathBuf| OpenOptions::new().write(true).open(path);
        let kill = write(postgres.join("cgroup.kill"))?;
        let join = write(postgres.join("cgroup.procs"))?;
        fs::write(agent.join("cgroup.procs"), "0")?;
        Ok(Self { parent: parent.to_owned(), top: top.to_owned(), kill, join })
    }

    /// Moves the calling process into PostgreSQL's part.
    pub fn join(&self) -> io::Result<()> {
        (&self.join).write_all(b"0")
    }

    /// Kills everything in PostgreSQL's part.
    pub fn kill(&self) -> io::Result<()> {
        (&self.kill).write_all(b"1")
    }

    /// Whether no living process is in PostgreSQL's part or below it.
    pub fn is_empty(&self) -> io::Result<bool> {
        let events = fs::read_to_string(self.top.join("postgres").join("cgroup.events"))?;
        let populated = events.lines().find_map(|line| line.strip_prefix("populated "));
        Ok(populated == Some("0"))
    }

    /// Removes the group as far as that is permitted.
    pub fn remove(self) {
        remove_tree(&self.parent, &self.top);
    }
}

fn remove_tree(parent: &Path, top: &Path) {
    // Best effort: what stays is removed by the next guard that may.
    let _ = fs::remove_dir(top.join("postgres"));
    let _ = fs::write(parent.join("cgroup.procs"), "0");
    let _ = fs::remove_dir(top.join("agent"));
    let _ = fs::remove_dir(top);
}

/// Removes what guards left that are gone. A group that still has processes cannot be removed.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix("howdah-"));
        let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        if !Path::new(&format!("/proc/{pid}")).exists() {
            let top = entry.path();
            for dir in [top.join("postgres"), top.join("agent"), top] {
                let _ = fs::remove_dir(dir);
            }
        }
    }
}

/// Directory of the group that this process is in.
fn own_group() -> io::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let groups = fs::read_to_string("/proc/self/cgroup")?;
    locate(&mounts, &groups)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no cgroup2 file system is mounted"))
}

pub(crate) fn locate(mounts: &str, groups: &str) -> Option<PathBuf> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let own = Path::new(own.strip_suffix(" (deleted)").unwrap_or(own));
    mounts.lines().find_map(|line| {
        let (fields, kind) = line.split_once(" - ")?;
        if !kind.starts_with("cgroup2 ") {
            return None;
        }
        let mut fields = fields.split(' ').skip(3);
        let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
        let below = own.strip_prefix(&root).ok()?;
        Some(if below.as_os_str().is_empty() { point } else { point.join(below) })
    })
}

/// Spaces and the like stand as octal numbers in mountinfo.
fn unescape(text: &str) -> PathBuf {
    let mut out = text.to_owned();
    for (escaped, plain) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        out = out.replace(escaped, plain);
    }
    PathBuf::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_wherever_it_is_mounted() {
        let v1 = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n";
        let hybrid =
            format!("{v1}41 31 0:38 / /sys/fs/cgroup/unified rw shared:2 - cgroup2 c rw\n");
        let unified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        let bound = "30 23 0:26 /pod/a /mnt/cg\\040x rw - cgroup2 cgroup2 rw\n";
        let unit = "3:cpu:/x\n0::/system.slice/howdah.service\n";
        for (mounts, groups, found) in [
            (hybrid.as_str(), "5:memory:/a\n0::/\n", Some("/sys/fs/cgroup/unified")),
            (unified, unit, Some("/sys/fs/cgroup/system.slice/howdah.service")),
            (bound, "0::/pod/a/b\n", Some("/mnt/cg x/b")),
            (bound, "0::/pod/other\n", None),
            (v1, unit, None),
            (unified, "3:cpu:/x\n", None),
            ("garbage", "0::/", None),
        ] {
            assert_eq!(locate(mounts, groups), found.map(PathBuf::from), "{mounts} {groups}");
        }
    }
}
