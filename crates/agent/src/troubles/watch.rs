//! Looks from time to time at what no event tells of.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use howdah_core::Lsn;
use howdah_postgres::saved_wal::segment_of;
use howdah_postgres::session::Session;
use nix::sys::statvfs::{FsFlags, statvfs};

use super::Kind;
use crate::elephant::{Elephant, JobError};

/// Pause between two looks.
const EVERY: Duration = Duration::from_secs(5);
/// Limit of the questions to PostgreSQL.
const LIMIT: Duration = Duration::from_secs(2);
/// A volume with less room than this is in trouble, whatever its size: four WAL segments.
const ROOM_LEAST: u64 = 64 << 20;
/// Of a large volume so much must be free, percent.
const ROOM_PERCENT: u64 = 5;
/// Of the connections that clients may take, so many are in use before it is told, percent.
const CONNECTIONS_PERCENT: i64 = 95;

/// Looks until the process ends.
pub async fn watch(elephant: Arc<Elephant>, raft_dir: PathBuf) {
    loop {
        let volumes = {
            let (data, raft) = (elephant.data_dir(), raft_dir.clone());
            tokio::task::spawn_blocking(move || Volumes::look(&data, &raft)).await
        };
        if let Ok(volumes) = volumes {
            elephant.troubles.set(Kind::DataVolume, volumes.data);
            elephant.troubles.set(Kind::WalVolume, volumes.wal);
            elephant.troubles.set(Kind::RaftVolume, volumes.raft);
            elephant.troubles.set(Kind::Permissions, volumes.permissions);
        }
        let primary = match elephant.postmaster().await {
            Ok(_) => ask(&elephant).await.unwrap_or(false),
            Err(_) => {
                for kind in [Kind::Connections, Kind::Archive, Kind::Blocked, Kind::Hasty] {
                    elephant.troubles.set(kind, None);
                }
                false
            }
        };
        let oldest = if primary { oldest_wal(&elephant).await } else { None };
        elephant.troubles.set_oldest_wal(oldest);
        tokio::time::sleep(EVERY).await;
    }
}

/// What the volumes say.
struct Volumes {
    data: Option<String>,
    wal: Option<String>,
    raft: Option<String>,
    permissions: Option<String>,
}

impl Volumes {
    fn look(data_dir: &Path, raft_dir: &Path) -> Self {
        // Before the first copy there is no directory yet; its parent lies on the same volume.
        let there = data_dir.ancestors().find(|path| path.exists()).unwrap_or(data_dir);
        let wal = std::fs::canonicalize(data_dir.join("pg_wal"));
        let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev()).ok();
        let own_wal = wal.ok().filter(|wal| device(wal) != device(there));
        Self {
            data: volume("the data", there),
            wal: own_wal.and_then(|wal| volume("the WAL", &wal)),
            raft: (device(raft_dir) != device(there))
                .then(|| volume("the replicated log", raft_dir))
                .flatten(),
            permissions: permissions(data_dir),
        }
    }
}

/// What is wrong with the volume that `path` lies on.
fn volume(what: &str, path: &Path) -> Option<String> {
    let shown = path.display();
    let stat = match statvfs(path) {
        Ok(stat) => stat,
        Err(errno) => return Some(format!("the volume of {what}, {shown}, is gone: {errno}")),
    };
    if stat.flags().contains(FsFlags::ST_RDONLY) {
        return Some(format!(
            "the volume of {what}, {shown}, is read-only: look into the kernel's log for its \
             errors, then remount it read-write"
        ));
    }
    let block = stat.fragment_size();
    let (total, free) =
        (stat.blocks().saturating_mul(block), stat.blocks_available().saturating_mul(block));
    let needed = (total / 100 * ROOM_PERCENT).min(1 << 30).max(ROOM_LEAST.min(total / 5));
    (free < needed).then(|| {
        format!(
            "the volume of {what}, {shown}, has {} MB left of {} MB: make room, or enlarge it; \
             PostgreSQL stops when it is full",
            free >> 20,
            total >> 20
        )
    })
}

/// PostgreSQL does not start in a directory of somebody else, or one that others can read.
fn permissions(data_dir: &Path) -> Option<String> {
    let meta = std::fs::metadata(data_dir).ok()?;
    let (shown, me) = (data_dir.display(), nix::unistd::geteuid().as_raw());
    if meta.uid() != me {
        return Some(format!(
            "{shown} belongs to user {}, PostgreSQL runs as user {me}: `chown -R` it",
            meta.uid()
        ));
    }
    (meta.mode() & 0o027 != 0).then(|| {
        format!(
            "{shown} has mode {:04o}: PostgreSQL starts only with 0700 or 0750",
            meta.mode() & 0o7777
        )
    })
}

/// Asks the server; whether it is a primary.
async fn ask(elephant: &Elephant) -> Result<bool, JobError> {
    let session = elephant.session(LIMIT).await?;
    elephant.troubles.set(Kind::Connections, connections(&session).await?);
    elephant.ask_for_pending(&session).await?;
    let primary = flag(&session, "SELECT NOT pg_is_in_recovery()").await?;
    elephant.troubles.set(Kind::Archive, archive(&session).await?);
    elephant.troubles.set(Kind::Hasty, if primary { hasty(&session).await? } else { None });
    Ok(primary)
}

