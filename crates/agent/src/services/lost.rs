//! What this member had written that the cluster went on without. Reads files; changes nothing.

use std::path::Path;

use howdah_postgres::saved_wal::{Manifest, all_manifests};
use howdah_rpc::control::{LostResponse, LostTransaction, Rescue};
use tonic::Status;

use super::control::Desk;

/// Transactions that an answer lists of each rescue; all of them stand in the manifest.
const LISTED: usize = 1000;

pub(super) async fn answer(desk: &Desk) -> Result<LostResponse, Status> {
    let data_dir = desk.data_dir.clone();
    let read = tokio::task::spawn_blocking(move || all_manifests(&data_dir)).await;
    let rescues = read
        .map_err(|why| why.to_string())
        .and_then(|manifests| manifests.map_err(|why| why.to_string()))
        .map_err(|why| Status::internal(format!("what was kept cannot be read: {why}")))?;
    let member = &desk.me.0;
    let rescues = rescues.into_iter().map(|(dir, manifest)| rescue(member, &dir, manifest));
    Ok(LostResponse { rescues: rescues.collect() })
}

fn rescue(member: &str, dir: &Path, manifest: Manifest) -> Rescue {
    let transactions = manifest.transactions.into_iter().take(LISTED);
    Rescue {
        member: member.to_owned(),
        directory: dir.display().to_string(),
        timeline: manifest.fork.timeline.0,
        fork_lsn: manifest.fork.lsn.0,
        end_lsn: manifest.end.lsn.0,
        commits: manifest.commits,
        transactions: transactions
            .map(|one| LostTransaction {
                xid: one.xid,
                lsn: one.lsn,
                kind: one.kind,
                detail: one.detail,
            })
            .collect(),
        unread: manifest.unread.unwrap_or_default(),
        left_out: manifest.left_out,
    }
}
