//! Who is whose child, as /proc says.
//!
//! A scan is not atomic: a process forked meanwhile can be missed. Whoever proves that nothing is
//! left scans until two scans in a row find nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::wire::ProcessInfo;

/// One process in a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its parent.
    pub ppid: i32,
    /// Whether it is dead and only waits to be reaped.
    pub zombie: bool,
}

/// All processes at about one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scan {
    pub processes: BTreeMap<i32, Process>,
}

impl Scan {
    /// Looks at all processes.
    pub fn take() -> std::io::Result<Self> {
        let mut processes = BTreeMap::new();
        for entry in fs::read_dir("/proc")? {
            let Ok(entry) = entry else { continue };
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // It may have ended meanwhile.
            let Ok(stat) = fs::read(format!("/proc/{pid}/stat")) else { continue };
            if let Some(process) = parse_stat(&stat) {
                processes.insert(pid, process);
            }
        }
        Ok(Self { processes })
    }

    /// Everything below `root`, without it.
    pub fn below(&self, root: i32) -> Vec<i32> {
        self.below_except(root, &[])
    }

    /// Everything below `root`, without it, without `spared` and what is below those.
    pub fn below_except(&self, root: i32, spared: &[i32]) -> Vec<i32> {
        let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for (&pid, process) in &self.processes {
            children.entry(process.ppid).or_default().push(pid);
        }
        let (mut found, mut next) = (Vec::new(), vec![root]);
        while let Some(parent) = next.pop() {
            // Removed, so that a scan torn by a reused pid cannot lead in circles.
            for child in children.remove(&parent).unwrap_or_default() {
                if child != root && !spared.contains(&child) {
                    found.push(child);
                    next.push(child);
                }
            }
        }
        found
    }
}

/// Parses `/proc/PID/stat`; the name in it may contain anything.
pub(crate) fn parse_stat(stat: &[u8]) -> Option<Process> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let zombie = matches!(fields.next()?, "Z" | "X");
    Some(Process { ppid: fields.next()?.parse().ok()?, zombie })
}

/// What a process calls itself; empty if it is gone or a zombie.
pub(crate) fn title(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line).replace('\0', " ");
    line.trim_end().to_owned()
}

/// The directory a process is in; none if it is gone or not ours to look at.
pub(crate) fn working_directory(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

/// Whether a process runs a program called `postgres`, also one replaced meanwhile.
pub(crate) fn is_postgres(pid: i32) -> bool {
    let Ok(program) = fs::read_link(format!("/proc/{pid}/exe")) else { return false };
    let name = program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_suffix(" (deleted)").unwrap_or(name) == "postgres"
}

/// For the agent: `pid` and its parent, with its title.
pub(crate) fn info(scan: &Scan, pid: i32) -> Option<ProcessInfo> {
    let process = scan.processes.get(&pid)?;
    Some(ProcessInfo { pid, ppid: process.ppid, title: title(pid) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_forge_a_parent() {
        let parsed = parse_stat(b"12 (a) R 1 (b) S 77 12 12 0 -1");
        assert_eq!(parsed, Some(Process { ppid: 77, zombie: false }));
        assert_eq!(parse_stat(b"12 (x) Z 5 1"), Some(Process { ppid: 5, zombie: true }));
        for bad in [&b""[..], b"12 (x", b"12 (x)", b"12 (x) S", b"12 (x) S y", b"12 (x) S \xff"] {
            assert_eq!(parse_stat(bad), None);
        }
    }

    #[test]
    fn descendants_without_the_spared() {
        let tree = [(2, 1), (3, 1), (4, 2), (5, 4), (6, 3), (7, 6), (8, 99), (98, 99), (99, 98)];
        let processes =
            tree.map(|(pid, ppid)| (pid, Process { ppid, zombie: false })).into_iter().collect();
        let scan = Scan { processes };
        let sorted = |mut list: Vec<i32>| {
            list.sort_unstable();
            list
        };
        assert_eq!(sorted(scan.below(1)), [2, 3, 4, 5, 6, 7]);
        assert_eq!(sorted(scan.below_except(1, &[3])), [2, 4, 5]);
        assert_eq!(sorted(scan.below_except(1, &[4, 6])), [2, 3]);
        assert_eq!(sorted(scan.below(98)), [8, 99], "a circle ends");
    }

    #[test]
    fn a_scan_sees_this_process() {
        let scan = Scan::take().unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(scan.processes.contains_key(&me));
        assert!(!title(me).is_empty());
        assert!(!is_postgres(me));
        assert_eq!(working_directory(me), std::env::current_dir().ok());
    }
}