async fn flag(session: &Session, sql: &str) -> Result<bool, JobError> {
    let rows = session.query(sql, &[]).await?;
    Ok(rows.first().and_then(|row| row.try_get::<_, bool>(0).ok()).unwrap_or(false))
}

/// Sessions of howdah count, for they take from the same: clients have no more where these begin.
async fn connections(session: &Session) -> Result<Option<String>, JobError> {
    let sql = "SELECT count(*) FILTER (WHERE application_name <> 'howdah'), count(*), \
               current_setting('max_connections')::int8 \
               - current_setting('superuser_reserved_connections')::int8 \
               - coalesce(current_setting('reserved_connections', true), '0')::int8 \
               FROM pg_stat_activity WHERE backend_type = 'client backend'";
    let rows = session.query(sql, &[]).await?;
    let number = |index| rows.first().and_then(|row| row.try_get::<_, i64>(index).ok());
    let (Some(clients), Some(taken), Some(allowed)) = (number(0), number(1), number(2)) else {
        return Ok(None);
    };
    Ok((taken * 100 >= allowed * CONNECTIONS_PERCENT).then(|| {
        format!(
            "clients have taken {clients} of {allowed} connections, howdah {}: end idle ones, use a \
             pool, or raise max_connections (needs a restart)",
            taken - clients
        )
    }))
}

async fn archive(session: &Session) -> Result<Option<String>, JobError> {
    let sql = "SELECT coalesce(last_failed_wal, ''), failed_count, \
               to_char(last_failed_time, 'YYYY-MM-DD HH24:MI:SS TZ') FROM pg_stat_archiver \
               WHERE current_setting('archive_mode') <> 'off' AND last_failed_time \
               > coalesce(last_archived_time, '-infinity')";
    let rows = session.query(sql, &[]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let text = |index| row.try_get::<_, String>(index).unwrap_or_default();
    let count = row.try_get::<_, i64>(1).unwrap_or_default();
    Ok(Some(format!(
        "archive_command fails, {count} times by now, last at {} with {}: see PostgreSQL's log; \
         until it works WAL piles up in pg_wal",
        text(2),
        text(0)
    )))
}

/// Roles and databases whose commits are acknowledged before a standby has them, while those of others
/// wait: what they write can be lost, and nothing else tells.
async fn hasty(session: &Session) -> Result<Option<String>, JobError> {
    let sql = "SELECT coalesce('role ' || r.rolname, 'all roles') \
               || coalesce(' in database ' || d.datname, '') || ' (' || split_part(c, '=', 2) || ')' \
               FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) c \
               LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase \
               WHERE c LIKE 'synchronous_commit=%' AND split_part(c, '=', 2) \
               NOT IN ('on', 'remote_apply', 'true', 'yes', '1') \
               AND current_setting('synchronous_standby_names') <> '' ORDER BY 1";
    let rows = session.query(sql, &[]).await?;
    let who: Vec<String> = rows.iter().filter_map(|row| row.try_get(0).ok()).collect();
    Ok((!who.is_empty()).then(|| {
        format!(
            "commits of {} do not wait for a standby's disk, by a synchronous_commit of their own: a \
             failover may lose them; ALTER ROLE or DATABASE ... RESET synchronous_commit ends that",
            who.join(", ")
        )
    }))
}

/// Where the oldest segment in pg_wal begins.
async fn oldest_wal(elephant: &Elephant) -> Option<Lsn> {
    let segment = elephant.segment_size().await?;
    let dir = elephant.data_dir().join("pg_wal");
    let oldest = tokio::task::spawn_blocking(move || {
        let names = std::fs::read_dir(dir).ok()?.filter_map(Result::ok);
        names.filter_map(|entry| segment_start(entry.file_name().to_str()?, segment)).min()
    });
    oldest.await.ok().flatten()
}

/// Where a segment with this file name begins, whichever timeline it is of.
fn segment_start(name: &str, segment_size: u64) -> Option<Lsn> {
    let (_, number) = segment_of(name, segment_size)?;
    number.checked_mul(segment_size).map(Lsn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_begin_where_their_names_say() {
        let size = 16 << 20;
        assert_eq!(segment_start("000000010000000000000003", size), Some(Lsn(0x300_0000)));
        assert_eq!(segment_start("00000002000000A1000000FF", size), Some(Lsn(0xA1_FF00_0000)));
        for other in ["00000002.history", "archive_status", "000000010000000000000003.partial", ""]
        {
            assert_eq!(segment_start(other, size), None, "{other}");
        }
    }

    #[test]
    fn a_volume_that_is_gone_is_told_as_such() {
        let told = volume("the data", Path::new("/nonexistent/place")).unwrap();
        assert!(told.contains("is gone"), "{told}");
    }
}
