//! What is looked at on the servers themselves, when faults are over and all is whole again.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use howdah_rpc::control::LostRequest;
use howdah_tests::{Cluster, wait_for};

use crate::check::lost::Kept;
use crate::check::{Anomaly, Verdict};
use crate::nemesis::Nemesis;
use crate::one_log;
use crate::run::Done;

/// An error that may stand in a log.
struct Explained {
    /// A part of the line.
    part: &'static str,
    /// Only where there was one of such faults; none: always.
    after: &'static [Nemesis],
}

/// A store that cannot be written ends its member, whose layers each say so.
const STORE_FAILS: &[Nemesis] = &[Nemesis::SyncFails, Nemesis::LogFull];

const PUT_BACK: &[Nemesis] = &[Nemesis::LogOlder];

const EXPLAINED: [Explained; 11] = [
    // A leader that is cut off, or whose agent stands still, for longer than its lease.
    Explained { part: "the lease ran out: the guard killed PostgreSQL", after: &[] },
    // What openraft calls errors: its parts do not reach each other any more while this member's Raft
    // ends, as when its guard was killed.
    Explained { part: "failed to send RaftMsg to RaftCore", after: &[] },
    Explained { part: "failed to send HeartbeatProgress", after: &[] },
    Explained { part: "recv_msg: error: raft stopped", after: &[] },
    Explained { part: "Input/output error", after: &[Nemesis::SyncFails] },
    Explained { part: "No space left on device", after: &[Nemesis::LogFull] },
    Explained { part: "the replicated log failed; PostgreSQL is killed", after: STORE_FAILS },
    Explained { part: "failed to receive from RaftCore", after: STORE_FAILS },
    // Who lacks what it had acknowledged is removed, and told so.
    Explained { part: "a node lacks entries that it had acknowledged", after: PUT_BACK },
    Explained { part: "raft node ends why=node", after: PUT_BACK },
    Explained { part: "this node was removed from the group", after: PUT_BACK },
];

/// What was found, and what could not be looked at.
pub struct Whole {
    /// By name of the look.
    pub verdicts: Vec<(String, Verdict)>,
    /// Why not.
    pub skipped: Vec<String>,
}

/// Looks at all of it; data that is on its way everywhere is waited for.
///
/// # Errors
/// If a server cannot be asked.
pub async fn look(cluster: &Cluster, faults: &[Done], limit: Duration) -> Result<Whole> {
    let mut verdicts = vec![
        ("same data everywhere".to_owned(), same_data(cluster, limit).await?),
        ("one log".to_owned(), one_log::look(cluster, limit).await?),
        ("what is logged".to_owned(), logs(cluster, faults)),
    ];
    let mut skipped = Vec::new();
    match structure(cluster, limit).await? {
        Ok(verdict) => verdicts.push(("tables and indexes".to_owned(), verdict)),
        Err(why) => skipped.push(format!("tables and indexes: {why}")),
    }
    Ok(Whole { verdicts, skipped })
}

fn bad(kind: &'static str, text: String) -> Anomaly {
    Anomaly { kind, text, events: Vec::new() }
}

/// Whether all members hold the same rows, once everybody has replayed what the leader wrote.
async fn same_data(cluster: &Cluster, limit: Duration) -> Result<Verdict> {
    const DIGEST: &str = "SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM (\
        SELECT 's' || element AS t FROM storm_set UNION ALL \
        SELECT 'b' || account || '=' || balance FROM storm_bank UNION ALL \
        SELECT 'c' || session || '=' || n FROM storm_counter UNION ALL \
        SELECT 'r' || register || '=' || v FROM storm_register UNION ALL \
        SELECT 'l' || list || '=' || v FROM storm_list0 UNION ALL \
        SELECT 'l' || list || '=' || v FROM storm_list1 UNION ALL \
        SELECT 'l' || list || '=' || v FROM storm_list2) rows";
    let digests = || -> Result<Vec<String>> {
        cluster.members.iter().map(|member| member.psql(DIGEST)).collect()
    };
    let same = wait_for("all members hold the same", limit, || async {
        let digests = digests()?;
        ensure!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
        Ok(())
    });
    Ok(match same.await {
        Ok(()) => Verdict::Good(format!("{} members hold the same", cluster.members.len())),
        Err(why) => Verdict::Bad(vec![bad("different-data", format!("{why:#}"))]),
    })
}

/// Every table and index of every member by PostgreSQL's own checker, indexes against their tables.
async fn structure(cluster: &Cluster, limit: Duration) -> Result<Result<Verdict, String>> {
    const TABLES: &str = "SELECT c.relname || ': ' || v.msg FROM pg_class c, \
        LATERAL public.verify_heapam(c.oid) v WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace";
    const INDEXES: &str = "SELECT count(public.bt_index_check(c.oid, true)) FROM pg_class c \
        JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence = 'p'";
    let leader = cluster.leader().await?;
    if let Err(why) = cluster.members[leader].psql("CREATE EXTENSION amcheck SCHEMA public") {
        return Ok(Err(why.to_string()));
    }
    let mut found = Vec::new();
    let mut indexes = 0;
    for member in &cluster.members {
        wait_for("the checker is there", limit, || async {
            let there = "SELECT count(*) FROM pg_extension WHERE extname = 'amcheck'";
            ensure!(member.psql(there)? == "1", "not on {}", member.name);
            Ok(())
        })
        .await?;
        let told = member.psql(TABLES)?;
        found.extend(told.lines().map(|line| bad("heap", format!("{}: {line}", member.name))));
        match member.psql(INDEXES) {
            Ok(count) => indexes += count.parse::<usize>()?,
            Err(why) => found.push(bad("index", why.to_string())),
        }
    }
    let members = cluster.members.len();
    Ok(Ok(Verdict::of(found, format!("{members} members, {indexes} indexes against their tables"))))
}

/// What members kept of their own when the cluster went on without it.
///
/// # Errors
/// If one does not answer.
pub async fn kept(cluster: &Cluster) -> Result<Vec<Kept>> {
    let mut kept = Vec::new();
    for (index, member) in cluster.members.iter().enumerate() {
        let rescues = cluster.client(index)?.lost(LostRequest {}).await?.into_inner().rescues;
        kept.extend(rescues.into_iter().map(|rescue| {
            let committed = rescue.transactions.iter().filter(|one| one.kind.starts_with("COMMIT"));
            let committed: BTreeSet<u32> = committed.map(|one| one.xid).collect();
            Kept {
                member: member.name.clone(),
                bytes: rescue.end_lsn.saturating_sub(rescue.fork_lsn),
                whole: rescue.commits == committed.len() as u64,
                committed,
            }
        }));
    }
    Ok(kept)
}

/// Panics, and errors that nobody explains.
fn logs(cluster: &Cluster, faults: &[Done]) -> Verdict {
    let had = |fault: Nemesis| faults.iter().any(|one| one.fault == fault.name());
    let expected =
        EXPLAINED.iter().filter(|one| one.after.is_empty() || one.after.iter().copied().any(had));
    let expected: Vec<&str> = expected.map(|one| one.part).collect();
    let (mut found, mut lines) = (Vec::new(), 0);
    for member in &cluster.members {
        for line in member.log().lines() {
            lines += 1;
            let panicked = line.contains("panicked at");
            let explained = expected.iter().any(|part| line.contains(part));
            if panicked || (line.contains(" ERROR ") && !explained) {
                found.push(bad("log", format!("{}: {line}", member.name)));
            }
        }
    }
    Verdict::of(found, format!("nobody panicked, no error without an explanation in {lines} lines"))
}
