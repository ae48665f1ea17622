//! The processes of one member, found by parentage in /proc. Reads only; sends signals to pids that
//! it has just found below a child of the demo.

use std::collections::BTreeMap;
use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// One process as /proc shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Process {
    parent: i32,
    command: Vec<String>,
}

/// A snapshot of all processes.
pub(crate) struct Table(BTreeMap<i32, Process>);

impl Table {
    /// Reads /proc; processes that end meanwhile are left out.
    pub(crate) fn read() -> Table {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        Table(pids.filter_map(|pid| Some((pid, read_one(pid)?))).collect())
    }

    fn children(&self, parent: i32) -> impl Iterator<Item = (i32, &Process)> {
        let of_parent = move |(_, process): &(&i32, &Process)| process.parent == parent;
        self.0.iter().filter(of_parent).map(|(pid, process)| (*pid, process))
    }

    /// The agent below a guard.
    pub(crate) fn agent(&self, guard: i32) -> Option<i32> {
        let is_agent = |process: &Process| process.command.get(1).is_some_and(|arg| arg == "agent");
        self.children(guard).find(|(_, process)| is_agent(process)).map(|(pid, _)| pid)
    }

    /// The postmaster below a guard.
    pub(crate) fn postmaster(&self, guard: i32) -> Option<i32> {
        let is_postgres = |process: &Process| {
            let program = process.command.first().map(String::as_str).unwrap_or_default();
            program.rsplit('/').next() == Some("postgres")
                && process.command.iter().any(|arg| arg.starts_with("-D"))
        };
        self.children(guard).find(|(_, process)| is_postgres(process)).map(|(pid, _)| pid)
    }

    /// A process and all below it, ancestors first.
    pub(crate) fn tree(&self, root: i32) -> Vec<i32> {
        let mut found = vec![root];
        let mut next = 0;
        while next < found.len() {
            found.extend(self.children(found[next]).map(|(pid, _)| pid));
            next += 1;
        }
        found
    }
}

fn read_one(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = command.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    Some(Process {
        parent: parent_of(&stat)?,
        command: words.map(|word| String::from_utf8_lossy(word).into_owned()).collect(),
    })
}

/// The second field is the name in brackets and may hold anything, brackets too.
fn parent_of(stat: &str) -> Option<i32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// Sends a signal; a process that is gone already is as good as hit.
pub(crate) fn send(pid: i32, signal: Signal) {
    // Only ESRCH can happen to one's own children and below, and it means what was wanted.
    let _ = kill(Pid::from_raw(pid), signal);
}

/// SIGKILLs a process and everything below it. The root goes first: it must not answer the deaths.
pub(crate) fn kill_tree(root: i32) {
    // A process that forked between the look and the kill shows in the next look.
    for _ in 0..3 {
        let tree = Table::read().tree(root);
        for pid in &tree {
            send(*pid, Signal::SIGKILL);
        }
        if tree.len() <= 1 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_behind_any_name() {
        assert_eq!(parent_of("7 (a) b (c)) S 42 7 7 0"), Some(42));
        assert_eq!(parent_of("garbage"), None);
        assert_eq!(parent_of("7 (x) S"), None);
    }

    #[test]
    fn a_members_processes_are_told_apart() {
        let process = |parent, command: &[&str]| Process {
            parent,
            command: command.iter().map(|word| (*word).to_owned()).collect(),
        };
        let table = Table(BTreeMap::from([
            (10, process(1, &["howdah", "run", "-c", "x"])),
            (11, process(10, &["/proc/self/exe", "agent", "-c", "x"])),
            (12, process(10, &["/usr/lib/postgresql/15/bin/postgres", "-D", "/d"])),
            (13, process(12, &["postgres: walwriter"])),
            (14, process(11, &["pg_rewind"])),
            (20, process(1, &["howdah", "run", "-c", "y"])),
            (21, process(20, &["/proc/self/exe", "agent", "-c", "y"])),
        ]));
        assert_eq!(table.agent(10), Some(11));
        assert_eq!(table.postmaster(10), Some(12));
        assert_eq!(table.postmaster(20), None);
        let mut tree = table.tree(10);
        tree.sort_unstable();
        assert_eq!(tree, [10, 11, 12, 13, 14]);
    }

    #[test]
    fn this_process_is_seen_below_its_parent() {
        let own = i32::try_from(std::process::id()).unwrap();
        let table = Table::read();
        let parent = table.0[&own].parent;
        assert!(table.tree(parent).contains(&own));
    }
}
