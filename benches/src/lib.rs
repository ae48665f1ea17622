//! Benchmarks of howdah, each a program of its own: `make idle`, `make commit-latency`, `make
//! doors`.

pub mod demo;
pub mod process;

use std::path::PathBuf;

use anyhow::{Context, Result};

/// Programs of the newest PostgreSQL of Debian's packages.
///
/// # Errors
/// If there is none.
pub fn newest_bin() -> Result<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .context("no PostgreSQL of Debian's packages")?
        .flatten()
        .filter_map(|e| Some((e.file_name().to_str()?.parse().ok()?, e.path().join("bin"))))
        .collect();
    found.sort();
    Ok(found.pop().context("no PostgreSQL in /usr/lib/postgresql")?.1)
}
