//! The data directory and the identity file beside it.
//!
//! Survives a restart: the identity file. Invariants: a promise is on disk before it is acted on, a
//! new data id before the first byte of the data is changed. Killed half way: the file is old or new.

use std::path::Path;
use std::time::Duration;

use howdah_core::view::{ClusterData, DataView};
use howdah_core::{DataId, Epoch, HistoryEntry, Position};
use howdah_postgres::clone;
use howdah_postgres::control::{ClusterControlState, ControlData};
use howdah_postgres::datadir::{self, DataDir, Marker};
use howdah_postgres::history;
use howdah_postgres::identity::{Identity, Loaded};
use howdah_postgres::walscan::WalScan;

use super::{Elephant, JobError, lock};

/// How often a look at the data directory is tried again, and after which pause.
const INSPECT_RETRIES: u32 = 5;
const INSPECT_PAUSE: Duration = Duration::from_millis(500);

/// The identity of what the data directory holds, after a swap that was killed half way is finished. Without a file the
/// old promise is unknown.
pub(super) fn identity_at_start(data_dir: &Path) -> Result<Identity, JobError> {
    let half_swapped = clone::is_half_swapped(data_dir)?;
    let identity = match Identity::load(data_dir)? {
        // The id that was drawn for the copy may not have come to disk.
        Loaded::Whole(identity) if half_swapped => Identity::fresh(identity.promise),
        Loaded::Whole(identity) => identity,
        Loaded::Missing => Identity::fresh(Epoch(0)),
        Loaded::Torn { why } => {
            tracing::warn!(why, "the identity file is damaged; the data gets a new id");
            Identity::fresh(Epoch(0))
        }
    };
    identity.save(data_dir)?;
    if half_swapped {
        tracing::info!("puts a copy in place, which an earlier life of this agent had finished");
        clone::swap_in(data_dir, None)?;
    }
    Ok(identity)
}

impl Elephant {
    /// Contents id, promise and floor.
    pub(crate) fn identity(&self) -> Identity {
        *lock(&self.identity)
    }

    /// Raises the promise, durably.
    pub(crate) fn promise(&self, epoch: Epoch) -> Result<(), JobError> {
        let mut identity = lock(&self.identity);
        if identity.promise_at_least(epoch) {
            identity.save(&self.config.postgresql.data_dir)?;
        }
        Ok(())
    }

    /// Remembers, durably, that WAL up to `position` was whole on disk once.
    pub(crate) fn raise_floor(&self, position: Position) -> Result<(), JobError> {
        let mut identity = lock(&self.identity);
        if identity.floor_at_least(position) {
            identity.save(&self.config.postgresql.data_dir)?;
        }
        Ok(())
    }

    /// Draws a new contents id, durably, before the first byte of the data is changed.
    pub(crate) fn fresh_identity(&self) -> Result<DataId, JobError> {
        let mut identity = lock(&self.identity);
        *identity = Identity::fresh(identity.promise);
        identity.save(&self.config.postgresql.data_dir)?;
        Ok(identity.data_id)
    }

    /// Looks at the data directory: what it is, and while no server runs, where its WAL ends.
    ///
    /// # Errors
    /// If it cannot be read, and not for a moment only (no memory for a child, a control file in the
    /// middle of a write). A person may mend that: a volume comes back, an owner is set right.
    pub async fn inspect(&self, running: bool) -> Result<DataView, JobError> {
        for _ in 0..INSPECT_RETRIES {
            match self.try_inspect(running).await {
                Ok(view) => return Ok(view),
                Err(why) => {
                    tracing::debug!(%why, "the data directory could not be looked at; tries again");
                    tokio::time::sleep(INSPECT_PAUSE).await;
                }
            }
        }
        self.try_inspect(running).await
    }

