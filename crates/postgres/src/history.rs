//! Timeline history files: reading them, and the comment-only ones by which a promotion takes
//! exactly the number its grant reserved.
//!
//! PostgreSQL numbers a new timeline one above the highest consecutive history file it finds. So
//! before a promotion the numbers between the own timeline and the reserved one are taken with
//! files that hold only a comment. A server refuses to *start* when the newest history file is
//! such a one, hence they are removed again before each start.
//! Killed half way: some comment files exist; the next start removes them, the next promotion adds
//! the missing ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use howdah_core::{HistoryEntry, Lsn, Timeline};

use crate::files::{self, Doing as _, FileError};

/// First words of a comment-only file of ours.
const COMMENT: &str = "# number taken by howdah";
/// Numbers that one grant may skip; more is a broken log or a broken directory.
const MAX_SKIPPED: u32 = 4096;

/// A history file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// I/O.
    #[error(transparent)]
    File(#[from] FileError),
    /// No file for this timeline.
    #[error("{} does not exist; without it the descent of timeline {timeline} is unknown",
        path.display())]
    Missing {
        /// The timeline.
        timeline: Timeline,
        /// Where its file should be.
        path: PathBuf,
    },
    /// A line is not `timeline<TAB>LSN<TAB>reason`, or out of order.
    #[error("line {line} of {name} is wrong: {text:?}")]
    Syntax {
        /// Name of the file.
        name: String,
        /// Number of the line.
        line: usize,
        /// The line.
        text: String,
    },
    /// The reserved number cannot be reached.
    #[error("a promotion from timeline {from} cannot take number {reserved}: {why}")]
    Reserve {
        /// Own timeline.
        from: Timeline,
        /// Number of the grant.
        reserved: Timeline,
        /// What is in the way.
        why: &'static str,
    },
}

/// Name of a timeline's history file.
pub fn file_name(timeline: Timeline) -> String {
    format!("{:08X}.history", timeline.0)
}

fn path_of(data_dir: &Path, timeline: Timeline) -> PathBuf {
    data_dir.join("pg_wal").join(file_name(timeline))
}

/// The timeline that a history file's name stands for.
pub fn timeline_of(name: &str) -> Option<Timeline> {
    let digits = name.strip_suffix(".history")?;
    let hex = digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    hex.then(|| u32::from_str_radix(digits, 16).ok().map(Timeline))?
}

/// Reads the text of a history file; `name` is for messages. Oldest ancestor first.
///
/// A server that is promoted while it has yet to reach the fork of the timeline that it was turned to
/// writes that one as its parent all the same, with an end that lies before its beginning. PostgreSQL
/// itself never looks there: for each position it takes the youngest timeline that has begun. So the way
/// that the data really came is given: without what was not reached, and with an earlier end of what was.
pub fn parse(name: &str, text: &str) -> Result<Vec<HistoryEntry>, HistoryError> {
    let mut entries: Vec<HistoryEntry> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let content = line.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let mut words = content.split_whitespace();
        let timeline = words.next().and_then(|w| w.parse().ok()).map(Timeline);
        let end = words.next().and_then(|w| w.parse::<Lsn>().ok());
        let entry = timeline.zip(end).map(|(timeline, end)| HistoryEntry { timeline, end });
        let entry = entry
            .filter(|e| e.timeline.0 > 0 && entries.last().is_none_or(|l| l.timeline < e.timeline));
        match entry {
            Some(entry) => go_on(&mut entries, entry),
            None => {
                let (name, text) = (name.to_owned(), line.to_owned());
                return Err(HistoryError::Syntax { name, line: index + 1, text });
            }
        }
    }
    Ok(entries)
}

/// One step further, or back to where the data left the way.
fn go_on(entries: &mut Vec<HistoryEntry>, next: HistoryEntry) {
    if entries.last().is_none_or(|last| last.end <= next.end) {
        entries.push(next);
        return;
    }
    // Whatever began behind that position was never reached.
    while entries.len() > 1 && entries[entries.len() - 2].end > next.end {
        entries.pop();
    }
    if let Some(last) = entries.last_mut() {
        last.end = next.end;
    }
}

/// Text of a history file with these entries.
pub fn render(entries: &[HistoryEntry], reason: &str) -> String {
    let reason = reason.replace(['\n', '\r'], " ");
    entries.iter().map(|e| format!("{}\t{}\t{reason}\n", e.timeline, e.end)).collect()
}

/// Ancestors of a timeline, oldest first, as its file in pg_wal says. Timeline 1 has none and needs
/// no file. A comment-only file names no ancestor.
pub fn read_history(
    data_dir: &Path,
    timeline: Timeline,
) -> Result<Vec<HistoryEntry>, HistoryError> {
    let path = path_of(data_dir, timeline);
    match files::read_if_there(&path)? {
        Some(bytes) => parse(&file_name(timeline), &String::from_utf8_lossy(&bytes)),
        None if timeline <= Timeline(1) => Ok(Vec::new()),
        None => Err(HistoryError::Missing { timeline, path }),
    }
}

/// All history files in pg_wal with the number of their entries; a comment-only one has zero.
pub fn list(data_dir: &Path) -> Result<BTreeMap<Timeline, Vec<HistoryEntry>>, HistoryError> {
    let dir = data_dir.join("pg_wal");
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(&dir).doing("list", &dir)? {
        let name = entry.doing("list", &dir)?.file_name();
        if let Some(timeline) = name.to_str().and_then(timeline_of) {
            found.insert(timeline, read_history(data_dir, timeline)?);
        }
    }
    Ok(found)
}

