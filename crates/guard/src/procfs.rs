//! Processes as /proc shows them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::wire::Process;

/// All processes, with their parents.
pub(crate) fn all() -> Vec<(i32, i32)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| Some((pid, parent_and_state(pid)?.0)))
        .collect()
}

/// Parent and state letter; none: no such process.
pub(crate) fn parent_and_state(pid: i32) -> Option<(i32, char)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, also parentheses.
    let rest = stat.rsplit_once(')')?.1;
    let mut words = rest.split_whitespace();
    let state = words.next()?.chars().next()?;
    Some((words.next()?.parse().ok()?, state))
}

/// Whether the process exists and is no zombie.
pub(crate) fn lives(pid: i32) -> bool {
    parent_and_state(pid).is_some_and(|(_, state)| state != 'Z' && state != 'X')
}

/// Everything below `roots`, the roots not included, what is at or below `spared` left out.
pub(crate) fn descendants(roots: &[i32], spared: Option<i32>) -> Vec<i32> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for (pid, parent) in all() {
        children.entry(parent).or_default().push(pid);
    }
    let mut found = Vec::new();
    let mut open: Vec<i32> = roots.to_vec();
    while let Some(parent) = open.pop() {
        for pid in children.get(&parent).into_iter().flatten() {
            if Some(*pid) != spared && !found.contains(pid) {
                found.push(*pid);
                open.push(*pid);
            }
        }
    }
    found
}

/// A process with its title.
pub(crate) fn process(pid: i32) -> Option<Process> {
    let (ppid, _) = parent_and_state(pid)?;
    let title = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let title = String::from_utf8_lossy(&title).replace('\0', " ").trim_end().to_owned();
    Some(Process { pid, ppid, title })
}

/// Working directory of a process, where that may be read.
pub(crate) fn cwd(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// Whether two paths name the same directory.
pub(crate) fn same_dir(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}
