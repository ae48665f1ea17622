//! A cgroup of our own, so that one write kills all of PostgreSQL.
//!
//! Made while still privileged, handed to the user that the guard becomes, and removed at the end as
//! far as that is allowed. Where none can be made, the guard is child subreaper only.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, chown};

/// The cgroup that holds PostgreSQL and nothing else.
#[derive(Debug)]
pub(crate) struct Cgroup {
    top: PathBuf,
    postgres: PathBuf,
}

impl Cgroup {
    /// Makes it, moves this process into a sibling, and checks that `cgroup.kill` is there.
    pub fn make(owner: Option<(u32, u32)>) -> Option<Self> {
        let own = own_cgroup()?;
        let top = own.join(format!("howdah-{}", std::process::id()));
        let cgroup = Self { postgres: top.join("postgres"), top };
        if cgroup.try_make(owner).is_err() || !cgroup.postgres.join("cgroup.kill").exists() {
            cgroup.remove();
            return None;
        }
        Some(cgroup)
    }

    fn try_make(&self, owner: Option<(u32, u32)>) -> std::io::Result<()> {
        let agent = self.top.join("agent");
        for dir in [&self.top, &self.postgres, &agent] {
            fs::create_dir(dir)?;
        }
        if let Some((uid, gid)) = owner {
            for dir in [&self.top, &self.postgres, &agent] {
                for name in ["", "cgroup.procs", "cgroup.kill", "cgroup.threads"] {
                    let path = if name.is_empty() { dir.clone() } else { dir.join(name) };
                    if path.exists() {
                        chown(&path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
                    }
                }
            }
        }
        fs::write(agent.join("cgroup.procs"), std::process::id().to_string())
    }

    /// Where a process writes its id to be inside.
    pub fn procs(&self) -> PathBuf {
        self.postgres.join("cgroup.procs")
    }

    /// Kills everything inside. Whether the kernel took it.
    pub fn kill(&self) -> bool {
        fs::write(self.postgres.join("cgroup.kill"), "1").is_ok()
    }

    /// Processes inside.
    pub fn members(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.procs()).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Removes what may be removed.
    pub fn remove(&self) {
        // Back to where we came from, so that the directory becomes empty; not always allowed.
        if let Some(parent) = self.top.parent() {
            let _ = fs::write(parent.join("cgroup.procs"), std::process::id().to_string());
        }
        for dir in [&self.postgres, &self.top.join("agent"), &self.top] {
            let _ = fs::remove_dir(dir);
        }
    }
}

/// Directory of this process's cgroup in the unified hierarchy.
fn own_cgroup() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        after.starts_with("cgroup2 ").then(|| before.split(' ').nth(4).map(Path::new)).flatten()
    })?;
    Some(mount.join(own.trim_start_matches('/')))
}
