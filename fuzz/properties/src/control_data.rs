//! What pg_controldata prints.

use howdah_postgres::control::{ClusterControlState, ControlData, ControlError};

use crate::text;

/// What is read says the same when it is printed again, and can be computed with; what is refused is named by its
/// label, or as damage.
pub fn control_data(bytes: &[u8]) -> bool {
    let text = text(bytes);
    match ControlData::parse(&text) {
        Ok(control) => {
            let size = control.wal_segment_size;
            assert!(
                size.is_power_of_two() && (1 << 20..=1 << 30).contains(&size),
                "segments of {size}"
            );
            assert!(!text.lines().any(|line| line.starts_with("WARNING")));
            assert_eq!(ControlData::parse(&printed(&control)).expect("what was printed"), control);
            assert_eq!(control.scan_start().lsn, control.checkpoint);
            true
        }
        Err(ControlError::Damaged { warning }) => {
            assert!(text.contains(&warning));
            false
        }
        Err(error @ ControlError::Field { label, .. }) => {
            assert!(error.to_string().contains(label) && error.to_string().contains("bin_dir"));
            false
        }
        Err(other) => panic!("{other}"),
    }
}

fn state(state: ClusterControlState) -> &'static str {
    match state {
        ClusterControlState::StartingUp => "starting up",
        ClusterControlState::ShutDown => "shut down",
        ClusterControlState::ShutDownInRecovery => "shut down in recovery",
        ClusterControlState::ShuttingDown => "shutting down",
        ClusterControlState::InCrashRecovery => "in crash recovery",
        ClusterControlState::InArchiveRecovery => "in archive recovery",
        ClusterControlState::InProduction => "in production",
    }
}

fn printed(control: &ControlData) -> String {
    let hints = if control.wal_log_hints { "on" } else { "off" };
    let lines: [(&str, &dyn std::fmt::Display); 18] = [
        ("Database system identifier", &control.system_identifier),
        ("Database cluster state", &state(control.state)),
        ("Latest checkpoint location", &control.checkpoint),
        ("Latest checkpoint's REDO location", &control.redo),
        ("Latest checkpoint's TimeLineID", &control.timeline),
        ("Latest checkpoint's PrevTimeLineID", &control.prev_timeline),
        ("Min recovery ending loc's timeline", &control.min_recovery_end.timeline),
        ("Minimum recovery ending location", &control.min_recovery_end.lsn),
        ("Data page checksum version", &u32::from(control.data_checksums)),
        ("wal_log_hints setting", &hints),
        ("Bytes per WAL segment", &control.wal_segment_size),
        ("wal_level setting", &control.wal_level),
        ("max_connections setting", &control.max_connections),
        ("max_worker_processes setting", &control.max_worker_processes),
        ("max_wal_senders setting", &control.max_wal_senders),
        ("max_prepared_xacts setting", &control.max_prepared_transactions),
        ("max_locks_per_xact setting", &control.max_locks_per_transaction),
        ("pg_control version number", &control.control_version),
    ];
    let text: String = lines.iter().map(|(label, value)| format!("{label}: {value}\n")).collect();
    format!("{text}Catalog version number: {}\n", control.catalog_version)
}
