//! What this member says of itself, in Patroni's words for states.

use howdah_core::view::{DataView, Job, PgView, Stopping};
use howdah_core::{ClusterState, Decision};
use howdah_rpc::peer::Status;

use super::Shell;
use crate::board::OwnLease;

impl Shell {
    /// Tells peers and the services how this member is, and why.
    pub(super) fn publish(&self, state: &ClusterState, decision: &Decision) {
        let now = self.context.clock.boot();
        let view = self.local.view(now, self.context.timings.probe_timeout);
        let (seen, cluster) = (self.local.seen(), self.local.cluster());
        let progress = self.context.elephant.progress();
        let end = cluster.and_then(|data| data.disk_end).unwrap_or_default();
        let running = matches!(view.pg, PgView::Running(_));
        let stopped = matches!(view.pg, PgView::Stopped);
        let tags = state.members.get(&self.context.me).map(|member| &member.tags);
        let seen_end = seen.map_or(end.lsn, |seen| seen.received.max(end.lsn));
        let status = Status {
            member: self.context.me.0.clone(),
            node_id: self.context.node.status().node_id.0,
            incarnation: self.lease.incarnation.0,
            state: state_word(&view.pg, view.job, self.local.streaming_epoch().0 != 0).into(),
            in_recovery: seen.is_none_or(|seen| seen.in_recovery),
            running,
            streaming_epoch: self.local.streaming_epoch().0,
            timeline: seen.map_or(end.timeline, |seen| seen.timeline).0,
            receive_lsn: if stopped { end.lsn.0 } else { seen_end.0 },
            replay_lsn: seen.map_or(0, |seen| seen.replayed.0),
            reason: decision.reason.to_string(),
            promise: self.local.promise.0,
            data_dir: data_word(&self.local.data).into(),
            system_identifier: cluster.map_or(0, |data| data.system_identifier),
            eligible: running
                && self.stopping == Stopping::No
                && !state.fenced.contains(&self.context.me)
                && !tags.is_some_and(|tags| tags.nofailover),
            open_for_clients: running && self.local.open(),
            progress_percent: progress.percent,
            progress_bytes: progress.bytes,
            in_progress: matches!(view.job, Some(Job::Clone | Job::Rewind)),
            server_version: seen.map_or(0, |seen| seen.server_version),
            postmaster_start_ms: seen.map_or(0, |seen| seen.started_ms),
            quorum: self.quorum,
            data_id: self.local.data_id.0,
            stopping: self.stopping != Stopping::No,
            checkpointed_since_promotion: self.local.checkpointed(),
            pending_restart: self.context.elephant.pending_restart().into_iter().collect(),
            troubles: self.context.elephant.troubles.told(),
            oldest_wal_lsn: self.context.elephant.troubles.oldest_wal().0,
            replication_state: replication_state(seen),
            replication: seen.map(|seen| seen.replication.clone()).unwrap_or_default(),
            replay_lag_ms: seen.map_or(0, |seen| seen.replay_lag_ms),
            writes_wait: self.local.writes_wait().unwrap_or_default(),
            writes_wait_ms: self.local.writes_wait_ms(now),
            open_epoch: match &view.pg {
                PgView::Running(pg) if !pg.in_recovery && pg.open => {
                    pg.authority.unwrap_or_default().0
                }
                _ => 0,
            },
            secrets_version: self.context.elephant.secrets_version(),
            ..Status::default()
        };
        let lease = self.lease.view();
        self.context.board.publish_lease(OwnLease { armed: lease.armed, deadline: lease.deadline });
        self.context.board.publish(status);
    }
}

/// As Patroni says it of a standby.
fn replication_state(seen: Option<&crate::elephant::Seen>) -> String {
    match seen {
        Some(seen) if seen.in_recovery && seen.streaming => "streaming".into(),
        Some(seen) if seen.in_recovery => "in archive recovery".into(),
        _ => String::new(),
    }
}

fn state_word(pg: &PgView, job: Option<Job>, streaming: bool) -> &'static str {
    match job {
        Some(Job::Initdb) => return "initializing new cluster",
        Some(Job::Clone) => return "creating replica",
        Some(Job::Rewind) => return "rewinding",
        Some(Job::Stop | Job::Kill) => return "stopping",
        Some(Job::Start) => return "starting",
        Some(Job::StartInPlace | Job::Restart) => return "restarting",
        _ => {}
    }
    match pg {
        PgView::Running(pg) if pg.in_recovery && streaming => "streaming",
        PgView::Running(_) => "running",
        PgView::Starting => "starting",
        PgView::Stopped => "stopped",
        PgView::Hung => "crashed",
        PgView::Unknown => "unknown",
    }
}

fn data_word(data: &DataView) -> &'static str {
    match data {
        DataView::Unknown => "unknown",
        DataView::Empty | DataView::HalfDone => "empty",
        DataView::Unusable(_) => "unusable",
        DataView::Cluster(_) => "cluster",
    }
}
