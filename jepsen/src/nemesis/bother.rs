//! What a person or a client does to a server in a bad moment. That it is refused, or that the server is
//! away, is no failure of the run.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Nemesis;

/// Sessions that a flood opens.
const FLOOD: usize = 60;
/// Pause between two rounds.
const ROUND: Duration = Duration::from_millis(100);

/// Does it over and over, with sessions of the superuser.
///
/// # Errors
/// If psql cannot be run.
pub(crate) async fn bother(
    fault: Nemesis,
    psql: impl Fn(&str) -> Command,
    length: Duration,
) -> Result<()> {
    let (sql, sessions) = match fault {
        Nemesis::Cancel => (
            "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'",
            1,
        ),
        Nemesis::Checkpoints => ("CHECKPOINT", 1),
        // Each holds its snapshot while rows go on being written.
        Nemesis::LongReads => (
            "SELECT count(*) FROM storm_set, (SELECT pg_sleep(2)) AS slow; \
             SELECT count(*) FROM storm_bank, (SELECT pg_sleep(2)) AS slow",
            3,
        ),
        _ => ("SELECT pg_sleep(1)", FLOOD),
    };
    let end = Instant::now() + length;
    while Instant::now() < end {
        let mut children = Vec::new();
        let switch = (fault == Nemesis::Checkpoints).then_some("SELECT pg_switch_wal()");
        for sql in std::iter::repeat_n(sql, sessions).chain(switch) {
            let mut command = psql(sql);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            children.push(command.spawn().context("spawn psql")?);
        }
        tokio::time::sleep(ROUND).await;
        for mut child in children {
            tokio::task::spawn_blocking(move || child.wait()).await??;
        }
    }
    Ok(())
}
