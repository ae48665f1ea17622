//! The files by which a data directory says what it wants to be: standby, restore, backup.
//!
//! `standby.signal` stands in every directory before every start: whatever starts it gets a
//! standby. Each write and removal is durable when the call returns.

use std::path::{Path, PathBuf};

use howdah_core::Lsn;

use crate::files::{self, FileError};

/// Path of the file that makes the next start a standby.
pub fn standby_signal(data_dir: &Path) -> PathBuf {
    data_dir.join("standby.signal")
}

/// Writes `standby.signal`; its entry and content are fsynced also when it was there.
pub fn write_standby_signal(data_dir: &Path) -> Result<(), FileError> {
    files::write_atomic(&standby_signal(data_dir), b"", 0o600)
}

/// Removes `standby.signal`. Only for a restart in place under a held lease, and for restores.
/// False: it was not there.
pub fn remove_standby_signal(data_dir: &Path) -> Result<bool, FileError> {
    files::remove_durably(&standby_signal(data_dir))
}

/// Whether `standby.signal` is there.
pub fn has_standby_signal(data_dir: &Path) -> Result<bool, FileError> {
    files::exists(&standby_signal(data_dir))
}

/// Whether `recovery.signal` is there: a restore to a point in time.
pub fn has_recovery_signal(data_dir: &Path) -> Result<bool, FileError> {
    files::exists(&data_dir.join("recovery.signal"))
}

/// Whether `backup_label` is there: a base backup that was not yet replayed to consistency.
pub fn has_backup_label(data_dir: &Path) -> Result<bool, FileError> {
    files::exists(&data_dir.join("backup_label"))
}

/// Where recovery begins after a base backup or a rewind; none: at the latest checkpoint.
pub fn backup_start(data_dir: &Path) -> Result<Option<Lsn>, FileError> {
    let label = files::read_if_there(&data_dir.join("backup_label"))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&label);
    // START WAL LOCATION: 0/27000028 (file 000000030000000000000027)
    let line = text.lines().find_map(|line| line.strip_prefix("START WAL LOCATION: "));
    Ok(line.and_then(|line| line.split(' ').next()?.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_label_says_where_recovery_begins() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(backup_start(dir.path()).unwrap(), None);
        let label = dir.path().join("backup_label");
        let text = "START WAL LOCATION: 0/27000028 (file 000000030000000000000027)\n\
                    CHECKPOINT LOCATION: 0/27000060\n";
        std::fs::write(&label, text).unwrap();
        assert_eq!(backup_start(dir.path()).unwrap(), Some(Lsn(0x2700_0028)));
        std::fs::write(&label, "START WAL LOCATION: x (file y)\n").unwrap();
        assert_eq!(backup_start(dir.path()).unwrap(), None);
    }

    #[test]
    fn written_twice_removed_twice() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!has_standby_signal(dir.path()).unwrap());
        write_standby_signal(dir.path()).unwrap();
        write_standby_signal(dir.path()).unwrap();
        assert!(has_standby_signal(dir.path()).unwrap());
        assert!(remove_standby_signal(dir.path()).unwrap());
        assert!(!remove_standby_signal(dir.path()).unwrap());
        assert!(write_standby_signal(&dir.path().join("none")).is_err());
    }
}