/// The newest timeline that a real history file describes; 1 if there is none.
pub fn highest_real(data_dir: &Path) -> Result<Timeline, HistoryError> {
    let files = list(data_dir)?;
    let real = files.iter().filter(|(_, entries)| !entries.is_empty()).map(|(tli, _)| *tli);
    Ok(real.max().unwrap_or(Timeline(1)))
}

/// Takes the numbers between the own timeline and the reserved one with comment-only files, so
/// that a promotion picks exactly `reserved`. Real files are left alone. Refuses a reserved number
/// that is taken already or not above the own.
pub fn put_comment_history(
    data_dir: &Path,
    from: Timeline,
    reserved: Timeline,
) -> Result<(), HistoryError> {
    let refuse = |why| HistoryError::Reserve { from, reserved, why };
    if reserved <= from {
        return Err(refuse("it is not above the own timeline"));
    }
    if reserved.0 - from.0 > MAX_SKIPPED {
        return Err(refuse("it is more than 4096 above the own timeline"));
    }
    if files::exists(&path_of(data_dir, reserved))? {
        return Err(refuse("a history file of that number exists in pg_wal"));
    }
    for number in (from.0 + 1)..reserved.0 {
        let path = path_of(data_dir, Timeline(number));
        if !files::exists(&path)? {
            let text = format!("{COMMENT} for the promotion to timeline {reserved}\n");
            files::write_atomic(&path, text.as_bytes(), 0o600)?;
        }
    }
    Ok(())
}

/// Removes history files without entries above `highest_real`; the numbers removed.
pub fn remove_comment_history_above(
    data_dir: &Path,
    highest_real: Timeline,
) -> Result<Vec<Timeline>, HistoryError> {
    let mut removed = Vec::new();
    for (timeline, entries) in list(data_dir)? {
        if timeline > highest_real && entries.is_empty() {
            files::remove_durably(&path_of(data_dir, timeline))?;
            removed.push(timeline);
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(timeline: u32, end: u64) -> HistoryEntry {
        HistoryEntry { timeline: Timeline(timeline), end: Lsn(end) }
    }

    #[test]
    fn parses_what_postgres_writes() {
        let text = "1\t0/3000148\tno recovery target specified\n\n# comment\n \
            4\t1/A0\tat restore point \"x\"\n";
        let entries = parse("f", text).unwrap();
        assert_eq!(entries, [entry(1, 0x0300_0148), entry(4, 0x1_0000_00A0)]);
        assert_eq!(parse("f", &render(&entries, "a\nb")).unwrap(), entries);
        assert_eq!(parse("f", "# only\n").unwrap(), []);
    }

    #[test]
    fn senseless_lines_are_named() {
        for (text, line) in [
            ("x\t0/1\n", 1),
            ("1\n", 1),
            ("1\t0/1\n1\t0/2\n", 2),
            ("3\t0/1\n2\t0/9\n", 2),
            ("0\t0/9\n", 1),
        ] {
            match parse("f", text) {
                Err(HistoryError::Syntax { line: found, .. }) => assert_eq!(found, line),
                other => panic!("{text:?}: {other:?}"),
            }
        }
        assert_eq!(timeline_of("0000000A.history"), Some(Timeline(10)));
        for name in ["A.history", "0000000A", "0000000G.history", "+000000A.history"] {
            assert_eq!(timeline_of(name), None, "{name}");
        }
    }

    #[test]
    fn a_promotion_before_the_fork_that_it_was_turned_to_left_the_timeline_before() {
        // Turned from 22 to 23, which forked at 900, and promoted at 700.
        let text = "21\t0/500\tx\n22\t0/900\tx\n23\t0/700\tx\n";
        let came = [entry(21, 0x500), entry(22, 0x700)];
        assert_eq!(parse("f", text).unwrap(), came);
        // Of two forks that were not reached, both are left out; and it goes on from there.
        let text = "21\t0/500\tx\n22\t0/900\tx\n23\t0/950\tx\n24\t0/700\tx\n25\t0/800\tx\n";
        let came = [entry(21, 0x500), entry(22, 0x700), entry(25, 0x800)];
        assert_eq!(parse("f", text).unwrap(), came);
        let text = "2\t0/900\tx\n3\t0/100\tx\n";
        assert_eq!(parse("f", text).unwrap(), [entry(2, 0x100)]);
    }

    #[test]
    fn comment_files_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let wal = dir.path().join("pg_wal");
        std::fs::create_dir(&wal).unwrap();
        std::fs::write(wal.join("00000002.history"), "1\t0/3000148\tx\n").unwrap();
        put_comment_history(dir.path(), Timeline(1), Timeline(6)).unwrap();
        put_comment_history(dir.path(), Timeline(1), Timeline(6)).unwrap();
        let numbers: Vec<u32> = list(dir.path()).unwrap().keys().map(|t| t.0).collect();
        assert_eq!(numbers, [2, 3, 4, 5]);
        assert_eq!(highest_real(dir.path()).unwrap(), Timeline(2));
        assert!(put_comment_history(dir.path(), Timeline(2), Timeline(2)).is_err());
        assert!(put_comment_history(dir.path(), Timeline(1), Timeline(5)).is_err());
        assert!(put_comment_history(dir.path(), Timeline(1), Timeline(9_999_999)).is_err());
        let removed = remove_comment_history_above(dir.path(), Timeline(3)).unwrap();
        assert_eq!(removed, [Timeline(4), Timeline(5)]);
        let missing = read_history(dir.path(), Timeline(7));
        assert!(matches!(missing, Err(HistoryError::Missing { .. })));
        assert_eq!(read_history(dir.path(), Timeline(1)).unwrap(), []);
    }
}
