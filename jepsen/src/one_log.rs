//! Whether all members hold the same replicated state, and PostgreSQL the timelines that it records.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use howdah_rpc::control::{LogRequest, LogResponse, Timeline};
use howdah_tests::{Cluster, wait_for};

use crate::check::{Anomaly, Verdict};

/// Limit of one answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Looks at both; members that are a moment behind, or do not answer at once, are waited for.
///
/// # Errors
/// If a member cannot be asked in time.
pub async fn look(cluster: &Cluster, limit: Duration) -> Result<Verdict> {
    let mut seen = Seen::default();
    let (mut logs, mut silent) = (Vec::new(), None);
    let end = Instant::now() + limit;
    while !seen.settled(&logs) {
        ensure!(Instant::now() < end, "members did not apply the same entry: {logs:?}; {silent:?}");
        match tokio::time::timeout(ANSWER, all(cluster)).await.map_err(Into::into).flatten() {
            Ok(answers) => {
                logs = answers;
                seen.add(&logs);
            }
            Err(why) => silent = Some(why),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let leader = cluster.leader().await?;
    let told = history_file(cluster, leader, limit, &logs[leader].timelines).await?;
    let mut found = seen.differing;
    found.extend(chain(&logs[leader].timelines, &told));
    let counted = format!(
        "{} members hold the same after entry {}, {} timelines are as PostgreSQL says",
        logs.len(),
        logs[leader].applied_index,
        logs[leader].timelines.len()
    );
    Ok(Verdict::of(found, counted))
}

async fn all(cluster: &Cluster) -> Result<Vec<LogResponse>> {
    let mut logs = Vec::new();
    for index in 0..cluster.members.len() {
        logs.push(cluster.client(index)?.log(LogRequest {}).await?.into_inner());
    }
    Ok(logs)
}

/// Which state members had after which entry.
#[derive(Default)]
struct Seen {
    by_index: BTreeMap<u64, (u32, String)>,
    differing: Vec<Anomaly>,
}

impl Seen {
    fn add(&mut self, logs: &[LogResponse]) {
        for log in logs {
            let first = (log.state_checksum, log.member.clone());
            let (checksum, member) = self.by_index.entry(log.applied_index).or_insert(first);
            if *checksum != log.state_checksum {
                let text =
                    format!("{member} and {} differ after entry {}", log.member, log.applied_index);
                self.differing.push(Anomaly { kind: "state", text, events: Vec::new() });
            }
        }
    }

    /// All were seen after one entry, or to differ.
    fn settled(&self, logs: &[LogResponse]) -> bool {
        let same = logs.windows(2).all(|two| two[0].applied_index == two[1].applied_index);
        !self.differing.is_empty() || (!logs.is_empty() && same)
    }
}

/// What PostgreSQL's own file says of the newest timeline's ancestors; empty for the first timeline.
async fn history_file(
    cluster: &Cluster,
    leader: usize,
    limit: Duration,
    timelines: &[Timeline],
) -> Result<String> {
    let newest = timelines.iter().max_by_key(|one| one.epoch).context("no timeline is recorded")?;
    if newest.parent == 0 {
        return Ok(String::new());
    }
    let sql = format!("SELECT pg_read_file('pg_wal/{:08X}.history')", newest.timeline);
    wait_for("the leader's history file", limit, || async { cluster.members[leader].psql(&sql) })
        .await
}

/// Where the log's chain, from the newest timeline to the oldest, is not that of the file.
fn chain(timelines: &[Timeline], told: &str) -> Option<Anomaly> {
    let by_number: BTreeMap<u32, &Timeline> =
        timelines.iter().map(|one| (one.timeline, one)).collect();
    let mut recorded = Vec::new();
    let mut at = timelines.iter().max_by_key(|one| one.epoch);
    // A parent that is its own ancestor would be walked for ever.
    while let Some(one) = at.filter(|one| one.parent != 0 && recorded.len() < timelines.len()) {
        recorded.push((one.parent, one.fork_lsn));
        at = by_number.get(&one.parent).copied();
    }
    let told: Vec<(u32, u64)> = told.lines().filter_map(entry).collect();
    let same = recorded.iter().eq(told.iter().rev().take(recorded.len()));
    let text = format!("the log: {recorded:X?}, newest first; PostgreSQL: {told:X?}, oldest first");
    (!same).then(|| Anomaly { kind: "timelines", text, events: Vec::new() })
}

/// Parent and fork of one line of a history file.
fn entry(line: &str) -> Option<(u32, u64)> {
    let mut words = line.split_whitespace();
    let parent = words.next()?.parse().ok()?;
    let (high, low) = words.next()?.split_once('/')?;
    let half = |text: &str| u64::from_str_radix(text, 16).ok();
    Some((parent, (half(high)? << 32) + half(low)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(timeline: u32, parent: u32, fork_lsn: u64) -> Timeline {
        Timeline { timeline, epoch: u64::from(timeline), parent, fork_lsn }
    }

    #[test]
    fn a_chain_is_compared_with_postgresqls_file() {
        let log = [timeline(1, 0, 0), timeline(2, 1, 0x100_0000_0010), timeline(5, 2, 0x20)];
        let file = "1\t100/10\tno recovery target specified\n\n2\t0/20\tbecause\n";
        assert_eq!(chain(&log, file), None);
        assert!(chain(&log, "1\t100/10\tx\n2\t0/21\tx\n").is_some(), "another fork");
        assert!(chain(&log, "2\t0/20\tx\n").is_some(), "an ancestor is missing");
        assert!(chain(&log, "").is_some(), "no file");
        assert_eq!(chain(&log[..1], ""), None);
        // What came before the first timeline that the log knows is not its matter.
        let adopted = [timeline(2, 0, 0), timeline(3, 2, 0x20)];
        assert_eq!(chain(&adopted, "1\t100/10\tx\n2\t0/20\tx\n"), None);
    }

    #[test]
    fn states_are_compared_entry_by_entry() {
        let log = |member: &str, applied_index, state_checksum| LogResponse {
            member: member.into(),
            applied_index,
            state_checksum,
            timelines: Vec::new(),
        };
        let mut seen = Seen::default();
        seen.add(&[log("n1", 7, 1), log("n2", 6, 5)]);
        assert!(!seen.settled(&[log("n1", 7, 1), log("n2", 6, 5)]));
        let later = [log("n1", 8, 2), log("n2", 7, 9)];
        seen.add(&later);
        assert!(seen.settled(&later));
        assert_eq!(seen.differing.len(), 1);
    }
}