    async fn try_inspect(&self, running: bool) -> Result<DataView, JobError> {
        let data_dir = self.data_dir();
        let cluster = match datadir::inspect(&data_dir)? {
            DataDir::Missing | DataDir::Empty => return Ok(DataView::Empty),
            DataDir::Foreign { why } => {
                return Ok(DataView::Unusable(format!("{}: {why}", data_dir.display())));
            }
            DataDir::Cluster(cluster) => cluster,
        };
        if cluster.major != self.install.major {
            return Ok(DataView::Unusable(format!(
                "{} is of PostgreSQL {}, {} holds {}; set postgresql.bin_dir",
                data_dir.display(),
                cluster.major,
                self.install.bin_dir.display(),
                self.install.major
            )));
        }
        if cluster.marker == Some(Marker::Rewinding) {
            return Ok(DataView::HalfDone);
        }
        let control = ControlData::read(&self.install, &data_dir).await?;
        let (disk_end, history) = if running {
            (None, Vec::new())
        } else {
            match self.disk_end(&control).await {
                Ok((end, history)) => (Some(end), history),
                Err(why) => {
                    tracing::warn!(%why, "the end of the WAL on disk is not known");
                    (None, Vec::new())
                }
            }
        };
        self.judge_disk_end(disk_end)?;
        let shutdown_end =
            disk_end.filter(|_| control.state == ClusterControlState::ShutDown).map(|end| end.lsn);
        Ok(DataView::Cluster(ClusterData {
            system_identifier: control.system_identifier,
            disk_end,
            history,
            can_rewind: control.data_checksums || control.wal_log_hints,
            shutdown_end,
        }))
    }

    /// A disk end below the floor means that the disk forgot what it had said to hold: the contents
    /// get a new id, so that no old vote or acknowledgement counts for them.
    fn judge_disk_end(&self, disk_end: Option<Position>) -> Result<(), JobError> {
        let Some(end) = disk_end else { return Ok(()) };
        let identity = self.identity();
        if end.timeline == identity.floor.timeline && end.lsn < identity.floor.lsn {
            tracing::error!(
                %end, floor = %identity.floor,
                "the disk lost WAL that was written through; the data gets a new id"
            );
            self.fresh_identity()?;
        }
        self.raise_floor(end)
    }

    /// End of valid WAL on disk, and the history that leads there: along the newest timeline that
    /// pg_wal holds a history of.
    pub(crate) async fn disk_end(
        &self,
        control: &ControlData,
    ) -> Result<(Position, Vec<HistoryEntry>), JobError> {
        let (control, from) = (control.clone(), control.scan_start());
        let data_dir = self.data_dir();
        let newest = history::highest_real(&data_dir)?.max(from.timeline);
        let full = history::read_history(&data_dir, newest).unwrap_or_default();
        // A history that does not lead through the starting point belongs to another branch.
        let leads = newest == from.timeline
            || full.iter().any(|entry| entry.timeline == from.timeline && from.lsn <= entry.end);
        let (newest, full) = if leads {
            (newest, full)
        } else {
            (from.timeline, history::read_history(&data_dir, from.timeline).unwrap_or_default())
        };
        let scan_history = full.clone();
        let end = tokio::task::spawn_blocking(move || {
            WalScan::of(&data_dir, &control, &scan_history, newest).disk_end(from)
        })
        .await??;
        let history =
            full.into_iter().take_while(|entry| entry.timeline < end.position.timeline).collect();
        Ok((end.position, history))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_copy_that_is_put_in_place_at_the_start_has_a_new_id() {
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("main");
        fs::create_dir(&data).unwrap();
        let mut before = identity_at_start(&data).unwrap();
        before.promise_at_least(Epoch(7));
        before.save(&data).unwrap();
        assert_eq!(identity_at_start(&data).unwrap(), before);
        // Killed after the first rename.
        fs::rename(&data, clone::old_dir(&data)).unwrap();
        let new = clone::new_dir(&data);
        fs::create_dir_all(new.join("global")).unwrap();
        fs::write(new.join("global/pg_control"), "").unwrap();
        fs::write(new.join("standby.signal"), "").unwrap();
        let after = identity_at_start(&data).unwrap();
        assert_ne!(after.data_id, before.data_id);
        assert_eq!(after.promise, Epoch(7));
        assert!(data.join("global/pg_control").exists());
        assert_eq!(identity_at_start(&data).unwrap(), after);
    }
}
