//! What a cluster leaves of itself where a run found something: its volumes go with it.
//!
//! [`crate::run`] calls it once, after the verdicts. Killed half way: some of it is missing.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use howdah_tests::{Cluster, Member};

/// Directory of it, in that of the run.
const DIR: &str = "members";
/// Of its WAL and tables no more than the names.
const KEPT: [&str; 4] = ["log", "history", "conf", "yml"];

/// Logs and configuration of every member, and the names, sizes and times of all files that it has, into `dir`.
///
/// # Errors
/// If they cannot be written there.
pub fn keep(cluster: &Cluster, dir: &Path) -> Result<()> {
    for member in &cluster.members {
        let to = dir.join(DIR).join(&member.name);
        fs::create_dir_all(&to).with_context(|| format!("create {}", to.display()))?;
        let listing = homes(member, &to)?;
        fs::write(to.join("files.txt"), listing)?;
    }
    println!("What the members left: {}", dir.join(DIR).display());
    Ok(())
}

/// What lies in its directories, and beside its data.
fn homes(member: &Member, to: &Path) -> Result<String> {
    let mut listing = String::new();
    let mut homes = vec![member.dir.as_path(), member.raft.as_path()];
    // What lies beside the data belongs to it: an identity, a copy that is under way.
    homes.extend(member.data.parent());
    homes.sort();
    homes.dedup();
    for (number, home) in homes.iter().enumerate() {
        // A home in another one was looked at with it.
        if homes.iter().take(number).any(|other| home.starts_with(other)) {
            continue;
        }
        look(home, home, to, &mut listing)?;
    }
    Ok(listing)
}

/// Files come and go while they are looked at.
fn look(home: &Path, at: &Path, to: &Path, listing: &mut String) -> Result<()> {
    let Ok(entries) = fs::read_dir(at) else { return Ok(()) };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let Ok(meta) = path.symlink_metadata() else { continue };
        writeln!(
            listing,
            "{:06o} {:>12} {}.{:03} {}",
            meta.mode(),
            meta.len(),
            meta.mtime(),
            meta.mtime_nsec() / 1_000_000,
            path.display()
        )?;
        if meta.is_dir() {
            look(home, &path, to, listing)?;
        } else if meta.is_file() && is_kept(&path) {
            let under = path.strip_prefix(home).unwrap_or(&path);
            let name = under.display().to_string().replace('/', "_");
            fs::copy(&path, to.join(&name)).with_context(|| format!("copy {}", path.display()))?;
        }
    }
    Ok(())
}

fn is_kept(path: &Path) -> bool {
    let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default();
    KEPT.contains(&end)
}
